"""Smoothing and gradients: Gaussian, median, gradient magnitude. Outside the array the border voxel is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image, spacing_of
from .median import median
from .slabs import in_slabs

__all__ = ["gaussian", "gradient_magnitude", "median"]


def _half_kernel(sigma: float, truncate: float) -> NDArray[np.float32]:
    """Weights of the centre and of one side; the whole sums to 1."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1, np.float32)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    return np.asarray(weights / (weights[0] + 2 * weights[1:].sum()), np.float32)


@njit(cache=True, nogil=True)
def _weigh(rows, at, kernel, out):  # type: ignore[no-untyped-def]
    """The weighted sum of the rows around row ``at``."""
    row = rows[at]
    for i in range(out.size):
        out[i] = kernel[0] * row[i]
    for n in range(1, kernel.size):
        weight, one, other = kernel[n], rows[at - n], rows[at + n]
        for i in range(out.size):
            out[i] += weight * (one[i] + other[i])


@njit(cache=True, nogil=True)
def _gaussian_planes(image, along_j, along_i, out, start, end):  # type: ignore[no-untyped-def]
    _, height, length = image.shape
    reach_j, reach_i = along_j.size - 1, along_i.size - 1
    rows = np.empty((height + 2 * reach_j, length), np.float32)
    smooth = np.empty(length, np.float32)
    wide = np.empty(length + 2 * reach_i, np.float32)
    for k in range(start, end):
        for j in range(-reach_j, height + reach_j):
            source, row = image[k, min(max(j, 0), height - 1)], rows[j + reach_j]
            for i in range(length):
                row[i] = source[i]
        for j in range(height):
            _weigh(rows, j + reach_j, along_j, smooth)
            for i in range(reach_i):
                wide[i] = smooth[0]
                wide[reach_i + length + i] = smooth[length - 1]
            for i in range(length):
                wide[reach_i + i] = smooth[i]
            line = out[k, j]
            centre = wide[reach_i : reach_i + length]
            for i in range(length):
                line[i] = along_i[0] * centre[i]
            for n in range(1, along_i.size):
                weight = along_i[n]
                one, other = wide[reach_i - n : reach_i - n + length], wide[reach_i + n : reach_i + n + length]
                for i in range(length):
                    line[i] += weight * (one[i] + other[i])


@njit(cache=True, nogil=True)
def _gaussian_across(out, along_k, start, end):  # type: ignore[no-untyped-def]
    """In place: the plane of one j is copied before it is written."""
    depth, _, length = out.shape
    reach = along_k.size - 1
    rows = np.empty((depth + 2 * reach, length), np.float32)
    for j in range(start, end):
        for k in range(-reach, depth + reach):
            source, row = out[min(max(k, 0), depth - 1), j], rows[k + reach]
            for i in range(length):
                row[i] = source[i]
        for k in range(depth):
            _weigh(rows, k + reach, along_k, out[k, j])


def gaussian(image: NDArray[Any], sigma_voxels: Sequence[float], truncate: float = 4.0) -> NDArray[np.float32]:
    """The image smoothed by a Gaussian, as float32.

    ``image`` and ``sigma_voxels`` in the order (k, j, i); 0 leaves an axis as it is. The kernel ends ``truncate``
    deviations from its centre and sums to 1 (scipy.ndimage.gaussian_filter with mode="nearest"). NaN spreads over the
    reach of the kernel.

    >>> gaussian(np.full((2, 2, 2), 3, np.int16), (1, 1, 0)).tolist()
    [[[3.0, 3.0], [3.0, 3.0]], [[3.0, 3.0], [3.0, 3.0]]]
    """
    image = as_image(image)
    sigmas = tuple(float(value) for value in sigma_voxels)
    if len(sigmas) != 3 or not all(np.isfinite(value) and value >= 0 for value in sigmas) or not truncate > 0:
        raise ValueError(f"sigma_voxels is {sigmas}, truncate {truncate}; pass three numbers >= 0 (k, j, i), truncate > 0")
    along_k, along_j, along_i = (_half_kernel(sigma, truncate) for sigma in sigmas)
    out = np.empty(image.shape, np.float32)
    in_slabs(lambda start, end: _gaussian_planes(image, along_j, along_i, out, start, end), image.shape[0])
    if along_k.size > 1:
        in_slabs(lambda start, end: _gaussian_across(out, along_k, start, end), image.shape[1])
    return out


@njit(cache=True, nogil=True)
def _gradient_slab(image, per_mm, out, start, end):  # type: ignore[no-untyped-def]
    depth, height, length = image.shape
    wide = np.empty(length + 2)
    for k in range(start, end):
        for j in range(height):
            line, here = out[k, j], image[k, j]
            back, front = image[max(k - 1, 0), j], image[min(k + 1, depth - 1), j]
            below, above = image[k, max(j - 1, 0)], image[k, min(j + 1, height - 1)]
            wide[0], wide[length + 1] = here[0], here[length - 1]
            left, inner, right = wide[:length], wide[1 : length + 1], wide[2:]
            for i in range(length):
                inner[i] = here[i]
            for i in range(length):
                dk = (np.float64(front[i]) - np.float64(back[i])) * per_mm[0]
                dj = (np.float64(above[i]) - np.float64(below[i])) * per_mm[1]
                di = (right[i] - left[i]) * per_mm[2]
                line[i] = np.sqrt(dk * dk + dj * dj + di * di)


def gradient_magnitude(image: NDArray[Any], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """The length of the gradient in intensity per mm, from central differences, as float32.

    ``image`` and ``spacing_mm`` in the order (k, j, i), axes at right angles. At the border the difference to the
    voxel itself is taken over two steps, as in ITK's GradientMagnitude.

    >>> gradient_magnitude(np.array([[[0, 4, 8]]], np.int16), (1, 1, 2)).tolist()
    [[[1.0, 2.0, 1.0]]]
    """
    image = as_image(image)
    per_mm = tuple(0.5 / spacing for spacing in spacing_of(spacing_mm))
    out = np.empty(image.shape, np.float32)
    in_slabs(lambda start, end: _gradient_slab(image, per_mm, out, start, end), image.shape[0])
    return out
