"""Labels of any grid (turned, oblique, sheared) from the rows of network outputs that are at hand.

Outputs (channels, R, J, I) are the rows ``first_row`` to ``first_row + R`` of a volume of ``shape``. A point belongs to
the cell between rows c and c + 1 of each axis; beyond the outer rows it belongs to the outermost cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .logits import REGION_ABOVE, clear_winners
from .slabs import in_slabs


@njit(cache=True, nogil=True, inline="always")
def _cell(at, length):  # type: ignore[no-untyped-def]
    """The cell of a fractional row, and the place in it."""
    at = min(max(at, 0.0), length - 1.0)
    cell = min(np.int64(at), max(length - 2, 0))
    return cell, np.float32(at - cell)


@njit(cache=True, nogil=True)
def _reach(begin, step, least, stop, count):  # type: ignore[no-untyped-def]
    """A range of the line that holds every voxel between two rows, a little wider than needed."""
    if abs(step) < 1e-12:
        return (0, count) if least - 1e-6 <= begin <= stop + 1e-6 else (0, 0)
    one, other = (least - begin) / step, (stop - begin) / step
    if one > other:
        one, other = other, one
    one, other = min(max(one, -2.0), count + 2.0), min(max(other, -2.0), count + 2.0)
    return max(0, np.int64(np.floor(one)) - 1), min(count, np.int64(np.ceil(other)) + 2)


@njit(cache=True, nogil=True)
def _cell_winner(winners, r0, r1, j0, j1, i0, i1):  # type: ignore[no-untyped-def]
    first = winners[r0, j0, i0]
    if (
        first == winners[r0, j0, i1]
        and first == winners[r0, j1, i0]
        and first == winners[r0, j1, i1]
        and first == winners[r1, j0, i0]
        and first == winners[r1, j0, i1]
        and first == winners[r1, j1, i0]
        and first == winners[r1, j1, i1]
    ):
        return first
    return -1


@njit(cache=True, nogil=True)
def _place_line(begins, steps, shape, cells, winners, reach, line, at, place, part):  # type: ignore[no-untyped-def]
    """Find the voxels of a line that lie in the cells at hand: sure ones get their channel, the others are listed."""
    first_row, least, stop = cells
    length_k, length_j, length_i = shape
    opened = 0
    for i in range(reach[0], reach[1]):
        cell_k, part_k = _cell(begins[0] + steps[0] * i, length_k)
        if cell_k < least or cell_k >= stop:
            line[i] = -2
            continue
        cell_j, part_j = _cell(begins[1] + steps[1] * i, length_j)
        cell_i, part_i = _cell(begins[2] + steps[2] * i, length_i)
        r0 = cell_k - first_row
        r1, j1, i1 = min(r0 + 1, winners.shape[0] - 1), min(cell_j + 1, length_j - 1), min(cell_i + 1, length_i - 1)
        winner = _cell_winner(winners, r0, r1, cell_j, j1, cell_i, i1)
        line[i] = winner
        if winner < 0:
            at[opened] = i
            place[opened] = (r0 * length_j + cell_j) * length_i + cell_i
            part[0, opened], part[1, opened], part[2, opened] = part_k, part_j, part_i
            opened += 1
    return opened


@njit(cache=True, nogil=True)
def _value(flat, base, strides, pk, pj, pi):  # type: ignore[no-untyped-def]
    one = np.float32(1)
    sk, sj, si = strides
    a = flat[base] * (one - pi) + flat[base + si] * pi
    b = flat[base + sj] * (one - pi) + flat[base + sj + si] * pi
    c = flat[base + sk] * (one - pi) + flat[base + sk + si] * pi
    d = flat[base + sk + sj] * (one - pi) + flat[base + sk + sj + si] * pi
    return (a * (one - pj) + b * pj) * (one - pk) + (c * (one - pj) + d * pj) * pk


@njit(cache=True, nogil=True)
def _open_points(outputs, strides, opened, at, place, part, best, line):  # type: ignore[no-untyped-def]
    """The largest channel of the listed voxels, channel by channel."""
    for c in range(outputs.shape[0]):
        flat = outputs[c].reshape(outputs[c].size)
        for n in range(opened):
            value = _value(flat, place[n], strides, part[0, n], part[1, n], part[2, n])
            if c == 0 or value > best[n]:
                best[n] = value
                line[at[n]] = c


@njit(cache=True, nogil=True)
def _label_points(outputs, winners, shape, cells, matrix, offset, numbers, regions, out, start, end):  # type: ignore[no-untyped-def]
    count = out.shape[2]
    _, rows, height, length = outputs.shape
    unit = np.uint64(1)
    strides = (np.uint64(height * length if rows > 1 else 0), np.uint64(length if height > 1 else 0), unit if length > 1 else unit - unit)
    line, at, place = np.empty(count, np.int32), np.empty(count, np.int64), np.empty(count, np.uint64)
    part, best = np.empty((3, count), np.float32), np.empty(count, np.float32)
    steps = (matrix[0, 2], matrix[1, 2], matrix[2, 2])
    _, least, stop = cells
    low = -1e18 if least == 0 else np.float64(least)
    high = 1e18 if stop >= max(1, shape[0] - 1) else np.float64(stop)
    for k in range(start, end):
        for j in range(out.shape[1]):
            begin_k = matrix[0, 0] * k + matrix[0, 1] * j + offset[0]
            begin_j = matrix[1, 0] * k + matrix[1, 1] * j + offset[1]
            begin_i = matrix[2, 0] * k + matrix[2, 1] * j + offset[2]
            reach = _reach(begin_k, steps[0], low, high, count)
            if reach[0] >= reach[1]:
                continue
            opened = _place_line((begin_k, begin_j, begin_i), steps, shape, cells, winners, reach, line, at, place, part)
            if regions:
                for n in range(opened):
                    out[k, j, at[n]] = 0
                for c in range(outputs.shape[0]):
                    flat = outputs[c].reshape(outputs[c].size)
                    for n in range(opened):
                        if _value(flat, place[n], strides, part[0, n], part[1, n], part[2, n]) > REGION_ABOVE:
                            out[k, j, at[n]] = numbers[c]
                continue
            _open_points(outputs, strides, opened, at, place, part, best, line)
            for i in range(reach[0], reach[1]):
                if line[i] >= 0:
                    out[k, j, i] = numbers[line[i]]


def label_points(
    outputs: NDArray[np.float32],
    first_row: int,
    shape: Sequence[int],
    cells: tuple[int, int],
    matrix: NDArray[np.float64],
    numbers: NDArray[Any],
    out: NDArray[Any],
    *,
    regions: bool = False,
) -> None:
    """Write into ``out`` (K,J,I) the labels of the voxels that lie in the cells ``cells`` (start, stop) of the first axis.

    ``matrix`` (3, 4) takes an index of ``out`` and 1 to a place in the volume of ``shape``; the rows of ``outputs``
    reach from the first cell to the row after the last. Linear interpolation; the largest channel wins, the first of
    equals; with ``regions`` every channel above sigmoid 0.5 is painted in turn. Other voxels of ``out`` stay.

    >>> out = np.zeros((1, 1, 3), np.uint8)
    >>> outputs = np.array([[[[4.0, 0.0]]], [[[0.0, 4.0]]]], np.float32)
    >>> half_steps = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0]])
    >>> label_points(outputs, 0, (1, 1, 2), (0, 1), half_steps, np.array([3, 9], np.uint8), out)
    >>> out.tolist()
    [[[3, 3, 9]]]
    """
    table = np.ascontiguousarray(numbers, out.dtype)
    steps, offset = np.ascontiguousarray(matrix[:, :3], np.float64), np.ascontiguousarray(matrix[:, 3], np.float64)
    winners = np.full(outputs.shape[1:], -1, np.int16) if regions else clear_winners(outputs)
    extents, at_hand = (int(shape[0]), int(shape[1]), int(shape[2])), (int(first_row), int(cells[0]), int(cells[1]))
    in_slabs(
        lambda start, end: _label_points(outputs, winners, extents, at_hand, steps, offset, table, regions, out, start, end), out.shape[0]
    )
