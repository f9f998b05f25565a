"""The least level at which a flood from seeds reaches each voxel: all nested regions in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Connectivity, as_image, connectivity_of, refuse_too_large

_BUCKETS = 65536
_NOT_REACHED = -2


@njit(cache=True, nogil=True, inline="always")
def _bucket(value, low, scale):  # type: ignore[no-untyped-def]
    return min(np.int64((value - low) * scale), _BUCKETS - 1) if scale > 0 else 0


@njit(cache=True, nogil=True)
def _push(heap, used, cost, v):  # type: ignore[no-untyped-def]
    """Add a voxel to a heap with the least cost on top; gives the heap, which may have grown."""
    if used == heap.size:
        more = np.empty(2 * heap.size, heap.dtype)
        more[:used] = heap
        heap = more
    at = used
    while at > 0:
        above = (at - 1) // 2
        if cost[heap[above]] <= cost[v]:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = v
    return heap


@njit(cache=True, nogil=True)
def _drop(heap, used, cost):  # type: ignore[no-untyped-def]
    """Take the top off a heap of ``used`` voxels."""
    last = heap[used - 1]
    at = 0
    while 2 * at + 1 < used - 1:
        below = 2 * at + 1
        if below + 1 < used - 1 and cost[heap[below + 1]] < cost[heap[below]]:
            below += 1
        if cost[last] <= cost[heap[below]]:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = last


@njit(cache=True, nogil=True)
def _reach(cost, offsets, seeds, link, rules):  # type: ignore[no-untyped-def]
    """Flood in place: the cost of a voxel that is reached becomes its level. A voxel enters a list exactly once.

    Each bucket of levels has a list linked through ``link``. Where a bucket holds several levels it is a heap while it is
    worked on, so that the levels are exact.
    """
    low, scale, most, is_single = rules
    head = np.full(_BUCKETS, -1, np.int32)
    heap = np.empty(1024, np.int32)
    for v in seeds:
        if link[v] == _NOT_REACHED and cost[v] <= most:
            to = _bucket(cost[v], low, scale)
            link[v] = head[to]
            head[to] = v
    for current in range(_BUCKETS):
        used = 0
        if not is_single:
            v = head[current]
            while v >= 0:
                heap = _push(heap, used, cost, v)
                used += 1
                v = link[v]
            head[current] = -1
        while True:
            if is_single:
                v = head[current]
                if v < 0:
                    break
                head[current] = link[v]
            else:
                if used == 0:
                    break
                v = heap[0]
                _drop(heap, used, cost)
                used -= 1
            level = cost[v]
            for m in range(offsets.size):
                u = v + offsets[m]
                if link[u] != _NOT_REACHED or not cost[u] <= most:
                    continue
                cost[u] = max(cost[u], level)
                to = _bucket(cost[u], low, scale)
                if is_single or to != current:
                    link[u] = head[to]
                    head[to] = u
                else:
                    link[u] = -1
                    heap = _push(heap, used, cost, u)
                    used += 1


def join_levels(
    cost: NDArray[Any], seeds: NDArray[Any], connectivity: Connectivity = 6, most: float = np.inf, *, is_whole: bool = False
) -> NDArray[Any]:
    """The least t at which each voxel belongs to the voxels with cost <= t that are connected to a seed.

    That is the minimum over all paths from a seed of the greatest cost on the path (the minimax path of
    doi:10.1016/0020-0190(78)90030-3). ``cost`` (k, j, i), any integer or float; ``seeds`` N x 3 integers (k, j, i). NaN for
    voxels that are never reached: those whose cost is not finite, behind such voxels, or with a level above ``most``.
    float32 for images of at most 16 bits and float32, else float64; exact. Linear in the number of voxels reached where
    the costs are integers (or, with ``is_whole``, whole numbers in floats) that span less than 65,536, else with a small
    logarithm; 13 bytes a voxel for float32 (cost with a border, links, result), 21 for float64, and 4 for each
    voxel that waits.

    Raises ValueError for a seed outside the image, TooLargeError for an image of more than about 2**31 voxels.

    >>> join_levels(np.array([[[1, 5, 2, 9]]], np.int16), np.array([[0, 0, 0]])).tolist()
    [[[1.0, 5.0, 5.0, 9.0]]]
    """
    image = as_image(cost, "cost")
    places = np.atleast_2d(np.asarray(seeds, np.int64))
    if places.shape[1] != 3 or ((places < 0) | (places >= image.shape)).any():
        raise ValueError(f"a seed (k, j, i) lies outside the image of shape {image.shape}")
    shape = tuple(length + 2 for length in image.shape)
    refuse_too_large(image.shape, border=1)
    is_narrow = image.dtype == np.float32 or (image.dtype.kind != "f" and image.dtype.itemsize <= 2)
    padded = np.full(shape, np.nan, np.float32 if is_narrow else np.float64)
    inner = (slice(1, -1),) * 3
    padded[inner] = image
    if image.dtype.kind == "f":
        padded[np.isinf(padded)] = np.nan
    reached = padded.dtype.type
    least, greatest = (float(np.nanmin(padded)), float(np.nanmax(padded))) if np.isfinite(padded).any() else (0.0, 0.0)
    flat = padded.reshape(-1)
    links = np.full(padded.size, _NOT_REACHED, np.int32)
    starts = np.ravel_multi_index(tuple((places + 1).T), shape).astype(np.int32)
    limit = reached(min(most, greatest))
    is_single = (is_whole or image.dtype.kind != "f") and greatest - least < _BUCKETS
    scale = 1.0 if is_single else _scale(least, greatest)
    _reach(flat, _offsets(shape, connectivity), starts, links, (least, scale, limit, is_single))
    out = np.where(links.reshape(shape)[inner] == _NOT_REACHED, reached(np.nan), padded[inner])
    return np.ascontiguousarray(out)


def _scale(least: float, greatest: float) -> float:
    """Buckets per unit; 0 (one bucket for all) where the range is nothing, or too wide or narrow for a float."""
    with np.errstate(over="ignore", divide="ignore"):
        scale = float(np.float64(_BUCKETS - 1) / (np.float64(greatest) - np.float64(least)))
    return scale if np.isfinite(scale) else 0.0


def _offsets(shape: tuple[int, ...], connectivity: int) -> NDArray[np.int32]:
    most = {6: 1, 18: 2, 26: 3}[connectivity_of(connectivity)]
    steps = [(k, j, i) for k in (-1, 0, 1) for j in (-1, 0, 1) for i in (-1, 0, 1)]
    kept = [(k * shape[1] + j) * shape[2] + i for k, j, i in steps if 0 < abs(k) + abs(j) + abs(i) <= most]
    return np.array(kept, np.int32)
