"""Where the voxels of one grid lie among those of another, for the kernels that resample.

A grid is given by ``matrix`` (3, 3) and ``offset`` (3,): index_in = matrix @ index_out + offset, axes (k, j, i). Points
within half a voxel outside the centres of the border voxels count as on the border, as in ITK.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Input indices are rounded to a 2**30th of a voxel: points on a border are not lost by rounding errors.
_GRAINS = 2.0**30


class Grid:
    """Where the voxels of the output lie in the input."""

    def __init__(self, matrix: Any, offset: Any, shape: Sequence[int]) -> None:
        self.matrix = np.ascontiguousarray(matrix, np.float64)
        self.offset = np.ascontiguousarray(offset, np.float64)
        self.shape = tuple(int(length) for length in shape)
        if self.matrix.shape != (3, 3) or self.offset.shape != (3,):
            raise ValueError(f"matrix has shape {self.matrix.shape} and offset {self.offset.shape}; pass (3, 3) and (3,)")
        if not (np.isfinite(self.matrix).all() and np.isfinite(self.offset).all()):
            raise ValueError("matrix or offset holds NaN or infinity; pass finite numbers")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape is {self.shape}; pass three positive numbers of voxels (k, j, i)")

    def aligned(self, image: NDArray[Any]) -> tuple[NDArray[Any], list[Any]] | None:
        """The image with its axes in the order of the output's, and the taps along each; None where axes are mixed."""
        held = self.matrix != 0
        if (held.sum(axis=0) != 1).any() or (held.sum(axis=1) != 1).any():
            return None
        follows = [int(column.argmax()) for column in held.T]  # the input axis of each output axis
        if follows != [0, 1, 2]:
            image = np.ascontiguousarray(image.transpose(follows))
            image.flags.writeable = False
        return image, [self._taps(axis, n, image.shape[n]) for n, axis in enumerate(follows)]

    def _taps(self, axis: int, follows: int, length: int) -> tuple[Any, Any, Any]:
        """Lower and upper input index and the weight of the upper one; the lower is -1 outside."""
        at = self.matrix[axis, follows] * np.arange(self.shape[follows]) + self.offset[axis]
        at = np.rint(at * _GRAINS) / _GRAINS
        outside = (at < -0.5) | (at >= length - 0.5)
        at = np.clip(at, 0, length - 1)
        low = np.floor(at).astype(np.int64)
        high = np.minimum(low + 1, length - 1)
        weight = at - low
        low[outside] = -1
        return low, high, weight


def nearest_of(taps: tuple[Any, Any, Any]) -> NDArray[np.int64]:
    """The nearest input index of each output index, -1 outside."""
    low, high, weight = taps
    return np.asarray(np.where((low >= 0) & (weight >= 0.5), high, low), np.int64)


@njit(cache=True, nogil=True)
def source_index(matrix, offset, k, j, i, axis):  # type: ignore[no-untyped-def]
    """The input index of an output voxel along one axis."""
    at = matrix[axis, 0] * k + matrix[axis, 1] * j + matrix[axis, 2] * i + offset[axis]
    return np.rint(at * _GRAINS) / _GRAINS


@njit(cache=True, nogil=True)
def split_index(at, length):  # type: ignore[no-untyped-def]
    """Lower and upper index and the weight of the upper one; the lower is -1 outside."""
    if not -0.5 <= at < length - 0.5:
        return -1, -1, 0.0
    at = min(max(at, 0.0), length - 1.0)
    low = int(at)
    return low, min(low + 1, length - 1), at - low


def check_fill(fill: float, dtype: np.dtype[Any]) -> None:
    """Raise unless the dtype of the output can hold what is written outside the input."""
    if dtype.kind == "f":
        return
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not limits[0] <= fill <= limits[1] or fill != int(fill):
        raise ValueError(f"fill is {fill}, which {dtype} cannot hold; pass a whole number from {limits[0]} to {limits[1]}")
