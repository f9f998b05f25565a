"""Convex hulls against scipy's triangulation, scikit-image and whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import Delaunay
from skimage.morphology import convex_hull_image

from medseg.kernels.convex import convex_hull


def by_triangulation(mask: np.ndarray) -> np.ndarray:
    """The voxels that lie in a simplex of the points."""
    points = np.argwhere(mask)
    every = np.argwhere(np.ones(mask.shape, bool))
    return (Delaunay(points).find_simplex(every, tol=1e-9) >= 0).reshape(mask.shape)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_hull_of_the_centres(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random((9, 11, 13)) < 0.02).astype(np.uint8)
    mask[4, 5, 6] = 1
    found = convex_hull(mask)
    assert np.array_equal(found, by_triangulation(mask))
    assert found.sum() > mask.sum()
    assert np.array_equal(convex_hull(found), found)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_plane_has_its_own(axis: int) -> None:
    mask = (np.random.default_rng(3).random((7, 9, 12)) < 0.08).astype(np.uint8)
    found = np.moveaxis(convex_hull(mask, axis), axis, 0)
    compared = 0
    for plane, ours in zip(np.moveaxis(mask, axis, 0), found, strict=True):
        points = np.argwhere(plane)
        assert ours.any() == plane.any()
        if len(points) > 2 and np.linalg.matrix_rank(points - points[0]) == 2:
            assert np.array_equal(ours, by_triangulation(np.stack([plane, plane]))[0])
            assert np.array_equal(ours, convex_hull_image(plane, offset_coordinates=False))
            compared += 1
    assert compared > 3


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 1, 1)], [(1, 1, 1)]),
        ([(0, 0, 0), (2, 2, 4)], [(0, 0, 0), (1, 1, 2), (2, 2, 4)]),
        ([(0, 0, 0), (2, 0, 0), (0, 2, 2)], [(0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 1, 1), (1, 1, 1), (0, 2, 2)]),
    ],
    ids=["a point", "a line", "a triangle"],
)
def test_flat_sets_have_a_hull_too(points: list[tuple[int, ...]], expected: list[tuple[int, ...]]) -> None:
    mask = np.zeros((3, 4, 6), np.uint8)
    mask[tuple(np.array(points).T)] = 1
    assert sorted(map(tuple, np.argwhere(convex_hull(mask)).tolist())) == sorted(expected)


def test_nothing_stays_nothing_and_a_false_axis_is_refused() -> None:
    assert not convex_hull(np.zeros((2, 3, 4), np.uint8)).any()
    assert not convex_hull(np.zeros((2, 3, 4), np.uint8), 0).any()
    with pytest.raises(ValueError, match="axis is 3"):
        convex_hull(np.zeros((2, 3, 4), np.uint8), 3)
