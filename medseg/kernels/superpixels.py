"""Superpixels: k-means in intensity and place around centres on a grid, each made one connected piece (SLIC)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import refuse_too_large
from .neighbours import kind_of, neighbours_of
from .slabs import in_slabs, slab_limits

_SLABS = 4  # each has a table of all centres when the means are taken
_SHARE = 0.25  # of the usual volume; a smaller piece joins a neighbour


@njit(cache=True, nogil=True)
def _begin(channels, inside, shape, cells, labels, start, end):  # type: ignore[no-untyped-def]
    """Give each voxel the cell of the grid of centres that it lies in; 0 where a channel has no value or outside the mask."""
    _, height, length = shape
    for k in range(start, end):
        for j in range(height):
            row = (k * cells[0] // shape[0] * cells[1] + j * cells[1] // height) * cells[2]
            for i in range(length):
                v = (k * height + j) * length + i
                is_inside = inside.size == 0 or inside[v] != 0
                for c in range(channels.shape[0]):
                    is_inside &= np.isfinite(channels[c, v])
                labels[v] = row + i * cells[2] // length + 1 if is_inside else 0


@njit(cache=True, nogil=True)
def _sums(channels, labels, shape, table, start, end):  # type: ignore[no-untyped-def]
    """Add up, for each label, voxels, k, j, i and the channels."""
    _, height, length = shape
    for k in range(start, end):
        for j in range(height):
            for i in range(length):
                v = (k * height + j) * length + i
                label = labels[v]
                if label == 0:
                    continue
                row = table[label - 1]
                row[0] += 1
                row[1] += k
                row[2] += j
                row[3] += i
                for c in range(channels.shape[0]):
                    row[4 + c] += channels[c, v]


@njit(cache=True, nogil=True)
def _nearest(channels, shape, centres, reach, metric, weight, labels, least, start, end):  # type: ignore[no-untyped-def]
    """Give each voxel of the planes from start to end the centre with the least distance among those near it."""
    _, height, length = shape
    plane = height * length
    for v in range(start * plane, end * plane):
        least[v] = -1 if labels[v] == 0 else np.inf
    for n in range(centres.shape[0]):
        k_at, j_at, i_at = centres[n, 1], centres[n, 2], centres[n, 3]
        first = max(0, int(np.ceil(i_at - reach[2])))
        stop = min(length, int(np.floor(i_at + reach[2])) + 1)
        first_k, stop_k = max(start, int(np.ceil(k_at - reach[0]))), min(end, int(np.floor(k_at + reach[0])) + 1)
        first_j, stop_j = max(0, int(np.ceil(j_at - reach[1]))), min(height, int(np.floor(j_at + reach[1])) + 1)
        for k in range(first_k, stop_k):
            for j in range(first_j, stop_j):
                dk, dj = k - k_at, j - j_at
                base = np.float32(metric[0, 0] * dk * dk + 2 * metric[0, 1] * dk * dj + metric[1, 1] * dj * dj)
                slope = np.float32(2 * (metric[0, 2] * dk + metric[1, 2] * dj))
                line = slice((k * height + j) * length, (k * height + j + 1) * length)
                along = (base, slope, np.float32(metric[2, 2]))
                _nearer(channels[:, line], centres[n], n + 1, along, weight, labels[line], least[line], first, stop)


@njit(cache=True, nogil=True)
def _nearer(channels, centre, number, along, weight, labels, least, first, stop):  # type: ignore[no-untyped-def]
    """Compare one centre with the voxels of one line; this loop becomes vector instructions."""
    base, slope, square = along
    i_at, mean = np.float32(centre[3]), np.float32(centre[4])
    label = np.uint32(number)
    one = channels[0]
    for i in range(first, stop):
        away = np.float32(i) - i_at
        apart = one[i] - mean
        distance = base + (slope + square * away) * away + apart * apart * weight
        for c in range(1, channels.shape[0]):
            apart = channels[c, i] - np.float32(centre[4 + c])
            distance += apart * apart * weight
        is_nearer = distance < least[i]
        least[i] = distance if is_nearer else least[i]
        labels[i] = label if is_nearer else labels[i]


@njit(cache=True, nogil=True)
def _pieces(labels, near, out, waiting):  # type: ignore[no-untyped-def]
    """Number the connected pieces of equal label from 1 in memory order; their count."""
    steps, starts, kinds, _, length, inverse = near
    found = np.int64(0)
    for v in range(labels.size):
        if labels[v] == 0 or out[v] != 0:
            continue
        found += 1
        out[v] = found
        waiting[0] = v
        end, at = 1, 0
        while at < end:
            w = np.int64(waiting[at])
            at += 1
            kind = kind_of(kinds, length, inverse, w)
            for m in range(starts[kind], starts[kind + 1]):
                u = w + steps[m]
                if out[u] == 0 and labels[u] == labels[v]:
                    out[u] = found
                    waiting[end] = u
                    end += 1
    return found


@njit(cache=True, nogil=True)
def _best_neighbours(pieces, roots, sizes, near, least, best):  # type: ignore[no-untyped-def]
    """For each region of fewer than ``least`` voxels its largest neighbour (0: none)."""
    steps, starts, kinds, _, length, _ = near
    for line in range(kinds.size):
        for i in range(length):
            v = line * length + i
            one = roots[pieces[v]]
            if one == 0:
                continue
            kind = np.int64(kinds[line]) + (i == 0) + 2 * (i == length - 1)
            for m in range(starts[kind], starts[kind + 1]):
                other = roots[pieces[v + steps[m]]]
                if other == one or other == 0 or sizes[one] >= least:  # noqa: PLR1714 (quicker than a tuple)
                    continue
                if best[one] == 0 or sizes[other] > sizes[best[one]] or (sizes[other] == sizes[best[one]] and other < best[one]):
                    best[one] = other


def _joined(pieces: NDArray[np.uint32], count: int, least: float, shape: tuple[int, int, int]) -> NDArray[np.uint32]:
    """Join pieces of fewer than ``least`` voxels to their largest neighbour, in place, until none is left that has one."""
    near = neighbours_of(shape, 6)
    roots = np.arange(count + 1)
    voxels = np.zeros(count + 1, np.int64)
    slabs = slab_limits(pieces.size, max(1, pieces.size >> 22))
    for start, stop in slabs:
        voxels += np.bincount(pieces[start:stop], minlength=count + 1)
    voxels[0] = 0
    while True:
        sizes = np.bincount(roots, voxels, count + 1).astype(np.int64)
        best = np.zeros(count + 1, np.int64)
        _best_neighbours(pieces, roots, sizes, near, float(least), best)
        small = np.flatnonzero(best)
        if len(small) == 0:
            numbers = roots.astype(np.uint32)
            for start, stop in slabs:  # an index is copied as int64: a slab at a time keeps that small
                pieces[start:stop] = numbers[pieces[start:stop]]
            return pieces
        _join_roots(roots, small, best)


@njit(cache=True, nogil=True)
def _join_roots(roots, small, best):  # type: ignore[no-untyped-def]
    for n in small:
        one, other = n, best[n]
        while roots[one] != one:
            one = roots[one]
        while roots[other] != other:
            other = roots[other]
        roots[one] = other
    for n in range(roots.size):
        one = n
        while roots[one] != one:
            one = roots[one]
        roots[n] = one


def superpixels(
    channels: NDArray[Any],
    world: NDArray[np.float64],
    size_mm: float,
    compactness: float,
    rounds: int = 10,
    mask: NDArray[Any] | None = None,
) -> NDArray[np.uint32]:
    """Connected pieces of about ``size_mm`` with even intensity (uint32; numbers are not without gaps).

    ``channels`` (channel, k, j, i) floats; ``world`` (3, 3) maps steps along (k, j, i) to mm. Centres start on a grid of
    ``size_mm``; then, ``rounds`` times, each voxel joins the centre with the least (change / compactness)² + (distance /
    size_mm)² among those within ``size_mm``, and centres move to the mean of their voxels (Achanta et al. 2012,
    doi:10.1109/TPAMI.2012.120). Connected pieces below a quarter of size_mm³ join their largest neighbour (faces).
    Voxels with a channel that is not finite, or outside ``mask``, get 0. Memory: the result, 12 bytes per voxel, and about
    50 for each connected piece of the last round.

    >>> superpixels(np.array([[[[0, 0, 9, 9, 9, 9]]]], np.float32), np.eye(3), 3, 1).tolist()
    [[[1, 1, 2, 2, 2, 2]]]
    """
    values = np.ascontiguousarray(channels, np.float32)
    if values.ndim != 4 or values.size == 0:
        raise ValueError(f"channels have shape {values.shape}; pass an array (channel, k, j, i)")
    if not (size_mm > 0 and compactness > 0 and np.isfinite(size_mm) and np.isfinite(compactness)):
        raise ValueError(f"size_mm is {size_mm} and compactness {compactness}; pass positive numbers")
    shape = (values.shape[1], values.shape[2], values.shape[3])
    size = int(np.prod(shape))
    refuse_too_large(shape)
    matrix = np.asarray(world, np.float64)
    spacing = np.linalg.norm(matrix, axis=0)
    cells = tuple(max(1, min(n, round(n * s / size_mm))) for n, s in zip(shape, spacing, strict=True))
    flat, labels = values.reshape(len(values), size), np.empty(size, np.uint32)
    inside = np.empty(0, np.uint8) if mask is None else np.ascontiguousarray(mask != 0).reshape(-1).view(np.uint8)
    in_slabs(lambda low, high: _begin(flat, inside, shape, cells, labels, low, high), shape[0])
    metric = matrix.T @ matrix / size_mm**2
    reach = np.maximum(size_mm * np.linalg.norm(np.linalg.inv(matrix), axis=1), 1.0)
    least = np.empty(size, np.float32)
    weight = np.float32(1 / compactness**2)
    for _ in range(rounds):
        centres = _centres(flat, labels, shape, int(np.prod(cells)))
        in_slabs(lambda low, high: _nearest(flat, shape, centres, reach, metric, weight, labels, least, low, high), shape[0])  # noqa: B023
    pieces = np.zeros(size, np.uint32)
    count = _pieces(labels, neighbours_of(shape, 6), pieces, least.view(np.int32))
    usual = min(size_mm**3 / abs(np.linalg.det(matrix)), size / np.prod(cells))
    return _joined(pieces, count, _SHARE * usual, shape).reshape(shape)


def _centres(flat: NDArray[np.float32], labels: NDArray[np.uint32], shape: tuple[int, int, int], count: int) -> NDArray[np.float64]:
    """Voxels, mean k, j, i and mean channels of each label that has voxels; far outside where it has none."""
    limits = slab_limits(shape[0], _SLABS)
    tables = {limit: np.zeros((count, 4 + len(flat))) for limit in limits}
    in_slabs(lambda low, high: _sums(flat, labels, shape, tables[low, high], low, high), shape[0], _SLABS)
    total = sum(tables.values(), np.zeros((count, 4 + len(flat))))
    total[:, 1:] /= np.maximum(total[:, :1], 1)
    total[total[:, 0] == 0, 1:4] = -1e9
    return total
