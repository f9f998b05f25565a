"""Erosion by a box of voxels: where a whole neighbourhood is inside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_mask
from .slabs import in_slabs


@njit(cache=True, nogil=True)
def _along_i(mask, radius, out, start, end):  # type: ignore[no-untyped-def]
    """A voxel stays where the voxels up to ``radius`` away on its line are inside; what lies beyond the line counts as inside."""
    length = mask.shape[2]
    for k in range(start, end):
        for j in range(mask.shape[1]):
            source, line = mask[k, j], out[k, j]
            since = radius
            for i in range(length + radius):
                since = since + 1 if i >= length or source[i] != 0 else 0
                if i >= radius:
                    line[i - radius] = since > 2 * radius


@njit(cache=True, nogil=True)
def _across(mask, axis, radius, out, start, end):  # type: ignore[no-untyped-def]
    """The same along j (axis 1) or k (axis 0): the least of the lines up to ``radius`` away."""
    depth, height, length = mask.shape
    for k in range(start, end):
        for j in range(height):
            line = out[k, j]
            line[:] = 1
            at, count = (j, height) if axis == 1 else (k, depth)
            for n in range(max(at - radius, 0), min(at + radius + 1, count)):
                other = mask[k, n] if axis == 1 else mask[n, j]
                for i in range(length):
                    line[i] &= other[i]


def erode_box(mask: NDArray[Any], radius_voxels: Sequence[int]) -> NDArray[np.uint8]:
    """The voxels whose neighbours up to ``radius_voxels`` (k, j, i) away along each axis are all inside (uint8).

    ``mask`` uint8 or bool (k, j, i); what lies beyond the array does not count. 2 bytes a voxel.

    >>> erode_box(np.array([[[1, 1, 1, 1, 0, 1]]], np.uint8), (0, 0, 1)).tolist()
    [[[1, 1, 1, 0, 0, 0]]]
    """
    inside = (as_mask(mask) != 0).view(np.uint8)
    if len(radius_voxels) != 3 or any(radius < 0 for radius in radius_voxels):
        raise ValueError(f"radius_voxels is {tuple(radius_voxels)}; pass three whole numbers >= 0 in the order (k, j, i)")
    radii = [min(int(radius), length) for radius, length in zip(radius_voxels, inside.shape, strict=True)]
    other = np.empty(inside.shape, np.uint8)
    if radii[2]:
        in_slabs(lambda start, end: _along_i(inside, radii[2], other, start, end), inside.shape[0])
        inside, other = other, inside
    for axis in (1, 0):
        if radii[axis]:
            in_slabs(partial(_across, inside, axis, radii[axis], other), inside.shape[0])
            inside, other = other, inside
    return np.asarray(inside, np.uint8)
