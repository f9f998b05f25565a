"""A mask comes onto the grid of the edited segmentation at the place in the patient where it was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from effect_scene import ball_scan, ball_scene, load_effects, segment_mask
from mrml_nodes import DIRECTIONS, affine_of, empty_segmentation, transform, volume_node

pytestmark = pytest.mark.usefixtures("effects")


@pytest.fixture
def effects(load_module: Any) -> Any:
    return load_effects(load_module)


TURN = np.array([[0.8, -0.6, 0.0, 12.0], [0.6, 0.8, 0.0, -7.5], [0.0, 0.0, 1.0, 30.0], [0, 0, 0, 1.0]])


def reference_of(segmentation: Any) -> Any:
    image = slicer.vtkOrientedImageData()
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(segmentation.GetSegmentation().GetConversionParameter(name), image, False)
    return image


def random_mask(shape: tuple[int, int, int] = (6, 7, 8)) -> np.ndarray:
    mask = np.random.default_rng(3).random(shape) > 0.6
    mask[:2], mask[:, -1] = False, False
    return mask


def placed(mask: np.ndarray, volume: Any, segmentation: Any) -> tuple[np.ndarray, int]:
    from MedSegLib.nodes import ijkToWorld
    from SegmentEditorMedSegLib import effect_grid

    part = effect_grid.croppedMask(mask)
    image, lost = effect_grid.onReference(part, ijkToWorld(volume), segmentation, reference_of(segmentation))
    segment = segmentation.GetSegmentation().AddEmptySegment()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(image, segmentation, segment, logic.MODE_REPLACE)
    extent = reference_of(segmentation).GetExtent()
    return segment_mask(segmentation, segment, tuple(extent[axis + 1] + 1 for axis in (4, 2, 0))), lost


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("above", [None, TURN], ids=["plain", "under a transform"])
def test_on_the_grid_of_the_scan_every_voxel_keeps_its_place(kind: str, above: np.ndarray | None) -> None:
    mask = random_mask()
    volume = volume_node(mask.astype(np.int16), affine_of(kind))
    segmentation = empty_segmentation(volume)
    if above is not None:
        segmentation.SetAndObserveTransformNodeID(transform(volume, above).GetID())
    found, lost = placed(mask, volume, segmentation)
    assert np.array_equal(found, mask)
    assert lost == 0


@pytest.mark.parametrize("kind", ["ras", "left-handed", "oblique"])
def test_a_segmentation_on_a_shifted_smaller_grid_gets_the_voxels_that_lie_in_it(kind: str) -> None:
    mask = random_mask()
    matrix = affine_of(kind)
    volume = volume_node(mask.astype(np.int16), matrix)
    shift = np.eye(4)
    shift[:3, 3] = (2, 1, 3)  # i, j, k
    smaller = volume_node(np.zeros((2, 5, 4), np.int16), matrix @ shift)
    found, lost = placed(mask, volume, empty_segmentation(smaller))
    assert np.array_equal(found, mask[3:5, 1:6, 2:6])
    assert lost == mask.sum() - mask[3:5, 1:6, 2:6].sum() > 0


def test_a_transform_above_the_scan_alone_moves_the_mask_in_the_segmentation() -> None:
    mask = random_mask()
    volume = volume_node(mask.astype(np.int16), affine_of("lps"))
    segmentation = empty_segmentation(volume)
    by_one_voxel = np.eye(4)
    by_one_voxel[:3, 3] = affine_of("lps")[:3, :3] @ (0, 1, 0)
    transform(volume, by_one_voxel)
    found, lost = placed(mask, volume, segmentation)
    assert np.array_equal(found[:, 1:], mask[:, :-1])
    assert not found[:, 0].any()
    assert lost == mask[:, -1].sum()


def nearest(mask: np.ndarray, scan: np.ndarray, grid: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """For each voxel of another grid the mask at the nearest voxel of the scan, by hand."""
    k, j, i = np.indices(shape)
    world = np.stack([i, j, k, np.ones(shape)], axis=-1) @ grid.T
    index = np.rint(world @ np.linalg.inv(scan).T)[..., :3].astype(int)
    inside = np.all((index >= 0) & (index < mask.shape[::-1]), axis=-1)
    index[~inside] = 0
    return np.asarray(inside & mask[index[..., 2], index[..., 1], index[..., 0]])


@pytest.mark.parametrize("other", ["ras", "oblique", "left-handed"])
def test_on_another_grid_the_nearest_voxel_counts(other: str) -> None:
    _, ball, matrix = ball_scan("lps")
    volume = volume_node(ball.astype(np.int16), matrix)
    grid = affine_of(other) @ np.diag([1.3, 0.9, 0.7, 1.0])
    k, j, i = shape = (50, 60, 60)
    middle = np.append((np.array((i, j, k)) - 1) / 2, 1)
    scan_middle = matrix @ np.append((np.array(ball.shape[::-1]) - 1) / 2, 1)
    grid[:3, 3] += (scan_middle - grid @ middle)[:3] + 0.137
    segmentation = empty_segmentation(volume_node(np.zeros(shape, np.int16), grid))
    found, _ = placed(ball, volume, segmentation)
    expected = nearest(ball, matrix, grid, shape)
    assert expected.sum() > 1000
    assert (found != expected).sum() <= 0.002 * expected.sum()  # voxels half-way between two


def test_what_is_cropped_is_the_box_of_what_is_marked() -> None:
    from SegmentEditorMedSegLib import effect_grid

    mask = random_mask()
    part = effect_grid.croppedMask(mask)
    at = np.argwhere(mask)
    (k0, j0, i0), (k1, j1, i1) = at.min(axis=0), at.max(axis=0)
    assert part.extent == (i0, i1, j0, j1, k0, k1)
    assert np.array_equal(part.array, mask[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1])
    moved = effect_grid.croppedMask(mask, (10, 17, 20, 26, 30, 35))
    assert moved.extent == (i0 + 10, i1 + 10, j0 + 20, j1 + 20, k0 + 30, k1 + 30)
    assert effect_grid.croppedMask(np.zeros((3, 4, 5), bool)).extent == effect_grid.EMPTY_EXTENT


def test_a_transform_that_bends_is_refused_with_a_sentence() -> None:
    from MedSegLib.session import JobError
    from SegmentEditorMedSegLib import effect_grid

    scene = ball_scene()
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    scene.segmentation.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(JobError, match="Harden"):
        effect_grid.worldFromParent(scene.segmentation)
