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
from .resample_grid import Grid, check_fill, nearest_of, source_index, split_index
from .resample_labels import resample_labels
from .slabs import in_slabs

__all__ = ["resample_labels", "resample_linear", "resample_nearest"]


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
                at_k = split_index(source_index(matrix, offset, k, j, i, 0), depth)
                at_j = split_index(source_index(matrix, offset, k, j, i, 1), height)
                at_i = split_index(source_index(matrix, offset, k, j, i, 2), length)
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
    check_fill(fill, dtype)
    grid = Grid(matrix, offset, shape)
    work = np.dtype(np.float32) if dtype == np.float16 else dtype  # numba has no float16
    out = np.empty(grid.shape, work)
    aligned = grid.aligned(source)
    value = work.type(fill)
    if aligned is None:
        in_slabs(lambda start, end: _linear_mixed(source, grid.matrix, grid.offset, value, rounds, out, start, end), out.shape[0])
    else:
        turned, taps = aligned
        in_slabs(lambda start, end: _linear_aligned(turned, *taps, value, rounds, out, start, end), out.shape[0])
    return out.astype(dtype, copy=False)


@njit(cache=True, nogil=True)
def _nearest_mixed(image, matrix, offset, fill, out, start, end):  # type: ignore[no-untyped-def]
    depth, height, length = image.shape
    for k in range(start, end):
        for j in range(out.shape[1]):
            line = out[k, j]
            for i in range(line.size):
                at_k = int(np.floor(source_index(matrix, offset, k, j, i, 0) + 0.5))
                at_j = int(np.floor(source_index(matrix, offset, k, j, i, 1) + 0.5))
                at_i = int(np.floor(source_index(matrix, offset, k, j, i, 2) + 0.5))
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
    check_fill(fill, dtype)
    bits = np.dtype(f"u{dtype.itemsize}")
    source = as_labels(np.require(image, dtype, ["C", "A"]).view(bits), "image")
    value = np.array([fill], dtype).view(bits)[0]
    grid = Grid(matrix, offset, shape)
    out = np.empty(grid.shape, bits)
    aligned = grid.aligned(source)
    if aligned is None:
        in_slabs(lambda start, end: _nearest_mixed(source, grid.matrix, grid.offset, value, out, start, end), out.shape[0])
    else:
        turned, taps = aligned
        places = [nearest_of(tap) for tap in taps]
        in_slabs(lambda start, end: _nearest_aligned(turned, *places, value, out, start, end), out.shape[0])
    return out.view(dtype)
