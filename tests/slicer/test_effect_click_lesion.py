"""Click lesion in the editor: the lesion of `medseg segment`, shown first, written on Apply, undone by Undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from effect_scene import BALL_INDEX, Scene, ball_scene, end_session, load_effects, world_matrix
from mrml_nodes import DIRECTIONS

import medseg
from medseg.slicer_bridge.arrays import volume_of

TURN = np.array([[0.8, -0.6, 0.0, 12.0], [0.6, 0.8, 0.0, -7.5], [0.0, 0.0, 1.0, 30.0], [0, 0, 0, 1.0]])
NAME = "MedSegClickLesion"


@pytest.fixture
def editor(load_module: Any, effect_host: Callable[..., Any]) -> Iterator[Callable[[Scene], Any]]:
    load_effects(load_module)
    yield lambda scene: effect_host(scene.volume, scene.segmentation, scene.ids[0])
    end_session()


def by_medseg(scene: Scene, **parameters: Any) -> np.ndarray:
    """What `medseg segment click-lesion` finds on the same voxels (k,j,i)."""
    volume = volume_of(scene.image, world_matrix(scene.volume), modality="CT", unit="HU")
    given = {"seeds": [scene.centre_mm], "label": "lesion"} | parameters
    return np.asarray(medseg.segment(volume, "click-lesion", **given).array.T != 0)


def near_the_ball(found: np.ndarray, ball: np.ndarray) -> bool:
    return bool(2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.9)


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("above", [None, TURN], ids=["plain", "under a transform"])
def test_a_click_and_apply_give_the_lesion_of_the_library(kind: str, above: np.ndarray | None, editor: Any) -> None:
    scene = ball_scene(kind, above)
    host = editor(scene)
    effect = host.activate(NAME)
    effect.clicked(scene.centre_mm)
    assert effect.preview.isShown
    assert not scene.mask().any(), "a preview must not change the segment"
    effect.applyButton.click()
    expected = by_medseg(scene, seeds=[[round(value, 4) for value in scene.centre_mm]])
    assert near_the_ball(expected, scene.ball)
    assert np.array_equal(scene.mask(), expected)
    assert not effect.preview.isShown
    assert slicer.mrmlScene.GetFirstNodeByName("MedSeg preview") is None


def test_a_click_in_a_slice_view_is_a_point_in_the_patient(editor: Any) -> None:
    scene = ball_scene("lps")
    host = editor(scene)
    effect = host.activate(NAME)
    host.click(tuple(scene.centre_mm), "Red")
    (point,) = effect.clicks.points()
    assert np.allclose(point, scene.centre_mm, atol=1.0)
    assert effect.preview.isShown
    shift = scene.world(BALL_INDEX + np.array((4, 0, 0)))
    host.click(tuple(shift), "Red", shift=True)
    assert len(effect.clicks.points()) == 2
    host.click(tuple(scene.world(BALL_INDEX + np.array((18, 0, 0)))), "Red", control=True)
    from SegmentEditorMedSegLib.effect_clicks import OUTSIDE

    assert len(effect.clicks.points(OUTSIDE)) == 1
    host.click(tuple(scene.centre_mm), "Yellow")
    assert len(effect.clicks.points()) == 1, "a plain click starts anew"
    assert not effect.clicks.points(OUTSIDE)


def test_undo_brings_the_segment_back_and_redo_the_lesion(editor: Any) -> None:
    scene = ball_scene()
    before = np.zeros(scene.image.shape, bool)
    before[2:5, 3:9, 4:12] = True
    scene.fill(0, before)
    host = editor(scene)
    effect = host.activate(NAME)
    effect.clicked(scene.centre_mm)
    effect.applyButton.click()
    after = scene.mask()
    assert np.array_equal(after, before | by_medseg(scene, seeds=[[round(v, 4) for v in scene.centre_mm]]))
    host.undo()
    assert np.array_equal(scene.mask(), before)
    host.redo()
    assert np.array_equal(scene.mask(), after)


def test_cancel_and_another_effect_leave_nothing_behind(editor: Any) -> None:
    scene = ball_scene()
    host = editor(scene)
    effect = host.activate(NAME)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    effect.clicked(scene.centre_mm)
    assert slicer.mrmlScene.GetNumberOfNodes() > nodes
    effect.cancelButton.click()
    assert not scene.mask().any()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert "as it was" in effect.message.text
    effect.clicked(scene.centre_mm)
    host.activate("MedSegSmooth")
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert not scene.mask().any()


def test_each_click_can_be_applied_at_once(editor: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["AtOnce"].checked = True
    effect.clicked(scene.centre_mm)
    assert near_the_ball(scene.mask(), scene.ball)
    assert not effect.preview.isShown


def test_an_option_looks_again_with_the_same_clicks(editor: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    effect.clicked(scene.centre_mm)
    effect.rows.widgets["LargestMm"].value = 30.0
    assert effect.scriptedEffect.doubleParameter("LargestMm") == 30.0
    effect.applyButton.click()
    point = [round(value, 4) for value in scene.centre_mm]
    assert np.array_equal(scene.mask(), by_medseg(scene, seeds=[point], largest_mm=30.0))


def test_what_cannot_be_done_is_said_and_changes_nothing(editor: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    assert not effect.applyButton.enabled
    assert "Click" in effect.applyButton.toolTip
    effect.clicked(scene.world((500, 0, 0)))
    assert "outside" in effect.message.text
    assert not effect.preview.isShown
    flat = ball_scene()
    slicer.util.updateVolumeFromArray(flat.volume, np.zeros(flat.image.shape, np.int16))
    effect = editor(flat).activate(NAME)
    effect.clicked(flat.centre_mm)
    assert "no border" in effect.message.text
    assert not flat.mask().any()


def test_the_options_of_the_panel_are_the_defaults_of_the_method(editor: Any) -> None:
    from medseg.method.catalog import find

    effect = editor(ball_scene()).activate(NAME)
    fields = find("click-lesion").params.model_fields
    for key, name in {"LargestMm": "largest_mm", "Stiffness": "stiffness", "Modality": "modality"}.items():
        assert effect.rows.value(key) == fields[name].default


def test_what_was_found_is_told_with_its_volume(editor: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    effect.clicked(scene.centre_mm)
    assert " ml" in effect.message.text
    assert "lies under the click" in effect.message.text


def test_the_last_click_can_be_taken_back_on_whichever_side_it_was(editor: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    assert not effect.undoClickButton.enabled
    inside, beside = scene.centre_mm, scene.world((21, 24, 10))
    effect.clicked(inside)
    first = effect.message.text
    effect.clicked(beside, isMore=True)
    effect.clicked(scene.world((21, 33, 10)), isOutside=True)
    assert len(effect.clicks.points("MedSegOutside")) == 1
    effect.undoClickButton.click()
    assert effect.clicks.points("MedSegOutside") == []
    assert effect.clicks.points() == [[round(value, 4) for value in point] for point in (inside, beside)]
    effect.undoClickButton.click()
    assert len(effect.clicks.points()) == 1
    assert effect.preview.isShown
    assert effect.message.text == first
    effect.undoClickButton.click()
    assert effect.clicks.points() == []
    assert not effect.preview.isShown
    assert not effect.undoClickButton.enabled
    assert "Click" in effect.message.text
    assert not scene.mask().any()


def test_effects_without_clicks_offer_none_to_take_back(editor: Any) -> None:
    effect = editor(ball_scene()).activate("MedSegSmooth")
    assert effect.undoClickButton.isHidden()
