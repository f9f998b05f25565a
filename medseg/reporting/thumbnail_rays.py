"""Surfaces of label maps of at most a hundred cells a side, for pictures of a hundred pixels: loops that numba compiles.

The report draws the same from larger fields (`surfaces`, `ray_casting`, `rendering`); here a segment takes tenths of a
millisecond, because a field is blurred where the segment is only, and rays begin and end at what lies inside its level.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_LEAST_LEVEL = 0.08
_LEVELS = 1024  # between the least level and one half
_GUARD = 2  # cells between a surface and the end of its field: gradients reach one cell, interpolation one more
PAD = _GUARD + 1
REACH = 1.5  # standard deviations of the blur beyond which nothing is above the least level


# Compiled when first imported: the small scans that warm all others have nothing to fill
@njit("void(uint8[:, :, ::1], int64[::1], int64[::1], int64, uint8[:, :, ::1])", cache=True, nogil=True)
def fill_cells(mask, first, factors, number, cells):  # type: ignore[no-untyped-def]
    """Give every cell (k,j,i) that holds a voxel of a mask to its segment, and its empty next ones.

    `mask` lies at `first` in the box of the cells, of which each has `factors` voxels. Rays step over what is thinner than a cell.
    """
    for k in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            for i in range(mask.shape[2]):
                if mask[k, j, i] == 0:
                    continue
                c, b, a = (first[0] + k) // factors[0], (first[1] + j) // factors[1], (first[2] + i) // factors[2]
                for z in range(c, min(c + 2, cells.shape[0])):
                    for y in range(b, min(b + 2, cells.shape[1])):
                        for x in range(a, min(a + 2, cells.shape[2])):
                            if cells[z, y, x] == 0:
                                cells[z, y, x] = number
                cells[min(c, cells.shape[0] - 1), min(b, cells.shape[1] - 1), min(a, cells.shape[2] - 1)] = number


@njit(cache=True, nogil=True)
def boxes_of(cells, count):  # type: ignore[no-untyped-def]
    """First and last index (count + 1, 2, 3) of each number from 1; last is -1 where there is none."""
    box = np.empty((count + 1, 2, 3), np.int64)
    for n in range(count + 1):
        for axis in range(3):
            box[n, 0, axis], box[n, 1, axis] = 1 << 40, -1
    for k in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            line = cells[k, j]
            i = 0
            while i < line.size:
                number = line[i]
                first = i
                while i < line.size and line[i] == number:
                    i += 1
                if number == 0:
                    continue
                low, high = box[number, 0], box[number, 1]
                low[0], low[1], low[2] = min(low[0], k), min(low[1], j), min(low[2], first)
                high[0], high[1], high[2] = max(high[0], k), max(high[1], j), max(high[2], i - 1)
    return box


@njit(cache=True, nogil=True)
def _weights(sigma):  # type: ignore[no-untyped-def]
    radius = int(3.0 * sigma + 0.5)
    out = np.empty(2 * radius + 1, np.float32)
    for n in range(out.size):
        out[n] = np.exp(-0.5 * ((n - radius) / sigma) ** 2)
    return out / out.sum()


@njit(cache=True, nogil=True)
def _blurred_lines(cells, number, box, sigma, pads):  # type: ignore[no-untyped-def]
    """The mask of a segment, blurred along i, in its box padded along i; and its voxels."""
    weights = _weights(sigma[2])
    reach = weights.size // 2
    upto = np.zeros(weights.size + 1, np.float32)  # of a run only its ends matter
    for n in range(weights.size):
        upto[n + 1] = upto[n] + weights[n]
    length = box[1, 2] - box[0, 2] + 1
    out = np.zeros((box[1, 0] - box[0, 0] + 1, box[1, 1] - box[0, 1] + 1, length + 2 * pads[2]), np.float32)
    voxels = 0
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            line, blurred = cells[box[0, 0] + k, box[0, 1] + j], out[k, j]
            i = 0
            while i < length:
                if line[box[0, 2] + i] != number:
                    i += 1
                    continue
                first = i
                while i < length and line[box[0, 2] + i] == number:
                    i += 1
                voxels += i - first
                begin, end = first + pads[2], i + pads[2]
                for x in range(max(0, begin - reach), min(blurred.size, end + reach)):
                    blurred[x] += upto[min(x - begin + reach + 1, weights.size)] - upto[max(0, x - end + reach + 1)]
    return out, voxels


@njit(cache=True, nogil=True)
def _add_scaled(target, source, weight):  # type: ignore[no-untyped-def]
    for n in range(target.size):
        target[n] += weight * source[n]


@njit(cache=True, nogil=True)
def _blurred(cells, number, box, sigma, pads):  # type: ignore[no-untyped-def]
    """The mask of a segment, blurred by a Gaussian (standard deviations in cells), in its padded box; and its voxels."""
    lines, voxels = _blurred_lines(cells, number, box, sigma, pads)
    weights = _weights(sigma[1])
    reach = weights.size // 2
    planes = np.zeros((lines.shape[0], lines.shape[1] + 2 * pads[1], lines.shape[2]), np.float32)
    for k in range(lines.shape[0]):
        for j in range(lines.shape[1]):
            for n in range(weights.size):
                y = j + pads[1] + n - reach
                if 0 <= y < planes.shape[1]:
                    _add_scaled(planes[k, y], lines[k, j], weights[n])
    weights = _weights(sigma[0])
    reach = weights.size // 2
    out = np.zeros((planes.shape[0] + 2 * pads[0], planes.shape[1], planes.shape[2]), np.float32)
    for k in range(planes.shape[0]):
        for n in range(weights.size):
            z = k + pads[0] + n - reach
            if 0 <= z < out.shape[0]:
                _add_scaled(out[z].reshape(-1), planes[k].reshape(-1), weights[n])
    return out, voxels


@njit(cache=True, nogil=True)
def _level_of(flat, voxels):  # type: ignore[no-untyped-def]
    """The level above which about as many cells lie as the segment has voxels: nothing thin vanishes or grows."""
    counts = np.zeros(_LEVELS, np.int64)
    above = 0
    scale = _LEVELS / (0.5 - _LEAST_LEVEL)
    for n in range(flat.size):
        if flat[n] >= 0.5:
            above += 1
        elif flat[n] > _LEAST_LEVEL:
            counts[min(_LEVELS - 1, int((flat[n] - _LEAST_LEVEL) * scale))] += 1
    if above >= voxels:
        return 0.5
    level = _LEVELS
    while above < voxels and level > 0:
        level -= 1
        above += counts[level]
    below = level  # halfway to the next cell: a level at the very value of the one of a tiny segment would show nothing of it
    while below > 0 and counts[below - 1] == 0:
        below -= 1
    return _LEAST_LEVEL + 0.5 * (level + below) / scale


@njit(cache=True, nogil=True)
def _inner_box(field, level):  # type: ignore[no-untyped-def]
    """First and last index (2, 3) of the cells above a level, without those so near the end that a gradient reaches over it."""
    box = np.empty((2, 3), np.int64)
    for axis in range(3):
        box[0, axis], box[1, axis] = 1 << 40, -1
    for k in range(_GUARD, field.shape[0] - _GUARD - 1):
        for j in range(_GUARD, field.shape[1] - _GUARD - 1):
            line = field[k, j]
            first, last = _GUARD, line.size - _GUARD - 2
            while first <= last and line[first] < level:
                first += 1
            if first > last:
                continue
            while line[last] < level:
                last -= 1
            box[0, 0], box[0, 1], box[0, 2] = min(box[0, 0], k), min(box[0, 1], j), min(box[0, 2], first)
            box[1, 0], box[1, 1], box[1, 2] = max(box[1, 0], k), max(box[1, 1], j), max(box[1, 2], last)
    return box


@njit(cache=True, nogil=True, inline="always")
def _value(flat, plane, line, z, y, x):  # type: ignore[no-untyped-def]
    """Trilinear value at a fractional index that lies inside a field, whose planes and lines are so long."""
    c, b, a = int(z), int(y), int(x)
    w, v, u = np.float32(z - c), np.float32(y - b), np.float32(x - a)
    at = np.uintp(c * plane + b * line + a)  # without a sign: numba need not ask whether it counts from the end
    one, row, slab = np.uintp(1), np.uintp(line), np.uintp(plane)
    low = flat[at] + (flat[at + one] - flat[at]) * u
    low += (flat[at + row] + (flat[at + row + one] - flat[at + row]) * u - low) * v
    at += slab
    high = flat[at] + (flat[at + one] - flat[at]) * u
    high += (flat[at + row] + (flat[at + row + one] - flat[at + row]) * u - high) * v
    return low + (high - low) * w


@njit(cache=True, nogil=True)
def _window(box, origin, inverse, size):  # type: ignore[no-untyped-def]
    """The rows and columns of rays that can meet a box: first row, stop, first column, stop."""
    least, most = np.full(2, 1e30), np.full(2, -1e30)
    for corner in range(8):
        for side in range(2):
            at = 0.0
            for axis in range(3):
                end = box[0, axis] - 1.0 if corner >> axis & 1 else box[1, axis] + 1.0
                at += inverse[side, axis] * (end - origin[axis])
            least[side], most[side] = min(least[side], at), max(most[side], at)
    top, left = max(0, int(np.floor(least[0]))), max(0, int(np.floor(least[1])))
    return top, min(size, int(np.ceil(most[0])) + 1), left, min(size, int(np.ceil(most[1])) + 1)


@njit(cache=True, nogil=True, inline="always")
def _span(start, per_step, box):  # type: ignore[no-untyped-def]
    """The part of a ray within a cell of a box, of the inverse of its step; that of an axis it does not move along is 0."""
    near, far = -1e30, 1e30
    for axis in range(3):
        low, high = box[0, axis] - 1.0 - start[axis], box[1, axis] + 1.0 - start[axis]
        if per_step[axis] == 0.0:
            if low > 0 or high < 0:
                return 1.0, 0.0
            continue
        one, two = low * per_step[axis], high * per_step[axis]
        near, far = max(near, min(one, two)), min(far, max(one, two))
    return near, far


@njit(cache=True, nogil=True)
def cast_segment(cells, number, box, sigma, rays, met):  # type: ignore[no-untyped-def]
    """Find where rays first meet the surface of a segment, and keep what is nearer than what was met before.

    `cells` are uint8 (k,j,i); `box` (2, 3) is where the segment is, `sigma` the blur in cells. `rays` are (4, 3) the index that the
    first one begins at and its steps down, to the right and along the ray; the matrix from an index to row, column and steps;
    and that from a gradient to a normal. `met` are the depth (n, n) in steps along the ray, normals (n, n, 3) and the numbers (n, n).
    """
    (steps, inverse, turn), (depth, normals, owner) = rays, met
    pads = np.empty(3, np.int64)
    for axis in range(3):
        pads[axis] = int(np.ceil(REACH * sigma[axis])) + PAD
    field, voxels = _blurred(cells, number, box, sigma, pads)
    if voxels == 0:
        return
    level = _level_of(field.reshape(-1), voxels)
    inner = _inner_box(field, level)
    if inner[1, 0] < 0:
        return
    flat, plane, line = field.reshape(-1), field.shape[1] * field.shape[2], field.shape[2]
    start, step, per_step, origin = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for axis in range(3):
        origin[axis] = steps[0, axis] - (box[0, axis] - pads[axis])
        step[axis] = steps[3, axis]
        per_step[axis] = 1.0 / step[axis] if abs(step[axis]) > 1e-9 else 0.0
    top, bottom, left, right = _window(inner, origin, inverse, depth.shape[0])
    for row in range(top, bottom):
        for column in range(left, right):
            for axis in range(3):
                start[axis] = origin[axis] + row * steps[1, axis] + column * steps[2, axis]
            near, far = _span(start, per_step, inner)
            far = min(far, depth[row, column])
            t, before = near, 0.0
            while t <= far:
                value = _value(flat, plane, line, start[0] + t * step[0], start[1] + t * step[1], start[2] + t * step[2])
                if value >= level:
                    if t > near:  # the fields are smooth: linear between two steps is near enough
                        t -= (value - level) / (value - before)
                    _note_hit(flat, plane, line, start, step, t, turn, normals[row, column])
                    depth[row, column], owner[row, column] = t, number
                    break
                before = value
                t += 1.0


@njit(cache=True, nogil=True)
def _note_hit(flat, plane, line, start, step, t, turn, normal):  # type: ignore[no-untyped-def]
    z, y, x = start[0] + t * step[0], start[1] + t * step[1], start[2] + t * step[2]
    dz = _value(flat, plane, line, z + 1, y, x) - _value(flat, plane, line, z - 1, y, x)
    dy = _value(flat, plane, line, z, y + 1, x) - _value(flat, plane, line, z, y - 1, x)
    dx = _value(flat, plane, line, z, y, x + 1) - _value(flat, plane, line, z, y, x - 1)
    length = 1e-12
    for n in range(3):
        normal[n] = -(turn[n, 0] * dz + turn[n, 1] * dy + turn[n, 2] * dx)
        length += normal[n] * normal[n]
    for n in range(3):
        normal[n] /= np.sqrt(length)
