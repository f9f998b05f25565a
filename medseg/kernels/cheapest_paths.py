"""Labels that grow from markers along the cheapest paths: exact, with one word per voxel and a queue of buckets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import Connectivity, as_labels, as_mask, connectivity_of, refuse_too_large, same_shape
from .slabs import in_slabs

UNITS = 1024  # cost of the shortest step of the grid: costs are whole numbers, so sums have no rounding and ties are ties
_MOST_LABELS = (1 << 24) - 1  # a word holds the cost above bit 24 and the rank of the label below
_DEAREST = 1024.0 * 1024.0  # of one step, so that the ring of buckets goes once around it
_RING = 2048  # a bucket (word >> 34) is as wide as the shortest step: what is taken out of it is final
_CHUNK = 126  # voxels in a piece of a bucket


def grow(
    image: NDArray[Any],
    markers: NDArray[Any],
    axes_mm: ArrayLike,
    edge_mm: float = 1.0,
    connectivity: Connectivity = 26,
    mask: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Give every voxel the label of the marker with the cheapest path to it, and the cost of that path in mm.

    ``image`` (k, j, i) finite numbers, ``markers`` integers >= 0 on the same grid (0: to be won), ``axes_mm`` three rows:
    the steps along k, j, i in mm (rows that are not at right angles are a sheared grid). A step between neighbours u, v
    costs sqrt(length² + (edge_mm · (image[u] - image[v]))²), rounded to 1/1024 of the shortest step and cut at 1,024
    shortest steps. Equal costs go to the lower label, whatever the order of the voxels. Voxels outside ``mask`` (uint8 or
    bool) and those that no path reaches stay 0, their cost is infinite; markers outside the mask do not count.

    Dijkstra's algorithm with buckets (Dial 1969, doi:10.1145/363269.363610), linear in the voxels. Memory beside input and
    output: 12 bytes per voxel and the queue.

    >>> labels, cost = grow(np.array([[[0, 0, 0, 9, 9]]]), np.array([[[1, 0, 0, 0, 2]]], np.uint8), np.eye(3))
    >>> labels.tolist(), cost.tolist()
    ([[[1, 1, 1, 2, 2]]], [[[0.0, 1.0, 2.0, 1.0, 0.0]]])
    """
    seeds = as_labels(markers, "markers")
    values = _read_only(np.ascontiguousarray(image, np.float32))
    same_shape(values, seeds, ("image", "markers"))
    inside = _read_only(np.ones((0, 0, 0), np.uint8)) if mask is None else as_mask(mask)
    if mask is not None:
        same_shape(values, inside, ("image", "mask"))
    shape = tuple(length + 2 for length in values.shape)
    refuse_too_large(values.shape, border=1)
    numbers = _numbers(seeds)
    if len(numbers) > _MOST_LABELS:
        raise ValueError(f"the markers hold {len(numbers) - 1} labels; at most {_MOST_LABELS - 1} can grow at once")
    offsets, squares, shortest = _steps(shape, axes_mm, connectivity)
    words, levels = np.zeros(shape, np.uint64), np.zeros(shape, np.float32)
    in_slabs(lambda start, end: _pack(values, seeds, numbers, inside, words, levels, start, end), values.shape[0])
    _spread(words.reshape(-1), levels.reshape(-1), offsets, squares, UNITS * edge_mm / shortest)
    labels, cost = np.empty(values.shape, seeds.dtype), np.empty(values.shape, np.float32)
    in_slabs(lambda start, end: _unpack(words, numbers, shortest / UNITS, labels, cost, start, end), values.shape[0])
    return labels.astype(markers.dtype, copy=False), cost


def _neighbours(connectivity: int) -> list[tuple[int, int, int]]:
    most = {6: 1, 18: 2, 26: 3}[connectivity_of(connectivity)]
    steps = [(k, j, i) for k in (-1, 0, 1) for j in (-1, 0, 1) for i in (-1, 0, 1)]
    return [step for step in steps if 0 < abs(step[0]) + abs(step[1]) + abs(step[2]) <= most]


