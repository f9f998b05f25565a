"""Polygons on a plane, filled, measured and sampled by the even-odd rule.

A plane holds rings: ``points`` (n, 2) float64 as (x, y), ring r from ``starts[r]`` up to ``starts[r + 1]``, closed by itself.
A point is inside where a line from it to the left meets the rings an odd number of times: a ring inside another one is a
hole, a slit that is walked out and back (keyhole) counts for nothing, a repeated point neither.

The rule at the border: a ring from left to right covers x_left <= x < x_right on each line, and a line y meets the edges with
y_low <= y < y_high. Polygons that share an edge thus never share a point, and none between them is lost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .slabs import in_slabs

_SAFE = 1e9  # crossings are cut off here before they become whole numbers
_GAUSS = 0.5 / np.sqrt(3.0)  # two lines a strip, this share of its height above and below the middle: exact to the third power
_BINS = 512  # of y in each plane: few edges reach into one
_LEAST_STRIPS = 128  # where rings cross each other, only the strip of the crossing is inexact


@njit(cache=True, nogil=True)
def _place(lines, y):  # type: ignore[no-untyped-def]
    """The first line at or above y, in rising lines."""
    low, high = 0, lines.size
    while low < high:
        middle = (low + high) // 2
        if lines[middle] < y:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _sort(values, first, last):  # type: ignore[no-untyped-def]
    if last - first > 40:
        part = np.sort(values[first:last])
        for n in range(part.size):
            values[first + n] = part[n]
        return
    for n in range(first + 1, last):
        value = values[n]
        at = n
        while at > first and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value


@njit(cache=True, nogil=True)
def _crossings(points, starts, first_ring, end_ring, lines):  # type: ignore[no-untyped-def]
    """Where rings meet rising lines y: the x of line n, in order, lie from ``offsets[n]`` to ``offsets[n + 1]``."""
    offsets = np.zeros(lines.size + 1, np.int64)
    for step in range(2):
        if step == 1:
            for n in range(lines.size):
                offsets[n + 1] += offsets[n]
            xs = np.empty(offsets[lines.size], np.float64)
            filled = offsets[:-1].copy()
        for ring in range(first_ring, end_ring):
            before = starts[ring + 1] - 1
            for here in range(starts[ring], starts[ring + 1]):
                # from the lower end upwards: an edge walked out and back meets a line at the very same x
                low, high = (before, here) if points[before, 1] < points[here, 1] else (here, before)
                before = here
                y_low, y_high = points[low, 1], points[high, 1]
                if y_low == y_high:
                    continue
                slope = (points[high, 0] - points[low, 0]) / (y_high - y_low)
                n = _place(lines, y_low)
                while n < lines.size and lines[n] < y_high:
                    if step == 0:
                        offsets[n + 1] += 1
                    else:
                        xs[filled[n]] = points[low, 0] + (lines[n] - y_low) * slope
                        filled[n] += 1
                    n += 1
    for n in range(lines.size):
        _sort(xs, offsets[n], offsets[n + 1])
    return offsets, xs


@njit(cache=True, nogil=True)
def _rows(points, starts, first_ring, end_ring, height):  # type: ignore[no-untyped-def]
    """The rows of a grid, as lines, that the rings may meet."""
    low, high = np.inf, -np.inf
    for n in range(starts[first_ring], starts[end_ring]):
        low, high = min(low, points[n, 1]), max(high, points[n, 1])
    first = int(np.ceil(min(max(low, 0.0), height)))
    end = int(np.ceil(min(max(high, 0.0), height)))
    lines = np.empty(max(0, end - first), np.float64)
    for n in range(lines.size):
        lines[n] = first + n
    return lines


@njit(cache=True, nogil=True)
def _fill(points, starts, plane_rings, planes, depth, height, width):  # type: ignore[no-untyped-def]
    runs = np.empty((1024, 4), np.int32)
    used = 0
    for plane in range(planes.size):
        if planes[plane] < 0 or planes[plane] >= depth:
            continue
        lines = _rows(points, starts, plane_rings[plane], plane_rings[plane + 1], height)
        offsets, xs = _crossings(points, starts, plane_rings[plane], plane_rings[plane + 1], lines)
        if used + xs.size > runs.shape[0]:
            wider = np.empty((2 * runs.shape[0] + xs.size, 4), np.int32)
            wider[:used] = runs[:used]
            runs = wider
        for n in range(lines.size):
            for at in range(offsets[n], offsets[n + 1] - 1, 2):
                first = max(0, int(np.ceil(max(xs[at], -_SAFE))))
                stop = min(width, int(np.ceil(min(xs[at + 1], _SAFE))))
                if first < stop:
                    runs[used, 0], runs[used, 1], runs[used, 2], runs[used, 3] = planes[plane], int(lines[n]), first, stop
                    used += 1
    return runs[:used]


def fill_polygons(
    points: NDArray[Any], starts: NDArray[Any], plane_rings: NDArray[Any], planes: NDArray[Any], shape: tuple[int, int, int]
) -> NDArray[np.int32]:
    """Runs (n, 4) of (k, j, first i, end i) of the voxels whose centres lie inside, on a grid of ``shape`` (k, j, i).

    ``points`` are (i, j) in voxels; plane p, at index ``planes[p]``, holds the rings from ``plane_rings[p]`` up to
    ``plane_rings[p + 1]``. Planes and parts outside the grid are left out. Even-odd in each plane; the rule at the border
    stands above.
    """
    table = (_floats(points), _whole(starts), _whole(plane_rings), _whole(planes))
    return np.asarray(_fill(*table, *shape))


@njit(cache=True, nogil=True)
def _moments(points, starts, plane_rings):  # type: ignore[no-untyped-def]
    out = np.zeros((plane_rings.size - 1, 3), np.float64)
    for plane in range(plane_rings.size - 1):
        first, end = starts[plane_rings[plane]], starts[plane_rings[plane + 1]]
        if end - first < 3:
            continue
        low, high = points[first:end, 1].min(), points[first:end, 1].max()
        levels = np.empty(end - first + _LEAST_STRIPS, np.float64)
        for n in range(end - first):
            levels[n] = points[first + n, 1]
        for n in range(_LEAST_STRIPS):
            levels[end - first + n] = low + (high - low) * n / _LEAST_STRIPS
        levels = np.sort(levels)
        lines, weights = np.empty(2 * levels.size, np.float64), np.empty(2 * levels.size, np.float64)
        count = 0
        for n in range(levels.size - 1):
            tall = levels[n + 1] - levels[n]
            if tall > 0.0:
                for side in (-_GAUSS, _GAUSS):
                    lines[count], weights[count] = levels[n] + (0.5 + side) * tall, 0.5 * tall
                    count += 1
        offsets, xs = _crossings(points, starts, plane_rings[plane], plane_rings[plane + 1], lines[:count])
        for n in range(count):
            for at in range(offsets[n], offsets[n + 1] - 1, 2):
                length = xs[at + 1] - xs[at]
                out[plane, 0] += weights[n] * length
                out[plane, 1] += weights[n] * length * 0.5 * (xs[at + 1] + xs[at])
                out[plane, 2] += weights[n] * length * lines[n]
    return out


def polygon_moments(points: NDArray[Any], starts: NDArray[Any], plane_rings: NDArray[Any]) -> NDArray[np.float64]:
    """Area and its first moments about x and y, (planes, 3), of what lies inside by the even-odd rule.

    Exact where rings do not cross each other (nested, touching and keyholed ones do not); where they do, within one of 128
    strips of the plane's height.
    """
    return np.asarray(_moments(_floats(points), _whole(starts), _whole(plane_rings)))


@njit(cache=True, nogil=True)
def _distances(points, starts, xs, ys):  # type: ignore[no-untyped-def]
    out = np.empty((ys.size, xs.size), np.float64)
    offsets, crossings = _crossings(points, starts, 0, starts.size - 1, ys)
    for row in range(ys.size):
        for column in range(xs.size):
            x, y = xs[column], ys[row]
            nearest = np.inf
            for ring in range(starts.size - 1):
                before = starts[ring + 1] - 1
                for here in range(starts[ring], starts[ring + 1]):
                    x0, y0 = points[before, 0], points[before, 1]
                    along_x, along_y = points[here, 0] - x0, points[here, 1] - y0
                    before = here
                    square = along_x * along_x + along_y * along_y
                    t = 0.0 if square == 0.0 else ((x - x0) * along_x + (y - y0) * along_y) / square
                    t = min(1.0, max(0.0, t))
                    dx, dy = x - x0 - t * along_x, y - y0 - t * along_y
                    nearest = min(nearest, dx * dx + dy * dy)
            inside = False
            for at in range(offsets[row], offsets[row + 1]):
                if crossings[at] <= x:
                    inside = not inside
            out[row, column] = np.sqrt(nearest) if inside else -np.sqrt(nearest)
    return out


def polygon_distances(points: NDArray[Any], starts: NDArray[Any], xs: NDArray[Any], ys: NDArray[Any]) -> NDArray[np.float64]:
    """Distance (rows y, columns x) to the nearest edge of one plane's rings, positive inside; ``ys`` must rise."""
    return np.asarray(_distances(_floats(points), _whole(starts), _floats(xs), _floats(ys)))


