"""Watershed split: the parts of the library become segments, and what masking protects stays where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from effect_scene import Scene, ball_scene, end_session, load_effects, segment_ids, segment_mask, world_matrix
from mrml_nodes import DIRECTIONS, affine_of, volume_node
from test_effect_worker import two_balls

import medseg
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.slicer_bridge.arrays import volume_of

NAME = "MedSegSplit"
TURN = np.array([[0.8, -0.6, 0.0, 12.0], [0.6, 0.8, 0.0, -7.5], [0.0, 0.0, 1.0, 30.0], [0, 0, 0, 1.0]])


@pytest.fixture
def editor(load_module: Any, effect_host: Callable[..., Any]) -> Iterator[Callable[[Scene], Any]]:
    load_effects(load_module)
    yield lambda scene: effect_host(scene.volume, scene.segmentation, scene.ids[0])
    end_session()


def drawn(kind: str = "lps", above: np.ndarray | None = None) -> tuple[Scene, np.ndarray]:
    scene, mask = ball_scene(kind, above), two_balls()
    scene.fill(0, mask)
    return scene, mask


def masks(scene: Scene) -> list[np.ndarray]:
    return [segment_mask(scene.segmentation, one, scene.image.shape) for one in segment_ids(scene.segmentation)]


def instances(scene: Scene, mask: np.ndarray) -> list[np.ndarray]:
    """What `medseg postprocess instances` makes of the segment."""
    geometry = volume_of(scene.image, world_matrix(scene.volume)).geometry
    labels = LabelMap(np.asarray(mask.T, np.uint8, order="F"), geometry, (Segment(1, "target"),))
    found = medseg.postprocess(labels, "instances")
    return [np.asarray(segment.number == found.array.T) for segment in found.segments]


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_a_waist_parts_the_segment_as_the_library_does(kind: str, editor: Any) -> None:
    scene, mask = drawn(kind, TURN)
    expected = instances(scene, mask)
    effect = editor(scene).activate(NAME)
    effect.applyButton.click()
    found = masks(scene)
    assert len(expected) == 2
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[2], expected[1])
    assert not found[1].any(), "the other segment was empty and stays so"
    names = [scene.segmentation.GetSegmentation().GetSegment(one).GetName() for one in segment_ids(scene.segmentation)]
    assert names == ["target", "other", "target 2"]


def test_undo_joins_the_parts_again(editor: Any) -> None:
    scene, mask = drawn()
    host = editor(scene)
    host.activate(NAME).applyButton.click()
    assert len(segment_ids(scene.segmentation)) == 3
    host.undo()
    assert segment_ids(scene.segmentation) == list(scene.ids)
    assert np.array_equal(scene.mask(), mask)


OVERWRITE = ["OverwriteAllSegments", "OverwriteVisibleSegments", "OverwriteNone"]
MASK = ["EditAllowedEverywhere", "EditAllowedOutsideAllSegments", "EditAllowedInsideAllSegments", "EditAllowedInsideSingleSegment"]


@pytest.mark.parametrize("overwrite", OVERWRITE)
@pytest.mark.parametrize("mask_mode", MASK)
def test_each_voxel_stays_in_one_part_whatever_is_overwritten_or_masked(overwrite: str, mask_mode: str, editor: Any) -> None:
    scene, mask = drawn()
    host = editor(scene)
    host.node.SetOverwriteMode(getattr(slicer.vtkMRMLSegmentEditorNode, overwrite))
    host.node.SetMaskMode(getattr(slicer.vtkMRMLSegmentationNode, mask_mode))
    host.node.SetMaskSegmentID(scene.ids[0])
    host.activate(NAME).applyButton.click()
    first, _other, second = masks(scene)
    assert np.array_equal(first | second, mask)
    assert not (first & second).any()
    assert np.array_equal(second, instances(scene, mask)[1])


def test_where_intensities_are_masked_the_rest_stays_in_the_first_part(editor: Any) -> None:
    scene, mask = drawn()
    host = editor(scene)
    host.node.SetSourceVolumeIntensityMask(True)
    host.node.SetSourceVolumeIntensityMaskRange(-20, 200)
    host.node.SetOverwriteMode(host.node.OverwriteNone)
    host.activate(NAME).applyButton.click()
    first, _other, second = masks(scene)
    expected = instances(scene, mask)[1] & (scene.image >= -20) & (scene.image <= 200)
    assert 0 < expected.sum() < instances(scene, mask)[1].sum()
    assert np.array_equal(second, expected)
    assert np.array_equal(first, mask & ~expected)


def test_clicks_part_it_between_them_and_stay_inside(editor: Any) -> None:
    scene, mask = drawn()
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["By"].currentIndex = 2
    assert "Click on each part" in effect.applyButton.toolTip
    effect.clicked(scene.world((14, 10, 10)))
    assert not effect.preview.isShown
    effect.clicked(scene.world((14, 26, 10)), isMore=True)
    assert effect.preview.isShown, effect.message.text
    effect.applyButton.click()
    first, _other, second = masks(scene)
    assert np.array_equal(first | second, mask)
    assert not (first & second).any()
    assert first[10, 10, 14]
    assert second[10, 26, 14]


def test_edges_part_it_along_the_scan(editor: Any) -> None:
    scene, mask = drawn()
    scene.image[:] = np.where(np.arange(40)[None, :, None] < 18, 20, 90)
    slicer.util.updateVolumeFromArray(scene.volume, scene.image)
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["By"].currentIndex = 1
    effect.applyButton.click()
    found = masks(scene)
    assert np.array_equal(np.logical_or.reduce(found), mask)
    geometry = volume_of(scene.image, world_matrix(scene.volume), modality="CT", unit="HU")
    labels = LabelMap(np.asarray(mask.T, np.uint8, order="F"), geometry.geometry, (Segment(1, "target"),))
    expected = medseg.segment(geometry, "auto-watershed", relief="gradient", sigma_mm=1.0, mask=labels)
    assert np.array_equal(found[0], expected.array.T == 1)
    assert np.array_equal(found[2], expected.array.T == 2)


def test_what_has_no_waist_stays_whole_and_the_panel_says_so(editor: Any) -> None:
    scene = ball_scene()
    scene.fill(0, scene.ball)
    host = editor(scene)
    effect = host.activate(NAME)
    effect.applyButton.click()
    assert "stays whole" in effect.message.text
    assert np.array_equal(scene.mask(), scene.ball)
    assert len(segment_ids(scene.segmentation)) == 2
    host.select_segment(scene.ids[1])
    effect.applyButton.click()
    assert "empty" in effect.message.text


def test_a_click_beside_the_segment_is_said(editor: Any) -> None:
    scene, mask = drawn()
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["By"].currentIndex = 2
    effect.clicked(scene.world((14, 10, 10)))
    effect.clicked(scene.world((40, 35, 1)), isMore=True)
    assert "Click 2" in effect.message.text
    assert np.array_equal(scene.mask(), mask)


@pytest.mark.parametrize("by", [1, 2], ids=["edges", "clicks"])
def test_what_lies_outside_the_scan_is_said(by: int, editor: Any) -> None:
    """A source volume that ends within the segment: the rest is left out, and not in silence."""
    scene, mask = drawn()
    cut = volume_node(scene.image[:, :28], affine_of("lps"))
    lost = int(mask[:, 28:].sum())
    assert lost
    host = editor(Scene(cut, scene.segmentation, scene.ids, scene.image, scene.ball))
    effect = host.activate(NAME)
    effect.rows.widgets["By"].currentIndex = by
    if by == 2:
        effect.clicked(scene.world((14, 10, 10)))
        effect.clicked(scene.world((14, 24, 10)), isMore=True)
    effect.previewButton.click()
    assert f"{lost:,} voxels of 'target'" in effect.message.text
    assert "outside the scan" in effect.message.text
    assert effect.message.text.count("outside the scan") == 1


def test_a_segment_that_lies_wholly_outside_the_scan_is_not_called_empty(editor: Any) -> None:
    scene, _mask = drawn()
    cut = volume_node(scene.image[:, :4], affine_of("lps"))
    effect = editor(Scene(cut, scene.segmentation, scene.ids, scene.image, scene.ball)).activate(NAME)
    effect.rows.widgets["By"].currentIndex = 1
    effect.previewButton.click()
    assert "lies outside the scan" in effect.message.text