def _steps(shape: tuple[int, ...], axes_mm: ArrayLike, connectivity: int) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Offsets in the padded array, their squared lengths in units, and the shortest step of all 26 in mm."""
    axes = np.asarray(axes_mm, np.float64)
    if axes.shape != (3, 3) or not np.isfinite(axes).all() or np.linalg.matrix_rank(axes) < 3:
        raise ValueError("axes_mm holds no three independent steps; pass the columns of an affine in the order k, j, i")
    shortest = float(min(np.linalg.norm(np.asarray(step) @ axes) for step in _neighbours(26)))
    steps = np.array(_neighbours(connectivity), np.int64)
    offsets = (steps[:, 0] * shape[1] + steps[:, 1]) * shape[2] + steps[:, 2]
    return offsets, np.square(np.linalg.norm(steps @ axes, axis=1) / shortest * UNITS), shortest


def _numbers(seeds: NDArray[Any]) -> NDArray[Any]:
    """The labels present, in rising order, after a 0."""
    found: set[int] = set()
    for plane in seeds:  # a plane at a time: few voxels of most planes are marked
        found.update(np.unique(plane[plane > 0]).tolist())
    return np.array([0, *sorted(found)], seeds.dtype)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


@njit(cache=True, nogil=True)
def _pack(values, seeds, numbers, mask, words, levels, start, end):  # type: ignore[no-untyped-def]
    """Words and intensities with a border one voxel thick; 0 is a voxel that nothing can make cheaper: closed."""
    far = np.uint64(0xFFFFFFFFFFFFFFFF)
    has_mask = mask.size > 0
    for k in range(start, end):
        for j in range(values.shape[1]):
            for i in range(values.shape[2]):
                levels[k + 1, j + 1, i + 1] = values[k, j, i]
                if has_mask and mask[k, j, i] == 0:
                    continue
                label = seeds[k, j, i]
                if label == 0:
                    words[k + 1, j + 1, i + 1] = far
                else:
                    words[k + 1, j + 1, i + 1] = np.uint64(np.searchsorted(numbers, label))


@njit(cache=True, nogil=True)
def _unpack(words, numbers, unit, labels, cost, start, end):  # type: ignore[no-untyped-def]
    far = np.uint64(0xFFFFFFFFFFFFFFFF)
    below = np.uint64((1 << 24) - 1)
    for k in range(start, end):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                word = words[k + 1, j + 1, i + 1]
                if word == far or word == 0:  # noqa: PLR1714 (quicker than a tuple)
                    labels[k, j, i] = 0
                    cost[k, j, i] = np.inf
                else:
                    labels[k, j, i] = numbers[np.int64(word & below)]
                    cost[k, j, i] = np.float64(np.int64(word >> np.uint64(24))) * unit


@njit(cache=True, nogil=True)
def _larger(array):  # type: ignore[no-untyped-def]
    wider = np.empty(array.size * 2, array.dtype)
    wider[: array.size] = array
    return wider


@njit(cache=True, nogil=True)
def _spread(words, levels, offsets, squares, factor):  # type: ignore[no-untyped-def]
    """Make words cheaper until none can be. A bucket is a stack of chunks of ``pool``; ``under`` links them.

    A voxel that became cheaper goes into the bucket of its new cost and is left in its old one: there its word names an
    earlier bucket and it is passed over. A word is less if its cost is, or at equal cost if its label is.
    """
    bucket_bit, cost_bit = np.uint64(34), np.uint64(24)
    below = np.uint64((1 << 24) - 1)
    top, held = np.full(_RING, -1, np.int64), np.zeros(_RING, np.int64)  # chunk on top of each bucket, voxels in it
    pool, under = np.empty(2 * _RING * _CHUNK, np.int32), np.full(2 * _RING, -1, np.int64)
    used, free, waiting = 0, -1, 0
    for v in range(words.size):
        word = words[v]
        if word == 0 or word > below:
            continue
        for m in range(offsets.size):
            if words[v + offsets[m]] > below:
                if top[0] < 0 or held[0] == _CHUNK:
                    if used == under.size:
                        pool, under = _larger(pool), _larger(under)
                    under[used] = top[0]
                    top[0], held[0] = used, 0
                    used += 1
                pool[top[0] * _CHUNK + held[0]] = v
                held[0] += 1
                waiting += 1
                break
    current = 0
    while waiting > 0:
        at = current & (_RING - 1)
        while top[at] >= 0:
            if held[at] == 0:
                chunk = top[at]
                top[at], held[at] = under[chunk], _CHUNK
                under[chunk] = free
                free = chunk
                continue
            held[at] -= 1
            waiting -= 1
            voxel = np.int64(pool[top[at] * _CHUNK + held[at]])
            word = words[voxel]
            if np.int64(word >> bucket_bit) != current:
                continue
            own = np.float64(levels[voxel])
            for m in range(offsets.size):
                u = voxel + offsets[m]
                old = words[u]
                if old <= word:
                    continue
                difference = (own - np.float64(levels[u])) * factor
                cost = np.sqrt(squares[m] + difference * difference) + 0.5
                new = word + (np.uint64(min(cost, _DEAREST)) << cost_bit)
                if new >= old:
                    continue
                words[u] = new
                bucket = np.int64(new >> bucket_bit)
                if bucket == np.int64(old >> bucket_bit):
                    continue  # it waits there already
                to = bucket & (_RING - 1)
                if top[to] < 0 or held[to] == _CHUNK:
                    if free >= 0:
                        chunk = free
                        free = under[chunk]
                    else:
                        if used == under.size:
                            pool, under = _larger(pool), _larger(under)
                        chunk = used
                        used += 1
                    under[chunk] = top[to]
                    top[to], held[to] = chunk, 0
                pool[top[to] * _CHUNK + held[to]] = u
                held[to] += 1
                waiting += 1
        current += 1
