from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError, TooLargeError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.kernels.octree import split
from medseg.segmentation.segment import segment


def two_balls(affine: np.ndarray) -> tuple[Volume, np.ndarray, np.ndarray]:
    shape = (30, 24, 14)
    geometry = Geometry(shape, affine)
    points = geometry.index_to_world(np.stack(np.indices(shape), axis=-1))
    one = np.linalg.norm(points - geometry.index_to_world((9, 11, 6)), axis=-1) < 6
    other = np.linalg.norm(points - geometry.index_to_world((23, 11, 7)), axis=-1) < 5
    noise = np.random.default_rng(2).normal(0, 4, shape)
    return Volume((100 * one + 220 * other + noise).astype(np.float32), geometry, "MR"), one, other


def test_balls_in_noise_are_found_on_every_grid(affine: np.ndarray) -> None:
    scan, one, other = two_balls(affine)
    found = segment(scan, "split-merge", tolerance=12, keep_at_least_mm3=60)
    assert len(found.segments) == 3
    for truth in (one, other):
        mask = found.array == np.bincount(found.array[truth]).argmax()
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
    assert [item.label for item in found.segments] == ["region_1", "region_2", "region_3"]
    assert (np.diff(np.bincount(found.array.ravel())[1:]) <= 0).all()


def test_every_region_is_homogeneous(ct: Volume) -> None:
    part = Volume(ct.array[20:84, 30:94, 5:30].copy(order="F"), Geometry((64, 64, 25), ct.geometry.affine), "CT", "HU")
    for criterion, spread, tolerance in (("deviation", np.std, 25), ("range", np.ptp, 120)):
        found = segment(part, "split-merge", tolerance=tolerance, criterion=criterion)
        order = np.argsort(found.array.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(found.array.ravel())[1:])[:-1]
        regions = np.split(part.array.ravel()[order].astype(float), ends)
        assert all(spread(values) <= tolerance + 1e-6 for values in regions)
        assert len(regions) == len(found.segments) < part.array.size / 4


def test_a_mask_nan_and_small_blocks() -> None:
    scan, _, _ = two_balls(np.diag([1.0, 1.0, 2.0, 1.0]))
    array = scan.array.copy()
    array[0, 0, 0] = np.nan
    mask = LabelMap((np.indices(array.shape)[0] < 15).astype(np.uint8), scan.geometry, (Segment(1, "left"),))
    found = segment(scan.with_array(array), "split-merge", tolerance=12, mask=mask)
    assert np.array_equal(found.array > 0, (mask.array > 0) & np.isfinite(array))
    coarse = segment(scan, "split-merge", tolerance=0, smallest_mm=8)
    assert 4 < len(coarse.segments) < 400


def test_impossible_wishes_are_refused() -> None:
    scan, _, _ = two_balls(np.eye(4))
    with pytest.raises(ParameterError, match="tolerance is required"):
        segment(scan, "split-merge")
    with pytest.raises(InputError, match="no voxel has a value"):
        segment(scan.with_array(np.full(scan.array.shape, np.nan, np.float32)), "split-merge", tolerance=1)
    elsewhere = LabelMap(np.ones((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)), (Segment(1, "a"),))
    with pytest.raises(GeometryMismatchError, match="mask lies on another grid"):
        segment(scan, "split-merge", tolerance=1, mask=elsewhere)


def test_a_least_volume_beyond_every_scan_leaves_one_region() -> None:
    scan, _, _ = two_balls(np.diag([0.01, 0.01, 0.01, 1.0]))
    assert (segment(scan, "split-merge", tolerance=50, keep_at_least_mm3=1.7e308).array == 1).all()


def test_noise_that_splits_into_too_many_blocks_is_refused_before_they_are_merged() -> None:
    noise = np.random.default_rng(0).integers(0, 30000, (30, 30, 30)).astype(np.int16)
    with pytest.raises(TooLargeError, match=r"more than 20,000 even blocks.*raise tolerance"):
        split(noise, (1, 1, 1), 0, most_blocks=20_000)
    _, table = split(noise, (1, 1, 1), 0, most_blocks=27_000)
    assert 20_000 < len(table) <= 27_000
