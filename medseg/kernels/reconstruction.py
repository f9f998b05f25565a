"""Morphological reconstruction, and what follows from it: shallow minima filled, the minima that are left."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Connectivity, as_image, as_mask, same_shape
from .neighbours import Neighbours, kind_of, neighbours_of, prefetch
from .runs import reach
from .watershed import check_size

_FIRST_ROOM = 1 << 20  # voxels that wait; a power of two
_AHEAD = 8


@njit(cache=True, nogil=True, inline="always")
def _raise_to(line, other, apart):  # type: ignore[no-untyped-def]
    """Raise a line to the highest neighbour in another line; these loops become vector instructions."""
    for i in range(line.size):
        line[i] = max(line[i], other[i])
    if apart > 0 and line.size > 1:
        left, right = other[: line.size - 1], other[1:]
        upper, lower = line[1:], line[: line.size - 1]
        for i in range(upper.size):
            upper[i] = max(upper[i], left[i])
        for i in range(lower.size):
            lower[i] = max(lower[i], right[i])


@njit(cache=True, nogil=True)
def _sweep(out, limit, before, forward):  # type: ignore[no-untyped-def]
    """One pass over all voxels: each rises to the highest neighbour that the pass has seen, but not above its limit."""
    depth, height, length = out.shape
    for line_number in range(depth * height):
        at = line_number if forward else depth * height - 1 - line_number
        k, j = at // height, at % height
        line, most = out[k, j], limit[k, j]
        for m in range(before.shape[0]):
            there_k, there_j = k + before[m, 0], j + before[m, 1]
            if 0 <= there_k < depth and 0 <= there_j < height:
                _raise_to(line, out[there_k, there_j], before[m, 2])
        if forward:
            line[0] = min(line[0], most[0])
            for i in range(1, length):
                line[i] = min(max(line[i], line[i - 1]), most[i])
        else:
            line[length - 1] = min(line[length - 1], most[length - 1])
            for i in range(length - 2, -1, -1):
                line[i] = min(max(line[i], line[i + 1]), most[i])


@njit(cache=True, nogil=True)
def _first_in_line(out, limit, near, begin, waiting, count):  # type: ignore[no-untyped-def]
    """Queue the voxels from which a later one can still rise, from line ``begin`` on; the line to go on with and the count."""
    steps, starts, kinds, _, length, _ = near
    for line in range(begin, kinds.size):
        if count + length > waiting.size:
            return line, count
        for i in range(length):
            v = line * length + i
            kind = np.int64(kinds[line]) + (i == 0) + 2 * (i == length - 1)
            for m in range(starts[kind + 1] - 1, starts[kind] - 1, -1):
                u = v + steps[m]
                if u < v:
                    break
                if out[np.uint64(u)] < out[np.uint64(v)] and out[np.uint64(u)] < limit[np.uint64(u)]:
                    waiting[count] = v
                    count += 1
                    break
    return kinds.size, count


@njit(cache=True, nogil=True)
def _spread(out, limit, near, waiting, state):  # type: ignore[no-untyped-def]
    """Let waiting voxels raise their neighbours until none is left (True) or the ring is full (False)."""
    steps, starts, kinds, rows, length, inverse = near
    first, count = state[0], state[1]
    wrap = waiting.size - 1
    while count > 0:
        if count + 26 > waiting.size:
            state[0], state[1] = first, count
            return False
        v = np.int64(waiting[np.uint64(first)])
        if count > _AHEAD:
            later = np.int64(waiting[np.uint64((first + _AHEAD) & wrap)])
            for m in range(rows.size):
                prefetch(out, later + rows[m])
        first = (first + 1) & wrap
        count -= 1
        height = out[np.uint64(v)]
        kind = kind_of(kinds, length, inverse, v)
        for m in range(starts[kind], starts[kind + 1]):
            u = v + steps[m]
            if out[np.uint64(u)] < height and out[np.uint64(u)] < limit[np.uint64(u)]:
                out[np.uint64(u)] = min(height, limit[np.uint64(u)])
                waiting[np.uint64((first + count) & wrap)] = u
                count += 1
    state[0], state[1] = first, 0
    return True


def _turned(values: NDArray[Any]) -> NDArray[Any]:
    """The values in reverse order, none lost: the highest integer becomes the lowest."""
    return -values if values.dtype.kind == "f" else ~values


def _dilated(out: NDArray[Any], limit: NDArray[Any], connectivity: Connectivity) -> NDArray[Any]:
    """Reconstruction by dilation in place: two passes, then voxel by voxel (Vincent 1993)."""
    face, diagonal = reach(connectivity)
    lines = [(-1, -1, diagonal), (-1, 0, face), (-1, 1, diagonal), (0, -1, face)]
    before = np.array([line for line in lines if line[2] >= 0], np.int64)
    _sweep(out, limit, before, True)
    _sweep(out, limit, before * np.array([-1, -1, 1]), False)
    near = neighbours_of(out.shape, connectivity)
    flat, most = out.reshape(-1), limit.reshape(-1)
    waiting = np.empty(max(_FIRST_ROOM, 1 << (4 * out.shape[2]).bit_length()), np.int32)
    line = 0
    while line < near.kinds.size:
        line, count = _first_in_line(flat, most, near, line, waiting, 0)
        waiting = _spread_all(flat, most, near, waiting, count)
    return out


def _spread_all(flat: NDArray[Any], most: NDArray[Any], near: Neighbours, waiting: NDArray[Any], count: int) -> NDArray[Any]:
    """Let the first ``count`` voxels of a ring spread; the ring, wider where it was too small."""
    state = np.array([0, count], np.int64)
    while not _spread(flat, most, near, waiting, state):
        wider = np.empty(2 * waiting.size, np.int32)
        wider[: waiting.size] = np.roll(waiting, -int(state[0]))
        waiting, state[0] = wider, 0
    return waiting


def reconstruct(
    marker: NDArray[Any], limit: NDArray[Any], by: Literal["dilation", "erosion"] = "dilation", connectivity: Connectivity = 6
) -> NDArray[Any]:
    """The marker image grown under a limit until nothing changes (by dilation), or shrunk above it (by erosion).

    ``marker`` and ``limit`` (k, j, i) on one grid, without NaN; the marker is cut at the limit first. Each voxel gets the
    best that a path from the marker can bring: for a dilation the highest over all paths of the lowest limit on the path.
    Returns the dtype of ``limit``. As ITK's ReconstructionByDilation (Vincent 1993, doi:10.1109/83.217222). Memory beyond
    the result: a copy of the marker, by erosion two and one of the limit, and 4 bytes for each voxel that waits.

    >>> marker, limit = np.array([[[0, 9, 0, 0, 0]]], np.int16), np.array([[[3, 5, 4, 1, 6]]], np.int16)
    >>> reconstruct(marker, limit).tolist()
    [[[3, 5, 4, 1, 1]]]
    """
    most = as_image(limit, "limit")
    check_size(most)
    start = as_image(marker, "marker").astype(most.dtype)
    same_shape(start, most, ("marker", "limit"))
    for name, values in (("marker", start), ("limit", most)):
        if values.dtype.kind == "f" and np.isnan(values.max()):
            raise ValueError(f"{name} holds NaN; give those voxels a number first")
    if by == "dilation":
        return _dilated(start, most, connectivity)
    turned = _turned(most)
    turned.flags.writeable = False
    return _turned(_dilated(_turned(start), turned, connectivity))


def fill_shallow(image: NDArray[Any], depth: float, connectivity: Connectivity = 6) -> NDArray[Any]:
    """The image with its minima filled up by ``depth``: those that are not deeper than that vanish (h-minima transform).

    ``image`` (k, j, i) without NaN. The depth of a minimum is the least rise on a path from it to a lower one. As ITK's
    HMinima (Soille, Morphological Image Analysis, 2nd edition, 6.3.4); returns the dtype of the image. Memory, the result
    included: four times the image, and 4 bytes for each voxel that waits.

    >>> fill_shallow(np.array([[[4, 2, 3, 0, 5]]], np.int16), 1).tolist()
    [[[4, 3, 3, 1, 5]]]
    """
    limit = as_image(image)
    if not (np.isfinite(depth) and depth >= 0):
        raise ValueError(f"depth is {depth}; pass a number >= 0")
    if limit.dtype.kind == "f":
        return reconstruct(limit + limit.dtype.type(depth), limit, "erosion", connectivity)
    highest = int(np.iinfo(limit.dtype).max)
    rise = min(int(depth), highest - int(np.iinfo(limit.dtype).min))  # minima of whole depth: the rest of depth is nothing to them
    # cut before it is raised, so that the sum fits; the rise may be beyond a signed dtype, but not modulo its range
    raised = np.minimum(limit, highest - rise) + np.int64(rise).astype(limit.dtype) if rise else limit
    return reconstruct(raised, limit, "erosion", connectivity)


@njit(cache=True, nogil=True)
def _plateaus(image, inside, labels, near, plateau):  # type: ignore[no-untyped-def]
    """Number the plateaus without a lower neighbour; ``plateau`` is scratch for one of them."""
    steps, starts, kinds, _, length, inverse = near
    found = np.int64(0)
    closed = np.int64(0xFFFFFFFF)
    has_mask = inside.size > 0
    for v in range(image.size):
        if labels[v] != 0 or (has_mask and inside[v] == 0):
            continue
        height = image[v]
        labels[v] = found + 1
        plateau[0] = v
        end, at, is_lowest = 1, 0, True
        while at < end:
            w = np.int64(plateau[at])
            at += 1
            kind = kind_of(kinds, length, inverse, w)
            for m in range(starts[kind], starts[kind + 1]):
                u = w + steps[m]
                if has_mask and inside[u] == 0:
                    continue
                if image[u] < height:
                    is_lowest = False
                elif image[u] == height and labels[u] == 0:
                    labels[u] = found + 1
                    plateau[end] = u
                    end += 1
        if is_lowest:
            found += 1
        else:
            for n in range(end):
                labels[plateau[n]] = closed
    for v in range(image.size):
        if labels[v] == closed:
            labels[v] = 0
    return found


def minima(image: NDArray[Any], connectivity: Connectivity = 6, mask: NDArray[Any] | None = None) -> tuple[NDArray[np.uint32], int]:
    """Number the regional minima from 1 in memory order: plateaus with no lower neighbour. Labels (uint32) and their count.

    ``image`` (k, j, i) without NaN; voxels outside ``mask`` (uint8 or bool) are no neighbours and get 0. As ITK's
    RegionalMinima. Memory: the result, and 4 bytes for each voxel of the largest plateau.

    >>> labels, count = minima(np.array([[[2, 1, 1, 3, 0]]], np.uint8))
    >>> labels.tolist(), count
    ([[[0, 1, 1, 0, 2]]], 2)
    """
    heights = as_image(image)
    check_size(heights)
    inside = np.empty((0, 0, 0), np.uint8) if mask is None else as_mask(mask)
    if mask is not None:
        same_shape(heights, inside, ("image", "mask"))
    inside.flags.writeable = False
    labels = np.zeros(heights.shape, np.uint32)
    near = neighbours_of(heights.shape, connectivity)
    plateau = np.empty(heights.size, np.int32)
    count = _plateaus(heights.reshape(-1), inside.reshape(-1), labels.reshape(-1), near, plateau)
    return labels, int(count)
