from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.kernels.bilateral import bilateral

OFFSETS = np.stack(np.meshgrid([-1, 0, 1], [-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2], indexing="ij"), -1).reshape(-1, 3)
WEIGHTS = np.exp(-(OFFSETS**2).sum(axis=1) / 3.0)


@pytest.mark.parametrize("sigma", [2.0, 20.0, 300.0])
def test_bilateral_equals_its_definition(shape: tuple[int, int, int], sigma: float, rng: np.random.Generator) -> None:
    image = rng.integers(-100, 100, shape).astype(np.int16)
    total, norm = np.zeros(shape), np.zeros(shape)
    index = np.indices(shape)
    for offset, weight in zip(OFFSETS, WEIGHTS, strict=True):
        there = [np.clip(places + step, 0, length - 1) for places, step, length in zip(index, offset, shape, strict=True)]
        other = image[tuple(there)].astype(np.float64)
        share = weight * np.exp(-0.5 * ((other - image) / sigma) ** 2)
        total += share * other
        norm += share
    assert np.allclose(bilateral(image, OFFSETS, WEIGHTS, sigma), total / norm, atol=1e-2)


def test_with_a_wide_range_it_is_a_linear_filter(rng: np.random.Generator) -> None:
    image = rng.normal(0, 50, (7, 12, 13))
    kernel = WEIGHTS.reshape(3, 5, 5) / WEIGHTS.sum()
    assert np.allclose(bilateral(image, OFFSETS, WEIGHTS, 1e7), ndimage.correlate(image, kernel, mode="nearest"), atol=1e-3)


def test_parameters_without_meaning_raise() -> None:
    image = np.zeros((2, 2, 2))
    with pytest.raises(ValueError, match="offset \\(0, 0, 0\\) among them"):
        bilateral(image, [(0, 0, 1)], [1.0], 1.0)
    with pytest.raises(ValueError, match="one weight each"):
        bilateral(image, [(0, 0, 0)], [1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match="sigma_intensity"):
        bilateral(image, [(0, 0, 0)], [1.0], 0.0)
