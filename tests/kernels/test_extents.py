from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from medseg.kernels.extents import farthest_mm, label_extents, label_runs

UPRIGHT = np.diag([4.0, 1.3, 0.8])
SHEARED = np.array([[2.0, 0.1, 0.3], [0.2, -1.1, 0.0], [0.05, 0.3, 0.7]])


def mesh_vertices(mask: NDArray[Any]) -> NDArray[np.float64]:
    """The middles of all edges that lead out of the mask."""
    padded = np.pad(mask.astype(int), 1)
    parts = []
    for axis in range(3):
        middles = np.argwhere(np.diff(padded, axis=axis)).astype(float) - 1
        middles[:, axis] += 0.5
        parts.append(middles)
    return np.concatenate(parts)


def longest(points: NDArray[np.float64]) -> float:
    return float(pdist(points).max()) if len(points) > 1 else 0.0


@pytest.mark.parametrize("steps_mm", [UPRIGHT, SHEARED], ids=["upright", "sheared"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_every_field_against_all_voxels(steps_mm: NDArray[np.float64], share: float, rng: np.random.Generator) -> None:
    labels = (rng.integers(1, 4, (7, 9, 8)) * (rng.random((7, 9, 8)) < share)).astype(np.uint8)
    runs = label_runs(labels)
    found = label_extents(runs, steps_mm)
    assert runs.numbers.tolist() == np.unique(labels[labels > 0]).tolist()
    for n, number in enumerate(runs.numbers):
        index = np.argwhere(labels == number)
        assert runs.voxels[n] == len(index)
        assert found.first[n].tolist() == index.min(axis=0).tolist()
        assert found.last[n].tolist() == index.max(axis=0).tolist()
        assert found.centroid[n] == pytest.approx(index.mean(axis=0), rel=1e-12, abs=1e-12)
        away = index - index.mean(axis=0)
        assert found.scatter[n] == pytest.approx(away.T @ away, rel=1e-10, abs=1e-9)
        vertices = mesh_vertices(labels == number)
        for axis in range(3):
            planes = [longest(vertices[vertices[:, axis] == place] @ steps_mm) for place in np.unique(vertices[:, axis])]
            assert found.plane_diameters_mm[n, axis] == pytest.approx(max(planes), rel=1e-12)


def test_hull_points_have_the_hull_of_all(organs: NDArray[Any]) -> None:
    runs = label_runs(organs)
    found = label_extents(runs, UPRIGHT)
    for n, number in enumerate(runs.numbers[:20]):
        index = np.argwhere(organs == number)
        points = found.hull[found.hull_starts[n] : found.hull_starts[n + 1]]
        assert {tuple(point) for point in points} <= {tuple(point) for point in index}
        if (np.ptp(index, axis=0) > 0).all():
            assert ConvexHull(points).volume == pytest.approx(ConvexHull(index).volume, rel=1e-9)


def test_runs_are_those_of_each_label() -> None:
    labels = np.array([[[3, 3, 1], [0, 1, 1]], [[3, 0, 3], [0, 0, 0]]], np.uint16)
    runs = label_runs(labels)
    painted = np.zeros_like(labels)
    for n, number in enumerate(runs.numbers):
        for r in range(runs.starts[n], runs.starts[n + 1]):
            painted[runs.k[r], runs.j[r], runs.first[r] : runs.stop[r]] = number
    assert painted.tolist() == labels.tolist()


def test_nothing_but_background() -> None:
    found = label_extents(label_runs(np.zeros((2, 3, 4), np.uint8)), UPRIGHT)
    assert found.centroid.shape == (0, 3)
    assert found.hull_starts.tolist() == [0]


def test_the_farthest_of_no_point_and_of_one() -> None:
    assert farthest_mm(np.zeros((0, 3))) == 0
    assert farthest_mm(np.ones((1, 3))) == 0
