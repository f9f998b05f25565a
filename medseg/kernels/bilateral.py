"""The mean of the neighbours that are alike: the bilateral filter. Outside the array the border voxel is repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .slabs import in_slabs

_ONE, _HALF = np.float32(1), np.float32(0.5)
_SIXTH, _TWENTY_FOURTH = np.float32(1 / 6), np.float32(1 / 24)


@njit(cache=True, nogil=True)
def likeness(x):  # type: ignore[no-untyped-def]
    """exp(-16 x) for x >= 0 in float32, off by less than 3e-6; no call, so that a line becomes vector instructions."""
    power = _ONE + x * (_ONE + x * (_HALF + x * (_SIXTH + x * _TWENTY_FOURTH)))
    power *= power
    power *= power
    power *= power
    power *= power
    return _ONE / power


@njit(cache=True, nogil=True)
def _bilateral_slab(padded, reach, offsets, weights, inverse, out, start, end):  # type: ignore[no-untyped-def]
    _, height, length = out.shape
    moved, total = np.empty(length, np.float32), np.empty(length, np.float32)
    for k in range(start, end):
        for j in range(height):
            centre = padded[k + reach[0], j + reach[1], reach[2] : reach[2] + length]
            for i in range(length):
                moved[i] = 0
                total[i] = 0
            for n in range(weights.size):
                first = reach[2] + offsets[n, 2]
                other = padded[k + reach[0] + offsets[n, 0], j + reach[1] + offsets[n, 1], first : first + length]
                weight = weights[n]
                for i in range(length):
                    difference = other[i] - centre[i]
                    alike = weight * likeness(difference * difference * inverse)
                    moved[i] += alike * difference
                    total[i] += alike
            line = out[k, j]
            for i in range(length):
                line[i] = centre[i] + moved[i] / total[i]


def bilateral(image: NDArray[Any], offsets: Any, weights: Any, sigma_intensity: float) -> NDArray[np.float32]:
    """Each voxel as a mean of its neighbours, weighted by place and by likeness exp(-d² / (2 sigma²)), as float32.

    ``image`` (k, j, i); ``offsets`` [n, 3] in voxels (k, j, i) with ``weights`` [n] for the place; the voxel itself,
    offset 0, must be among them. Memory beyond the image: 4 bytes a voxel for the result, 4 for a padded copy.

    >>> bilateral(np.array([[[0, 2, 90]]], np.int16), [(0, 0, 0), (0, 0, -1)], [1, 1], 10).round(1).tolist()
    [[[0.0, 1.0, 90.0]]]
    """
    source = as_image(image)
    steps = np.ascontiguousarray(offsets, np.int64).reshape(-1, 3)
    shares = np.ascontiguousarray(weights, np.float32)
    if len(steps) != len(shares) or not (steps == 0).all(axis=1).any():
        raise ValueError(f"{len(steps)} offsets and {len(shares)} weights; pass one weight each, and offset (0, 0, 0) among them")
    if not (np.isfinite(sigma_intensity) and sigma_intensity > 0):
        raise ValueError(f"sigma_intensity is {sigma_intensity}; pass a positive number")
    reach = tuple(int(n) for n in np.abs(steps).max(axis=0))
    padded = np.pad(source.astype(np.float32, copy=False), [(n, n) for n in reach], mode="edge")
    inverse = np.float32(min(1 / (32 * sigma_intensity**2), float(np.finfo(np.float32).max)))
    out = np.empty(source.shape, np.float32)
    in_slabs(lambda start, end: _bilateral_slab(padded, reach, steps, shares, inverse, out, start, end), source.shape[0])
    return out
