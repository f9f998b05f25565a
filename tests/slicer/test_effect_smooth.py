"""Smooth keeping volume: the voxels of the library, the volume of before, and masking seen from each segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from effect_scene import Scene, ball_scene, end_session, load_effects, world_matrix
from mrml_nodes import DIRECTIONS, affine_of, empty_segmentation, volume_node
from test_effect_worker import two_balls

import medseg
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.slicer_bridge.arrays import geometry_of

NAME = "MedSegSmooth"
STRETCH = np.array([[1.2, 0.1, 0.0, -3.0], [0.0, 0.9, 0.2, 4.0], [0.0, 0.0, -1.0, 8.0], [0, 0, 0, 1.0]])


@pytest.fixture
def editor(load_module: Any, effect_host: Callable[..., Any]) -> Iterator[Callable[[Scene], Any]]:
    load_effects(load_module)
    yield lambda scene: effect_host(scene.volume, scene.segmentation, scene.ids[0])
    end_session()


def rough(mask: np.ndarray) -> np.ndarray:
    """A mask with bumps and dents at its border."""
    noise = np.random.default_rng(2).random(mask.shape)
    return np.asarray((mask & (noise > 0.1)) | (np.roll(mask, 1, 2) & (noise > 0.8)))


def by_medseg(scene: Scene, method: str, masks: list[np.ndarray], **parameters: Any) -> list[np.ndarray]:
    labels = np.zeros(masks[0].shape, np.uint8)
    for number, mask in enumerate(masks, 1):
        labels[mask] = number
    segments = tuple(Segment(number, f"s{number}") for number in range(1, len(masks) + 1))
    found = medseg.postprocess(LabelMap(labels.T, geometry_of(labels.shape, world_matrix(scene.volume)), segments), method, **parameters)
    return [np.asarray(number == found.array.T) for number in range(1, len(masks) + 1)]


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("above", [None, STRETCH], ids=["plain", "under a stretch"])
def test_the_segment_becomes_that_of_the_library_and_undo_gives_it_back(kind: str, above: np.ndarray | None, editor: Any) -> None:
    scene = ball_scene(kind, above)
    before = rough(scene.ball)
    scene.fill(0, before)
    host = editor(scene)
    effect = host.activate(NAME)
    effect.applyButton.click()
    (expected,) = by_medseg(scene, "smooth", [before], sigma_mm=1.5)
    assert np.array_equal(scene.mask(), expected)
    assert (expected != before).sum() > 100
    assert abs(int(expected.sum()) - int(before.sum())) <= max(1, 0.01 * before.sum())
    host.undo()
    assert np.array_equal(scene.mask(), before)


def test_no_scan_is_needed_and_the_segmentation_may_lie_on_a_grid_of_its_own(editor: Any) -> None:
    scene = ball_scene("lps")
    shift = np.eye(4)
    shift[:3, 3] = (3, -2, 1)
    own = empty_segmentation(volume_node(np.zeros(scene.image.shape, np.int16), affine_of("oblique") @ shift))
    ids = tuple(own.GetSegmentation().AddEmptySegment(name, name) for name in ("target", "other"))
    other = Scene(scene.volume, own, ids, scene.image, scene.ball)
    before = rough(two_balls())
    other.fill(0, before)
    editor(other).activate(NAME).applyButton.click()
    labels = LabelMap(
        np.asarray(before.T, np.uint8, order="F"), geometry_of(before.shape, affine_of("oblique") @ shift), (Segment(1, "target"),)
    )
    assert np.array_equal(other.mask(), medseg.postprocess(labels, "smooth").array.T == 1)


@pytest.mark.parametrize("overwrite", ["OverwriteAllSegments", "OverwriteNone"])
@pytest.mark.parametrize("keep", [False, True], ids=["outline smoothed", "outline kept"])
def test_all_visible_segments_share_one_surface(overwrite: str, keep: bool, editor: Any) -> None:
    scene = ball_scene()
    upper = rough(scene.ball) & (np.arange(40)[None, :, None] < 19)
    lower = scene.ball & ~upper
    scene.fill(0, upper)
    scene.fill(1, lower)
    host = editor(scene)
    host.node.SetOverwriteMode(getattr(host.node, overwrite))
    effect = host.activate(NAME)
    assert not effect.rows.widgets["KeepOutline"].enabled
    effect.rows.widgets["Scope"].currentIndex = 1
    assert effect.rows.widgets["KeepOutline"].enabled
    effect.rows.widgets["KeepOutline"].checked = keep
    effect.applyButton.click()
    expected = by_medseg(scene, "joint-smooth", [upper, lower], sigma_mm=1.5, outline="kept" if keep else "smoothed")
    assert np.array_equal(scene.mask(0), expected[0])
    assert np.array_equal(scene.mask(1), expected[1])
    assert host.node.GetSelectedSegmentID() == scene.ids[0]
    host.undo()
    assert np.array_equal(scene.mask(0), upper)
    assert np.array_equal(scene.mask(1), lower)


def test_what_masking_protects_is_not_smoothed(editor: Any) -> None:
    scene = ball_scene()
    before = rough(scene.ball)
    scene.fill(0, before)
    host = editor(scene)
    host.node.SetSourceVolumeIntensityMask(True)
    host.node.SetSourceVolumeIntensityMaskRange(40, 200)
    host.activate(NAME).applyButton.click()
    (smoothed,) = by_medseg(scene, "smooth", [before], sigma_mm=1.5)
    allowed = (scene.image >= 40) & (scene.image <= 200)
    assert np.array_equal(scene.mask(), np.where(allowed, smoothed, before))
    assert (smoothed != scene.mask()).any()


def test_masking_of_all_segments_is_seen_from_each_of_them(editor: Any) -> None:
    """Outside all other segments: each may grow into background only, whichever the user has selected."""
    scene = ball_scene()
    upper = rough(scene.ball) & (np.arange(40)[None, :, None] < 19)
    lower = scene.ball & ~upper
    scene.fill(0, upper)
    scene.fill(1, lower)
    host = editor(scene)
    host.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    effect = host.activate(NAME)
    effect.rows.widgets["Scope"].currentIndex = 1
    effect.applyButton.click()
    smooth = by_medseg(scene, "joint-smooth", [upper, lower], sigma_mm=1.5)
    first = np.where(lower, upper, smooth[0])
    second = np.where(first, lower, smooth[1])
    assert np.array_equal(scene.mask(0), first)
    assert np.array_equal(scene.mask(1), second & ~first)
    assert (first != smooth[0]).any()


def test_overlapping_and_empty_segments_are_sentences(editor: Any) -> None:
    scene = ball_scene()
    scene.fill(0, scene.ball)
    scene.fill(1, two_balls())
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["Scope"].currentIndex = 1
    effect.applyButton.click()
    assert "overlap" in effect.message.text
    assert np.array_equal(scene.mask(), scene.ball)
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["Scope"].currentIndex = 0
    effect.applyButton.click()
    assert "empty" in effect.message.text


def test_another_segment_or_option_takes_the_preview_away(editor: Any) -> None:
    scene = ball_scene()
    scene.fill(0, rough(scene.ball))
    host = editor(scene)
    effect = host.activate(NAME)
    effect.previewButton.click()
    assert effect.preview.isShown
    effect.rows.widgets["SigmaMm"].value = 3.0
    assert not effect.preview.isShown
    effect.start()
    assert effect.preview.isShown
    host.select_segment(scene.ids[1])
    host.node.Modified()
    effect.scriptedEffect.updateGUIFromMRML()
    assert not effect.preview.isShown
    assert slicer.mrmlScene.GetFirstNodeByName("MedSeg preview") is None


def test_the_panel_offers_the_defaults_of_the_methods(editor: Any) -> None:
    from medseg.method.catalog import find

    effect = editor(ball_scene()).activate(NAME)
    for name in ("smooth", "joint-smooth"):
        assert effect.rows.value("SigmaMm") == find(name).params.model_fields["sigma_mm"].default
