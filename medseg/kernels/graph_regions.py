"""Regions of a voxel graph: edges in rising order of the change of intensity along them join what belongs together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Connectivity, connectivity_of, refuse_too_large
from .neighbours import prefetch
from .slabs import in_slabs, slab_limits

_SLABS = 4  # each has a table of all buckets
_BITS = 12  # of a float32 that do not count for the order: changes less than 0.05 % apart may change places
_BUCKETS = 1 << (31 - _BITS)
_AHEAD = 16
_MOST_EDGES = 2**32 - 1


@njit(cache=True, nogil=True)
def _change(channels, v, u, per_mm):  # type: ignore[no-untyped-def]
    """How much the channels change from v to u, per mm (Euclidean length)."""
    if channels.shape[0] == 1:
        return np.abs(channels[0, v] - channels[0, u]) * per_mm
    total = np.float32(0)
    for c in range(channels.shape[0]):
        apart = channels[c, v] - channels[c, u]
        total += apart * apart
    return np.sqrt(total) * per_mm


@njit(cache=True, nogil=True)
def _bucket_edges(channels, shape, directions, per_mm, places, edges, start, end):  # type: ignore[no-untyped-def]
    """Count the edges of the planes from start to end by bucket; with room for the edges, put them at their places."""
    depth, height, length = shape
    bits = np.empty(1, np.float32)
    word = bits.view(np.int32)
    for k in range(start, end):
        for j in range(height):
            for d in range(directions.shape[0]):
                there_k, there_j, step = k + directions[d, 0], j + directions[d, 1], directions[d, 2]
                if there_k >= depth or there_j < 0 or there_j >= height:
                    continue
                here, there = (k * height + j) * length, (there_k * height + there_j) * length
                for i in range(max(0, -step), min(length, length - step)):
                    bits[0] = _change(channels, here + i, there + i + step, per_mm[d])
                    if not np.isfinite(bits[0]):
                        continue
                    bucket = word[0] >> _BITS
                    if edges.size:
                        edges[places[bucket]] = (here + i) * directions.shape[0] + d
                    places[bucket] += 1


@njit(cache=True, nogil=True)
def _root(parent, n):  # type: ignore[no-untyped-def]
    """The root of voxel n; a root holds minus the voxels of its region."""
    while parent[n] >= 0:
        above = parent[n]
        if parent[above] >= 0:
            parent[n] = parent[above]
        n = np.int64(above)
    return n


@njit(cache=True, nogil=True)
def _join(channels, edges, steps, per_mm, parent, limit, scale, at_least):  # type: ignore[no-untyped-def]
    """Join along the edges in their order: where both regions bear the change, or, with ``at_least``, where one is small."""
    count = steps.size
    for n in range(edges.size):
        if n + _AHEAD < edges.size:
            prefetch(parent, np.int64(edges[n + _AHEAD]) // count)
        v = np.int64(edges[n]) // count
        d = np.int64(edges[n]) - v * count
        u = v + steps[d]
        one, other = _root(parent, v), _root(parent, u)
        if one == other:
            continue
        change = _change(channels, v, u, per_mm[d])
        if at_least > 0:
            if -parent[one] >= at_least and -parent[other] >= at_least:
                continue
        elif change > limit[one] or change > limit[other]:
            continue
        if parent[other] < parent[one]:
            one, other = other, one
        parent[one] += parent[other]
        parent[other] = one
        limit[one] = change + scale / -parent[one]


@njit(cache=True, nogil=True)
def _numbered(channels, parent, labels):  # type: ignore[no-untyped-def]
    """Number the regions from 1 in memory order; a voxel with a channel that is not finite gets 0. Returns their count."""
    found = np.int64(0)
    for v in range(parent.size):
        inside = True
        for c in range(channels.shape[0]):
            inside &= np.isfinite(channels[c, v])
        if not inside:
            continue
        root = _root(parent, v)
        if labels[root] == 0:
            found += 1
            labels[root] = found
        labels[v] = labels[root]
    return found


def _forward(connectivity: int) -> NDArray[np.int64]:
    """The steps (k, j, i) to the neighbours that come later in memory."""
    most = {6: 1, 18: 2, 26: 3}[connectivity_of(connectivity)]
    steps = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0) and sum(map(abs, step)) <= most]
    return np.array(steps, np.int64)


def graph_regions(
    channels: NDArray[Any],
    world: NDArray[np.float64],
    scale: float,
    keep_at_least_voxels: int = 0,
    connectivity: Connectivity = 6,
) -> tuple[NDArray[np.uint32], int]:
    """Regions whose inner change is small against the change across their border (uint32, from 1), and their count.

    ``channels`` (channel, k, j, i) floats; ``world`` (3, 3) maps steps along (k, j, i) to mm. The weight of an edge is the
    change of the channels per mm; edges in rising order join two regions where the weight is at most the largest weight
    inside each (of its spanning tree) plus ``scale`` / its volume in mm³ (Felzenszwalb and Huttenlocher 2004,
    doi:10.1023/B:VISI.0000022288.19776.77). Then regions below ``keep_at_least_voxels`` join the neighbour with the
    smallest change, in the same order. Edges are sorted by bucket: weights less than 0.05 % apart in memory order. Voxels
    that are not finite get 0. Memory: the result and, per voxel, 8 bytes and 4 for each of its 3, 9 or 13 edges.

    >>> labels, count = graph_regions(np.array([[[[0, 1, 50, 51]]]]), np.eye(3), 2.0)
    >>> labels.tolist(), count
    ([[[1, 1, 2, 2]]], 2)
    """
    values = np.ascontiguousarray(channels, np.float32)
    if values.ndim != 4 or values.size == 0:
        raise ValueError(f"channels have shape {values.shape}; pass an array (channel, k, j, i)")
    if not (np.isfinite(scale) and scale >= 0):
        raise ValueError(f"scale is {scale}; pass a number >= 0")
    shape = values.shape[1:]
    size = int(np.prod(shape))
    directions = _forward(connectivity)
    refuse_too_large(shape, most=_MOST_EDGES // len(directions))
    matrix = np.asarray(world, np.float64)
    per_mm = (1 / np.linalg.norm(directions @ matrix.T, axis=1)).astype(np.float32)
    flat = values.reshape(len(values), size)
    edges = _sorted_edges(flat, shape, directions, per_mm)
    steps = directions @ np.array([shape[1] * shape[2], shape[2], 1])
    parent = np.full(size, -1, np.int32)
    per_voxel = np.float32(scale / abs(np.linalg.det(matrix)))
    limit = np.full(size, per_voxel, np.float32)
    _join(flat, edges, steps, per_mm, parent, limit, per_voxel, 0)
    if keep_at_least_voxels > 1:
        _join(flat, edges, steps, per_mm, parent, limit, per_voxel, int(keep_at_least_voxels))
    del edges, limit
    labels = np.zeros(size, np.uint32)
    count = _numbered(flat, parent, labels)
    return labels.reshape(shape), int(count)


def _sorted_edges(
    flat: NDArray[np.float32], shape: Sequence[int], directions: NDArray[np.int64], per_mm: NDArray[np.float32]
) -> NDArray[np.uint32]:
    """The edges (voxel times directions, plus direction) in rising order of their weight; those of equal bucket in memory order."""
    limits = slab_limits(shape[0], _SLABS)
    counts = np.zeros((len(limits), _BUCKETS), np.int64)
    table = dict(zip(limits, counts, strict=True))
    none = np.empty(0, np.uint32)
    grid = (int(shape[0]), int(shape[1]), int(shape[2]))
    in_slabs(lambda low, high: _bucket_edges(flat, grid, directions, per_mm, table[low, high], none, low, high), shape[0], _SLABS)
    edges = np.empty(int(counts.sum()), np.uint32)
    before = np.cumsum(counts.T.reshape(-1)).reshape(_BUCKETS, len(limits)).T - counts
    counts[:] = before
    in_slabs(lambda low, high: _bucket_edges(flat, grid, directions, per_mm, table[low, high], edges, low, high), shape[0], _SLABS)
    return edges
