"""How far and in which directions every label extends: box, second moments, hull points and the longest chord per plane.

All of it follows from the runs of equal labels (`kernels.instances`), so a label costs its own voxels and nothing else,
however many labels there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .instances import find_instances
from .slabs import in_slabs


@dataclass(frozen=True)
class LabelRuns:
    """Runs of voxels, label after label: those of label ``numbers[n]`` are ``starts[n]`` up to ``starts[n + 1]``.

    A run is the voxels (k, j, first) to (k, j, stop - 1); the runs of a label are in the order of the array.
    """

    shape: tuple[int, int, int]
    numbers: NDArray[np.int64]
    voxels: NDArray[np.int64]
    starts: NDArray[np.int64]
    k: NDArray[np.int32]
    j: NDArray[np.int32]
    first: NDArray[np.int32]
    stop: NDArray[np.int32]


@dataclass(frozen=True)
class LabelExtents:
    """One row for each label: indices are voxels (k, j, i).

    ``scatter`` is the sum over the voxels of (x - centroid)(x - centroid)'. ``plane_diameters_mm`` are the longest chords
    within a plane across k, across j and across i, from mesh vertex to mesh vertex (`marching_cubes`). ``hull`` are voxel
    centres whose convex hull is that of all, those of label n from ``hull_starts[n]`` on.
    """

    first: NDArray[np.int64]  # [n, 3]
    last: NDArray[np.int64]  # [n, 3] inclusive
    centroid: NDArray[np.float64]  # [n, 3]
    scatter: NDArray[np.float64]  # [n, 3, 3]
    plane_diameters_mm: NDArray[np.float64]  # [n, 3]
    hull: NDArray[np.int32]  # [points, 3]
    hull_starts: NDArray[np.int64]  # [n + 1]


def label_runs(labels: NDArray[Any]) -> LabelRuns:
    """The runs of all labels of an array (k, j, i), sorted by label; 0 is background and has none.

    >>> runs = label_runs(np.array([[[2, 2, 1, 2]]], np.uint8))
    >>> runs.numbers.tolist(), runs.starts.tolist(), runs.first.tolist(), runs.stop.tolist()
    ([1, 2], [0, 1, 3], [2, 0, 3], [3, 2, 4])
    """
    found = find_instances(labels, None)
    order = np.argsort(found.component, kind="stable")
    k, j = (index.astype(np.int32)[order] for index in found.rows())
    counts = np.bincount(found.component, minlength=found.numbers.size)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return LabelRuns(found.shape, found.numbers, found.voxels, starts, k, j, found.first[order], found.stop[order])


@njit(cache=True, nogil=True)
def _moments(k, j, first, stop, begin, end, box, sums):  # type: ignore[no-untyped-def]
    """Box (k, j, i first and last), and sums of x, and of x x' about the first run, exact in whole numbers."""
    k0, j0, i0 = np.int64(k[begin]), np.int64(j[begin]), np.int64(first[begin])
    box[0], box[1], box[2], box[3], box[4], box[5] = k0, j0, i0, k0, j0, i0
    for n in range(begin, end):
        a, b, c, d = np.int64(k[n]), np.int64(j[n]), np.int64(first[n]), np.int64(stop[n])
        box[0], box[1], box[2] = min(box[0], a), min(box[1], b), min(box[2], c)
        box[3], box[4], box[5] = max(box[3], a), max(box[4], b), max(box[5], d - 1)
        a, b, c, d = a - k0, b - j0, c - i0, d - i0
        count = d - c
        line = (c + d - 1) * count // 2
        sums[0] += a * count
        sums[1] += b * count
        sums[2] += line
        sums[3] += a * a * count
        sums[4] += b * b * count
        # the sum of squares below d less that below c
        sums[5] += (d * (d - 1) * (2 * d - 1) - c * (c - 1) * (2 * c - 1)) // 6
        sums[6] += a * b * count
        sums[7] += a * line
        sums[8] += b * line


@njit(cache=True, nogil=True)
def _chain(rows, edge, count, side, out, used):  # type: ignore[no-untyped-def]
    """Append the convex chain of the points (rows, edge) of a plane, bulging to low (side 1) or to high (side -1) edges."""
    start = used
    for n in range(count):
        y, x = np.int64(rows[n]), np.int64(edge[n])
        while used - start >= 2:
            y0, x0, y1, x1 = out[used - 2, 1], out[used - 2, 2], out[used - 1, 1], out[used - 1, 2]
            if side * ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) < 0:
                break
            used -= 1
        out[used, 1], out[used, 2] = y, x
        used += 1
    return used


