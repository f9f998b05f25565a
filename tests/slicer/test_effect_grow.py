"""Grow with leak guard: the slider shows the region of its limit at once, and Apply writes what the library grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from effect_scene import BALL_INDEX, Scene, ball_scene, end_session, load_effects, segment_mask, world_matrix
from mrml_nodes import affine_of, empty_segmentation, volume_node
from scipy import ndimage

import medseg
from medseg.slicer_bridge.arrays import volume_of

NAME = "MedSegGrow"


@pytest.fixture
def editor(load_module: Any, effect_host: Callable[..., Any]) -> Iterator[Callable[[Scene], Any]]:
    load_effects(load_module)
    yield lambda scene: effect_host(scene.volume, scene.segmentation, scene.ids[0])
    end_session()


def shown(effect: Any, scene: Scene) -> np.ndarray:
    """The voxels of the preview node."""
    node = effect.preview.node()
    return segment_mask(node, node.GetSegmentation().GetNthSegmentID(0), scene.image.shape)


def flooded(image: np.ndarray, low: float, high: float) -> np.ndarray:
    labels, _ = ndimage.label((image >= low) & (image <= high))
    i, j, k = BALL_INDEX.astype(int)
    return np.asarray((labels == labels[k, j, i]) & (labels > 0))


def with_neck(scene: Scene) -> np.ndarray:
    """Let the ball leak through a tube of 4 mm into a large block; return the block (k,j,i)."""
    import slicer

    block = np.zeros(scene.image.shape, bool)
    block[3:18, 32:39, 3:41] = True
    tube = np.zeros_like(block)
    tube[9:11, 19:33, 19:23] = True
    scene.image[block | tube] = 90
    slicer.util.updateVolumeFromArray(scene.volume, scene.image)
    return block


@pytest.mark.parametrize("kind", ["lps", "oblique left-handed"])
def test_the_slider_shows_the_flood_of_its_limit_and_computes_nothing(kind: str, editor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from SegmentEditorMedSegLib import effect_runner

    scene = ball_scene(kind)
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["Guard"].checked = False
    effect.clicked(scene.centre_mm)
    monkeypatch.setattr(effect_runner, "start", lambda *_given: pytest.fail("the slider must not compute"))
    centre = effect.nested.centre
    for limit in (5, 9, 20, 60):
        effect.slider.value = limit
        expected = flooded(scene.image, centre - limit, centre + limit)
        assert np.array_equal(shown(effect, scene), expected)
        assert not scene.mask().any()
        voxel_ml = abs(np.linalg.det(world_matrix(scene.volume)[:3, :3])) / 1000
        assert effect.volumeLabel.text == f"{expected.sum() * voxel_ml:.4g} ml"
    effect.applyButton.click()
    assert np.array_equal(scene.mask(), expected)


def test_the_guard_cuts_off_what_lies_behind_a_narrow_passage(editor: Any) -> None:
    scene = ball_scene()
    block = with_neck(scene)
    effect = editor(scene).activate(NAME)
    effect.clicked(scene.centre_mm)
    unguarded = effect.nested.mask(effect._number)
    assert unguarded.sum() > (scene.ball | block).sum() * 0.8, "without the guard it leaks"
    assert "passage" in effect.message.text
    limits = effect.nested.between(effect._number)
    effect.applyButton.click()
    volume = volume_of(scene.image, world_matrix(scene.volume), modality="CT", unit="HU")
    point = [round(value, 4) for value in scene.centre_mm]
    by_library = medseg.segment(
        volume, "leak-guarded-growing", seeds=[point], lower=limits[0], upper=limits[1], neck_mm=10.0, sigma_mm=0.0, seed_radius_mm=3.0
    )
    assert np.array_equal(scene.mask(), by_library.array.T != 0)
    assert (scene.mask() & block).sum() < 0.02 * block.sum()
    assert (scene.mask() & scene.ball).sum() > 0.95 * scene.ball.sum()


def test_the_guard_follows_when_the_slider_has_come_to_rest(editor: Any, wait_until: Any) -> None:
    scene = ball_scene()
    block = with_neck(scene)
    effect = editor(scene).activate(NAME)
    effect.clicked(scene.centre_mm)
    effect.slider.value = 40
    assert (shown(effect, scene) & block).sum() > 0.9 * block.sum(), "while it moves the plain region is shown"
    wait_until(lambda: not effect.guardTimer.isActive() and not effect.isRunning, 120)
    assert (shown(effect, scene) & block).sum() < 0.02 * block.sum()


def test_apply_right_after_moving_writes_the_guarded_region(editor: Any) -> None:
    scene = ball_scene()
    block = with_neck(scene)
    effect = editor(scene).activate(NAME)
    effect.clicked(scene.centre_mm)
    effect.slider.value = 40
    effect.applyButton.click()
    assert scene.mask().any()
    assert (scene.mask() & block).sum() < 0.02 * block.sum()


@pytest.mark.parametrize(("vary", "low", "high"), [("lower", 60.0, np.inf), ("upper", -np.inf, 97.0)])
def test_the_slider_moves_the_limit_that_was_chosen(vary: str, low: float, high: float, editor: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["Guard"].checked = False
    effect.rows.widgets["Vary"].currentIndex = ("tolerance", "lower", "upper").index(vary)
    effect.clicked(scene.centre_mm)
    effect.slider.value = low if vary == "lower" else high
    assert np.array_equal(shown(effect, scene), flooded(scene.image, low, high))


def test_what_the_panel_offers_are_the_defaults_of_the_methods(editor: Any) -> None:
    from medseg.method.catalog import find

    effect = editor(ball_scene()).activate(NAME)
    grown, guarded = (find(name).params.model_fields for name in ("nested-growing", "leak-guarded-growing"))
    assert effect.rows.value("SeedRadiusMm") == grown["seed_radius_mm"].default
    assert effect.rows.value("Vary") == grown["vary"].default
    assert effect.rows.value("NeckMm") == guarded["neck_mm"].default


def test_a_region_that_ends_at_the_reach_says_so_and_is_the_flood_inside_it(editor: Any) -> None:
    scene = ball_scene("oblique")
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["Guard"].checked = False
    effect.rows.widgets["ReachMm"].value = 10.0
    effect.clicked(scene.centre_mm)
    i0, i1, j0, j1, k0, k1 = effect._box
    for low, high, middle, spacing in zip((i0, j0, k0), (i1, j1, k1), BALL_INDEX, (0.8, 1.1, 2.5), strict=True):
        assert all(10.0 <= steps * spacing <= 10.0 + 2 * spacing for steps in (middle - low, high - middle))
    inside = np.zeros(scene.image.shape, bool)
    inside[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = True
    assert inside.sum() < inside.size / 2
    effect.slider.value = 30
    assert effect.message.text == ""
    centre = effect.nested.centre
    assert np.array_equal(shown(effect, scene), flooded(scene.image, centre - 30, centre + 30))
    effect.slider.value = 125
    assert "raise Reach" in effect.message.text
    assert np.array_equal(shown(effect, scene), flooded(np.where(inside, scene.image, 9999), centre - 125, centre + 125))


def test_the_reach_covers_a_small_scan_whole(editor: Any) -> None:
    effect = editor(ball_scene()).activate(NAME)
    effect.clicked(ball_scene().centre_mm)
    assert effect._box is None


def test_what_lies_outside_the_segmentations_grid_is_said_at_each_limit_once(editor: Any) -> None:
    """The segmentation's grid ends within the ball: the slider says how much of each region is left out."""
    scene = ball_scene()
    narrow = empty_segmentation(volume_node(scene.image[:, :20], affine_of("lps")))
    ids = (narrow.GetSegmentation().AddEmptySegment("target", "target"),)
    effect = editor(Scene(scene.volume, narrow, ids, scene.image, scene.ball)).activate(NAME)
    effect.rows.widgets["Guard"].checked = False
    effect.clicked(scene.centre_mm)
    for limit in (60, 20, 40):
        effect.slider.value = limit
        (j0, j1), region = effect.nested.extent[2:4], effect.nested.mask(effect._number)
        lost = int((region & (np.arange(j0, j1 + 1)[None, :, None] >= 20)).sum())
        lost_ml = lost * abs(np.linalg.det(world_matrix(scene.volume)[:3, :3])) / 1000
        assert lost
        assert effect.message.text.count(f"{lost_ml:.3g} ml of the result lie outside the segmentation's grid") == 1, effect.message.text
