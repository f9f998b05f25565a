"""An image split into blocks that are homogeneous, and neighbouring regions merged while they stay so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medseg.core.errors import TooLargeError

from .arrays import as_image, as_labels, as_mask, same_shape, spacing_of

_DEEPEST = 4096  # boxes that wait at most: 8 a level, 31 levels an axis


@njit(cache=True, nogil=True)
def _summed(image, inside, box):  # type: ignore[no-untyped-def]
    """Voxels, sum, sum of squares about ``shift``, least and greatest value of the finite voxels of a box."""
    count, low, high = 0, np.inf, -np.inf
    total, squares = 0.0, 0.0
    shift = 0.0
    has_mask = inside.size > 0
    for k in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            line = image[k, j]
            for i in range(box[4], box[5]):
                value = np.float64(line[i])
                if not np.isfinite(value) or (has_mask and inside[k, j, i] == 0):
                    continue
                if count == 0:
                    shift = value
                count += 1
                total += value - shift
                squares += (value - shift) * (value - shift)
                low = min(low, value)
                high = max(high, value)
    if count == 0:
        return 0, 0.0, 0.0, low, high
    mean = total / count
    return count, shift + mean, max(squares - total * mean, 0.0), low, high


@njit(cache=True, nogil=True, inline="always")
def _is_homogeneous(count, spread, low, high, tolerance, by_range):  # type: ignore[no-untyped-def]
    if by_range:
        return high - low <= tolerance
    return spread <= tolerance * tolerance * count


@njit(cache=True, nogil=True)
def _halve(box, sizes, smallest, boxes, top):  # type: ignore[no-untyped-def]
    """Put the parts of a box on the stack: halves along each axis at least half as long (mm) as the longest; the new top."""
    longest = 0.0
    for axis in range(3):
        if box[2 * axis + 1] - box[2 * axis] > 1:
            longest = max(longest, (box[2 * axis + 1] - box[2 * axis]) * sizes[axis])
    if longest <= smallest:
        return top
    parts = np.empty((8, 6), np.int64)
    parts[0] = box
    count = 1
    for axis in range(2, -1, -1):
        low, high = box[2 * axis], box[2 * axis + 1]
        if high - low > 1 and 2 * (high - low) * sizes[axis] >= longest:
            for n in range(count):
                parts[count + n] = parts[n]
                parts[n, 2 * axis + 1] = (low + high + 1) // 2
                parts[count + n, 2 * axis] = (low + high + 1) // 2
            count *= 2
    for n in range(count):
        boxes[top + n] = parts[count - 1 - n]
    return top + count


@njit(cache=True, nogil=True)
def _split(image, inside, sizes, smallest, rule, labels, table, state, boxes):  # type: ignore[no-untyped-def]
    """Label the blocks, until none is left (True) or the table is full (False: call again with more room)."""
    tolerance, by_range = rule
    blocks, top = state[0], state[1]
    has_mask = inside.size > 0
    while top > 0:
        if blocks == table.shape[0]:
            state[0], state[1] = blocks, top
            return False
        top -= 1
        box = boxes[top].copy()
        count, mean, spread, low, high = _summed(image, inside, box)
        if count == 0:
            continue
        if not _is_homogeneous(count, spread, low, high, tolerance, by_range):
            parts = _halve(box, sizes, smallest, boxes, top)
            if parts > top:
                top = parts
                continue
        table[blocks, 0], table[blocks, 1], table[blocks, 2] = count, mean, spread
        table[blocks, 3], table[blocks, 4] = low, high
        blocks += 1
        for k in range(box[0], box[1]):
            for j in range(box[2], box[3]):
                for i in range(box[4], box[5]):
                    if np.isfinite(image[k, j, i]) and not (has_mask and inside[k, j, i] == 0):
                        labels[k, j, i] = blocks
    state[0], state[1] = blocks, 0
    return True


def split(
    image: NDArray[Any],
    spacing_mm: Sequence[float],
    tolerance: float,
    by_range: bool = False,
    smallest_mm: float = 0.0,
    mask: NDArray[Any] | None = None,
    most_blocks: int = 5_000_000,
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Halve blocks until each is homogeneous: labels from 1 (uint32), and of each block voxels, mean, spread, least, greatest.

    ``image`` (k, j, i) and ``spacing_mm`` in that order. A block is homogeneous where its standard deviation (``by_range``:
    its range) is at most ``tolerance``; one that is not longer than ``smallest_mm`` is not split. It is halved along its
    longest axis in mm and all others at least half as long. Spread is the sum of squares about the mean. Voxels that are
    not finite or outside ``mask`` get 0. Memory: the result. Time: the voxels times the depth of the tree. Raises
    TooLargeError for more than ``most_blocks``: merging takes some hundred bytes for each.

    >>> labels, table = split(np.array([[[5, 5, 5, 9]]], np.int16), (1, 1, 1), 0)
    >>> labels.tolist(), table[:, 1].tolist()
    ([[[1, 1, 2, 3]]], [5.0, 5.0, 9.0])
    """
    image = as_image(image)
    inside = np.empty((0, 0, 0), np.uint8) if mask is None else as_mask(mask)
    if mask is not None:
        same_shape(image, inside, ("image", "mask"))
    inside.flags.writeable = False
    labels = np.zeros(image.shape, np.uint32)
    table = np.empty((1 << 14, 5))
    boxes = np.empty((_DEEPEST, 6), np.int64)
    boxes[0] = [end for length in image.shape for end in (0, length)]
    state = np.array([0, 1], np.int64)
    sizes, rule = np.array(spacing_of(spacing_mm)), (float(tolerance), bool(by_range))
    while not _split(image, inside, sizes, float(smallest_mm), rule, labels, table, state, boxes):
        if len(table) > most_blocks:
            break
        table = np.concatenate([table, np.empty((min(len(table), most_blocks + 1 - len(table)), 5))])
    if state[0] > most_blocks:
        raise TooLargeError(
            f"the scan splits into more than {most_blocks:,} even blocks, mostly single voxels of noise; raise tolerance, smooth it "
            "first (sigma_mm), or keep blocks longer (smallest_mm)"
        )
    return labels, table[: state[0]].copy()


