"""Exact diameters of many masks from their runs: the longest in a slice, the longest at right angles to it, the longest in 3D.

A mask ends half a voxel outside the centres of its outer voxels, on the edges of the grid that lead out of it: these are
the vertices of the marching-cubes mesh at 0.5, between which Maximum2DDiameterSlice and Maximum3DDiameter of pyradiomics
are taken. Their convex hull is that of the voxel centres plus an octahedron of half a step along each axis, so the
farthest pair is one of hull centres, moved apart along one axis. That holds for oblique and sheared grids too, and leaves
a few dozen points a slice (Andrew's monotone chain, doi:10.1016/0020-0190(79)90072-3) of exact whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .instances import Instances
from .slabs import in_slabs

Floats = NDArray[np.float64]

_TIE = 1 + 1e-9  # lengths closer than this are one length: the first found is kept


@dataclass(frozen=True)
class Chords:
    """One chord for each mask: `length_mm` [n] and its `ends_mm` [n, 2, 3]; `slices` [n] where it lies in a slice.

    `least_mm` [n] is the longest distance of two voxel centres of the mask (in one slice, or in 3D): no mask of centres
    inside a body is longer than the body. NaN for the perpendicular.
    """

    length_mm: Floats
    least_mm: Floats
    ends_mm: Floats
    slices: NDArray[np.int64]


@njit(cache=True, nogil=True)
def _chain(js, edge, count, side, hull_j, hull_i, used):  # type: ignore[no-untyped-def]
    """Append the convex chain of the points (js, edge) of one slice, bulging to low i (side 1) or to high i (side -1)."""
    start = used
    for n in range(count):
        j, i = js[n], edge[n]
        while used - start >= 2:
            j0, i0, j1, i1 = hull_j[used - 2], hull_i[used - 2], hull_j[used - 1], hull_i[used - 1]
            if side * ((i1 - i0) * (j - j0) - (i - i0) * (j1 - j0)) < 0:
                break
            used -= 1
        hull_j[used], hull_i[used] = j, i
        used += 1
    return used


@njit(cache=True, nogil=True)
def _farthest(points, first, last, steps, axis, best):  # type: ignore[no-untyped-def]
    """The farthest pair of points[first:last], moved apart along one of the axes from `axis` on, if longer than best.

    Returns squared length, both points, the axis, and +1 or -1: the way in which the second point is moved.
    """
    longest = 0.0
    for a in range(axis, 3):
        longest = max(longest, steps[a, 0] ** 2 + steps[a, 1] ** 2 + steps[a, 2] ** 2)
    margin = np.sqrt(longest)
    one, other, along, way = -1, -1, axis, 1.0
    least = max(np.sqrt(best) - margin, 0.0) ** 2
    for n in range(first, last):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        for m in range(n, last):
            dx, dy, dz = points[m, 0] - x, points[m, 1] - y, points[m, 2] - z
            square = dx * dx + dy * dy + dz * dz
            if square < least:
                continue
            for a in range(axis, 3):
                dot = dx * steps[a, 0] + dy * steps[a, 1] + dz * steps[a, 2]
                size = steps[a, 0] ** 2 + steps[a, 1] ** 2 + steps[a, 2] ** 2
                reached = square + 2 * abs(dot) + size
                if reached > best * _TIE:
                    best, one, other, along = reached, n, m, a
                    way = 1.0 if dot >= 0 else -1.0
                    least = max(np.sqrt(best) - margin, 0.0) ** 2
    return best, one, other, along, way


@njit(cache=True, nogil=True)
def _swept(points, count):  # type: ignore[no-untyped-def]
    """Squared length of a long pair: from a point to the farthest, and on from there; a start for the exact search."""
    here, best = 0, 0.0
    for _ in range(4):
        there, far = here, 0.0
        for m in range(count):
            dx, dy, dz = points[m, 0] - points[here, 0], points[m, 1] - points[here, 1], points[m, 2] - points[here, 2]
            square = dx * dx + dy * dy + dz * dz
            if square > far:
                far, there = square, m
        best, here = max(best, far), there
    return best


@njit(cache=True, nogil=True)
def _store(ends, length, n, points, pair, steps):  # type: ignore[no-untyped-def]
    best, one, other, along, way = pair
    length[n] = np.sqrt(best)
    for d in range(3):
        ends[n, 0, d] = points[one, d] - 0.5 * way * steps[along, d]
        ends[n, 1, d] = points[other, d] + 0.5 * way * steps[along, d]


@njit(cache=True, nogil=True)
def _hulls(k, island, j, first, stop, start, end):  # type: ignore[no-untyped-def]
    """Hull points (k, j, i) of one mask island by island, and where each island begins among them and among the runs."""
    count = end - start
    hull_k, hull_j, hull_i = np.empty(2 * count, np.int64), np.empty(2 * count, np.int64), np.empty(2 * count, np.int64)
    js, low, high = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    begins, runs = np.empty(count + 1, np.int64), np.empty(count + 1, np.int64)
    slices, used, n = 0, 0, start
    while n < end:
        begins[slices], runs[slices] = used, n
        here, part, rows = k[n], island[n], 0
        while n < end and k[n] == here and island[n] == part:
            if rows > 0 and js[rows - 1] == j[n]:
                high[rows - 1] = stop[n] - 1
            else:
                js[rows], low[rows], high[rows] = j[n], first[n], stop[n] - 1
                rows += 1
            n += 1
        before = used
        used = _chain(js, low, rows, 1, hull_j, hull_i, used)
        used = _chain(js, high, rows, -1, hull_j, hull_i, used)
        for m in range(before, used):
            hull_k[m] = here
        slices += 1
    begins[slices], runs[slices] = used, end
    return hull_k[:used], hull_j[:used], hull_i[:used], begins[: slices + 1], runs[: slices + 1]


@njit(cache=True, nogil=True)
def _outline(j, first, stop, start, end, along, across):  # type: ignore[no-untyped-def]
    """The outline of one slice as segments (t0, u0, t1, u1); along and across map a step of j and of i to t and u.

    Marching squares at 0.5: two, or four, middles of the edges of each square of voxel centres are joined.
    """
    left, right = first[start], stop[start]
    for n in range(start, end):
        left, right = min(left, first[n]), max(right, stop[n])
    top, rows = j[start], j[end - 1] - j[start] + 1
    mask = np.zeros((rows + 2, right - left + 2), np.uint8)
    for n in range(start, end):
        for i in range(first[n], stop[n]):
            mask[j[n] - top + 1, i - left + 1] = 1
    count = 0
    segments = np.empty((64, 4))
    middle_j, middle_i = np.empty(4), np.empty(4)
    for a in range(mask.shape[0] - 1):
        for b in range(mask.shape[1] - 1):
            nw, ne, sw, se = mask[a, b], mask[a, b + 1], mask[a + 1, b], mask[a + 1, b + 1]
            if nw == ne and sw == se and nw == sw:
                continue
            found = 0
            if nw != ne:
                middle_j[found], middle_i[found] = a, b + 0.5
                found += 1
            if nw != sw:
                middle_j[found], middle_i[found] = a + 0.5, b
                found += 1
            if ne != se:
                middle_j[found], middle_i[found] = a + 0.5, b + 1
                found += 1
            if sw != se:
                middle_j[found], middle_i[found] = a + 1, b + 0.5
                found += 1
            if count + 2 > segments.shape[0]:
                wider = np.empty((4 * segments.shape[0], 4))
                for n in range(count):
                    for d in range(4):
                        wider[n, d] = segments[n, d]
                segments = wider
            for n in range(0, found, 2):
                for m in range(2):
                    row, column = middle_j[n + m] + top - 1, middle_i[n + m] + left - 1
                    segments[count, 2 * m] = row * along[0] + column * along[1]
                    segments[count, 2 * m + 1] = row * across[0] + column * across[1]
                count += 1
    return segments[:count]


@njit(cache=True, nogil=True)
def _widest(segments, middle):  # type: ignore[no-untyped-def]
    """The t at which the outline is widest in u, and the lowest and highest u there; nearest to the middle where equal.

    Widths change evenly between corners of the outline, so the widest place is at one of them.
    """
    best, place, bottom, top = -1.0, 0.0, 0.0, 0.0
    for n in range(segments.shape[0]):
        for m in range(0, 4, 2):
            t, low, high = segments[n, m], np.inf, -np.inf
            for s in range(segments.shape[0]):
                t0, u0, t1, u1 = segments[s, 0], segments[s, 1], segments[s, 2], segments[s, 3]
                if max(t0, t1) < t - 1e-9 or min(t0, t1) > t + 1e-9:
                    continue
                if abs(t1 - t0) < 1e-9:
                    low, high = min(low, u0, u1), max(high, u0, u1)
                else:
                    u = u0 + (u1 - u0) * min(max((t - t0) / (t1 - t0), 0.0), 1.0)
                    low, high = min(low, u), max(high, u)
            is_nearer = (high - low) * _TIE > best and abs(t - middle) < abs(place - middle)
            if high - low > best * _TIE or is_nearer:
                best, place, bottom, top = high - low, t, low, high
    return best, place, bottom, top


@njit(cache=True, nogil=True)
def _frame(one, other, steps):  # type: ignore[no-untyped-def]
    """Unit vectors along the chord and at right angles to it within the slice."""
    along, across = np.empty(3), np.empty(3)
    size = np.sqrt((other[0] - one[0]) ** 2 + (other[1] - one[1]) ** 2 + (other[2] - one[2]) ** 2)
    normal = np.empty(3)
    for d in range(3):
        e, f = (d + 1) % 3, (d + 2) % 3
        along[d] = (other[d] - one[d]) / size
        normal[d] = steps[1, e] * steps[2, f] - steps[1, f] * steps[2, e]
    size = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    for d in range(3):
        e, f = (d + 1) % 3, (d + 2) % 3
        across[d] = (normal[e] * along[f] - normal[f] * along[e]) / size
    return along, across


@njit(cache=True, nogil=True)
def _in_frame(axis, steps):  # type: ignore[no-untyped-def]
    found = np.empty(2)
    for n in range(2):
        found[n] = axis[0] * steps[n + 1, 0] + axis[1] * steps[n + 1, 1] + axis[2] * steps[n + 1, 2]
    return found


@njit(cache=True, nogil=True)
def _measure(k, island, j, first, stop, starts, origins, steps, begin, finish):  # type: ignore[no-untyped-def]
    """Lengths [5, n] (longest, perpendicular, 3D; centres in a slice, in 3D), ends [3, n, 2, 3] and slice [n] of masks."""
    count = finish - begin
    lengths, ends = np.zeros((5, count)), np.zeros((3, count, 2, 3))
    still = np.zeros((3, 3))
    slices = np.zeros(count, np.int64)
    for mask in range(begin, finish):
        n = mask - begin
        hull_k, hull_j, hull_i, begins, runs = _hulls(k, island, j, first, stop, starts[mask], starts[mask + 1])
        points = np.empty((hull_k.size, 3))
        for m in range(hull_k.size):
            for d in range(3):
                points[m, d] = origins[hull_k[m], d] + hull_j[m] * steps[1, d] + hull_i[m] * steps[2, d]
        best, chosen, least = 0.0, 0, 0.0
        for s in range(begins.size - 1):
            pair = _farthest(points, begins[s], begins[s + 1], steps, 1, best)
            if pair[1] >= 0:
                best, chosen = pair[0], s
                _store(ends[0], lengths[0], n, points, pair, steps)
            least = _farthest(points, begins[s], begins[s + 1], still, 1, least)[0]
        slices[n] = hull_k[begins[chosen]]
        along, across = _frame(ends[0, n, 0], ends[0, n, 1], steps)
        segments = _outline(j, first, stop, runs[chosen], runs[chosen + 1], _in_frame(along, steps), _in_frame(across, steps))
        origin, middle = origins[slices[n]], 0.0
        for d in range(3):
            middle += (0.5 * (ends[0, n, 0, d] + ends[0, n, 1, d]) - origin[d]) * along[d]
        lengths[1, n], t, bottom, top = _widest(segments, middle)
        for d in range(3):
            # t and u are measured from the first voxel of the slice, whose plane along and across span
            ends[1, n, 0, d] = origin[d] + t * along[d] + bottom * across[d]
            ends[1, n, 1, d] = origin[d] + t * along[d] + top * across[d]
        floor = _swept(points, points.shape[0]) * (1 - 1e-6)
        lengths[3, n], lengths[4, n] = np.sqrt(least), np.sqrt(_farthest(points, 0, points.shape[0], still, 0, floor)[0])
        pair = _farthest(points, 0, points.shape[0], steps, 0, max(floor, lengths[4, n] ** 2 * (1 - 1e-6)))
        _store(ends[2], lengths[2], n, points, pair, steps)
    return lengths, ends, slices


def mask_diameters(
    found: Instances,
    origins_mm: Floats,
    steps_mm: Floats,
    parts: NDArray[np.int64] | None = None,
    islands: NDArray[np.int32] | None = None,
) -> tuple[Chords, Chords, Chords]:
    """Return the longest chord in a slice, the longest at right angles to it in that slice, and the longest in 3D.

    Slices are those across the first axis. `origins_mm` [K, 3] is the world position of voxel (k, 0, 0), `steps_mm` [3, 3]
    has one row for a step along k, j and i. `parts` are the parts to measure, in rising order; None is all. With `islands`
    (`Instances.islands`) chords in a slice stay within one of the islands that a mask has there. The perpendicular runs
    from the first to the last point of the outline on a line at exactly 90° (in mm); a hole or bay between them is bridged,
    as it is for the longest.

    >>> from medseg.kernels.instances import find_instances
    >>> cube = find_instances(np.ones((2, 2, 2), np.uint8))
    >>> chords = mask_diameters(cube, np.array([[0.0, 0, 0], [0, 0, 1]]), np.eye(3)[::-1])
    >>> [round(float(chord.length_mm[0]), 4) for chord in chords]
    [2.2361, 2.2361, 2.4495]
    """
    chosen = np.arange(found.voxels.size) if parts is None else np.asarray(parts, np.int64)
    count = chosen.size
    place = np.full(found.voxels.size, count, np.int64)
    place[chosen] = np.arange(count)
    place = place[found.component]  # of each run; those of other parts come last and are not looked at
    k, j = found.rows()
    island = np.zeros(place.size, np.int32) if islands is None else islands
    order = np.argsort(place, kind="stable") if islands is None else np.lexsort((island, k, place))
    k, j, island = k[order], j[order], island[order]
    first, stop = found.first[order].astype(np.int64), found.stop[order].astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=count)[:count])]).astype(np.int64)
    origins, steps = np.ascontiguousarray(origins_mm, np.float64), np.ascontiguousarray(steps_mm, np.float64)
    if not count:
        empty = Chords(np.zeros(0), np.zeros(0), np.zeros((0, 2, 3)), np.zeros(0, np.int64))
        return empty, empty, empty
    pieces = in_slabs(lambda begin, end: _measure(k, island, j, first, stop, starts, origins, steps, begin, end), count)
    lengths, ends = (np.concatenate([piece[n] for piece in pieces], axis=1) for n in (0, 1))
    slices = np.concatenate([piece[2] for piece in pieces])
    unknown = np.full(count, np.nan)
    least = (lengths[3], unknown, lengths[4])
    longest, perpendicular, solid = (Chords(lengths[n], least[n], ends[n], slices) for n in range(3))
    return longest, perpendicular, solid
