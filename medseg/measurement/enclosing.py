"""Bodies that enclose a segment: its convex hull, an ellipsoid, a box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_FEW = 64  # points: so few need no hull of their own before the mesh vertices are made
_LEGENDRE_TERMS = 20  # of the area of an ellipsoid: as many as IBSI takes


@dataclass(frozen=True)
class Hull:
    """The convex hull of a mesh, and the largest distance of two of its vertices."""

    volume_mm3: float
    area_mm2: float
    diameter_mm: float


def convex_hull(centres: npt.NDArray[np.integer[Any]], steps_mm: FloatArray) -> Hull:
    """Return the hull of the marching-cubes mesh of a mask, from voxel `centres` (n, 3) whose hull holds all others.

    `centres` are indices (k, j, i), `steps_mm` (3, 3) has the steps along k, j and i as rows. The hull of the mesh is that of
    the centres with half a step added in the six directions of the grid: where a corner of it is, no voxel lies beyond.

    >>> hull = convex_hull(np.array([[0, 0, 0]]), np.eye(3))
    >>> round(hull.volume_mm3, 6), round(hull.diameter_mm, 6)
    (0.166667, 1.0)
    """
    from scipy.spatial import ConvexHull, QhullError

    from medseg.kernels.extents import farthest_mm

    places = (centres - centres[0]).astype(np.float64)
    if len(places) > _FEW:
        try:
            places = places[ConvexHull(places).vertices]
        except QhullError:  # all in one plane: they stay as they are
            places = places[_ends(places)]
    halves = np.concatenate([np.eye(3), -np.eye(3)]) / 2
    vertices = (places[:, None, :] + halves).reshape(-1, 3) @ steps_mm
    hull = ConvexHull(vertices)
    return Hull(float(hull.volume), float(hull.area), farthest_mm(vertices[hull.vertices]))


def _ends(places: FloatArray) -> npt.NDArray[np.intp]:
    """The first and the last point of every line along the last axis, of points in one plane."""
    order = np.lexsort(places.T[::-1])
    same = (np.diff(places[order][:, :2], axis=0) == 0).all(axis=1)
    keep = ~np.concatenate([[False], same]) | ~np.concatenate([same, [False]])
    return order[keep]


def ellipsoid_areas_mm2(semi_axes_mm: FloatArray) -> FloatArray:
    """Return the area of ellipsoids from their semi-axes (n, 3), falling: 20 terms of a series (IBSI reference manual, RDD2).

    >>> areas = ellipsoid_areas_mm2(np.array([[2.0, 2.0, 2.0]])) / (16 * np.pi)
    >>> areas.round(12).tolist()
    [1.0]
    """
    a, b, c = semi_axes_mm.T
    first, second = 1 - (b / a) ** 2, 1 - (c / a) ** 2  # squared eccentricities
    product, middle = first * second, (first + second) / 2
    # the terms are (alpha beta)^n P_n(middle / (alpha beta)), made by their recurrence: no division where the axes are equal
    previous, term, total = np.zeros_like(a), np.ones_like(a), np.zeros_like(a)
    for n in range(_LEGENDRE_TERMS + 1):
        total += term / (1 - 4 * n**2)
        previous, term = term, ((2 * n + 1) * middle * term - n * product * previous) / (n + 1)
    return np.asarray(4 * np.pi * a * b * total)


def box_areas_mm2(voxels: FloatArray, steps_mm: FloatArray) -> FloatArray:
    """Return the area of boxes of `voxels` (n, 3) along k, j and i, whose steps (3, 3) as rows need not be at right angles.

    >>> box_areas_mm2(np.array([[1.0, 2.0, 3.0]]), np.eye(3)).tolist()
    [22.0]
    """
    faces = {(a, b): float(np.linalg.norm(np.cross(steps_mm[a], steps_mm[b]))) for a, b in ((0, 1), (0, 2), (1, 2))}
    return np.asarray(2 * sum(voxels[:, a] * voxels[:, b] * area for (a, b), area in faces.items()))