def neighbour_pairs(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The pairs (lower, higher) of labels that share a face of two voxels, 0 left out, each once and in order, [pairs, 2].

    >>> neighbour_pairs(np.array([[[1, 1, 3, 0, 2], [2, 1, 3, 3, 3]]], np.uint8)).tolist()
    [[1, 2], [1, 3], [2, 3]]
    """
    labels = as_labels(labels)
    found = [np.empty(0, np.uint64)]
    for k in range(labels.shape[0]):
        here = labels[k]
        others = [(here[:, :-1], here[:, 1:]), (here[:-1], here[1:])]
        if k:
            others.append((labels[k - 1], here))
        for one, other in others:
            differ = (one != other) & (one != 0) & (other != 0)
            first, second = one[differ].astype(np.uint64), other[differ].astype(np.uint64)
            found.append(np.unique(np.minimum(first, second) << np.uint64(32) | np.maximum(first, second)))
    packed = np.unique(np.concatenate(found))
    return np.stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


@njit(cache=True, nogil=True)
def _root(parent, n):  # type: ignore[no-untyped-def]
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n


@njit(cache=True, nogil=True)
def _joined(table, one, other):  # type: ignore[no-untyped-def]
    """Voxels, mean, spread, least and greatest of two regions together (Chan's update)."""
    count = table[one, 0] + table[other, 0]
    apart = table[other, 1] - table[one, 1]
    mean = table[one, 1] + apart * (table[other, 0] / count)
    spread = table[one, 2] + table[other, 2] + apart * apart * (table[one, 0] * table[other, 0] / count)
    return count, mean, spread, min(table[one, 3], table[other, 3]), max(table[one, 4], table[other, 4])


@njit(cache=True, nogil=True)
def _merge(pairs, table, parent, tolerance, by_range, at_least):  # type: ignore[no-untyped-def]
    """Go through the pairs once; how many regions were joined. With ``at_least`` small ones join whatever comes first."""
    merged = 0
    for n in range(pairs.shape[0]):
        one, other = _root(parent, pairs[n, 0]), _root(parent, pairs[n, 1])
        if one == other:
            continue
        count, mean, spread, low, high = _joined(table, one, other)
        if at_least > 0:
            allowed = table[one, 0] < at_least or table[other, 0] < at_least
        else:
            allowed = _is_homogeneous(count, spread, low, high, tolerance, by_range)
        if allowed:
            first, last = min(one, other), max(one, other)
            parent[last] = first
            table[first, 0], table[first, 1], table[first, 2] = count, mean, spread
            table[first, 3], table[first, 4] = low, high
            merged += 1
    return merged


def _sorted_pairs(pairs: NDArray[np.int64], table: NDArray[np.float64], parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs of roots that differ, each once, those with the closest means first."""
    while not np.array_equal(parent, parent[parent]):
        parent[:] = parent[parent]
    roots = np.unique(np.sort(parent[pairs], axis=1), axis=0)
    roots = roots[roots[:, 0] != roots[:, 1]]
    apart = np.abs(table[roots[:, 0], 1] - table[roots[:, 1], 1])
    return np.asarray(roots[np.argsort(apart, kind="stable")])


def merge(
    pairs: NDArray[np.int64], table: NDArray[np.float64], tolerance: float, by_range: bool = False, keep_at_least_voxels: int = 0
) -> NDArray[np.int64]:
    """Merge neighbouring regions, those with the closest means first, while the union is homogeneous; the region of each block.

    ``pairs`` and ``table`` as `neighbour_pairs` and `split` give them (block n is row n - 1; the table is changed). At the
    end regions below ``keep_at_least_voxels`` join the neighbour with the closest mean. Returns int64 [blocks], numbers of
    the first block of each region.

    >>> labels, table = split(np.array([[[5, 5, 5, 9]]], np.int16), (1, 1, 1), 0)
    >>> merge(neighbour_pairs(labels), table, 0).tolist()
    [1, 1, 3]
    """
    parent = np.arange(len(table) + 1)
    table = np.concatenate([np.zeros((1, 5)), table])
    while len(pairs):
        pairs = _sorted_pairs(pairs, table, parent)
        if not _merge(pairs, table, parent, float(tolerance), bool(by_range), 0):
            break
    while len(pairs) and keep_at_least_voxels > 1:
        pairs = _sorted_pairs(pairs, table, parent)
        if not _merge(pairs, table, parent, 0.0, False, int(keep_at_least_voxels)):
            break
    while not np.array_equal(parent, parent[parent]):
        parent[:] = parent[parent]
    return np.asarray(parent[1:])
