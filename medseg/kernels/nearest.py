"""Exact distances in mm from lattice points to the nearest of other lattice points, on a grid of any affine."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .slabs import in_slabs

# Lines of points looked at around a point (about 18 voxels far); what is farther is left to a k-d tree.
_LINES = 1024
_FEW = 20_000  # points for which threads do not pay


class _Lines(NamedTuple):
    """Offsets (dk, dj) of the lines around a point, the nearest first."""

    steps: NDArray[np.int64]  # [n, 2]
    floor: NDArray[np.float64]  # [n] squared distance from the point to the line, mm2
    shift: NDArray[np.float64]  # [n] where along i the line is nearest
    limit: float  # squared distance of the nearest line that is not listed


Metric = tuple[float, float, float, float, float, float]  # kk, kj, jj, ki, ji, ii


def _metric(affine: NDArray[np.float64]) -> Metric:
    """The squared length of a step (dk, dj, di) is kk dk2 + 2 kj dk dj + jj dj2 + 2 ki dk di + 2 ji dj di + ii di2."""
    i, j, k = affine[:3, :3].T
    return float(k @ k), float(k @ j), float(j @ j), float(k @ i), float(j @ i), float(i @ i)


@lru_cache(maxsize=4)
def _lines(metric: Metric, count: int) -> _Lines:
    kk, kj, jj, ki, ji, ii = metric
    # what remains of the squared length when di is chosen at its best
    across = np.array([[kk - ki * ki / ii, kj - ki * ji / ii], [kj - ki * ji / ii, jj - ji * ji / ii]])
    radius = np.sqrt(count * np.sqrt(np.linalg.det(across)) / np.pi)
    reach = np.ceil(radius * np.sqrt(np.diag(np.linalg.inv(across)))).astype(int)
    dk, dj = (axis.reshape(-1) for axis in np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1])
    floor = across[0, 0] * dk * dk + 2 * across[0, 1] * dk * dj + across[1, 1] * dj * dj
    order = np.argsort(floor, kind="stable")
    order = order[floor[order] <= radius * radius]
    steps = np.stack([dk[order], dj[order]], axis=1)
    return _Lines(steps, floor[order], -(ki * steps[:, 0] + ji * steps[:, 1]) / ii, float(radius * radius))


@njit(cache=True, nogil=True)
def _box(points):  # type: ignore[no-untyped-def]
    """Least k and j of points in rising order, and how many k and j they span."""
    first, last = points[0, 1], points[0, 1]
    for n in range(points.shape[0]):
        first, last = min(first, points[n, 1]), max(last, points[n, 1])
    return np.int64(points[0, 0]), np.int64(first), np.int64(points[-1, 0] - points[0, 0] + 1), np.int64(last - first + 1)


@njit(cache=True, nogil=True)
def _begins(points, box):  # type: ignore[no-untyped-def]
    """Where each line (k, j) of the box begins among the points, which are in rising order."""
    begins = np.zeros(box[2] * box[3] + 1, np.int64)
    for n in range(points.shape[0]):
        begins[(points[n, 0] - box[0]) * box[3] + points[n, 1] - box[1] + 1] += 1
    for n in range(1, begins.size):
        begins[n] += begins[n - 1]
    return begins


@njit(cache=True, nogil=True)
def _search(queries, points, begins, box, lines, metric, out, start, end):  # type: ignore[no-untyped-def]
    """Squared distances into out, negative where the nearest point may lie beyond the lines listed."""
    steps, floor, shift, limit = lines
    k_first, j_first, depth, height = box
    kk, kj, jj, ki, ji, ii = metric
    for q in range(start, end):
        k, j, i = queries[q, 0] - k_first, queries[q, 1] - j_first, queries[q, 2]
        best = np.inf
        for n in range(floor.size):
            if floor[n] >= best:
                break
            dk, dj = steps[n, 0], steps[n, 1]
            if k + dk < 0 or k + dk >= depth or j + dj < 0 or j + dj >= height:
                continue
            line = (k + dk) * height + j + dj
            low, high = begins[line], begins[line + 1]
            if low == high:
                continue
            centre = i + shift[n]
            first, last = low, high
            while low < high:  # the first point at or after the centre
                middle = (low + high) // 2
                if points[middle, 2] < centre:
                    low = middle + 1
                else:
                    high = middle
            base = kk * dk * dk + 2 * kj * dk * dj + jj * dj * dj
            slope = 2 * (ki * dk + ji * dj)
            if low < last:
                di = np.float64(points[low, 2] - i)
                best = min(best, base + di * (slope + ii * di))
            if low > first:
                di = np.float64(points[low - 1, 2] - i)
                best = min(best, base + di * (slope + ii * di))
        out[q] = best if best <= limit else -1.0


def _far(queries: NDArray[np.int32], points: NDArray[np.int32], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree

    steps = affine[:3, :3][:, ::-1].T
    tree = cKDTree(points @ steps, leafsize=32, balanced_tree=False, compact_nodes=False)
    places = queries @ steps
    if len(places) < _FEW:
        return np.asarray(tree.query(places)[0])
    return np.concatenate(in_slabs(lambda start, end: tree.query(places[start:end])[0], len(places)))


def nearest_distances_mm(queries: NDArray[Any], points: NDArray[Any], affine: ArrayLike) -> NDArray[np.float64]:
    """The distance in mm from each query to the nearest of the points, exact, [n] float64.

    ``queries`` and ``points`` (n, 3) are whole indices (k, j, i), ``points`` in rising order (k first); ``affine`` (3, 3)
    or (4, 4) has the steps in mm along i, j, k as its columns and may be oblique, left-handed or sheared. Raises
    ValueError without points. Near points are found line by line, far ones by a k-d tree.

    >>> nearest_distances_mm(np.array([[0, 0, 0]]), np.array([[0, 0, 4], [1, 0, 0]]), np.diag([1.0, 1.0, 3.0])).tolist()
    [3.0]
    """
    if len(points) == 0:
        raise ValueError("there are no points to measure to: a distance to nothing is not defined")
    queries, points = np.ascontiguousarray(queries, np.int32), np.ascontiguousarray(points, np.int32)
    steps = np.asarray(affine, np.float64)
    metric = _metric(steps)
    box = _box(points)
    begins = _begins(points, box)
    lines = _lines(metric, _LINES)
    squared = np.empty(len(queries))

    def work(start: int, end: int) -> None:
        _search(queries, points, begins, box, lines, metric, squared, start, end)

    if len(queries) < _FEW:
        work(0, len(queries))
    else:
        in_slabs(work, len(queries))
    far = squared < 0
    squared[far] = 0
    distances = np.sqrt(squared)
    if far.any():
        distances[far] = _far(queries[far], points, steps)
    return distances
