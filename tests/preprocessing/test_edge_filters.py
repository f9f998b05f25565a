"""Sobel and Laplacian of Gaussian: exact where a formula is, on every grid, and the same for a flipped scan."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.edges import LaplacianOfGaussianParams, SobelParams, laplacian_of_gaussian, sobel

SHAPE = (22, 18, 12)
INNER = (slice(1, -1),) * 3


def places_mm(geometry: Geometry) -> np.ndarray:
    return geometry.index_to_world(np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1))


def test_sobel_of_a_ramp_is_its_slope_in_the_patient(affine: np.ndarray) -> None:
    geometry, slope = Geometry(SHAPE, affine), np.array([4.0, -1.0, 2.5])
    scan = Volume((places_mm(geometry) @ slope).astype(np.float32), geometry, "CT", "HU")
    for part, expected in zip(("right", "anterior", "superior"), slope, strict=True):
        assert np.allclose(sobel(scan, SobelParams(part=part)).array[INNER], expected, atol=1e-3)
    result = sobel(scan, SobelParams())
    assert np.allclose(result.array[INNER], np.linalg.norm(slope), atol=1e-3)
    assert (result.unit, result.modality, result.array.dtype) == ("HU/mm", "CT", np.float32)


def test_sobel_is_the_sum_over_27_neighbours() -> None:
    image = np.random.default_rng(0).integers(0, 100, (6, 5, 7)).astype(np.int16)
    found = sobel(Volume(image, Geometry(image.shape, np.diag([2.0, 1, 1, 1]))), SobelParams(part="right")).array
    weights = np.einsum("a,b,c->abc", [-0.5, 0, 0.5], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25]) / 2.0
    wide = np.pad(image, 1, mode="edge")
    expected = np.array([[[(wide[i : i + 3, j : j + 3, k : k + 3] * weights).sum() for k in range(7)] for j in range(5)] for i in range(6)])
    assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("sigma_mm", [4.0, 6.0])
def test_the_laplacian_of_a_gaussian_blob_is_that_of_the_formula(affine: np.ndarray, sigma_mm: float) -> None:
    geometry = Geometry((64, 48, 24), affine)
    centre = geometry.index_to_world((31, 23, 12))
    width = 5.0
    blob = 1000 * np.exp(-0.5 * ((places_mm(geometry) - centre) ** 2).sum(axis=-1) / width**2)
    answer = laplacian_of_gaussian(Volume(blob, geometry), LaplacianOfGaussianParams(sigma_mm=sigma_mm)).array
    total = width**2 + sigma_mm**2
    expected = -3000 / total * (width**2 / total) ** 1.5
    # second differences over voxels of up to 2.5 mm see a little less curvature, and a kernel cut at 4 sigma blurs a little less
    assert answer[31, 23, 12] == pytest.approx(expected, rel=0.04)
    assert answer.argmin() == np.ravel_multi_index((31, 23, 12), answer.shape)
    normalised = laplacian_of_gaussian(Volume(blob, geometry), LaplacianOfGaussianParams(sigma_mm=sigma_mm, scale_normalised=True)).array
    assert np.allclose(normalised, answer * sigma_mm**2, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_scan_gives_the_flipped_answer(affine: np.ndarray, axis: int) -> None:
    image = np.random.default_rng(1).normal(100, 30, SHAPE).astype(np.float32)
    turned = affine.copy()
    turned[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
    turned[:3, axis] *= -1
    one, other = Volume(image, Geometry(SHAPE, affine)), Volume(np.flip(image, axis), Geometry(SHAPE, turned))
    for answer in (
        lambda scan: sobel(scan, SobelParams(part="anterior")).array,
        lambda scan: laplacian_of_gaussian(scan, LaplacianOfGaussianParams(sigma_mm=2)).array,
    ):
        assert np.allclose(np.flip(answer(one), axis), answer(other), atol=2e-4)


def test_nan_is_refused_with_its_count() -> None:
    array = np.zeros((4, 4, 4), np.float32)
    array[1, 1, 1] = np.nan
    for call in (lambda v: sobel(v, SobelParams()), lambda v: laplacian_of_gaussian(v, LaplacianOfGaussianParams())):
        with pytest.raises(InputError, match="1 of 64 voxels"):
            call(Volume(array, Geometry((4, 4, 4), np.eye(4))))
