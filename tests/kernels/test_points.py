from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from medseg.kernels.points import fuzzy_round, lloyd_round, mixture_round


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 1, (500, 3)) + rng.integers(0, 3, (500, 1)) * 3.0


def test_a_round_of_lloyd(points: np.ndarray) -> None:
    centres, nearest = points[:4].copy(), np.full(500, -1)
    sums, numbers = np.empty((4, 3)), np.empty(4, np.int64)
    changed, total, furthest = lloyd_round(points, centres, nearest, sums, numbers)
    distances = ((points[:, None] - centres) ** 2).sum(axis=2)
    assert np.array_equal(nearest, distances.argmin(axis=1))
    assert (changed, furthest) == (500, distances.min(axis=1).argmax())
    assert total == pytest.approx(distances.min(axis=1).sum())
    assert sums == pytest.approx(np.stack([points[nearest == k].sum(axis=0) for k in range(4)]))
    assert np.array_equal(numbers, np.bincount(nearest))
    assert lloyd_round(points, centres, nearest, sums, numbers)[0] == 0


@pytest.mark.parametrize("share", [0.0, 1.7])
@pytest.mark.parametrize("fuzziness", [1.3, 2.0, 4.0])
def test_a_round_of_fuzzy_c_means(points: np.ndarray, share: float, fuzziness: float, rng: np.random.Generator) -> None:
    around, weights, centres = points + rng.normal(0, 0.3, points.shape), rng.random(500), points[:3] + 0.1
    cost = ((points[:, None] - centres) ** 2).sum(axis=2) + share * ((around[:, None] - centres) ** 2).sum(axis=2)
    degree = cost ** (-1 / (fuzziness - 1))
    degree = (degree / degree.sum(axis=1, keepdims=True)) ** fuzziness * weights[:, None]
    expected = degree.T @ (points + share * around) / ((1 + share) * degree.sum(axis=0)[:, None])
    assert fuzzy_round(points, around, share, weights, centres, fuzziness) == pytest.approx(expected)


def test_a_point_on_a_centre_belongs_to_it_alone(points: np.ndarray) -> None:
    centres = np.array([[0.0, 0, 0], [5, 5, 5]])
    assert fuzzy_round(centres, centres, 0.0, np.ones(2), centres, 2.0) == pytest.approx(centres)


def test_a_round_of_a_mixture(points: np.ndarray, rng: np.random.Generator) -> None:
    weights, means = rng.random(500), points[:2].copy()
    shares = np.array([0.3, 0.7])
    covariances = np.array([np.diag([1.0, 2, 3]), [[2, 0.5, 0], [0.5, 1, 0.2], [0, 0.2, 1]]])
    factors = np.ascontiguousarray(np.linalg.cholesky(np.linalg.inv(covariances)).transpose(0, 2, 1))
    offsets = np.linalg.slogdet(covariances)[1] - 2 * np.log(shares)
    density = np.stack([s * multivariate_normal(m, c).pdf(points) for s, m, c in zip(shares, means, covariances, strict=True)], axis=1)
    likelihood, totals, sums, squares = mixture_round(points, weights, means, factors, offsets)
    assert likelihood - 1.5 * np.log(2 * np.pi) * weights.sum() == pytest.approx(weights @ np.log(density.sum(axis=1)))
    degree = density / density.sum(axis=1, keepdims=True) * weights[:, None]
    assert totals == pytest.approx(degree.sum(axis=0))
    for k in range(2):
        apart = points - means[k]
        assert sums[k] == pytest.approx(degree[:, k] @ apart)
        assert squares[k] == pytest.approx((apart * degree[:, k : k + 1]).T @ apart)


def test_a_centre_that_no_point_belongs_to_stays() -> None:
    """So little fuzziness that all memberships are 0 or 1."""
    own = np.array([[0.0], [1.0]])
    moved = fuzzy_round(own, own, 0.0, np.ones(2), np.array([[0.4], [9.0]]), 1.0000001)
    assert moved.ravel().tolist() == [0.5, 9.0]
