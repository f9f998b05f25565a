"""Values of an image on another grid: linear, nearest, and linear for labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image, as_labels
from .slabs import in_slabs

# Input indices are rounded to this part of a voxel, so that points on a border are not lost by rounding errors.
_GRAIN = 2.0**-30


class _Grid:
    """Where the voxels of the output lie in the input: index_in = matrix @ index_out + offset, axes (k, j, i)."""

    def __init__(self, matrix: Any, offset: Any, shape: Sequence[int]) -> None:
        self.matrix = np.ascontiguousarray(matrix, np.float64)
        self.offset = np.ascontiguousarray(offset, np.float64)
        self.shape = tuple(int(length) for length in shape)
        if self.matrix.shape != (3, 3) or self.offset.shape != (3,):
            raise ValueError(
                f"matrix has shape {self.matrix.shape} and offset {self.offset.shape}; pass (3, 3) and (3,), axes (k, j, i)"
            )
        if not (np.isfinite(self.matrix).all() and np.isfinite(self.offset).all()):
            raise ValueError("matrix or offset holds NaN or infinity; pass finite numbers")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape is {self.shape}; pass three positive numbers of voxels (k, j, i)")

    def order(self) -> tuple[int, int, int] | None:
        """The output axis that each input axis follows, or None where axes are mixed."""
        held = self.matrix != 0
        if (held.sum(axis=0) != 1).any() or (held.sum(axis=1) != 1).any():
            return None
        k, j, i = (int(row.argmax()) for row in held)
        return k, j, i

    def taps(self, axis: int, follows: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Lower and upper input index along an input axis and the weight of the upper; -1 outside."""
        at = self.matrix[axis, follows] * np.arange(self.shape[follows]) + self.offset[axis]
        at = np.round(at / _GRAIN) * _GRAIN
        outside = (at < -0.5) | (at >= length - 0.5)
        at = np.clip(at, 0, length - 1)
        low = np.minimum(np.floor(at).astype(np.int64), max(length - 2, 0))
        high = np.minimum(low + 1, length - 1)
        low[outside] = -1
        return low, high, at - low


@njit(cache=True, nogil=True)
def _inside(at, length):  # type: ignore[no-untyped-def]
    return -0.5 <= at < length - 0.5


@njit(cache=True, nogil=True)
def _linear_at(image, k, j, i):  # type: ignore[no-untyped-def]
    """Linear interpolation; within half a voxel outside the centres of the border the value of the border counts."""
    depth, height, length = image.shape
    k, j, i = min(max(k, 0.0), depth - 1.0), min(max(j, 0.0), height - 1.0), min(max(i, 0.0), length - 1.0)
    k0, j0, i0 = int(k), int(j), int(i)
    k1, j1, i1 = min(k0 + 1, depth - 1), min(j0 + 1, height - 1), min(i0 + 1, length - 1)
    wk, wj, wi = k - k0, j - j0, i - i0
    near_k = (image[k0, j0, i0] * (1 - wi) + image[k0, j0, i1] * wi) * (1 - wj)
    near_k += (image[k0, j1, i0] * (1 - wi) + image[k0, j1, i1] * wi) * wj
    far_k = (image[k1, j0, i0] * (1 - wi) + image[k1, j0, i1] * wi) * (1 - wj)
    far_k += (image[k1, j1, i0] * (1 - wi) + image[k1, j1, i1] * wi) * wj
    return near_k * (1 - wk) + far_k * wk


@njit(cache=True, nogil=True)
def _linear_slab(image, matrix, offset, fill, out, start, end):  # type: ignore[no-untyped-def]
    depth, height, length = image.shape
    for k in range(start, end):
        for j in range(out.shape[1]):
            line = out[k, j]
            for i in range(line.size):
                k_in = np.round((matrix[0, 0] * k + matrix[0, 1] * j + matrix[0, 2] * i + offset[0]) * 2.0**30) * 2.0**-30
                j_in = np.round((matrix[1, 0] * k + matrix[1, 1] * j + matrix[1, 2] * i + offset[1]) * 2.0**30) * 2.0**-30
                i_in = np.round((matrix[2, 0] * k + matrix[2, 1] * j + matrix[2, 2] * i + offset[2]) * 2.0**30) * 2.0**-30
                if _inside(k_in, depth) and _inside(j_in, height) and _inside(i_in, length):
                    line[i] = _linear_at(image, k_in, j_in, i_in)
                else:
                    line[i] = fill
