from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.kernels.non_local_means import non_local_means

SHIFTS = np.stack(np.meshgrid([-1, 0, 1], [-2, -1, 0, 1, 2], [-1, 0, 1], indexing="ij"), -1).reshape(-1, 3)


def defined(image: NDArray[np.float64], sigma: float, strength: float, patch: int, squared: bool) -> NDArray[np.float64]:
    """Voxel by voxel, cube by cube."""
    reach = 2 + patch
    padded = np.pad(image, reach, mode="edge")

    def cube(at: NDArray[np.int64]) -> NDArray[np.float64]:
        return padded[tuple(slice(n - patch, n + patch + 1) for n in at)]

    out = np.zeros(image.shape)
    for index in np.ndindex(*image.shape):
        at = np.array(index) + reach
        distances = np.array([((cube(at) - cube(at + shift)) ** 2).mean() for shift in SHIFTS])
        weights = np.exp(-np.maximum(distances - 2 * sigma**2, 0) / (strength * sigma) ** 2)
        values = np.array([padded[tuple(at + shift)] for shift in SHIFTS])
        out[index] = (weights * (values**2 if squared else values)).sum() / weights.sum()
    return out


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("patch", [0, 1, 2])
def test_means_equal_their_definition(patch: int, squared: bool, rng: np.random.Generator) -> None:
    image = rng.normal(100, 20, (5, 6, 7))
    image[:, 3:] += 60
    found = non_local_means(image.astype(np.float32), SHIFTS, 15.0, 0.9, patch, squared)
    # weights are off by less than 3e-6 each, and there are 45 of them
    assert np.allclose(found, defined(image, 15.0, 0.9, patch, squared), rtol=1e-4)


def test_many_planes_are_parted_without_a_trace(rng: np.random.Generator) -> None:
    image = rng.normal(100, 20, (37, 4, 3))
    assert np.allclose(non_local_means(image, SHIFTS, 15.0, 0.9), defined(image, 15.0, 0.9, 1, False), rtol=1e-4)


def test_parameters_without_meaning_raise() -> None:
    image = np.zeros((2, 2, 2))
    with pytest.raises(ValueError, match="the voxel itself"):
        non_local_means(image, [(0, 0, 1)], 1.0, 1.0)
    for sigma, strength, patch in ((0, 1, 1), (1, 0, 1), (1, 1, 4)):
        with pytest.raises(ValueError, match="positive numbers and a patch"):
            non_local_means(image, [(0, 0, 0)], sigma, strength, patch)
