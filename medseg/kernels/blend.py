"""Sums of weighted patches in half precision: products and sums in float32, stored in half after each patch.

That is what torch does for ``half += float`` (and so nnU-Net); here it is one pass over the voxels. Sums are uint16
arrays that hold the bits of halves, (channels, K, J, I), C-contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .half import OVERFLOW, narrow, rounded, wide
from .slabs import in_slabs


@njit(cache=True, nogil=True)
def _add(total, patch, weights, place, start, end):  # type: ignore[no-untyped-def]
    k0, j0, i0 = place
    depth, height, length = weights.shape
    for c in range(start, end):
        for k in range(depth):
            for j in range(height):
                line = total[c, k0 + k, j0 + j, i0 : i0 + length]
                values, weight = patch[c, k, j], weights[k, j]
                for i in range(length):
                    line[i] = narrow(wide(line[i]) + values[i] * weight[i])


def add_weighted(total: NDArray[np.uint16], patch: NDArray[np.float32], weights: NDArray[np.float32], place: Sequence[int]) -> None:
    """Add ``patch`` (C,k,j,i) times ``weights`` (k,j,i) to ``total`` (C,K,J,I) in place, the patch's first voxel at ``place``.

    >>> total = np.zeros((1, 1, 1, 2), np.uint16)
    >>> add_weighted(total, np.full((1, 1, 1, 2), 3, np.float32), np.array([[[0.5, 1.0]]], np.float32), (0, 0, 0))
    >>> total.view(np.float16).tolist()
    [[[[1.5, 3.0]]]]
    """
    at = (int(place[0]), int(place[1]), int(place[2]))
    in_slabs(lambda start, end: _add(total, patch, weights, at, start, end), len(total))


@njit(cache=True, nogil=True, error_model="numpy")
def _divide(total, count, place, mean, is_first, start, end):  # type: ignore[no-untyped-def]
    k0, j0, i0 = place
    _, depth, height, length = mean.shape
    most = np.float32(0)
    for c in range(start, end):
        for k in range(depth):
            for j in range(height):
                line, counts = total[c, k0 + k, j0 + j, i0 : i0 + length], count[k0 + k, j0 + j, i0 : i0 + length]
                out = mean[c, k, j]
                for i in range(length):
                    value = rounded(wide(line[i]) / wide(counts[i]))
                    out[i] = value if is_first else rounded(out[i] + value)
                    most = max(most, abs(wide(line[i])))
    return most


@njit(cache=True, nogil=True)
def _scale(mean, folds, start, end):  # type: ignore[no-untyped-def]
    divisor = np.float32(folds)
    for c in range(start, end):
        flat = mean[c].reshape(mean[c].size)
        for n in range(flat.size):
            flat[n] = rounded(flat[n] / divisor)


def mean_of_sums(
    totals: Sequence[NDArray[np.uint16]], count: NDArray[np.uint16], place: Sequence[int], shape: Sequence[int]
) -> tuple[NDArray[np.float32], bool]:
    """Return the mean over ``totals`` (one per fold) of total ÷ ``count`` in a box, each step rounded to half, as float32.

    The box of ``shape`` begins at ``place``. The second value is True where a sum went beyond what half can hold.
    """
    mean = np.empty((len(totals[0]), *(int(n) for n in shape)), np.float32)
    at = (int(place[0]), int(place[1]), int(place[2]))
    most = 0.0
    for number, total in enumerate(totals):
        found = in_slabs(partial(_divide, total, count, at, mean, number == 0), len(mean))
        most = max(most, *map(float, found))
    if len(totals) > 1:
        in_slabs(lambda start, end: _scale(mean, len(totals), start, end), len(mean))
    return mean, most >= OVERFLOW