@njit(cache=True, nogil=True)
def _edge_bins(points, starts, plane_rings, bins):  # type: ignore[no-untyped-def]
    """For each plane and bin of y the edges that reach into it: limits of each plane, offsets and edges of the bins."""
    planes = plane_rings.size - 1
    limits = np.zeros((planes, 2), np.float64)
    offsets = np.zeros(planes * bins + 1, np.int64)
    ends = np.empty(points.shape[0], np.int64)
    for plane in range(planes):
        first, end = starts[plane_rings[plane]], starts[plane_rings[plane + 1]]
        limits[plane, 0], limits[plane, 1] = points[first:end, 1].min(), points[first:end, 1].max()
        for ring in range(plane_rings[plane], plane_rings[plane + 1]):
            before = starts[ring + 1] - 1
            for here in range(starts[ring], starts[ring + 1]):
                ends[here] = before
                before = here
    for step in range(2):
        if step == 1:
            for n in range(planes * bins):
                offsets[n + 1] += offsets[n]
            edges = np.empty(offsets[-1], np.int64)
            filled = offsets[:-1].copy()
        for plane in range(planes):
            scale = bins / max(limits[plane, 1] - limits[plane, 0], 1e-300)
            for here in range(starts[plane_rings[plane]], starts[plane_rings[plane + 1]]):
                a, b = points[here, 1], points[ends[here], 1]
                low = min(bins - 1, int((min(a, b) - limits[plane, 0]) * scale))
                high = min(bins - 1, int((max(a, b) - limits[plane, 0]) * scale))
                for n in range(plane * bins + low, plane * bins + high + 1):
                    if step == 0:
                        offsets[n + 1] += 1
                    else:
                        edges[filled[n]] = here
                        filled[n] += 1
    return limits, offsets, edges, ends


