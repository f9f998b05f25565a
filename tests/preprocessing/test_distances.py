"""Distances on every grid, against brute force over all pairs of voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from medseg.core.geometry import Geometry
from medseg.preprocessing.distances import away_mm, closed, depth_mm, grown, opened, reach_mm, shrunk

SHAPE = (11, 9, 7)


def blob(seed: int = 4) -> np.ndarray:
    """Some voxels (k,j,i) with an empty rim."""
    mask = np.zeros(SHAPE[::-1], np.uint8)
    mask[1:-1, 1:-1, 1:-1] = np.random.default_rng(seed).random((5, 7, 9)) < 0.8
    return mask


def brute(asked: np.ndarray, targets: np.ndarray, grid: Geometry) -> np.ndarray:
    """Distance of each voxel asked about to the nearest target."""
    out = np.zeros(asked.shape)
    points = [grid.index_to_world(np.argwhere(some)[:, ::-1]) for some in (asked, targets)]
    out[asked] = cdist(*points).min(axis=1)
    return out


def test_depth_and_distance_are_exact_on_every_grid(affine: np.ndarray) -> None:
    grid, mask = Geometry(SHAPE, affine), blob()
    depth, away = brute(mask > 0, mask == 0, grid), brute(mask == 0, mask > 0, grid)
    np.testing.assert_allclose(depth_mm(mask, grid), depth, rtol=1e-5)
    np.testing.assert_allclose(away_mm(mask, grid), away, rtol=1e-5)
    limited = depth_mm(mask, grid, 1.2)
    np.testing.assert_allclose(limited, np.where(depth > 1.2, np.inf, depth), rtol=1e-5)
    assert np.isinf(limited).any()


@pytest.mark.parametrize("radius_mm", [0.0, 1.05, 2.6])
def test_balls_are_those_of_the_distances(affine: np.ndarray, radius_mm: float) -> None:
    grid, mask = Geometry(SHAPE, affine), blob()
    depth, away = brute(mask > 0, mask == 0, grid), brute(mask == 0, mask > 0, grid)
    assert np.array_equal(grown(mask, grid, radius_mm), away <= radius_mm)
    assert np.array_equal(shrunk(mask, grid, radius_mm), depth > radius_mm)
    core = depth > radius_mm
    expected = brute(~core, core, grid) <= radius_mm if core.any() else core
    assert np.array_equal(opened(mask, grid, radius_mm), expected)


def test_closing_is_that_of_a_wide_grid(affine: np.ndarray) -> None:
    """Done by brute force on a grid with room on every side; the closed mask is cut at its array."""
    grid, mask, radius_mm, room = Geometry(SHAPE, affine), blob(), 2.6, 5
    wide = np.pad(mask, room)
    wide_grid = grid.cropped((-room,) * 3, [length + 2 * room for length in SHAPE])
    fat = brute(wide == 0, wide > 0, wide_grid) <= radius_mm
    expected = brute(fat, ~fat, wide_grid) > radius_mm
    found = closed(mask, grid, radius_mm)
    assert np.array_equal(found, expected[room:-room, room:-room, room:-room])
    assert found.sum() > mask.sum()


def test_a_box_one_diagonal_wider_is_enough(affine: np.ndarray) -> None:
    """Every voxel that is nearest to one inside lies within a voxel's diagonal of the mask."""
    grid, mask = Geometry(SHAPE, affine), blob(9)
    points = grid.index_to_world(np.argwhere(mask == 0)[:, ::-1])
    inside = grid.index_to_world(np.argwhere(mask)[:, ::-1])
    nearest = np.unique(cdist(inside, points).argmin(axis=1))
    assert cdist(points[nearest], inside).min(axis=1).max() <= reach_mm(grid) + 1e-9


def test_nothing_outside_is_infinitely_far(affine: np.ndarray) -> None:
    grid = Geometry(SHAPE, affine)
    full = np.ones(SHAPE[::-1], np.uint8)
    assert np.isinf(depth_mm(full, grid)).all()
    assert not away_mm(full, grid).any()
    assert np.isinf(away_mm(1 - full, grid)).all()
    assert shrunk(full, grid, 3).all()
