from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from medseg.kernels.running import beyond_sauvola, beyond_window_mean, window_mean
from medseg.kernels.running_gaussian import extended_box, gaussian_mean


def weights_along(half: float) -> np.ndarray:
    """The window along one axis: whole voxels, and the share of the last ones."""
    whole = int(half)
    part = half - whole
    return np.array([part, *[1.0] * (2 * whole + 1), part])


def by_convolution(image: np.ndarray, half: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the window, by scipy, finite voxels inside the array only."""
    finite = np.isfinite(image)
    sums = []
    for power in (0, 1, 2):
        total = np.where(finite, np.where(finite, image, 0).astype(float) ** power, 0)
        for axis, value in enumerate(half):
            total = ndimage.correlate1d(total, weights_along(value), axis, mode="constant")
        sums.append(total)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums[1] / sums[0]
        return mean, np.sqrt(np.maximum(sums[2] / sums[0] - mean**2, 0))


HALVES = [(0, 0, 0), (1, 2, 3), (0.25, 1.5, 2.75), (5.5, 0, 40)]


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32"])
def test_the_mean_is_that_of_a_convolution(
    shape: tuple[int, int, int], dtype: str, half: tuple[float, float, float], rng: np.random.Generator
) -> None:
    image = rng.integers(0, 200, shape).astype(dtype)
    # a window that reaches beyond both ends holds everything: scipy's kernel may be that long too
    assert window_mean(image, half) == pytest.approx(by_convolution(image, half)[0], abs=1e-4)


@pytest.mark.parametrize("half", HALVES[1:], ids=str)
def test_what_is_not_finite_does_not_count(half: tuple[float, float, float], rng: np.random.Generator) -> None:
    image = rng.normal(50, 9, (9, 10, 11)).astype(np.float32)
    image[2, 3, 4], image[5], image[8, 9, 10] = np.nan, np.inf, -np.inf
    expected = by_convolution(image, half)[0]
    found = window_mean(image, half)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.nan_to_num(found) == pytest.approx(np.nan_to_num(expected), abs=1e-3)
    assert np.isnan(window_mean(np.full((2, 2, 2), np.nan), (1, 1, 1))).all()


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("half", HALVES[1:], ids=str)
def test_limits_are_those_of_the_formulas(side: int, half: tuple[float, float, float], rng: np.random.Generator) -> None:
    image = rng.integers(-400, 900, (12, 13, 14)).astype(np.int16)
    mean, std = by_convolution(image, half)
    assert np.array_equal(beyond_window_mean(image, half, side, 31.7), side * (image - mean) > 31.7)
    limit = -400 + (mean + 400) * (1 + 0.3 * (std / 650 - 1))
    assert np.array_equal(beyond_sauvola(image, half, side, 0.3, 650, -400), side * (image - limit) > 0)


def test_a_real_scan_has_the_means_of_scipy(ct: np.ndarray) -> None:
    part = ct[5:60, 20:100, 20:110]
    padded = ndimage.uniform_filter(part.astype(np.float64), (5, 7, 11))[2:-2, 3:-3, 5:-5]
    assert np.abs(window_mean(part, (2, 3, 5))[2:-2, 3:-3, 5:-5] - padded).max() < 1e-3


def test_sums_of_whole_numbers_are_exact_on_long_lines(rng: np.random.Generator) -> None:
    """A flat region behind a bright one is not disturbed by what the running sums went through."""
    image = np.full((1, 1, 200_000), -1024, np.int16)
    image[0, 0, :100_000] = rng.integers(-1024, 30_000, 100_000)
    assert (window_mean(image, (0, 0, 50))[0, 0, 100_050:] == -1024).all()
    assert not beyond_window_mean(image, (0, 0, 50), 1, 0)[0, 0, 100_050:].any()


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0, 2.5, 8.0])
def test_four_boxes_have_the_variance_of_the_gaussian_and_nearly_its_shape(sigma: float) -> None:
    line = np.zeros((1, 1, 201), np.float32)
    line[0, 0, 100] = 1000
    kernel = gaussian_mean(line, (0, 0, sigma))[0, 0] / 1000
    steps = np.arange(201) - 100
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert (kernel * steps**2).sum() == pytest.approx(sigma**2, abs=1e-3 * max(1, sigma**2))
    if sigma >= 1:
        gaussian = np.exp(-0.5 * (steps / sigma) ** 2)
        gaussian /= gaussian.sum()
        assert np.abs(kernel - gaussian).max() <= (0.04 if sigma >= 2 else 0.07) * gaussian.max()
    whole, part = extended_box(sigma)
    assert 0 <= part < 1
    assert (2 * whole + 1) ** 2 <= 12 * sigma**2 / 4 + 1


def test_a_gaussian_mean_is_near_that_of_scipy_on_a_real_scan(ct: np.ndarray) -> None:
    part = ct[5:60, 20:100, 20:110].astype(np.float32)
    expected = ndimage.gaussian_filter(part, (2, 3, 4))
    found = gaussian_mean(part, (2, 3, 4))
    inner = (slice(8, -8), slice(12, -12), slice(16, -16))
    assert np.abs(found - expected)[inner].mean() < 0.01 * expected.std()


def test_a_gaussian_mean_counts_only_what_is_there(rng: np.random.Generator) -> None:
    image = np.full((9, 10, 11), 37.5, np.float32)
    assert gaussian_mean(image, (2, 3, 4)) == pytest.approx(37.5, abs=1e-4)
    image[3:6, 2, 1], image[0, 0, 0] = np.nan, np.inf
    assert gaussian_mean(image, (2, 3, 4)) == pytest.approx(37.5, abs=1e-3)
    assert np.isnan(gaussian_mean(np.full((2, 2, 2), np.nan), (1, 1, 1))).all()


@pytest.mark.parametrize("half", [(1, 1, 1), (40.5, 10.5, 10.5)], ids=str)
def test_a_mask_takes_one_byte_a_voxel_and_a_mean_four(half: tuple[float, float, float]) -> None:
    """Whatever the window; the planes in work are few beside a long volume."""
    image = np.zeros((600, 40, 40), np.int16)
    for run, bytes_per_voxel in (
        (lambda: beyond_window_mean(image, half, 1, 0), 1),
        (lambda: beyond_sauvola(image, half, 1, 0.2, 100, 0), 1),
        (lambda: window_mean(image, half), 4),
    ):
        run()
        tracemalloc.start()
        run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= (bytes_per_voxel + 0.5) * image.size


def test_impossible_windows_are_refused() -> None:
    for wrong in ((1, 1), (1, 1, -1), (1, 1, np.nan)):
        with pytest.raises(ValueError, match="half_voxels"):
            window_mean(np.zeros((2, 2, 2), np.int16), wrong)
        with pytest.raises(ValueError, match="sigma_voxels"):
            gaussian_mean(np.zeros((2, 2, 2), np.int16), wrong)
