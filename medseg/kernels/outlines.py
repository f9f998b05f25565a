"""Outlines of masks and of fields on a plane, finer than the pixels, and holes that are reached by a slit.

Rings run with the inside on the right of the page (x to the right, y downwards): by the shoelace formula rings around
something have a positive area, rings around a hole a negative one. Pixels that touch at a corner only belong together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

EAST, SOUTH, WEST, NORTH = 0, 1, 2, 3
_NEAREST = 0.05  # an outline stays this far, in pixels, from every pixel centre: rounding moves no pixel across it
_LEAST_FALL = 0.2  # of the smoothed mask from a pixel inside to one outside; borders of large things fall by 0.375
_STRAIGHT = 0.004  # points nearer than this to the line past them are left out
_LONGEST = 48  # points that one line may replace
_ROUNDS = 40  # halvings in the search for the level that keeps the area


@njit(cache=True, nogil=True)
def _corner(field, row, column, towards, is_left):  # type: ignore[no-untyped-def]
    """Whether the corner ahead, on the right or left hand, of a cell entered in a direction is inside."""
    down = towards == SOUTH or (towards == EAST and not is_left) or (towards == WEST and is_left)
    right = towards == EAST or (towards == SOUTH and is_left) or (towards == NORTH and not is_left)
    return field[row + (1 if down else 0), column + (1 if right else 0)] > 0


@njit(cache=True, nogil=True)
def _walk(field):  # type: ignore[no-untyped-def]
    """For every ring the pixel inside and the one outside (row, column) that each of its points lies between."""
    rows, columns = field.shape
    count = 0
    for row in range(rows):
        for column in range(columns):
            here = field[row, column] > 0
            if column + 1 < columns and here != (field[row, column + 1] > 0):
                count += 1
            if row + 1 < rows and here != (field[row + 1, column] > 0):
                count += 1
    between = np.empty((count, 4), np.int32)
    starts = np.zeros(count + 1, np.int64)
    seen = np.zeros((rows, columns), np.bool_)
    used = rings = 0
    for first_row in range(rows):
        for first_column in range(columns - 1):
            if seen[first_row, first_column] or not field[first_row, first_column] > 0 or field[first_row, first_column + 1] > 0:
                continue
            row, column, towards = first_row, first_column, SOUTH  # the cell below the edge between both pixels
            while True:
                if towards == SOUTH:
                    if seen[row, column]:
                        break
                    seen[row, column] = True
                    inside_row, inside_column, outside_row, outside_column = row, column, row, column + 1
                elif towards == NORTH:
                    inside_row, inside_column, outside_row, outside_column = row + 1, column + 1, row + 1, column
                elif towards == EAST:
                    inside_row, inside_column, outside_row, outside_column = row + 1, column, row, column
                else:
                    inside_row, inside_column, outside_row, outside_column = row, column + 1, row + 1, column + 1
                between[used, 0], between[used, 1] = inside_row, inside_column
                between[used, 2], between[used, 3] = outside_row, outside_column
                used += 1
                ahead_right, ahead_left = _corner(field, row, column, towards, False), _corner(field, row, column, towards, True)
                if ahead_left:
                    towards = (towards + 3) % 4
                elif not ahead_right:
                    towards = (towards + 1) % 4
                row += 1 if towards == SOUTH else -1 if towards == NORTH else 0
                column += 1 if towards == EAST else -1 if towards == WEST else 0
            rings += 1
            starts[rings] = used
    return between, starts[: rings + 1]


@njit(cache=True, nogil=True)
def _points_at(field, between, level, nearest, least_fall):  # type: ignore[no-untyped-def]
    """Points (x, y) where the field, raised by a level, falls through zero between the pixels of each pair.

    A field that hardly falls there, or rises, is taken to fall by ``least_fall`` about its mean: points then move evenly
    with the level.
    """
    points = np.empty((between.shape[0], 2), np.float64)
    for n in range(between.shape[0]):
        inside = field[between[n, 0], between[n, 1]] + level
        outside = field[between[n, 2], between[n, 3]] + level
        share = 0.5 + 0.5 * (inside + outside) / max(inside - outside, least_fall)
        share = min(1.0 - nearest, max(nearest, share))
        points[n, 0] = between[n, 1] + share * (between[n, 3] - between[n, 1])
        points[n, 1] = between[n, 0] + share * (between[n, 2] - between[n, 0])
    return points


@njit(cache=True, nogil=True)
def _area(points, starts):  # type: ignore[no-untyped-def]
    total = 0.0
    for ring in range(starts.size - 1):
        before = starts[ring + 1] - 1
        for here in range(starts[ring], starts[ring + 1]):
            total += points[before, 0] * points[here, 1] - points[before, 1] * points[here, 0]
            before = here
    return 0.5 * total


@njit(cache=True, nogil=True)
def _fitted(field, between, starts, areas):  # type: ignore[no-untyped-def]
    """Points of every ring at the level of the field at which it encloses its area."""
    points = np.empty((between.shape[0], 2), np.float64)
    for ring in range(starts.size - 1):
        pairs = between[starts[ring] : starts[ring + 1]]
        whole = np.array([0, pairs.shape[0]])
        low, high = -1.0, 1.0
        for _ in range(_ROUNDS):
            middle = 0.5 * (low + high)
            if _area(_points_at(field, pairs, middle, _NEAREST, _LEAST_FALL), whole) < areas[ring]:
                low = middle
            else:
                high = middle
        points[starts[ring] : starts[ring + 1]] = _points_at(field, pairs, 0.5 * (low + high), _NEAREST, _LEAST_FALL)
    return points


@njit(cache=True, nogil=True)
def _fits(points, first, last, start, count, far):  # type: ignore[no-untyped-def]
    """Whether the points between two of a ring lie near the line from one to the other, and not before or behind it."""
    x, y = points[start + first, 0], points[start + first, 1]
    along_x, along_y = points[start + last % count, 0] - x, points[start + last % count, 1] - y
    square = along_x * along_x + along_y * along_y
    for n in range(first + 1, last):
        dx, dy = points[start + n, 0] - x, points[start + n, 1] - y
        across = dx * along_y - dy * along_x
        along = dx * along_x + dy * along_y
        if across * across > far * far * square or along < 0.0 or along > square:
            return False
    return True


@njit(cache=True, nogil=True)
def _needed(points, starts):  # type: ignore[no-untyped-def]
    """The points that are needed, each ring from its topmost one on, and where the rings then begin."""
    kept = np.empty(points.shape[0], np.int64)
    begins = np.zeros(starts.size, np.int64)
    used = 0
    turned = np.empty_like(points)
    for ring in range(starts.size - 1):
        start, count = starts[ring], starts[ring + 1] - starts[ring]
        top = 0
        for n in range(count):
            here, best = start + n, start + top
            if points[here, 1] < points[best, 1] or (points[here, 1] == points[best, 1] and points[here, 0] < points[best, 0]):
                top = n
        for n in range(count):
            turned[start + n] = points[start + (top + n) % count]
        at = 0
        while at < count:
            kept[used] = start + (top + at) % count
            used += 1
            stop = at + 1
            # a ring keeps four points or more: no line may replace more than a third of it
            while stop < count and stop - at < min(_LONGEST, max(1, count // 4)) and _fits(turned, at, stop + 1, start, count, _STRAIGHT):
                stop += 1
            at = stop
        begins[ring + 1] = used
    return kept[:used], begins


@njit(cache=True, nogil=True)
def _merged(points, starts):  # type: ignore[no-untyped-def]
    """Rings with every hole reached by a slit, walked out and back, from the next ring on the left of its topmost point."""
    rings = starts.size - 1
    total = points.shape[0]
    x, y = np.empty(total + 3 * rings, np.float64), np.empty(total + 3 * rings, np.float64)
    after = np.empty(total + 3 * rings, np.int64)
    is_active = np.zeros(total + 3 * rings, np.bool_)
    is_hole = np.zeros(rings, np.bool_)
    for ring in range(rings):
        first, end = starts[ring], starts[ring + 1]
        is_hole[ring] = _area(points, starts[ring : ring + 2]) < 0.0
        for n in range(first, end):
            x[n], y[n] = points[n, 0], points[n, 1]
            after[n] = n + 1 if n + 1 < end else first
            is_active[n] = not is_hole[ring]
    tops = np.empty(rings, np.float64)
    for ring in range(rings):
        tops[ring] = y[starts[ring]]
    used = total
    order = np.argsort(tops, kind="mergesort")  # holes begin at their topmost point; ties keep the order of their columns
    for ring in order:
        if not is_hole[ring]:
            continue
        top = starts[ring]
        best, best_x = -1, -np.inf
        for n in range(used):
            if not is_active[n]:
                continue
            y0, y1 = y[n], y[after[n]]
            if min(y0, y1) <= y[top] < max(y0, y1):
                low, high = (n, after[n]) if y0 < y1 else (after[n], n)
                meets = x[low] + (y[top] - y[low]) * ((x[high] - x[low]) / (y[high] - y[low]))
                if best_x < meets <= x[top]:
                    best, best_x = n, meets
        for n in range(starts[ring], starts[ring + 1]):
            is_active[n] = True
        if best < 0:  # a hole in nothing: stays a ring of its own
            is_hole[ring] = False
            continue
        there, last, back, end = used, starts[ring + 1] - 1, used + 1, used + 2
        x[there], y[there], x[back], y[back], x[end], y[end] = best_x, y[top], x[top], y[top], best_x, y[top]
        after[end] = after[best]
        after[best], after[there], after[last], after[back] = there, top, back, end
        is_active[there] = is_active[back] = is_active[end] = True
        used += 3
    out, begins = np.empty((used, 2), np.float64), np.zeros(rings + 1, np.int64)
    at = count = 0
    for ring in range(rings):
        if is_hole[ring]:
            continue
        n = starts[ring]
        while True:
            out[at, 0], out[at, 1] = x[n], y[n]
            at += 1
            n = after[n]
            if n == starts[ring]:
                break
        count += 1
        begins[count] = at
    return out[:at], begins[: count + 1]


@njit(cache=True, nogil=True)
def _blurred(mask):  # type: ignore[no-untyped-def]
    """The mask with a border of two pixels, smoothed by the binomial weights 1 4 6 4 1 along both axes, less one half."""
    rows, columns = mask.shape[0] + 4, mask.shape[1] + 4
    across = np.zeros((rows, columns), np.float64)
    for row in range(2, rows - 2):
        for column in range(columns):
            total = 0.0
            for step in range(-2, 3):
                at = column - 2 + step
                if 0 <= at < mask.shape[1] and mask[row - 2, at] != 0:
                    total += 6.0 if step == 0 else 4.0 if abs(step) == 1 else 1.0
            across[row, column] = total
    field = np.empty((rows, columns), np.float64)
    for row in range(rows):
        for column in range(columns):
            total = 0.0
            for step in range(-2, 3):
                if 0 <= row + step < rows:
                    total += (6.0 if step == 0 else 4.0 if abs(step) == 1 else 1.0) * across[row + step, column]
            field[row, column] = total / 256.0 - 0.5
    return field


@njit(cache=True, nogil=True)
def _outlines(mask):  # type: ignore[no-untyped-def]
    padded = np.zeros((mask.shape[0] + 4, mask.shape[1] + 4), np.float64)
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            if mask[row, column] != 0:
                padded[row + 2, column + 2] = 1.0
    between, starts = _walk(padded)
    halfway = _points_at(padded, between, -0.5, 0.0, 1.0)
    areas = np.empty(starts.size - 1, np.float64)
    for ring in range(areas.size):
        area = _area(halfway, starts[ring : ring + 2])
        areas[ring] = area + (0.5 if area > 0.0 else -0.5)  # pixels inside: lines halfway cut half a pixel off in all
    field = _blurred(mask)
    kept, begins = _needed(_fitted(field, between, starts, areas), starts)
    merged, rings = _merged(_fitted(field, between[kept], begins, areas), begins)
    return merged - 2.0, rings


def mask_outlines(mask: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Outlines of a mask (y, x) as rings: points (x, y) in pixels and where each ring starts; holes are reached by slits.

    The rings enclose as much as the mask has pixels, and every pixel centre lies on the side where its pixel belongs, at
    least 0.03 pixels from the line: filled again by pixel centres they give the same mask, down to a single pixel. In between
    they follow the mask smoothed by a binomial filter of five pixels. Slits lie between two rows of pixels.
    """
    inside = np.ascontiguousarray(mask, dtype=np.uint8)
    if not inside.any():
        return np.empty((0, 2)), np.zeros(1, np.int64)
    points, starts = _outlines(inside)
    return np.asarray(points), np.asarray(starts)


def trace_field(field: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rings (x, y) in pixels around where a field (y, x) is positive, linear between pixels; its border must be negative."""
    values = np.ascontiguousarray(field, dtype=np.float64)
    between, starts = _walk(values)
    return np.asarray(_points_at(values, between, 0.0, 1e-6, 1e-12)), np.asarray(starts)
