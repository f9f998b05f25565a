from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from medseg.kernels.resample_smooth import resample_smooth

GRIDS = {
    "coarser": (np.diag([1.7, 2.0, 1.3]), (0.2, 0.4, 0.1), (4, 4, 6)),
    "turned": (np.array([[0, 2.0, 0], [1.5, 0, 0], [0, 0, -1.2]]), (0.3, 0.2, 8.6), (4, 3, 6)),
    "beyond": (np.diag([3.0, 3.0, 3.0]), (-3.0, 0.4, 0.3), (5, 3, 5)),
    "finer": (np.diag([0.6, 0.7, 0.8]), (0.0, 0.0, 0.0), (9, 8, 9)),
}


@pytest.mark.parametrize("sigma", [(0, 0, 0), (0.5, 0.7, 0), (1.0, 2.0, 0.4), (6.0, 6.0, 6.0)])
@pytest.mark.parametrize("grid", GRIDS)
def test_it_equals_a_gaussian_and_then_linear_interpolation(grid: str, sigma: tuple[float, ...], rng: np.random.Generator) -> None:
    image = rng.normal(0, 100, (7, 6, 9))
    matrix, offset, shape = GRIDS[grid]
    blurred = ndimage.gaussian_filter(image, sigma, mode="nearest")
    at = np.einsum("ab,bkji->akji", matrix, np.indices(shape)) + np.reshape(offset, (3, 1, 1, 1))
    expected = ndimage.map_coordinates(blurred, at, order=1, mode="nearest")
    limits = np.reshape(image.shape, (3, 1, 1, 1)) - 0.5
    expected[((at < -0.5) | (at >= limits)).any(axis=0)] = -7
    found = resample_smooth(image.astype(np.float32), matrix, np.array(offset), shape, sigma, -7)
    assert np.allclose(found, expected, atol=2e-3)
    whole = resample_smooth(image.astype(np.int16), matrix, np.array(offset), shape, sigma, -7)
    assert whole.dtype == np.int16
    assert np.abs(whole - expected).max() <= 1.5


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("grid", GRIDS)
def test_wide_integers_keep_every_digit(grid: str, dtype: type, rng: np.random.Generator) -> None:
    image = (2**30 + rng.integers(0, 100, (7, 6, 9))).astype(dtype)
    matrix, offset, shape = GRIDS[grid]
    blurred = ndimage.gaussian_filter(image.astype(np.float64), (0.5, 0.7, 0.4), mode="nearest")
    at = np.einsum("ab,bkji->akji", matrix, np.indices(shape)) + np.reshape(offset, (3, 1, 1, 1))
    expected = ndimage.map_coordinates(blurred, at, order=1, mode="nearest")
    expected[((at < -0.5) | (at >= np.reshape(image.shape, (3, 1, 1, 1)) - 0.5)).any(axis=0)] = 5
    found = resample_smooth(image, matrix, np.array(offset), shape, (0.5, 0.7, 0.4), 5)
    assert found.dtype == dtype
    assert np.abs(found.astype(np.float64) - expected).max() <= 0.51


def test_the_ends_of_the_integers_do_not_turn_over() -> None:
    for dtype in (np.int32, np.uint32, np.int64, np.uint64):
        for end in (np.iinfo(dtype).min, np.iinfo(dtype).max):
            found = resample_smooth(np.full((3, 3, 3), end, dtype), np.eye(3), np.zeros(3), (3, 3, 3), (1, 1, 1), 0)
            assert np.allclose(found.astype(np.float64), float(end), rtol=1e-12)


def test_no_array_of_the_size_of_the_image_is_made() -> None:
    image = np.zeros((96, 96, 96), np.int16)
    arguments = (np.diag([2.0, 2.0, 2.0]), np.full(3, 0.5), (48, 48, 48), (0.5, 0.5, 0.5))
    resample_smooth(image, *arguments)
    tracemalloc.start()
    resample_smooth(image, *arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.2 * image.nbytes


def test_parameters_without_meaning_raise() -> None:
    image = np.zeros((2, 2, 2), np.int16)
    turn = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    with pytest.raises(ValueError, match="axes of the new grid"):
        resample_smooth(image, turn, np.zeros(3), (2, 2, 2), (1, 1, 1))
    with pytest.raises(ValueError, match="sigma_voxels"):
        resample_smooth(image, np.eye(3), np.zeros(3), (2, 2, 2), (1, -1, 1))
    with pytest.raises(ValueError, match="fill"):
        resample_smooth(image, np.eye(3), np.zeros(3), (2, 2, 2), (1, 1, 1), 0.5)