@njit(cache=True, nogil=True)
def _prisms(points, bins, limits, offsets, edges, ends, slabs, matrix, start, stop):  # type: ignore[no-untyped-def]
    runs = np.empty((1024, 4), np.int32)
    used = 0
    for k in range(start[0], stop[0]):
        for j in range(start[1], stop[1]):
            first, plane = -1, 0
            for i in range(start[2], stop[2] + 1):
                inside = False
                if i < stop[2]:
                    t = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + matrix[2, 3]
                    while plane > 0 and t < slabs[plane, 0]:
                        plane -= 1
                    while plane < slabs.shape[0] - 1 and t >= slabs[plane, 1]:
                        plane += 1
                    y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + matrix[1, 3]
                    if slabs[plane, 0] <= t < slabs[plane, 1] and limits[plane, 0] <= y < limits[plane, 1]:
                        x = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + matrix[0, 3]
                        scale = bins / max(limits[plane, 1] - limits[plane, 0], 1e-300)
                        place = plane * bins + min(bins - 1, int((y - limits[plane, 0]) * scale))
                        for n in range(offsets[place], offsets[place + 1]):
                            here, there = edges[n], ends[edges[n]]
                            low, high = (here, there) if points[here, 1] < points[there, 1] else (there, here)
                            if points[low, 1] <= y < points[high, 1]:
                                slope = (points[high, 0] - points[low, 0]) / (points[high, 1] - points[low, 1])
                                if points[low, 0] + (y - points[low, 1]) * slope <= x:
                                    inside = not inside
                if inside and first < 0:
                    first = i
                elif not inside and first >= 0:
                    if used == runs.shape[0]:
                        wider = np.empty((4 * used, 4), np.int32)
                        wider[:used] = runs
                        runs = wider
                    runs[used, 0], runs[used, 1], runs[used, 2], runs[used, 3] = k, j, first, i
                    used += 1
                    first = -1
    return runs[:used]


