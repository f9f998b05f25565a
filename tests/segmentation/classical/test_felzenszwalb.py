from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.catalog import find
from medseg.segmentation.segment import segment


def two_balls(affine: np.ndarray) -> tuple[Volume, np.ndarray, np.ndarray]:
    shape = (34, 26, 14)
    geometry = Geometry(shape, affine)
    points = geometry.index_to_world(np.stack(np.indices(shape), axis=-1))
    one = np.linalg.norm(points - geometry.index_to_world((10, 12, 6)), axis=-1) < 7
    other = np.linalg.norm(points - geometry.index_to_world((25, 12, 7)), axis=-1) < 6
    noise = np.random.default_rng(2).normal(0, 4, shape)
    return Volume((100 * one + 220 * other + noise).astype(np.float32), geometry, "MR"), one, other


def test_balls_in_noise_are_found_on_every_grid(affine: np.ndarray) -> None:
    scan, one, other = two_balls(affine)
    found = segment(scan, "felzenszwalb", scale=500, sigma_mm=0, keep_at_least_mm3=300)
    assert len(found.segments) == 3
    for truth in (one, other):
        mask = found.array == np.bincount(found.array[truth]).argmax()
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.98


def test_weights_are_per_mm_and_volumes_in_mm3() -> None:
    """The same scan in units of half a millimetre: changes per mm double, volumes fall to an eighth; scale goes with them."""
    scan, _, _ = two_balls(np.eye(4))
    half = Volume(scan.array, Geometry(scan.array.shape, np.diag([0.5, 0.5, 0.5, 1])))
    one = segment(scan, "felzenszwalb", scale=50, sigma_mm=0, keep_at_least_mm3=0)
    same = segment(half, "felzenszwalb", scale=50 * 2 / 8, sigma_mm=0, keep_at_least_mm3=0)
    assert np.array_equal(one.array, same.array)
    other = segment(half, "felzenszwalb", scale=50, sigma_mm=0, keep_at_least_mm3=0)
    assert len(other.segments) != len(one.segments)


def test_channels_on_one_grid_count_together() -> None:
    scan, one, other = two_balls(np.eye(4))
    first, second = scan.with_array(100.0 * one), scan.with_array(100.0 * other)
    method = find("felzenszwalb")
    params = method.build({"scale": 500, "sigma_mm": 0})
    assert len(method((first, second), params).segments) == 3
    assert len(method(first, params).segments) == 2


def test_nan_belongs_to_no_region_and_does_not_spread() -> None:
    scan, _, _ = two_balls(np.eye(4))
    array = scan.array.copy()
    array[16, 12] = np.nan
    found = segment(scan.with_array(array), "felzenszwalb", scale=3000)
    assert np.array_equal(found.array == 0, np.isnan(array))
    with pytest.raises(InputError, match="no voxel has a value"):
        segment(scan.with_array(np.full_like(array, np.nan)), "felzenszwalb", scale=1)
    with pytest.raises(ParameterError, match="scale is required"):
        segment(scan, "felzenszwalb")


def test_a_least_volume_beyond_every_scan_leaves_one_region() -> None:
    scan, _, _ = two_balls(np.diag([0.01, 0.01, 0.01, 1.0]))
    assert (segment(scan, "felzenszwalb", scale=1, keep_at_least_mm3=1.7e308).array == 1).all()
