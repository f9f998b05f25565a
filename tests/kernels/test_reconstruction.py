from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from medseg.kernels import reconstruction
from medseg.kernels.reconstruction import fill_shallow, minima, reconstruct

DTYPES = ["uint8", "int16", "uint16", "int32", "float32", "float64"]


def noise(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, height: int) -> NDArray[Any]:
    values = rng.integers(0, height, shape)
    return (values * 0.37 - 11 if np.dtype(dtype).kind == "f" else values - (50 if dtype[0] == "i" else 0)).astype(dtype)


def itk(array: NDArray[Any]) -> sitk.Image:
    return sitk.GetImageFromArray(array)


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_to_itk_on_noise(shape: tuple[int, int, int], dtype: str, connectivity: Any, rng: np.random.Generator) -> None:
    full = connectivity == 26
    for height in (4, 100):
        limit = noise(rng, shape, dtype, height)
        below = np.minimum(limit, noise(rng, shape, dtype, height))
        above = np.maximum(limit, noise(rng, shape, dtype, height))
        grown = sitk.ReconstructionByDilation(itk(below), itk(limit), full)
        shrunk = sitk.ReconstructionByErosion(itk(above), itk(limit), full)
        assert np.array_equal(reconstruct(below, limit, "dilation", connectivity), sitk.GetArrayFromImage(grown))
        assert np.array_equal(reconstruct(above, limit, "erosion", connectivity), sitk.GetArrayFromImage(shrunk))


def test_one_seed_finds_its_way_through_a_maze(rng: np.random.Generator) -> None:
    """Long winding paths, which two passes over the image do not follow; by labelling, and with 18 neighbours too."""
    limit = (rng.random((40, 50, 60)) < 0.36).astype(np.uint8)
    marker = np.zeros_like(limit)
    seed = tuple(np.argwhere(ndimage.label(limit)[0] == np.bincount(ndimage.label(limit)[0].ravel())[1:].argmax() + 1)[0])
    marker[seed] = 1
    for connectivity, rank in ((6, 1), (18, 2), (26, 3)):
        parts, _ = ndimage.label(limit, ndimage.generate_binary_structure(3, rank))
        assert np.array_equal(reconstruct(marker, limit, connectivity=connectivity), parts == parts[seed])


def test_a_spiral_is_followed_to_its_end() -> None:
    limit = np.zeros((1, 101, 101), np.int16)
    limit[0, ::2] = 7
    limit[0, 1::4, -1] = limit[0, 3::4, 0] = 7
    marker = np.zeros_like(limit)
    marker[0, -1, -1] = 9
    assert np.array_equal(reconstruct(marker, limit), limit)


def test_more_voxels_wait_than_the_ring_holds(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr(reconstruction, "_FIRST_ROOM", 64)
    limit = (rng.integers(0, 1000, (20, 41, 15)) + 3 * np.arange(20)[::-1, None, None]).astype(np.int32)
    marker = np.where(limit > 900, limit, limit.min()).astype(np.int32)
    expected = sitk.GetArrayFromImage(sitk.ReconstructionByDilation(itk(marker), itk(limit)))
    assert np.array_equal(reconstruct(marker, limit), expected)


@pytest.mark.parametrize("connectivity", [6, 26])
def test_shallow_minima_of_a_real_ct_are_filled_as_itk_fills_them(ct: NDArray[Any], connectivity: Any) -> None:
    image = sitk.GradientMagnitude(itk(ct.astype(np.float32)))
    for relief, depth in ((image, 12.5), (itk(ct), 30)):
        expected = sitk.HMinima(relief, depth, connectivity == 26)
        found = fill_shallow(sitk.GetArrayFromImage(relief), depth, connectivity)
        assert np.array_equal(found, sitk.GetArrayFromImage(expected))


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_minima_are_those_of_itk(shape: tuple[int, int, int], dtype: str, connectivity: Any, rng: np.random.Generator) -> None:
    if shape == (1, 1, 1):
        pytest.skip("ITK calls no voxel of a flat image a minimum")
    for height in (3, 60):
        image = noise(rng, shape, dtype, height)
        expected = sitk.GetArrayFromImage(sitk.RegionalMinima(itk(image), 0, 1, connectivity == 26))
        labels, count = minima(image, connectivity)
        parts, number = ndimage.label(expected, ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3))
        if image.min() < image.max():
            assert number == count
            assert np.array_equal(labels, parts)


def test_a_mask_bounds_plateaus() -> None:
    image = np.array([[[3, 3, 1, 3, 3]]], np.int16)
    labels, count = minima(image, mask=np.array([[[1, 1, 0, 1, 1]]], np.uint8))
    assert (labels.tolist(), count) == ([[[1, 1, 0, 2, 2]]], 2)
    assert minima(image)[0].tolist() == [[[0, 0, 1, 0, 0]]]


def test_extreme_depths_and_values() -> None:
    image = np.array([[[-32768, 32767, -32768, 5]]], np.int16)
    assert (fill_shallow(image, 1e9) == 32767).all()
    assert np.array_equal(fill_shallow(image, 0), image)
    assert np.array_equal(fill_shallow(image, 0.9), image)
    walled = np.array([[[1.0, np.inf, -np.inf, 2.0]]], np.float32)
    assert fill_shallow(walled, 1).tolist() == [[[2.0, np.inf, -np.inf, 2.0]]]


def test_wrong_arguments_raise() -> None:
    image = np.zeros((2, 2, 2), np.float32)
    with pytest.raises(ValueError, match="NaN"):
        reconstruct(image, np.full_like(image, np.nan))
    with pytest.raises(ValueError, match="depth is -1"):
        fill_shallow(image, -1)
    with pytest.raises(ValueError, match="limit"):
        reconstruct(image, np.zeros((2, 2, 3), np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
@pytest.mark.parametrize("depth", [1, 100, 40_000, 65_535, 1e12])
def test_depths_beyond_the_range_of_whole_numbers_are_those_of_floats(dtype: str, depth: float, rng: np.random.Generator) -> None:
    info = np.iinfo(dtype)
    image = rng.integers(info.min, info.max, (4, 5, 6), endpoint=True).astype(dtype)
    image.flat[:2] = info.min, info.max
    expected = np.minimum(fill_shallow(image.astype(np.float64), depth), info.max)
    assert np.array_equal(fill_shallow(image, depth), expected)
