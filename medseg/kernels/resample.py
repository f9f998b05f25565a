"""Values of an image on another grid: linear, nearest, and linear for labels.

A grid is given by ``matrix`` (3, 3) and ``offset`` (3,): index_in = matrix @ index_out + offset, axes (k, j, i).
Points within half a voxel outside the centres of the border voxels take the value of the border, as in ITK; points
farther out take ``fill``. Where every input axis follows one output axis the work is done line by line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image, as_labels
from .slabs import in_slabs

# Input indices are rounded to a 2**30th of a voxel: points on a border are not lost by rounding errors.
_GRAINS = 2.0**30
# Sums of weights closer than this are a tie.
_TIE = 1e-9


class _Grid:
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


def _nearest_of(taps: tuple[Any, Any, Any]) -> NDArray[np.int64]:
    low, high, weight = taps
    return np.asarray(np.where((low >= 0) & (weight >= 0.5), high, low), np.int64)


@njit(cache=True, nogil=True)
def _source(matrix, offset, k, j, i, axis):  # type: ignore[no-untyped-def]
    at = matrix[axis, 0] * k + matrix[axis, 1] * j + matrix[axis, 2] * i + offset[axis]
    return np.rint(at * _GRAINS) / _GRAINS


@njit(cache=True, nogil=True)
def _split(at, length):  # type: ignore[no-untyped-def]
    """Lower and upper index and the weight of the upper one; the lower is -1 outside."""
    if not -0.5 <= at < length - 0.5:
        return -1, -1, 0.0
    at = min(max(at, 0.0), length - 1.0)
    low = int(at)
    return low, min(low + 1, length - 1), at - low


@njit(cache=True, nogil=True)
def _blend(image, k, j, i):  # type: ignore[no-untyped-def]
    (k0, k1, wk), (j0, j1, wj), (i0, i1, wi) = k, j, i
    near_k = (image[k0, j0, i0] * (1 - wi) + image[k0, j0, i1] * wi) * (1 - wj)
    near_k += (image[k0, j1, i0] * (1 - wi) + image[k0, j1, i1] * wi) * wj
    far_k = (image[k1, j0, i0] * (1 - wi) + image[k1, j0, i1] * wi) * (1 - wj)
    far_k += (image[k1, j1, i0] * (1 - wi) + image[k1, j1, i1] * wi) * wj
    return near_k * (1 - wk) + far_k * wk


@njit(cache=True, nogil=True)
def _inner(begins, steps, shape, length):  # type: ignore[no-untyped-def]
    """The part of an output line that certainly lies between voxels of the input on all sides."""
    first, stop = 0, length
    for axis in range(3):
        low, high = 1e-6, shape[axis] - 1 - 1e-6
        if abs(steps[axis]) < 1e-9:
            if not (low + 1e-3 < begins[axis] < high - 1e-3):
                return 0, 0
            continue
        one, other = (low - begins[axis]) / steps[axis], (high - begins[axis]) / steps[axis]
        if one > other:
            one, other = other, one
        if other < 0 or one > length:
            return 0, 0
        first = max(first, int(np.ceil(max(one, 0.0))))
        stop = min(stop, int(np.floor(min(other, length - 1.0))) + 1)
    return first, max(first, stop)


@njit(cache=True, nogil=True)
def _linear_inner(voxels, shape, begins, steps, first, stop, rounds, line):  # type: ignore[no-untyped-def]
    """No border is near: one address for eight voxels; unsigned ones spare the test for negative places."""
    row, plane = shape[2], shape[1] * shape[2]
    begin_k, begin_j, begin_i = begins
    step_k, step_j, step_i = steps
    for i in range(first, stop):
        k, j, m = begin_k + step_k * i, begin_j + step_j * i, begin_i + step_i * i
        k0, j0, m0 = np.int64(k), np.int64(j), np.int64(m)
        wk, wj, wi = k - k0, j - j0, m - m0
        at = np.uint64(k0 * plane + j0 * row + m0)
        up = at + np.uint64(plane)
        side, up_side = at + np.uint64(row), up + np.uint64(row)
        one = np.uint64(1)
        a = voxels[at] + wi * (voxels[at + one] - np.float64(voxels[at]))
        b = voxels[side] + wi * (voxels[side + one] - np.float64(voxels[side]))
        c = voxels[up] + wi * (voxels[up + one] - np.float64(voxels[up]))
        d = voxels[up_side] + wi * (voxels[up_side + one] - np.float64(voxels[up_side]))
        near, far = a + wj * (b - a), c + wj * (d - c)
        value = near + wk * (far - near)
        line[i] = np.rint(value) if rounds else value


@njit(cache=True, nogil=True)
def _linear_mixed(image, matrix, offset, fill, rounds, out, start, end):  # type: ignore[no-untyped-def]
    depth, height, length = image.shape
    voxels = image.reshape(image.size)
    steps = (matrix[0, 2], matrix[1, 2], matrix[2, 2])
    for k in range(start, end):
        for j in range(out.shape[1]):
            line = out[k, j]
            begin_k = matrix[0, 0] * k + matrix[0, 1] * j + offset[0]
            begin_j = matrix[1, 0] * k + matrix[1, 1] * j + offset[1]
            begin_i = matrix[2, 0] * k + matrix[2, 1] * j + offset[2]
            begins = (begin_k, begin_j, begin_i)
            first, stop = _inner(begins, steps, image.shape, line.size)
            _linear_inner(voxels, image.shape, begins, steps, first, stop, rounds, line)
            for n in range(line.size - (stop - first)):
                i = n if n < first else n + stop - first
                line[i] = fill
                at_k = _split(_source(matrix, offset, k, j, i, 0), depth)
                at_j = _split(_source(matrix, offset, k, j, i, 1), height)
                at_i = _split(_source(matrix, offset, k, j, i, 2), length)
                if at_k[0] >= 0 and at_j[0] >= 0 and at_i[0] >= 0:
                    value = _blend(image, at_k, at_j, at_i)
                    line[i] = np.rint(value) if rounds else value


@njit(cache=True, nogil=True)
def _linear_aligned(image, along_k, along_j, along_i, fill, rounds, out, start, end):  # type: ignore[no-untyped-def]
    """Four lines are blended into one, which is then read along i."""
    low, high, weight = along_i
    blended = np.empty(image.shape[2])
    for k in range(start, end):
        k0, k1, wk = along_k[0][k], along_k[1][k], along_k[2][k]
        for j in range(out.shape[1]):
            j0, j1, wj = along_j[0][j], along_j[1][j], along_j[2][j]
            line = out[k, j]
            if k0 < 0 or j0 < 0:
                for i in range(line.size):
                    line[i] = fill
                continue
            a, b, c, d = image[k0, j0], image[k0, j1], image[k1, j0], image[k1, j1]
            wa, wb, wc, wd = (1 - wk) * (1 - wj), (1 - wk) * wj, wk * (1 - wj), wk * wj
            for i in range(blended.size):
                blended[i] = a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd
            for i in range(line.size):
                at = low[i]
                if at < 0:
                    line[i] = fill
                else:
                    value = blended[at] * (1 - weight[i]) + blended[high[i]] * weight[i]
                    line[i] = np.rint(value) if rounds else value


def resample_linear(
    image: NDArray[Any], matrix: NDArray[Any], offset: NDArray[Any], shape: Sequence[int], fill: float = 0.0, as_float: bool = False
) -> NDArray[Any]:
    """The image on another grid by linear interpolation between the eight voxels around each point.

    ``image`` (k, j, i); ``matrix``, ``offset`` and ``fill`` as the module says. The dtype is kept, integers are
    rounded to the nearest (halves to even); with ``as_float`` integers become float32. A NaN voxel makes all points
    between it and its neighbours NaN.

    Raises ValueError where ``fill`` does not fit the dtype of the output.

    >>> resample_linear(np.array([[[0, 10, 20]]], np.int16), np.diag([1, 1, 0.5]), np.zeros(3), (1, 1, 5)).tolist()
    [[[0, 5, 10, 15, 20]]]
    """
    source = as_image(image)
    dtype = np.dtype(np.float32) if as_float and source.dtype.kind != "f" else image.dtype.newbyteorder("=")
    rounds = dtype.kind != "f"
    _check_fill(fill, dtype)
    grid = _Grid(matrix, offset, shape)
    out = np.empty(grid.shape, dtype)
    aligned = grid.aligned(source)
    value = dtype.type(fill)
    if aligned is None:
        in_slabs(lambda start, end: _linear_mixed(source, grid.matrix, grid.offset, value, rounds, out, start, end), out.shape[0])
    else:
        turned, taps = aligned
        in_slabs(lambda start, end: _linear_aligned(turned, *taps, value, rounds, out, start, end), out.shape[0])
    return out


def _check_fill(fill: float, dtype: np.dtype[Any]) -> None:
    if dtype.kind == "f":
        return
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not limits[0] <= fill <= limits[1] or fill != int(fill):
        raise ValueError(f"fill is {fill}, which {dtype} cannot hold; pass a whole number from {limits[0]} to {limits[1]}")


@njit(cache=True, nogil=True)
def _nearest_mixed(image, matrix, offset, fill, out, start, end):  # type: ignore[no-untyped-def]
    depth, height, length = image.shape
    for k in range(start, end):
        for j in range(out.shape[1]):
            line = out[k, j]
            for i in range(line.size):
                at_k = int(np.floor(_source(matrix, offset, k, j, i, 0) + 0.5))
                at_j = int(np.floor(_source(matrix, offset, k, j, i, 1) + 0.5))
                at_i = int(np.floor(_source(matrix, offset, k, j, i, 2) + 0.5))
                if 0 <= at_k < depth and 0 <= at_j < height and 0 <= at_i < length:
                    line[i] = image[at_k, at_j, at_i]
                else:
                    line[i] = fill


@njit(cache=True, nogil=True)
def _nearest_aligned(image, at_k, at_j, at_i, fill, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(out.shape[1]):
            line = out[k, j]
            if at_k[k] < 0 or at_j[j] < 0:
                for i in range(line.size):
                    line[i] = fill
                continue
            source = image[at_k[k], at_j[j]]
            for i in range(line.size):
                line[i] = source[at_i[i]] if at_i[i] >= 0 else fill


def resample_nearest(
    image: NDArray[Any], matrix: NDArray[Any], offset: NDArray[Any], shape: Sequence[int], fill: float = 0
) -> NDArray[Any]:
    """The image on another grid, each point with the value of the nearest voxel (halfway: the higher index).

    Any dtype of 1, 2, 4 or 8 bytes is copied bit for bit; arguments as for `resample_linear`.

    >>> resample_nearest(np.array([[[3, 8]]], np.uint16), np.diag([1, 1, 0.5]), np.zeros(3), (1, 1, 4), fill=1).tolist()
    [[[3, 8, 8, 1]]]
    """
    as_image(image[:1] if isinstance(image, np.ndarray) and image.ndim == 3 else image)  # checks alone, no copy
    dtype = image.dtype.newbyteorder("=")
    _check_fill(fill, dtype)
    bits = np.dtype(f"u{dtype.itemsize}")
    source = as_labels(np.require(image, dtype, ["C", "A"]).view(bits), "image")
    value = np.array([fill], dtype).view(bits)[0]
    grid = _Grid(matrix, offset, shape)
    out = np.empty(grid.shape, bits)
    aligned = grid.aligned(source)
    if aligned is None:
        in_slabs(lambda start, end: _nearest_mixed(source, grid.matrix, grid.offset, value, out, start, end), out.shape[0])
    else:
        turned, taps = aligned
        places = [_nearest_of(tap) for tap in taps]
        in_slabs(lambda start, end: _nearest_aligned(turned, *places, value, out, start, end), out.shape[0])
    return out.view(dtype)


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
                at_k = _split(_source(matrix, offset, k, j, i, 0), depth)
                at_j = _split(_source(matrix, offset, k, j, i, 1), height)
                at_i = _split(_source(matrix, offset, k, j, i, 2), length)
                if at_k[0] < 0 or at_j[0] < 0 or at_i[0] < 0:
                    line[i] = fill
                else:
                    line[i] = _vote(labels, at_k, at_j, at_i)


@njit(cache=True, nogil=True)
def _labels_aligned(labels, along_k, along_j, along_i, fill, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        at_k = along_k[0][k], along_k[1][k], along_k[2][k]
        for j in range(out.shape[1]):
            at_j = along_j[0][j], along_j[1][j], along_j[2][j]
            line = out[k, j]
            for i in range(line.size):
                at_i = along_i[0][i], along_i[1][i], along_i[2][i]
                if at_k[0] < 0 or at_j[0] < 0 or at_i[0] < 0:
                    line[i] = fill
                else:
                    line[i] = _vote(labels, at_k, at_j, at_i)


def resample_labels(labels: NDArray[Any], matrix: NDArray[Any], offset: NDArray[Any], shape: Sequence[int], fill: int = 0) -> NDArray[Any]:
    """Labels on another grid: the label with the largest sum of linear weights among the eight voxels around a point.

    The same as linear interpolation of every label by itself and taking the largest, without the memory for it; a
    label that is not among the eight never appears. Of equal sums the label with the nearest voxel wins, then the
    lower number. Arguments as for `resample_linear`; ``labels`` are integers >= 0 (or bool), the dtype is kept.

    >>> resample_labels(np.array([[[2, 2, 9]]], np.uint8), np.diag([1, 1, 0.4]), np.zeros(3), (1, 1, 6)).tolist()
    [[[2, 2, 2, 2, 9, 9]]]
    """
    source = as_labels(labels)
    dtype = labels.dtype.newbyteorder("=")
    _check_fill(fill, dtype)
    grid = _Grid(matrix, offset, shape)
    out = np.empty(grid.shape, source.dtype)
    aligned = grid.aligned(source)
    value = source.dtype.type(fill)
    if aligned is None:
        in_slabs(lambda start, end: _labels_mixed(source, grid.matrix, grid.offset, value, out, start, end), out.shape[0])
    else:
        turned, taps = aligned
        in_slabs(lambda start, end: _labels_aligned(turned, *taps, value, out, start, end), out.shape[0])
    return out.astype(dtype, copy=False)
