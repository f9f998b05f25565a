"""Convex hulls of masks, in 3D and plane by plane.

A hull is the same set of voxels whatever the spacing, the tilt or the shear of the grid: straight lines stay straight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_mask
from .slabs import in_slabs

# How far outside a facet, in voxels, a centre still belongs to the hull: far above the error of the facets (1e-10), and
# below what separates a lattice point from a facet of another three.
_TOLERANCE = 1e-6
# Points that all lie in one plane or line get this thickness, so that they have a hull in 3D.
_THICKNESS = 1e-4


@njit(cache=True, nogil=True)
def _fill_lines(out, normals, offsets, start, end):  # type: ignore[no-untyped-def]
    """Mark the voxels of each line that lie on the inner side of every facet."""
    for k in range(start, end):
        for j in range(out.shape[1]):
            low, high = 0.0, out.shape[2] - 1.0
            for f in range(offsets.size):
                room = _TOLERANCE - offsets[f] - normals[f, 0] * k - normals[f, 1] * j
                slope = normals[f, 2]
                if slope > 1e-12:
                    high = min(high, room / slope)
                elif slope < -1e-12:
                    low = max(low, room / slope)
                elif room < 0:
                    high = -1.0
                if low > high:
                    break
            line = out[k, j]
            for i in range(np.int64(np.ceil(low)), np.int64(np.floor(high)) + 1):
                line[i] = 1


@njit(cache=True, nogil=True)
def _ends(plane, at, first, last):  # type: ignore[no-untyped-def]
    """The lines of a plane that hold a voxel, with their first and last one; their count."""
    count = 0
    for j in range(plane.shape[0]):
        line = plane[j]
        i = 0
        while i < line.size and line[i] == 0:
            i += 1
        if i == line.size:
            continue
        at[count], first[count] = j, i
        i = line.size - 1
        while line[i] == 0:
            i -= 1
        last[count] = i
        count += 1
    return count


@njit(cache=True, nogil=True)
def _edge(at, ends, count, sign, chain, edge):  # type: ignore[no-untyped-def]
    """The least whole number on or above the lower convex envelope of sign * ends, for every line from the first to the last."""
    top = 0
    for n in range(count):
        while top >= 2:
            a, b = chain[top - 2], chain[top - 1]
            if (at[b] - at[a]) * sign * (ends[n] - ends[a]) > (at[n] - at[a]) * sign * (ends[b] - ends[a]):
                break
            top -= 1
        chain[top] = n
        top += 1
    side = 0
    for row in range(at[0], at[count - 1] + 1):
        while side < top - 1 and at[chain[side + 1]] <= row:
            side += 1
        a = chain[side]
        if at[a] == row:
            edge[row] = sign * ends[a]
            continue
        b = chain[side + 1]
        length = at[b] - at[a]
        total = sign * (ends[a] * (at[b] - row) + ends[b] * (row - at[a]))
        edge[row] = -((-total) // length)


@njit(cache=True, nogil=True)
def _fill_planes(mask, out, start, end):  # type: ignore[no-untyped-def]
    height = mask.shape[1]
    at, first, last = np.empty(height, np.int64), np.empty(height, np.int64), np.empty(height, np.int64)
    chain, left, right = np.empty(height, np.int64), np.empty(height, np.int64), np.empty(height, np.int64)
    for k in range(start, end):
        count = _ends(mask[k], at, first, last)
        if count == 0:
            continue
        _edge(at, first, count, 1, chain, left)
        _edge(at, last, count, -1, chain, right)
        for j in range(at[0], at[count - 1] + 1):
            line = out[k, j]
            for i in range(left[j], -right[j] + 1):
                line[i] = 1


def _corners(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The first and the last voxel of every line, which hold all corners of the hull."""
    lines = np.argwhere(mask.any(axis=2))
    rows = mask[lines[:, 0], lines[:, 1]]
    first = rows.argmax(axis=1)
    last = rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([lines, first]), np.column_stack([lines, last])]).astype(np.float64)


def _facets(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal (unit, outwards) and offset of each facet of the hull, [n, 4]."""
    from scipy.spatial import ConvexHull, QhullError

    spread = points - points[0]
    if np.linalg.matrix_rank(spread.T @ spread) < 3:
        shifts = _THICKNESS * np.concatenate([np.eye(3), -np.eye(3)])
        points = (points[:, None] + shifts).reshape(-1, 3)
    try:
        hull = ConvexHull(points)
    except QhullError:
        hull = ConvexHull(points, qhull_options="QJ")  # so nearly flat that its facets must be joggled
    return np.unique(hull.equations, axis=0)


def convex_hull(mask: NDArray[Any], axis: int | None = None) -> NDArray[np.uint8]:
    """The voxels whose centres lie in the convex hull of the centres of a mask (uint8).

    ``mask`` uint8 or bool (k, j, i). With ``axis`` each plane across that axis has a hull of its own (0: slice by slice in
    k), in whole numbers and exact. In 3D by Qhull (doi:10.1145/235815.235821). An empty mask stays empty.

    >>> convex_hull(np.array([[[1, 0, 0, 1]]], np.uint8)).tolist()
    [[[1, 1, 1, 1]]]
    """
    if axis not in (None, 0, 1, 2):
        raise ValueError(f"axis is {axis}; use None (3D), 0 (k), 1 (j) or 2 (i)")
    inside = as_mask(mask)
    if axis in (1, 2):
        turned = np.ascontiguousarray(np.moveaxis(inside, axis, 0))
        return np.ascontiguousarray(np.moveaxis(convex_hull(turned, axis=0), 0, axis))
    out = np.zeros(inside.shape, np.uint8)
    if axis == 0:
        in_slabs(lambda start, end: _fill_planes(inside, out, start, end), inside.shape[0])
    elif inside.any():
        facets = _facets(_corners(inside))
        normals, offsets = np.ascontiguousarray(facets[:, :3]), np.ascontiguousarray(facets[:, 3])
        in_slabs(lambda start, end: _fill_lines(out, normals, offsets, start, end), inside.shape[0])
    return out