@njit(cache=True, nogil=True)
def _longest(points, begin, end, gram, best):  # type: ignore[no-untyped-def]
    """Squared length of the longest chord of the points moved half a step apart along one of the two axes, or best.

    ``gram`` (a, b, c): the squared length of a (row) and of b (edge) steps is a * r * r + b * e * e + 2 * c * r * e.
    """
    a, b, c = gram
    for n in range(begin, end):
        for m in range(n, end):
            r, e = np.float64(points[m, 1] - points[n, 1]), np.float64(points[m, 2] - points[n, 2])
            square = a * r * r + b * e * e + 2 * c * r * e
            best = max(best, square + 2 * abs(a * r + c * e) + a, square + 2 * abs(c * r + b * e) + b)
    return best


@njit(cache=True, nogil=True)
def _midway(points, begin, middle, end, gram, best):  # type: ignore[no-untyped-def]
    """The same for the plane midway between two: its vertices are the outer voxels of both, moved across the plane.

    A voxel that both planes hold is no vertex, but no chord from it is longer than those within the planes.
    """
    a, b, c = gram
    for n in range(begin, middle):
        for m in range(middle, end):
            r, e = np.float64(points[m, 1] - points[n, 1]), np.float64(points[m, 2] - points[n, 2])
            best = max(best, a * r * r + b * e * e + 2 * c * r * e)
    return best


@njit(cache=True, nogil=True)
def _planes(plane, row, low, high, count, gram, out):  # type: ignore[no-untyped-def]
    """Longest chord within a plane, and the hull points of all planes in ``out``; rows are sorted by plane, then row."""
    best, used, n, previous = 0.0, 0, 0, 0
    while n < count:
        end = n
        while end < count and plane[end] == plane[n]:
            end += 1
        before = used
        used = _chain(row[n:end], low[n:end], end - n, 1, out, used)
        used = _chain(row[n:end], high[n:end], end - n, -1, out, used)
        for m in range(before, used):
            out[m, 0] = plane[n]
        best = _longest(out, before, used, gram, best)
        if n > 0 and plane[n - 1] == plane[n] - 1:
            best = _midway(out, previous, before, used, gram, best)
        previous, n = before, end
    return best, used


@njit(cache=True, nogil=True)
def _by_row(plane, row, low, high, count, least, most):  # type: ignore[no-untyped-def]
    """The same rows as planes across the other axis: sorted by row, then plane."""
    places = np.zeros(most - least + 2, np.int64)
    for n in range(count):
        places[row[n] - least + 1] += 1
    for n in range(1, places.size):
        places[n] += places[n - 1]
    swapped = np.empty((4, count), np.int64)
    for n in range(count):
        at = places[row[n] - least]
        places[row[n] - least] += 1
        swapped[0, at], swapped[1, at], swapped[2, at], swapped[3, at] = row[n], plane[n], low[n], high[n]
    return swapped


@njit(cache=True, nogil=True)
def _across_i(k, j, first, stop, begin, end, box):  # type: ignore[no-untyped-def]
    """For every (i, k) the least and the greatest j, sorted by i, then k."""
    depth, width = box[3] - box[0] + 1, box[5] - box[2] + 1
    low, high = np.full((depth, width), -1, np.int64), np.full((depth, width), -1, np.int64)
    for n in range(begin, end):  # j rises along the runs of a plane
        plane = k[n] - box[0]
        for i in range(first[n] - box[2], stop[n] - box[2]):
            if low[plane, i] < 0:
                low[plane, i] = j[n]
            high[plane, i] = j[n]
    count = 0
    for plane in range(depth):
        for i in range(width):
            count += low[plane, i] >= 0
    rows = np.empty((4, count), np.int64)
    count = 0
    for i in range(width):
        for plane in range(depth):
            if low[plane, i] >= 0:
                rows[0, count], rows[1, count] = i + box[2], plane + box[0]
                rows[2, count], rows[3, count] = low[plane, i], high[plane, i]
                count += 1
    return rows


@njit(cache=True, nogil=True)
def _merged_rows(k, j, first, stop, begin, end):  # type: ignore[no-untyped-def]
    """One row for each line (k, j): least and greatest i."""
    rows = np.empty((4, end - begin), np.int64)
    count = 0
    for n in range(begin, end):
        if count > 0 and rows[0, count - 1] == k[n] and rows[1, count - 1] == j[n]:
            rows[3, count - 1] = stop[n] - 1
        else:
            rows[0, count], rows[1, count], rows[2, count], rows[3, count] = k[n], j[n], first[n], stop[n] - 1
            count += 1
    return rows, count


@njit(cache=True, nogil=True)
def _grown(hull, used, more):  # type: ignore[no-untyped-def]
    wider = np.empty((2 * hull.shape[0] + more, 3), np.int32)
    for n in range(used):
        for d in range(3):
            wider[n, d] = hull[n, d]
    return wider


