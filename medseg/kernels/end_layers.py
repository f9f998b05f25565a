"""How many voxels of each label lie in the outermost layers of its box, along every axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_labels
from .slabs import in_slabs


@njit(cache=True, nogil=True)
def _count(labels, number, first, last):  # type: ignore[no-untyped-def]
    """Voxels of a label in a box, both corners included."""
    found = 0
    for k in range(first[0], last[0] + 1):
        for j in range(first[1], last[1] + 1):
            for i in range(first[2], last[2] + 1):
                if labels[k, j, i] == number:
                    found += 1
    return found


@njit(cache=True, nogil=True)
def _end_layers(labels, numbers, first, last, out):  # type: ignore[no-untyped-def]
    for n in range(numbers.size):
        for axis in range(3):
            for side in range(2):
                for step in range(3):
                    low, high = first[n].copy(), last[n].copy()
                    at = first[n, axis] + step if side == 0 else last[n, axis] - step
                    if first[n, axis] <= at <= last[n, axis]:
                        low[axis] = high[axis] = at
                        out[n, axis, side, step] = _count(labels, numbers[n], low, high)


def end_layers(labels: NDArray[Any], numbers: NDArray[Any], first: NDArray[Any], last: NDArray[Any]) -> NDArray[np.int64]:
    """The voxels of each label in the first three layers of its box from every side: [label, axis k j i, side, layer].

    ``first`` and ``last`` [label, 3] are the corners of the boxes, both inside (`LabelStatistics`). A layer that the box
    does not have counts 0.

    >>> rod = np.array([[[1]], [[1]], [[0]]], np.uint8)
    >>> end_layers(rod, np.array([1]), np.array([[0, 0, 0]]), np.array([[1, 0, 0]]))[0].tolist()
    [[[1, 1, 0], [1, 1, 0]], [[2, 0, 0], [2, 0, 0]], [[2, 0, 0], [2, 0, 0]]]
    """
    labels = as_labels(labels)
    out = np.zeros((len(numbers), 3, 2, 3), np.int64)
    wanted, low, high = np.asarray(numbers).astype(labels.dtype), np.asarray(first, np.int64), np.asarray(last, np.int64)
    if len(wanted):
        in_slabs(lambda a, b: _end_layers(labels, wanted[a:b], low[a:b], high[a:b], out[a:b]), len(wanted))
    return out
