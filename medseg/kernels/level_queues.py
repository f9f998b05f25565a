"""First-in first-out queues of voxels for a flood: one for each level, and finer ones for the level it has reached."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_SHIFT = np.uint64(7)  # a queue is made of chunks of 128 numbers: the next chunk, then 127 voxels
_CHUNK = np.uint64(128)
LAST = np.uint64(127)
_ZERO, ONE = np.uint64(0), np.uint64(1)


class Queues(NamedTuple):
    """A queue for each level, made of chunks of ``pool``; the first number of a chunk links it to the next, or the next free one.

    ``bounds[level]`` are the places in the pool to read and to write next, both 0 or equal where the queue is empty.
    ``state`` holds the chunks taken from the pool so far and the first free one (-1: none). Memory is used as far as it is
    written: 4 bytes for each voxel that waits.
    """

    bounds: NDArray[np.uint64]
    pool: NDArray[np.int32]
    state: NDArray[np.int64]


def queues(levels: int, voxels: int) -> Queues:
    """Empty queues with room for every voxel once."""
    chunks = voxels // 127 + 2 * levels + 2
    return Queues(np.zeros((levels, 2), np.uint64), np.empty(chunks << 7, np.int32), np.array([0, -1], np.int64))


# Loops write out the short path of both: a call with arrays counts references, which takes as long as the work itself.
#   append:  at = bounds[level, 1]; at = new_chunk(...) if at & LAST == 0 else at; pool[at] = v; bounds[level, 1] = at + 1
#   take:    at = bounds[level, 0]; v = pool[at]; at += 1; bounds[level, 0] = next_chunk(...) if at & LAST == 0 else at


@njit(cache=True, nogil=True)
def new_chunk(bounds, pool, state, level, at):  # type: ignore[no-untyped-def]
    """Where to write in a queue that has no chunk yet (``at`` 0) or whose last one is full (``at`` is its end)."""
    chunk = state[0]
    if state[1] >= 0:
        chunk = state[1]
        state[1] = pool[np.uint64(chunk) << _SHIFT]
    else:
        state[0] += 1
    start = (np.uint64(chunk) << _SHIFT) + ONE
    if at == _ZERO:
        bounds[level, 0] = start
    else:
        pool[at - _CHUNK] = chunk
    return start


@njit(cache=True, nogil=True)
def next_chunk(bounds, pool, state, level, at):  # type: ignore[no-untyped-def]
    """Where to read on in a queue of which the chunk that ends at ``at`` was read; that chunk becomes free."""
    link = at - _CHUNK
    if at == bounds[level, 1]:
        at = _ZERO
        bounds[level, 1] = _ZERO
    else:
        at = (np.uint64(pool[link]) << _SHIFT) + ONE
    pool[link] = state[1]
    state[1] = np.int64(link >> _SHIFT)
    return at


@njit(cache=True, nogil=True)
def close(bounds, pool, state, level):  # type: ignore[no-untyped-def]
    """Give back the chunk of a queue that is empty and will not be used again."""
    if bounds[level, 0] != _ZERO:
        chunk = bounds[level, 0] >> _SHIFT
        pool[chunk << _SHIFT] = state[1]
        state[1] = np.int64(chunk)
        bounds[level, 0] = _ZERO
        bounds[level, 1] = _ZERO


class FineQueues(NamedTuple):
    """A linked list for each fine level: ``ends[level]`` are its first and last link (-1: empty).

    ``links[n]`` are the voxel of a link and the next link, ``state`` the links used so far and the first free one.
    """

    ends: NDArray[np.int32]
    links: NDArray[np.int32]
    state: NDArray[np.int64]


def fine_queues(levels: int, voxels: int) -> FineQueues:
    """Empty lists with room for every voxel once; few are used at a time, and each link is used again as soon as it is free."""
    return FineQueues(np.full((levels, 2), -1, np.int32), np.empty((voxels, 2), np.int32), np.array([0, -1], np.int64))
