from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from medseg.kernels.filters import gaussian, gradient_magnitude, median


@pytest.mark.parametrize("sigma", [(1.5, 1.5, 1.5), (0.3, 2, 0), (0, 0, 0), (0, 0, 3), (5, 0, 0.7)])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_gaussian_equals_scipy(shape: tuple[int, int, int], sigma: tuple[float, ...], dtype: str, rng: np.random.Generator) -> None:
    image = rng.integers(1, 2000, shape).astype(dtype)
    ours = gaussian(image, sigma)
    assert ours.dtype == np.float32
    assert np.allclose(ours, ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="nearest"), rtol=1e-5)
    cut = gaussian(image, sigma, truncate=2)
    assert np.allclose(cut, ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="nearest", truncate=2), rtol=1e-5)


def test_gaussian_of_a_real_ct(ct: NDArray[Any]) -> None:
    expected = ndimage.gaussian_filter(ct.astype(np.float64), (0.8, 1.5, 1.5), mode="nearest")
    assert np.abs(gaussian(ct, (0.8, 1.5, 1.5)) - expected).max() < 2e-3  # of 2,300 HU


@pytest.mark.parametrize("radius", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_median_equals_itk(shape: tuple[int, int, int], radius: int, dtype: str, rng: np.random.Generator) -> None:
    low = 0 if dtype.startswith("u") else -120
    image = rng.integers(low, 120, shape).astype(dtype)
    if np.dtype(dtype).kind == "f":
        image = image * np.dtype(dtype).type(0.37)
    theirs = sitk.GetArrayFromImage(sitk.Median(sitk.GetImageFromArray(image), [radius] * 3))
    ours = median(image, radius)
    assert ours.dtype == image.dtype
    assert np.array_equal(ours, theirs)


def test_median_over_the_full_range_of_a_dtype(rng: np.random.Generator) -> None:
    for dtype in (np.int16, np.uint16, np.int32, np.uint8):
        info = np.iinfo(dtype)
        image = rng.integers(info.min, info.max, (4, 5, 6), endpoint=True).astype(dtype)
        image[0, 0, :2] = info.min, info.max
        assert np.array_equal(median(image), ndimage.median_filter(image, 3, mode="nearest"))


def test_median_of_a_real_ct_and_of_infinities(ct: NDArray[Any]) -> None:
    assert np.array_equal(median(ct), sitk.GetArrayFromImage(sitk.Median(sitk.GetImageFromArray(ct), [1, 1, 1])))
    image = np.array([[[np.inf, -np.inf, 0.0, 1.0, -2.0, np.nan, np.nan]]])
    assert np.array_equal(median(image)[0, 0], [np.inf, 0, 0, 0, 1, np.nan, np.nan], equal_nan=True)


def test_median_of_constant_and_bool() -> None:
    assert median(np.full((3, 3, 3), -7, np.int16)).tolist() == np.full((3, 3, 3), -7).tolist()
    assert median(np.ones((2, 2, 2), bool)).dtype == bool


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_gradient_equals_itk(shape: tuple[int, int, int], dtype: str, rng: np.random.Generator) -> None:
    image, spacing = rng.integers(0, 250, shape).astype(dtype), (2.5, 0.7, 0.9)
    source = sitk.GetImageFromArray(image)
    source.SetSpacing(spacing[::-1])
    theirs = sitk.GetArrayFromImage(sitk.GradientMagnitude(source))
    ours = gradient_magnitude(image, spacing)
    assert ours.dtype == np.float32
    assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradient_of_a_plane_is_its_slope_in_mm() -> None:
    k, j, i = np.indices((5, 6, 7))
    image = 3.0 * (2 * k) + 4.0 * (0.5 * j) + 12.0 * (1.5 * i)
    assert np.allclose(gradient_magnitude(image, (2, 0.5, 1.5))[1:-1, 1:-1, 1:-1], 13.0)


def test_parameters_without_meaning_raise() -> None:
    image = np.zeros((2, 2, 2), np.int16)
    with pytest.raises(ValueError, match="sigma_voxels"):
        gaussian(image, (1, -1, 1))
    with pytest.raises(ValueError, match="truncate"):
        gaussian(image, (1, 1, 1), truncate=0)
    with pytest.raises(ValueError, match="radius"):
        median(image, 3)
    with pytest.raises(ValueError, match="spacing_mm"):
        gradient_magnitude(image, (1, 1))