@njit(cache=True, nogil=True)
def _extents(k, j, first, stop, starts, grams, begin, end):  # type: ignore[no-untyped-def]
    """Boxes, sums and chords of the labels from begin to end, and their hull points with the number of each label's."""
    boxes, sums = np.zeros((end - begin, 6), np.int64), np.zeros((end - begin, 9), np.int64)
    chords, points = np.zeros((end - begin, 3)), np.zeros(end - begin, np.int64)
    hull, used = np.empty((1024, 3), np.int32), 0
    for label in range(begin, end):
        n, one, other = label - begin, starts[label], starts[label + 1]
        _moments(k, j, first, stop, one, other, boxes[n], sums[n])
        rows, count = _merged_rows(k, j, first, stop, one, other)
        out = np.empty((2 * count, 3), np.int64)
        chords[n, 0], points[n] = _planes(rows[0], rows[1], rows[2], rows[3], count, grams[0], out)
        if used + points[n] > hull.shape[0]:
            hull = _grown(hull, used, points[n])
        for m in range(points[n]):
            for d in range(3):
                hull[used + m, d] = out[m, d]
        used += points[n]
        swapped = _by_row(rows[0], rows[1], rows[2], rows[3], count, boxes[n, 1], boxes[n, 4])
        chords[n, 1], _ = _planes(swapped[0], swapped[1], swapped[2], swapped[3], count, grams[1], out)
        across = _across_i(k, j, first, stop, one, other, boxes[n])
        out = np.empty((2 * across.shape[1], 3), np.int64)
        chords[n, 2], _ = _planes(across[0], across[1], across[2], across[3], across.shape[1], grams[2], out)
    return boxes, sums, chords, points, hull[:used]


def label_extents(runs: LabelRuns, steps_mm: NDArray[np.float64]) -> LabelExtents:
    """Box, second moments, hull points and longest chords in a plane of every label.

    ``steps_mm`` (3, 3) has the step in mm along k, j and i as its rows; the grid may be oblique or sheared. The mesh has
    its vertices half a step outside the outer voxel centres, along k, j or i: the farthest two of a plane are the centres
    of two outer voxels, moved apart along one of its axes. As in pyradiomics, planes midway between two are planes too.

    >>> runs = label_runs(np.ones((1, 1, 3), np.uint8))
    >>> found = label_extents(runs, np.eye(3))
    >>> found.plane_diameters_mm.tolist(), found.centroid.tolist(), found.scatter[0, 2, 2].item()
    ([[3.0, 3.0, 1.0]], [[0.0, 0.0, 1.0]], 2.0)
    """
    gram = np.asarray(steps_mm, np.float64) @ np.asarray(steps_mm, np.float64).T
    # (row, edge) of the planes across k, j and i: (j, i), (k, i) and (k, j)
    grams = tuple((float(gram[a, a]), float(gram[b, b]), float(gram[a, b])) for a, b in ((1, 2), (0, 2), (0, 1)))
    count = runs.numbers.size
    if count == 0:
        none = np.zeros((0, 3), np.int64)
        zero = np.zeros((0, 3))
        return LabelExtents(none, none, zero, np.zeros((0, 3, 3)), zero, none.astype(np.int32), np.zeros(1, np.int64))
    table = (runs.k, runs.j, runs.first, runs.stop, runs.starts)
    parts = in_slabs(lambda begin, end: _extents(*table, grams, begin, end), count, min(count, 64))
    boxes, sums, chords, points, hull = (np.concatenate([part[n] for part in parts]) for n in range(5))
    origins = np.stack([array[runs.starts[:-1]] for array in (runs.k, runs.j, runs.first)], axis=1)
    means = sums[:, :3] / runs.voxels[:, None]
    scatter = np.empty((count, 3, 3))
    for column, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)), start=3):
        scatter[:, a, b] = scatter[:, b, a] = sums[:, column] - sums[:, a] * means[:, b]
    return LabelExtents(
        first=boxes[:, :3],
        last=boxes[:, 3:],
        centroid=origins + means,
        scatter=scatter,
        plane_diameters_mm=np.sqrt(chords),
        hull=hull,
        hull_starts=np.concatenate([[0], np.cumsum(points)]),
    )


@njit(cache=True, nogil=True)
def _farthest(points):  # type: ignore[no-untyped-def]
    best = 0.0
    for n in range(points.shape[0]):
        for m in range(n + 1, points.shape[0]):
            x, y, z = points[n, 0] - points[m, 0], points[n, 1] - points[m, 1], points[n, 2] - points[m, 2]
            best = max(best, x * x + y * y + z * z)
    return np.sqrt(best)


def farthest_mm(points_mm: NDArray[np.float64]) -> float:
    """The largest distance of two of the points (n, 3); every pair is looked at.

    >>> farthest_mm(np.array([[0.0, 0, 0], [3, 4, 0], [1, 1, 1]]))
    5.0
    """
    return float(_farthest(np.ascontiguousarray(points_mm, np.float64)))