def fill_prisms(
    points: NDArray[Any],
    starts: NDArray[Any],
    plane_rings: NDArray[Any],
    slabs: NDArray[Any],
    matrix: NDArray[Any],
    box: tuple[tuple[int, int, int], tuple[int, int, int]],
) -> NDArray[np.int32]:
    """Runs, as `fill_polygons` gives them, of the voxels whose centres lie in the prisms over planes of any direction.

    ``matrix`` (3, 4) takes an index (i, j, k) to (x, y, t): x and y in the planes, t across them. Plane p fills
    ``slabs[p, 0]`` <= t < ``slabs[p, 1]``; slabs rise and do not overlap. ``box`` holds the first and the end index (k, j, i).
    """
    start, stop = (np.asarray(corner, np.int64) for corner in box)
    if plane_rings.size < 2 or (stop <= start).any():
        return np.empty((0, 4), np.int32)
    rings = (_floats(points), _whole(starts), _whole(plane_rings))
    table = (rings[0], _BINS, *_edge_bins(*rings, _BINS), _floats(slabs), _floats(matrix))

    def work(first: int, end: int) -> NDArray[np.int32]:
        low, high = start.copy(), stop.copy()
        low[0], high[0] = start[0] + first, start[0] + end
        return np.asarray(_prisms(*table, low, high))

    return np.concatenate(in_slabs(work, int(stop[0] - start[0])))


@njit(cache=True, nogil=True)
def _is_free(labels, runs):  # type: ignore[no-untyped-def]
    for n in range(runs.shape[0]):
        line = labels[runs[n, 0], runs[n, 1]]
        for i in range(runs[n, 2], runs[n, 3]):
            if line[i] != 0:
                return False
    return True


@njit(cache=True, nogil=True)
def _paint(labels, runs, number):  # type: ignore[no-untyped-def]
    for n in range(runs.shape[0]):
        line = labels[runs[n, 0], runs[n, 1]]
        for i in range(runs[n, 2], runs[n, 3]):
            line[i] = number


def paint_if_free(labels: NDArray[Any], runs: NDArray[np.int32], number: int) -> bool:
    """Write ``number`` into the runs of ``labels`` (k, j, i), unless one of their voxels is taken; whether it was done."""
    if not _is_free(labels, runs):
        return False
    _paint(labels, runs, labels.dtype.type(number))
    return True


@njit(cache=True, nogil=True)
def _count(labels, runs, number):  # type: ignore[no-untyped-def]
    found = 0
    for n in range(runs.shape[0]):
        line = labels[runs[n, 0], runs[n, 1]]
        for i in range(runs[n, 2], runs[n, 3]):
            found += line[i] == number
    return found


def count_in_runs(labels: NDArray[Any], runs: NDArray[np.int32], number: int) -> int:
    """How many voxels of ``runs`` hold ``number`` in ``labels`` (k, j, i)."""
    return int(_count(labels, runs, labels.dtype.type(number)))


def _floats(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.ascontiguousarray(values, dtype=np.float64)


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.ascontiguousarray(values, dtype=np.int64)
