"""How often each of the 256 configurations of 2 x 2 x 2 voxels occurs along the border of every label, in one pass.

The surface of a mask by marching cubes, its area and the exposed voxel faces follow from these counts alone, whatever
the affine (`kernels.marching_cubes`).
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_labels
from .cells import mark_mixed
from .label_table import grown_hash, place_of
from .slabs import SLABS, in_slabs

_MOST_CELLS = 1 << 31  # in a slab: its counts are of 32 bits


@njit(cache=True, nogil=True)
def _wider(table, inner, order):  # type: ignore[no-untyped-def]
    rows = table.shape[0]
    more, more_inner, more_order = np.zeros((2 * rows, 256), np.uint32), np.zeros(2 * rows, np.int64), np.zeros(2 * rows, np.uint64)
    for n in range(rows):  # loops: assigning a slice takes numba seconds to compile
        more_inner[n], more_order[n] = inner[n], order[n]
        for column in range(256):
            more[n, column] = table[n, column]
    return more, more_inner, more_order


@njit(cache=True, nogil=True)
def _with_label(keys, slots, table, inner, order, used, label):  # type: ignore[no-untyped-def]
    """The tables with a row for a new label, the one of number ``used``."""
    if used == table.shape[0]:
        table, inner, order = _wider(table, inner, order)
    if 4 * used > keys.size:
        keys, slots = grown_hash(keys, slots)
    at = place_of(keys, slots, label)
    keys[at], slots[at] = label, used
    order[used] = label
    return keys, slots, table, inner, order


@njit(cache=True, nogil=True, inline="always")
def _corners(lines, cell, length, none):  # type: ignore[no-untyped-def]
    """The eight voxels of a cell in the order of the bits; outside the line they are background."""
    a, b, c, d = lines
    if cell == 0:
        return none, a[0], none, b[0], none, c[0], none, d[0]
    if cell == length:
        return a[cell - 1], none, b[cell - 1], none, c[cell - 1], none, d[cell - 1], none
    return a[cell - 1], a[cell], b[cell - 1], b[cell], c[cell - 1], c[cell], d[cell - 1], d[cell]


@njit(cache=True, nogil=True, inline="always")
def _equal(cell, value):  # type: ignore[no-untyped-def]
    """The corners of a cell that have the value, as bits."""
    a0, a1, b0, b1, c0, c1, d0, d1 = cell
    return (
        np.int64(a0 == value)
        | np.int64(a1 == value) << 1
        | np.int64(b0 == value) << 2
        | np.int64(b1 == value) << 3
        | np.int64(c0 == value) << 4
        | np.int64(c1 == value) << 5
        | np.int64(d0 == value) << 6
        | np.int64(d1 == value) << 7
    )


@njit(cache=True, nogil=True)
def _slab(labels, empty, start, end):  # type: ignore[no-untyped-def]
    """Counts of the cells whose upper plane is k, for k from start to end; the plane after the last one is empty."""
    keys, slots = np.zeros(1024, np.uint64), np.full(1024, -1, np.int64)
    table, inner, order = np.zeros((64, 256), np.uint32), np.zeros(64, np.int64), np.zeros(64, np.uint64)
    used, recent, recent_row = 0, np.uint64(0), -1
    depth, height, length = labels.shape
    mixed = np.zeros((length + 8) // 8 * 8, np.uint8)  # cells -1 to length - 1, filled up with zeros
    words = mixed.view(np.uint64)
    none = empty[0]
    for k in range(start, end):
        for j in range(height + 1):
            lines = (
                labels[k - 1, j - 1] if k > 0 and j > 0 else empty,
                labels[k - 1, j] if k > 0 and j < height else empty,
                labels[k, j - 1] if k < depth and j > 0 else empty,
                labels[k, j] if k < depth and j < height else empty,
            )
            mark_mixed(lines, mixed)
            cell = 0
            while cell <= length:
                if mixed[cell] == 0:
                    begin = cell  # cells of one value that touch share their voxels: one label
                    cell += 1
                    while cell <= length and mixed[cell] == 0:
                        cell += 1
                        while cell % 8 == 0 and cell + 8 <= length and words[cell // 8] == 0:
                            cell += 8
                    label = np.uint64(lines[0][begin]) if begin < length else np.uint64(0)
                    if label != 0:
                        at = place_of(keys, slots, label)
                        if slots[at] >= 0:  # it is: the mixed cell before this run holds the label
                            inner[slots[at]] += cell - begin
                    continue
                corners = _corners(lines, cell, length, none)
                value = max(corners)
                rest = np.int64(255)
                while value != 0:  # from the greatest down: mostly there is one label, or two
                    bits = _equal(corners, value)
                    rest &= ~bits
                    label = np.uint64(value)
                    if label != recent:
                        at = place_of(keys, slots, label)
                        if slots[at] < 0:
                            keys, slots, table, inner, order = _with_label(keys, slots, table, inner, order, used, label)
                            at = place_of(keys, slots, label)
                            used += 1
                        recent, recent_row = label, slots[at]
                    table[recent_row, bits] += 1
                    value = none
                    if rest != 0:
                        for n in range(8):
                            if (rest >> n) & 1:
                                value = max(value, corners[n])
                cell += 1
    return order[:used], table[:used], inner[:used]


def label_configurations(labels: NDArray[Any], numbers: NDArray[Any]) -> NDArray[np.int64]:
    """The cells of each configuration at every label of ``numbers``: [len(numbers), 256], in one pass.

    ``labels`` (k, j, i) holds integers >= 0; ``numbers`` are labels in rising order (`LabelStatistics.numbers`), each
    counted as if all others were background. Bit n of a configuration is corner (dk, dj, di) = (n >> 2, n >> 1 & 1,
    n & 1). What lies outside the array is background, so cells reach one voxel beyond every face of it. Column 255 holds
    the cells inside a label; column 0 (cells without it) is not counted and stays 0.

    >>> counts = label_configurations(np.array([[[5]]], np.uint8), np.array([5]))
    >>> np.flatnonzero(counts[0]).tolist(), int(counts.sum())
    ([1, 2, 4, 8, 16, 32, 64, 128], 8)
    """
    labels = as_labels(labels)
    numbers = np.asarray(numbers).astype(np.uint64)
    if numbers.ndim != 1 or (numbers[1:] <= numbers[:-1]).any():
        raise ValueError("numbers are labels in rising order, each once: pass LabelStatistics.numbers")
    counts = np.zeros((len(numbers), 256), np.int64)
    depth, height, length = labels.shape
    empty = np.zeros(length, labels.dtype)
    empty.flags.writeable = False
    merging = Lock()

    def work(start: int, end: int) -> None:
        found, table, inner = _slab(labels, empty, start, end)
        rows = np.searchsorted(numbers, found)
        wanted = rows < len(numbers)
        wanted[wanted] = numbers[rows[wanted]] == found[wanted]
        with merging:  # sums of integers: the order of the slabs does not matter
            if wanted.all():
                counts[rows] += table
                counts[rows, 255] += inner
            else:
                counts[rows[wanted]] += table[wanted]
                counts[rows[wanted], 255] += inner[wanted]

    in_slabs(work, depth + 1, max(SLABS, (depth + 1) * (height + 1) * (length + 1) // _MOST_CELLS + 1))
    return counts
