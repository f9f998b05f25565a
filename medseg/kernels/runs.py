"""A mask as runs of voxels along the fastest axis, and the connected components of those runs.

A line is one (k, j); line ``n`` is k * J + j. Its runs are ``lines[n]`` up to ``lines[n + 1]`` of ``first`` and
``stop`` (i of the first voxel, and one past the last). Components, holes and region growing all work on this table,
which is far smaller than a label volume: the method of run-based two-scan labelling (doi:10.1109/TIP.2008.919369).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import connectivity_of
from .slabs import in_slabs, slab_limits

_ONES = np.uint64(0x0101010101010101)
_NONE = np.uint64(0)
_MOST = 2**31 - 1


@dataclass(frozen=True)
class Runs:
    """Runs of the voxels inside a mask: ``lines`` int64 [K * J + 1], ``first`` and ``stop`` int32 [number of runs]."""

    shape: tuple[int, int, int]
    lines: NDArray[np.int64]
    first: NDArray[np.int32]
    stop: NDArray[np.int32]


@njit(cache=True, nogil=True, inline="always")
def line_runs(line, lower, upper, inside, words, first, stop, n):  # type: ignore[no-untyped-def]
    """Append the runs of one line from place n on; ``inside`` is scratch of whole words, ``words`` the same memory."""
    length = line.size
    for i in range(length):  # this loop becomes vector instructions
        inside[i] = np.uint8(line[i] >= lower) & np.uint8(line[i] <= upper)
    is_open = False
    for w in range(words.size):
        word = words[w]
        if word == (_ONES if is_open else _NONE):
            continue
        for i in range(8 * w, 8 * w + 8):
            here = inside[i] != 0
            if here != is_open:
                if here:
                    first[n] = i
                else:
                    stop[n] = i
                    n += 1
                is_open = here
    if is_open:
        stop[n] = length
        n += 1
    return n


@njit(cache=True, nogil=True)
def _with_room(array, used, more):  # type: ignore[no-untyped-def]
    wider = np.empty(2 * array.size + more, np.int32)
    for n in range(used):  # assigning a slice would take numba seconds to compile
        wider[n] = array[n]
    return wider


@njit(cache=True, nogil=True)
def _slab_runs(image, lower, upper, start, end):  # type: ignore[no-untyped-def]
    _, height, length = image.shape
    inside = np.zeros((length + 7) // 8 * 8, np.uint8)
    words = inside.view(np.uint64)
    most = length // 2 + 1
    first = np.empty(max(most, (end - start) * height * 2), np.int32)
    stop = np.empty_like(first)
    lines = np.empty((end - start) * height, np.int64)
    n = 0
    for k in range(start, end):
        for j in range(height):
            lines[(k - start) * height + j] = n
            if n + most > first.size:
                first, stop = _with_room(first, n, most), _with_room(stop, n, most)
            n = line_runs(image[k, j], lower, upper, inside, words, first, stop, n)
    return lines, first[:n], stop[:n]


def find_runs(image: NDArray[Any], lower: Any, upper: Any) -> Runs:
    """The runs of the voxels with lower <= value <= upper.

    ``image`` comes from `arrays.as_image` and the limits from `arrays.limits_as`; NaN is never inside. More than
    2**31 - 1 runs or voxels along one axis raise a ValueError.
    """
    depth, height, length = image.shape
    if length > _MOST - 8:
        raise ValueError(f"the image has {length} voxels along i; at most {_MOST - 8} can be coded in runs")
    parts = in_slabs(lambda start, end: _slab_runs(image, lower, upper, start, end), depth)
    offsets = np.cumsum([0] + [part[1].size for part in parts])
    if offsets[-1] > _MOST:
        raise ValueError(f"the mask has {offsets[-1]} runs, more than {_MOST}; work on a part of the volume")
    lines = np.empty(depth * height + 1, np.int64)
    at = 0
    for part, offset in zip(parts, offsets, strict=False):
        np.add(part[0], offset, out=lines[at : at + part[0].size])
        at += part[0].size
    lines[-1] = offsets[-1]
    first, stop = (np.concatenate([part[n] for part in parts]) for n in (1, 2))
    return Runs((depth, height, length), lines, first, stop)


def reach(connectivity: int) -> tuple[int, int]:
    """How far runs of a face-neighbour and of a diagonal line may lie apart along i and still touch (-1: never)."""
    return {6: (0, -1), 18: (1, 0), 26: (1, 1)}[connectivity_of(connectivity)]


@njit(cache=True, nogil=True)
def _root(parent, n):  # type: ignore[no-untyped-def]
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = np.int64(parent[n])
    return n


@njit(cache=True, nogil=True)
def _join_lines(parent, lines, first, stop, here, there, apart):  # type: ignore[no-untyped-def]
    a, a_end = lines[here], lines[here + 1]
    b, b_end = lines[there], lines[there + 1]
    while a < a_end and b < b_end:
        if first[a] < stop[b] + apart and first[b] < stop[a] + apart:
            root_a = _root(parent, a)
            root_b = _root(parent, b)
            if root_a < root_b:
                parent[root_b] = root_a
            elif root_b < root_a:
                parent[root_a] = root_b
        if stop[a] < stop[b]:
            a += 1
        else:
            b += 1


@njit(cache=True, nogil=True)
def _join_planes(parent, lines, first, stop, height, k, face, diagonal):  # type: ignore[no-untyped-def]
    """Join the runs of plane k with those of plane k - 1."""
    for j in range(height):
        here = k * height + j
        if lines[here] == lines[here + 1]:
            continue
        _join_lines(parent, lines, first, stop, here, here - height, face)
        if diagonal >= 0:
            if j > 0:
                _join_lines(parent, lines, first, stop, here, here - height - 1, diagonal)
            if j < height - 1:
                _join_lines(parent, lines, first, stop, here, here - height + 1, diagonal)


@njit(cache=True, nogil=True)
def _join_slab(parent, lines, first, stop, height, start, end, face, diagonal, planes):  # type: ignore[no-untyped-def]
    for n in range(lines[start * height], lines[end * height]):
        parent[n] = n
    for k in range(start, end):
        for j in range(1, height):
            _join_lines(parent, lines, first, stop, k * height + j, k * height + j - 1, face)
        if planes and k > start:
            _join_planes(parent, lines, first, stop, height, k, face, diagonal)


@njit(cache=True, nogil=True)
def _number_components(parent, first, stop):  # type: ignore[no-untyped-def]
    """Replace each parent by the number of its component, in order of appearance; give the voxels of each."""
    count = 0
    for n in range(parent.size):
        count += parent[n] == n
    sizes = np.zeros(count, np.int64)
    count = 0
    for n in range(parent.size):  # a root has the smallest number of its component: it is met first
        if parent[n] == n:
            parent[n] = count
            count += 1
        else:
            parent[n] = parent[parent[n]]
        sizes[parent[n]] += stop[n] - first[n]
    return sizes


def connect_runs(runs: Runs, connectivity: int, planes: bool = True) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The component of each run (int32, from 0 in order of first appearance) and the voxels of each component.

    With ``planes=False`` the planes of k are not joined: components in 2D, plane by plane.
    """
    face, diagonal = reach(connectivity)
    depth, height, _ = runs.shape
    parent = np.empty(runs.first.size, np.int32)
    table = (parent, runs.lines, runs.first, runs.stop, height)
    in_slabs(lambda start, end: _join_slab(*table, start, end, face, diagonal, planes), depth)
    if planes:
        for start, _ in slab_limits(depth)[1:]:
            _join_planes(*table, start, face, diagonal)
    return parent, _number_components(parent, runs.first, runs.stop)


@njit(cache=True, nogil=True)
def _paint_slab(out, lines, first, stop, component, values, start, end):  # type: ignore[no-untyped-def]
    height = out.shape[1]
    for k in range(start, end):
        for j in range(height):
            line = out[k, j]
            for n in range(lines[k * height + j], lines[k * height + j + 1]):
                value = values[component[n]]
                if value != 0:
                    for i in range(first[n], stop[n]):
                        line[i] = value


def paint_runs(runs: Runs, component: NDArray[np.int32], values: NDArray[Any]) -> NDArray[Any]:
    """An array of the dtype of ``values`` that holds ``values[component]`` in each run and 0 elsewhere."""
    out = np.zeros(runs.shape, values.dtype)
    table = (out, runs.lines, runs.first, runs.stop, component, values)
    in_slabs(lambda start, end: _paint_slab(*table, start, end), runs.shape[0])
    return out
