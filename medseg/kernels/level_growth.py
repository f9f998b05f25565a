"""A region that grows from one voxel over falling levels, with what its border looks like at each level."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import same_shape

LEVELS = 64


class Growth(NamedTuple):
    """What a region was at each of the levels.

    `joined` (k, j, i): the level at which a voxel came in (255: never). For each level: `voxels`, `centre` (L, 3) in voxels
    (k, j, i), `border` the mean gradient under the voxels that touch the outside, and `at_edge`, whether it has reached a
    face of the array, where it stops.
    """

    joined: NDArray[np.uint8]
    voxels: NDArray[np.int64]
    centre: NDArray[np.float64]
    border: NDArray[np.float64]
    at_edge: NDArray[np.bool_]


@njit(cache=True, nogil=True)
def _place(depth, height, length, k, j, i, side):  # type: ignore[no-untyped-def]
    """The neighbour across one of the six faces, or -1 outside."""
    step = 1 if side % 2 else -1
    if side < 2:
        k += step
    elif side < 4:
        j += step
    else:
        i += step
    if k < 0 or j < 0 or i < 0 or k >= depth or j >= height or i >= length:
        return -1
    return (k * height + j) * length + i


@njit(cache=True, nogil=True)
def _grow(keys, gradient, start, joined, voxels, centre, border, at_edge):  # type: ignore[no-untyped-def]
    depth, height, length = keys.shape
    level_of, strength, came = keys.ravel(), gradient.ravel(), joined.ravel()
    following = np.empty(level_of.size, np.int64)
    head = np.full(LEVELS, -1)
    open_sides = np.zeros(level_of.size, np.uint8)
    waiting = np.zeros(level_of.size, np.uint8)
    head[0] = start
    following[start] = -1
    waiting[start] = 1
    count, sums, total, touching = 0, np.zeros(3), 0.0, 0
    for level in range(LEVELS):
        while head[level] >= 0:
            here = head[level]
            head[level] = following[here]
            came[here] = level
            k = here // (height * length)
            j = (here - k * height * length) // length
            i = here - (k * height + j) * length
            count += 1
            sums[0] += k
            sums[1] += j
            sums[2] += i
            for side in range(6):
                there = _place(depth, height, length, k, j, i, side)
                if there < 0:
                    at_edge[level:] = True
                    return
                elif came[there] != 255:
                    open_sides[there] -= 1
                    if open_sides[there] == 0:
                        total -= strength[there]
                        touching -= 1
                else:
                    open_sides[here] += 1
                    if not waiting[there] and level_of[there] != 255:
                        waiting[there] = 1
                        into = max(int(level_of[there]), level)
                        following[there] = head[into]
                        head[into] = there
            if open_sides[here]:
                total += strength[here]
                touching += 1
        voxels[level] = count
        for axis in range(3):
            centre[level, axis] = sums[axis] / max(count, 1)
        border[level] = total / touching if touching else 0.0


def grow_over_levels(keys: NDArray[np.uint8], gradient: NDArray[np.float32], start: tuple[int, int, int]) -> Growth:
    """Grow from ``start`` (k, j, i) over the levels 0 to 63 in ``keys`` (255: closed), faces only.

    The mean gradient under the border is the average gradient measure of Hojjatoleslami and Kittler
    (doi:10.1109/83.701170), kept up to date voxel by voxel; the whole tree of levels costs one flood. Memory: 11 bytes a voxel.

    >>> keys = np.full((3, 3, 6), 255, np.uint8)
    >>> keys[1, 1, 1:5] = 0, 1, 1, 5
    >>> grow_over_levels(keys, np.ones(keys.shape, np.float32), (1, 1, 1)).voxels[[0, 1, 4, 63]].tolist()
    [1, 3, 3, 4]
    """
    same_shape(keys, gradient, ("keys", "gradient"))
    place = np.ravel_multi_index(start, keys.shape)
    grown = Growth(
        np.full(keys.shape, 255, np.uint8),
        np.zeros(LEVELS, np.int64),
        np.zeros((LEVELS, 3)),
        np.zeros(LEVELS),
        np.zeros(LEVELS, np.bool_),
    )
    _grow(np.ascontiguousarray(keys), np.ascontiguousarray(gradient), int(place), *grown)
    return grown
