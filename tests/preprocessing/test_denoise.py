from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.denoise import gaussian_mm
from medseg.preprocessing.preprocess import preprocess


def noise(affine: np.ndarray, shape: tuple[int, int, int] = (21, 18, 15)) -> Volume:
    rng = np.random.default_rng(4)
    return Volume(rng.normal(0, 100, shape).astype(np.int16), Geometry(shape, affine), "CT", "HU")


@pytest.mark.parametrize("sigma_mm", [0.7, 2.0, 5.0])
def test_gaussian_is_that_of_scipy_in_mm(right_angled: np.ndarray, sigma_mm: float) -> None:
    volume = noise(right_angled)
    expected = scipy.ndimage.gaussian_filter(
        volume.array.astype(np.float64), sigma_mm / np.asarray(volume.geometry.spacing_mm), mode="nearest", truncate=4
    )
    found = preprocess(volume, "gaussian", sigma_mm=sigma_mm)
    assert found.array.dtype == np.float32
    assert np.allclose(found.array, expected, atol=1e-3)


def test_gaussian_is_close_to_itk_on_a_real_scan(ct: Volume) -> None:
    """ITK's discrete Gaussian has another kernel (Bessel functions), so it agrees to a few per cent of the edges only."""
    image = sitk.GetImageFromArray(ct.array.T.astype(np.float32))
    image.SetSpacing(ct.geometry.spacing_mm)
    expected = sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, variance=36.0, maximumKernelWidth=64, maximumError=0.001))
    found = preprocess(ct, "gaussian", sigma_mm=6.0).array.T
    inner = (slice(9, -9),) * 3
    assert np.abs(found - expected)[inner].max() < 0.02 * np.ptp(ct.array)


def test_a_point_becomes_a_round_gaussian_on_every_grid(affine: np.ndarray) -> None:
    """The blurred point against exp(-d² / 2 sigma²) of the distance in mm, and the same width in every direction."""
    shape, sigma_mm = (45, 41, 31), 2.8
    geometry = Geometry(shape, affine)
    array = np.zeros(shape)
    array[22, 20, 15] = 1e6
    found = gaussian_mm(array.T, geometry, sigma_mm).T.astype(np.float64)
    points = geometry.index_to_world(np.stack(np.indices(shape), axis=-1)) - geometry.index_to_world((22, 20, 15))
    expected = np.exp(-0.5 * (points**2).sum(axis=-1) / sigma_mm**2)
    assert np.allclose(found, 1e6 * expected / expected.sum(), atol=1e6 * expected.max() / expected.sum() * 2e-3)
    covariance = np.einsum("ijk,ijka,ijkb->ab", found, points, points) / found.sum()
    assert np.allclose(covariance, sigma_mm**2 * np.eye(3), atol=0.03 * sigma_mm**2)
    assert found.sum() == pytest.approx(1e6, rel=1e-4)


def test_a_constant_stays_on_every_grid(affine: np.ndarray) -> None:
    volume = Volume(np.full((9, 8, 7), -1000, np.int16), Geometry((9, 8, 7), affine))
    assert np.allclose(preprocess(volume, "gaussian", sigma_mm=3).array, -1000, atol=1e-2)
    assert (preprocess(volume, "median", radius_voxels=2).array == -1000).all()


@pytest.mark.parametrize("radius", [1, 2])
def test_median_is_that_of_itk_on_a_real_scan(ct: Volume, radius: int) -> None:
    expected = sitk.GetArrayFromImage(sitk.Median(sitk.GetImageFromArray(ct.array.T), [radius] * 3))
    found = preprocess(ct, "median", radius_voxels=radius)
    assert found.array.dtype == np.int16
    assert np.array_equal(found.array.T, expected)


def test_filters_commute_with_a_change_of_axes(affine: np.ndarray) -> None:
    volume = noise(affine)
    for name, chosen in (("gaussian", {"sigma_mm": 1.5}), ("median", {})):
        one = preprocess(preprocess(volume, "reorient", orientation="SPL"), name, **chosen)
        other = preprocess(preprocess(volume, name, **chosen), "reorient", orientation="SPL")
        assert np.allclose(one.array, other.array, atol=1e-3)
        assert np.allclose(one.geometry.affine, other.geometry.affine)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["gaussian", "median"])
def test_nan_and_infinity_are_refused(name: str, value: float) -> None:
    array = np.zeros((3, 3, 3), np.float32)
    array[1, 1, 1] = value
    with pytest.raises(InputError, match=f"{name}: 1 of 27 voxels are NaN or infinite"):
        preprocess(Volume(array, Geometry((3, 3, 3), np.eye(4))), name)


@pytest.mark.parametrize("chosen", [{"sigma_mm": 0}, {"sigma_mm": -1}, {"sigma_mm": float("nan")}, {"sigma": 1}])
def test_impossible_widths_are_refused(chosen: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match="gaussian: "):
        preprocess(noise(np.eye(4)), "gaussian", **chosen)
    with pytest.raises(ParameterError, match="median: "):
        preprocess(noise(np.eye(4)), "median", radius_voxels=3)
