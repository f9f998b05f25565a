"""The mean of the voxels whose surroundings look alike: non-local means. Outside the array the border voxel is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .bilateral import likeness
from .slabs import in_slabs

_NONE = np.float32(0)


@njit(cache=True, nogil=True)
def _patch_plane(padded, at, shift, patch, squares, sums, out):  # type: ignore[no-untyped-def]
    """Sums of squared differences between the image and its shifted self over the square around each voxel of one plane."""
    height, length = out.shape
    k, j0, i0 = at
    wide = length + 2 * patch
    for j in range(height + 2 * patch):
        first = i0 - patch
        here = padded[k, j0 + j - patch, first : first + wide]
        first += shift[2]
        there = padded[k + shift[0], j0 + j - patch + shift[1], first : first + wide]
        for i in range(wide):
            difference = here[i] - there[i]
            squares[i] = difference * difference
        row = sums[j]
        for i in range(length):
            row[i] = squares[i]
        for step in range(1, 2 * patch + 1):
            part = squares[step : step + length]
            for i in range(length):
                row[i] += part[i]
    for j in range(height):
        line, first_row = out[j], sums[j]
        for i in range(length):
            line[i] = first_row[i]
        for step in range(1, 2 * patch + 1):
            row = sums[j + step]
            for i in range(length):
                line[i] += row[i]


@njit(cache=True, nogil=True)
def _add_shift(padded, reach, shift, way, rules, scratch, result, span):  # type: ignore[no-untyped-def]
    """Add one neighbour of every voxel of the slab; ``rules``: share of a patch, what noise alone makes, 1 / (16 h²)."""
    (patch, squared), (ring, squares, sums), (total, weights), (start, end) = way, scratch, result, span
    _, height, length = total.shape
    share, by_noise, inverse = rules
    side = 2 * patch + 1
    for plane in range(start - patch, end + patch):
        at = (plane + reach[0], reach[1], reach[2])
        _patch_plane(padded, at, shift, patch, squares, sums, ring[(plane + patch) % side])
        k = plane - patch
        if k < start:
            continue
        for j in range(height):
            first = reach[2] + shift[2]
            other = padded[k + reach[0] + shift[0], j + reach[1] + shift[1], first : first + length]
            line, weight_line = total[k - start, j], weights[k - start, j]
            row = sums[0]
            for i in range(length):
                row[i] = 0
            for n in range(side):
                part = ring[n, j]
                for i in range(length):
                    row[i] += part[i]
            for i in range(length):
                unlike = row[i] * share - by_noise
                weight = likeness((unlike if unlike > _NONE else _NONE) * inverse)
                value = other[i]
                if squared:
                    value = value * value
                line[i] += weight * value
                weight_line[i] += weight


@njit(cache=True, nogil=True)
def _means_slab(padded, reach, shifts, way, rules, out, start, end):  # type: ignore[no-untyped-def]
    _, height, length = out.shape
    patch = way[0]
    side = 2 * patch + 1
    ring = np.empty((side, height, length), np.float32)
    squares = np.empty(length + 2 * patch, np.float32)
    sums = np.empty((height + 2 * patch, length), np.float32)
    total = out[start:end]
    weights = np.zeros((end - start, height, length), np.float32)
    for n in range(shifts.shape[0]):
        shift = (shifts[n, 0], shifts[n, 1], shifts[n, 2])
        _add_shift(padded, reach, shift, way, rules, (ring, squares, sums), (total, weights), (start, end))
    for k in range(end - start):
        for j in range(height):
            line, weight_line = total[k, j], weights[k, j]
            for i in range(length):
                line[i] /= weight_line[i]


def non_local_means(
    image: NDArray[Any], shifts: Any, sigma: float, strength: float, patch: int = 1, squared: bool = False
) -> NDArray[np.float32]:
    """Each voxel as a mean of the voxels at ``shifts``, weighted by how alike the cubes around the two are, as float32.

    ``image`` (k, j, i); ``shifts`` [n, 3] in voxels, with (0, 0, 0) among them; the cubes have 2 * patch + 1 voxels a
    side. With D the mean squared difference of two cubes the weight is exp(-max(D - 2 sigma², 0) / (strength sigma)²),
    so cubes that differ by noise alone weigh 1. With ``squared`` the mean of the squares is given. Sums over cubes are
    shared between neighbours: the cost is that of the shifts, not of the cubes (doi:10.1109/ISBI.2008.4541250).

    Memory beyond the image: 4 bytes a voxel for the result, 4 for a padded copy, and 4 in all for weights while slabs run.

    >>> non_local_means(np.full((2, 2, 2), 7, np.int16), [(0, 0, 0), (0, 0, 1)], sigma=1, strength=0.8).ravel().tolist()
    [7.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0]
    """
    source = as_image(image)
    steps = np.ascontiguousarray(shifts, np.int64).reshape(-1, 3)
    if not (steps == 0).all(axis=1).any():
        raise ValueError("the shifts must hold (0, 0, 0), the voxel itself")
    if not (np.isfinite(sigma) and sigma > 0 and np.isfinite(strength) and strength > 0 and patch in (0, 1, 2, 3)):
        raise ValueError(f"sigma is {sigma}, strength {strength}, patch {patch}; pass positive numbers and a patch of 0 to 3")
    reach = _reach(steps, patch)
    padded = np.pad(source.astype(np.float32, copy=False), [(n, n) for n in reach], mode="edge")
    largest = float(np.finfo(np.float32).max)
    rules = (
        np.float32(1 / (2 * patch + 1) ** 3),
        np.float32(min(2 * sigma**2, largest)),
        np.float32(min(1 / (16 * (strength * sigma) ** 2), largest)),
    )
    out = np.zeros(source.shape, np.float32)
    way = (int(patch), bool(squared))
    in_slabs(lambda start, end: _means_slab(padded, reach, steps, way, rules, out, start, end), source.shape[0])
    return out


def _reach(steps: NDArray[np.int64], patch: int) -> Sequence[int]:
    k, j, i = (int(n) + patch for n in np.abs(steps).max(axis=0))
    return k, j, i
