"""A Gaussian mean by four running means one after the other: the cost does not grow with its width.

Extended box filters (doi:10.1007/978-3-642-24785-9_38): each box has a fractional end, so that the variance of the whole is
that of the Gaussian exactly; four of them differ from it by at most 4 % of its peak from 2 voxels on (7 % at 1 voxel).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .slabs import in_slabs

_PASSES = 4


def extended_box(sigma: float) -> tuple[int, float]:
    """Whole voxels on each side, and the weight of the next ones, of the box of which four have the variance of a Gaussian.

    >>> whole, part = extended_box(3.0)
    >>> whole, round(part, 4)
    (2, 0.0926)
    """
    variance = sigma * sigma / _PASSES
    whole = int(0.5 * math.sqrt(12 * variance + 1) - 0.5)
    return whole, (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))


@njit(cache=True, nogil=True)
def _box_rows(rows, whole, part, out):  # type: ignore[no-untyped-def]
    """One box along the first axis; beyond the ends there is nothing."""
    count, length = rows.shape
    scale = 1.0 / (2 * whole + 1 + 2 * part)
    total = np.zeros(length)
    for n in range(min(whole, count)):
        for i in range(length):
            total[i] += rows[n, i]
    for n in range(count):
        line = out[n]
        if n + whole < count:
            for i in range(length):
                total[i] += rows[n + whole, i]
        if n - whole - 1 >= 0:
            for i in range(length):
                total[i] -= rows[n - whole - 1, i]
        for i in range(length):
            line[i] = total[i] * scale
        if part > 0:
            if n + whole + 1 < count:
                for i in range(length):
                    line[i] += part * scale * rows[n + whole + 1, i]
            if n - whole - 1 >= 0:
                for i in range(length):
                    line[i] += part * scale * rows[n - whole - 1, i]


@njit(cache=True, nogil=True)
def _boxes(one, other, whole, part):  # type: ignore[no-untyped-def]
    """Four boxes; the result lies in ``one``."""
    _box_rows(one, whole, part, other)
    _box_rows(other, whole, part, one)
    _box_rows(one, whole, part, other)
    _box_rows(other, whole, part, one)


@njit(cache=True, nogil=True)
def _planes(image, centre, along_j, along_i, out, start, end):  # type: ignore[no-untyped-def]
    _, height, length = image.shape
    one, other = np.empty((height, length)), np.empty((height, length))
    turned, smooth = np.empty((length, height)), np.empty((length, height))
    for k in range(start, end):
        for j in range(height):
            for i in range(length):
                value = np.float64(image[k, j, i]) - centre
                one[j, i] = value if np.isfinite(value) else 0.0
        _boxes(one, other, int(along_j[0]), along_j[1])
        for j in range(height):
            for i in range(length):
                turned[i, j] = one[j, i]
        _boxes(turned, smooth, int(along_i[0]), along_i[1])
        for j in range(height):
            for i in range(length):
                out[k, j, i] = turned[i, j]


@njit(cache=True, nogil=True)
def _through(out, along_k, start, end):  # type: ignore[no-untyped-def]
    """In place: the plane of one j is copied before it is written."""
    depth, _, length = out.shape
    one, other = np.empty((depth, length)), np.empty((depth, length))
    for j in range(start, end):
        for k in range(depth):
            for i in range(length):
                one[k, i] = out[k, j, i]
        _boxes(one, other, int(along_k[0]), along_k[1])
        for k in range(depth):
            for i in range(length):
                out[k, j, i] = one[k, i]


def _smooth(image: NDArray[Any], centre: float, boxes: NDArray[np.float64]) -> NDArray[np.float32]:
    out = np.empty(image.shape, np.float32)
    in_slabs(lambda start, end: _planes(image, centre, boxes[1], boxes[2], out, start, end), image.shape[0])
    in_slabs(lambda start, end: _through(out, boxes[0], start, end), image.shape[1])
    return out


def _weights(count: int, box: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the boxes leave of 1 along one axis: less near the ends."""
    line = np.ones((count, 1))
    _boxes(line, np.empty((count, 1)), int(box[0]), float(box[1]))
    return line[:, 0]


def gaussian_mean(image: NDArray[Any], sigma_voxels: Sequence[float]) -> NDArray[np.float32]:
    """The mean around each voxel with Gaussian weights, as float32; what is not finite or lies outside does not count.

    ``image`` and ``sigma_voxels`` in the order (k, j, i); 0 leaves an axis as it is. NaN where no finite voxel is in reach.
    Memory: the result, 4 bytes per voxel, and planes; 8 bytes per voxel where some voxels are not finite.

    >>> gaussian_mean(np.full((2, 2, 3), 7, np.int16), (1, 1, 2)).ravel()[:2].tolist()
    [7.0, 7.0]
    """
    image = as_image(image)
    sigmas = [float(value) for value in sigma_voxels]
    if len(sigmas) != 3 or not all(math.isfinite(value) and value >= 0 for value in sigmas):
        raise ValueError(f"sigma_voxels is {tuple(sigmas)}; pass three numbers >= 0 in the order (k, j, i)")
    boxes = np.array([extended_box(value) for value in sigmas])
    middle = image[image.shape[0] // 2].astype(np.float64)
    middle = middle[np.isfinite(middle)]
    centre = float(np.rint(middle.mean())) if middle.size else 0.0
    out = _smooth(image, centre, boxes)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        weight = _smooth(np.isfinite(image).view(np.uint8), 0.0, boxes)
        out /= np.where(weight > 1e-6, weight, np.float32(np.nan))
    else:
        along_k, along_j, along_i = (_weights(n, box).astype(np.float32) for n, box in zip(image.shape, boxes, strict=True))
        out /= along_i
        out /= along_j[:, None]
        out /= along_k[:, None, None]
    out += np.float32(centre)
    return out
