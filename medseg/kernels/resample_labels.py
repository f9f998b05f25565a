"""Labels on another grid: the label with the greatest linear weight among the eight voxels around each point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_labels
from .resample_grid import Grid, check_fill, source_index, split_index
from .slabs import in_slabs

# Sums of weights closer than this are a tie.
_TIE = 1e-9
_CLEAR = 1e-6


@njit(cache=True, nogil=True)
def _vote(labels, k, j, i):  # type: ignore[no-untyped-def]
    """The label with the greatest sum of weights among the eight corners."""
    (k0, k1, wk), (j0, j1, wj), (i0, i1, wi) = k, j, i
    corners = (
        labels[k0, j0, i0],
        labels[k0, j0, i1],
        labels[k0, j1, i0],
        labels[k0, j1, i1],
        labels[k1, j0, i0],
        labels[k1, j0, i1],
        labels[k1, j1, i0],
        labels[k1, j1, i1],
    )
    first = corners[0]
    if (
        corners[1] == first
        and corners[2] == first
        and corners[3] == first
        and corners[4] == first
        and corners[5] == first
        and corners[6] == first
        and corners[7] == first
    ):
        return first
    # most often there are two labels, and one of them clearly has more than half of the weight
    other, share, are_two = first, 0.0, True
    for n in range(8):
        if corners[n] != first:
            if other == first:
                other = corners[n]
            are_two &= corners[n] == other
            share += (wk if n & 4 else 1 - wk) * (wj if n & 2 else 1 - wj) * (wi if n & 1 else 1 - wi)
    if are_two and abs(share - 0.5) > _CLEAR:
        return other if share > 0.5 else first
    best, best_sum, best_single = first, -1.0, -1.0
    for n in range(8):
        total, single = 0.0, 0.0
        for m in range(8):
            if corners[m] == corners[n]:
                weight = wk if m & 4 else 1 - wk
                weight *= wj if m & 2 else 1 - wj
                weight *= wi if m & 1 else 1 - wi
                total += weight
                single = max(single, weight)
        is_tie = abs(total - best_sum) <= _TIE
        if is_tie:
            is_better = single > best_single + _TIE or (single > best_single - _TIE and corners[n] < best)
        else:
            is_better = total > best_sum
        if is_better:
            best, best_sum, best_single = corners[n], total, single
    return best


@njit(cache=True, nogil=True)
def _labels_mixed(labels, matrix, offset, fill, out, start, end):  # type: ignore[no-untyped-def]
    depth, height, length = labels.shape
    for k in range(start, end):
        for j in range(out.shape[1]):
            line = out[k, j]
            for i in range(line.size):
                at_k = split_index(source_index(matrix, offset, k, j, i, 0), depth)
                at_j = split_index(source_index(matrix, offset, k, j, i, 1), height)
                at_i = split_index(source_index(matrix, offset, k, j, i, 2), length)
                if at_k[0] < 0 or at_j[0] < 0 or at_i[0] < 0:
                    line[i] = fill
                else:
                    line[i] = _vote(labels, at_k, at_j, at_i)


@njit(cache=True, nogil=True)
def _is_even(one, two, three, four, even):  # type: ignore[no-untyped-def]
    """Mark the places at which, and at the next ones, four lines hold the same label; whether they hold one label throughout."""
    first = one[0]
    apart = np.uint8(0)
    for i in range(one.size):
        even[i] = np.uint8(one[i] == two[i]) & np.uint8(one[i] == three[i]) & np.uint8(one[i] == four[i])
        apart |= np.uint8(1) - (even[i] & np.uint8(one[i] == first))
    here, there, label, next_label = even[:-1], even[1:], one[:-1], one[1:]
    for i in range(one.size - 1):
        here[i] &= there[i] & np.uint8(label[i] == next_label[i])
    return apart == 0


@njit(cache=True, nogil=True)
def _labels_aligned(labels, along_k, along_j, along_i, fill, out, start, end):  # type: ignore[no-untyped-def]
    """Most points lie among eight equal labels: seen from a mark for each place of the four lines around an output line."""
    low, high, weight = along_i
    even = np.empty(labels.shape[2], np.uint8)
    is_covered = low.min() >= 0
    for k in range(start, end):
        at_k = along_k[0][k], along_k[1][k], along_k[2][k]
        before = (-2, -2)
        is_one = False
        for j in range(out.shape[1]):
            at_j = along_j[0][j], along_j[1][j], along_j[2][j]
            line = out[k, j]
            if at_k[0] < 0 or at_j[0] < 0:
                for i in range(line.size):
                    line[i] = fill
                continue
            source = labels[at_k[0], at_j[0]]
            if before != (at_j[0], at_j[1]):
                is_one = _is_even(source, labels[at_k[0], at_j[1]], labels[at_k[1], at_j[0]], labels[at_k[1], at_j[1]], even)
                before = (at_j[0], at_j[1])
            if is_one and is_covered:
                label = source[0]
                for i in range(line.size):
                    line[i] = label
                continue
            for i in range(line.size):
                m = low[i]
                if m < 0:
                    line[i] = fill
                elif even[np.uint64(m)]:
                    line[i] = source[np.uint64(m)]
                else:
                    line[i] = _vote(labels, at_k, at_j, (m, high[i], weight[i]))


def resample_labels(labels: NDArray[Any], matrix: NDArray[Any], offset: NDArray[Any], shape: Sequence[int], fill: int = 0) -> NDArray[Any]:
    """Labels on another grid: the label with the largest sum of linear weights among the eight voxels around a point.

    The same as linear interpolation of every label by itself and taking the largest, without the memory for it; a
    label that is not among the eight never appears. Of equal sums the label with the nearest voxel wins, then the
    lower number. Arguments as for `resample_linear`; ``labels`` are integers >= 0 (or bool), the dtype is kept. Memory
    beyond the labels: the result.

    >>> resample_labels(np.array([[[2, 2, 9]]], np.uint8), np.diag([1, 1, 0.4]), np.zeros(3), (1, 1, 6)).tolist()
    [[[2, 2, 2, 2, 9, 9]]]
    """
    source = as_labels(labels)
    dtype = labels.dtype.newbyteorder("=")
    check_fill(fill, dtype)
    grid = Grid(matrix, offset, shape)
    out = np.empty(grid.shape, source.dtype)
    aligned = grid.aligned(source)
    value = source.dtype.type(fill)
    if aligned is None:
        in_slabs(lambda start, end: _labels_mixed(source, grid.matrix, grid.offset, value, out, start, end), out.shape[0])
    else:
        turned, taps = aligned
        in_slabs(lambda start, end: _labels_aligned(turned, *taps, value, out, start, end), out.shape[0])
    return out.astype(dtype, copy=False)
