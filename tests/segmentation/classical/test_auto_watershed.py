from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment


def balls_mm(affine: np.ndarray, shape: tuple[int, int, int] = (46, 34, 16)) -> tuple[Volume, list[np.ndarray]]:
    """Two balls of 9 mm that touch and one of 6 mm apart, bright and without noise; and where each is."""
    geometry = Geometry(shape, affine)
    points = geometry.index_to_world(np.stack(np.indices(shape), axis=-1))
    middle = geometry.index_to_world((np.array(shape) - 1) / 2)
    along = geometry.affine[:3, 0] / np.linalg.norm(geometry.affine[:3, 0])
    centres = [middle - 8 * along, middle + 8 * along]
    masks = [np.linalg.norm(points - centre, axis=-1) <= 9 for centre in centres]
    return Volume((100 * np.logical_or.reduce(masks)).astype(np.int16), geometry, "CT", "HU"), masks


def test_touching_balls_are_parted_at_their_neck_on_every_grid(affine: np.ndarray) -> None:
    scan, masks = balls_mm(affine)
    found = segment(scan, "auto-watershed", relief="distance", lower=50, depth_mm=1)
    assert [item.label for item in found.segments] == ["region_1", "region_2"]
    assert np.array_equal(found.array > 0, scan.array > 50)
    for mask in masks:
        other = masks[0] if mask is masks[1] else masks[1]
        own = found.array[mask & ~other]
        number = np.bincount(own).argmax()
        assert number > 0
        assert (own == number).mean() > 0.97
    together = segment(scan, "auto-watershed", relief="distance", lower=50, depth_mm=8)
    assert [item.label for item in together.segments] == ["region"]


def test_it_is_itks_h_minima_and_watershed_on_a_real_gradient(ct: Volume) -> None:
    """Every step by ITK: gradient, h-minima, regional minima, components, watershed."""
    image = sitk.GetImageFromArray(np.clip(ct.array.T, -200, 300).astype(np.float32))
    image.SetSpacing(ct.geometry.spacing_mm)
    relief = sitk.GradientMagnitude(image)
    for depth, lines in ((10.0, False), (25.0, True)):
        minima = sitk.RegionalMinima(sitk.HMinima(relief, depth), 0, 1, False)
        markers = sitk.ConnectedComponent(sitk.Cast(minima, sitk.sitkUInt8), False)
        expected = sitk.GetArrayFromImage(sitk.MorphologicalWatershedFromMarkers(relief, markers, lines, False)).T
        clipped = ct.with_array(np.clip(ct.array, -200, 300))
        found = segment(clipped, "auto-watershed", sigma_mm=0, depth=depth, lines=lines)
        assert len(found.segments) == expected.max() > 100
        pairs = np.unique(np.stack([found.array.ravel(), expected.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(expected))  # one to one: only the numbers differ
        voxels = np.bincount(found.array.ravel())[1:]
        assert (np.diff(voxels) <= 0).all()


def test_a_scan_turned_round_gives_the_regions_turned_round() -> None:
    rng = np.random.default_rng(4)
    array = rng.normal(0, 1, (14, 15, 16)).astype(np.float32)
    affine = np.diag([0.8, 1.1, 2.5, 1.0])
    flipped = affine.copy()
    flipped[:3, 0] *= -1
    flipped[:3, 3] += affine[:3, 0] * 13
    one = segment(Volume(array, Geometry(array.shape, affine)), "auto-watershed", sigma_mm=1.5)
    other = segment(Volume(array[::-1], Geometry(array.shape, flipped)), "auto-watershed", sigma_mm=1.5)
    assert len(one.segments) == len(other.segments) > 3
    pairs = np.unique(np.stack([one.array.ravel(), other.array[::-1].ravel()]), axis=1)
    assert pairs.shape[1] == len(one.segments)


def test_a_mask_and_limits_are_walls() -> None:
    """Two halves parted by a wall each keep a basin however deep one asks; values across the wall do not matter."""
    scan = Volume(np.array([[[5, 4, 5, 90, 3, 2, 3]]], np.int16), Geometry((1, 1, 7), np.eye(4)))
    found = segment(scan, "auto-watershed", relief="intensity", sigma_mm=0, upper=50, depth=1000)
    assert found.array.ravel().tolist() == [1, 1, 1, 0, 2, 2, 2]
    mask = LabelMap(np.array([[[1, 1, 1, 0, 1, 1, 0]]], np.uint8), scan.geometry, (Segment(1, "a"),))
    within = segment(scan, "auto-watershed", relief="intensity", sigma_mm=0, mask=mask, depth=1000)
    assert within.array.ravel().tolist() == [1, 1, 1, 0, 2, 2, 0]
    assert within.findings[-1].details == {"basins": 2, "depth": 1000.0}


def test_nan_belongs_to_no_region() -> None:
    array = np.random.default_rng(1).normal(0, 9, (9, 9, 9)).astype(np.float32)
    array[3] = np.nan
    scan = Volume(array, Geometry(array.shape, np.eye(4)))
    for relief in ("gradient", "intensity", "distance"):
        found = segment(scan, "auto-watershed", relief=relief, lower=-1000)
        assert np.array_equal(found.array == 0, np.isnan(array))
        assert not set(np.unique(found.array[:3])) & set(np.unique(found.array[4:])) - {0}


def test_more_than_65535_regions() -> None:
    array = np.indices((52, 52, 52)).sum(axis=0) % 2
    scan = Volume(array.astype(np.uint8), Geometry(array.shape, np.eye(4)))
    found = segment(scan, "auto-watershed", relief="intensity", sigma_mm=0, depth=0)
    assert len(found.segments) == 52**3 // 2 > 65_535
    assert found.array.dtype == np.uint32


def test_compact_basins_are_more_even_than_plain_ones() -> None:
    rng = np.random.default_rng(3)
    scan = Volume(rng.normal(0, 30, (24, 24, 24)).astype(np.float32), Geometry((24, 24, 24), np.eye(4)))
    spread = [
        np.std([np.log((found.array == item.number).sum()) for item in found.segments])
        for found in (segment(scan, "auto-watershed", sigma_mm=1.5, depth=0.5, compactness=value) for value in (0, 5))
    ]
    assert spread[1] < 0.8 * spread[0]


def test_impossible_wishes_are_refused() -> None:
    scan, _ = balls_mm(np.eye(4))
    with pytest.raises(ParameterError, match="relief distance needs objects"):
        segment(scan, "auto-watershed", relief="distance")
    with pytest.raises(InputError, match="no voxel with a value"):
        segment(scan, "auto-watershed", lower=5000)
    elsewhere = LabelMap(np.ones((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)), (Segment(1, "a"),))
    with pytest.raises(GeometryMismatchError, match="mask lies on another grid"):
        segment(scan, "auto-watershed", mask=elsewhere)
