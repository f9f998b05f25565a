"""Distances to the nearest point, against looking at every pair in the patient's millimetres."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.kernels.nearest import nearest_distances_mm


def in_order(points: NDArray[Any]) -> NDArray[Any]:
    return np.unique(points, axis=0)


def by_pairs(queries: NDArray[Any], points: NDArray[Any], affine: NDArray[Any]) -> NDArray[np.float64]:
    a, b = (indices[:, ::-1] @ affine[:3, :3].T for indices in (queries, points))
    return np.linalg.norm(a[:, None] - b[None], axis=2).min(axis=1)


@pytest.mark.parametrize("apart", [0, 10, 300], ids=["near", "some", "far"])
def test_exact_on_every_grid(affine: NDArray[Any], apart: int, rng: np.random.Generator) -> None:
    queries = in_order(rng.integers(-1, 24, (700, 3)))
    points = in_order(rng.integers(-1, 24, (90, 3)) + np.array([0, apart, -apart // 3]))
    found = nearest_distances_mm(queries, points, affine)
    assert found == pytest.approx(by_pairs(queries, points, affine), abs=1e-9)


def test_a_strong_shear_where_the_nearest_point_is_not_near_in_indices(rng: np.random.Generator) -> None:
    affine = np.array([[1.0, 3.7, -5.2], [0, 0.9, 2.1], [0, 0, 0.8]])
    queries, points = in_order(rng.integers(0, 30, (400, 3))), in_order(rng.integers(0, 30, (60, 3)))
    assert nearest_distances_mm(queries, points, affine) == pytest.approx(by_pairs(queries, points, affine), abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.05, 20), st.floats(0.05, 20), st.integers(1, 60), st.integers(1, 200))
def test_exact_for_any_spacing(seed: int, step_j: float, step_k: float, count: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    affine = np.diag([1.0, step_j, step_k]) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    queries, points = in_order(rng.integers(0, width, (40, 3))), in_order(rng.integers(0, width, (count, 3)))
    assert nearest_distances_mm(queries, points, affine) == pytest.approx(by_pairs(queries, points, affine), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("apart", [0, 400], ids=["near", "far"])
def test_threads_change_nothing(apart: int, rng: np.random.Generator) -> None:
    """Above 20,000 points the work is shared out; each part alone gives the same."""
    queries, points = in_order(rng.integers(0, 60, (60_000, 3))), in_order(rng.integers(apart, apart + 60, (900, 3)))
    whole = nearest_distances_mm(queries, points, np.diag([0.7, 0.9, 3.0]))
    parts = [nearest_distances_mm(part, points, np.diag([0.7, 0.9, 3.0])) for part in np.array_split(queries, 7)]
    assert len(queries) > 20_000
    assert whole.tolist() == np.concatenate(parts).tolist()


def test_no_points_is_an_error_not_infinity() -> None:
    with pytest.raises(ValueError, match="no points"):
        nearest_distances_mm(np.zeros((1, 3), int), np.zeros((0, 3), int), np.eye(3))
