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

from medseg.core.errors import TooLargeError

from .arrays import connectivity_of
from .slabs import in_slabs, slab_limits

_NONE = np.uint64(0)
_BIT = np.uint64(1)
_BYTE = np.uint64(8)
_LAST = np.uint64(56)
_MOST = 2**31 - 1


@dataclass(frozen=True)
class Runs:
    """Runs of the voxels inside a mask: ``lines`` int64 [K * J + 1], ``first`` and ``stop`` int32 [number of runs]."""

    shape: tuple[int, int, int]
    lines: NDArray[np.int64]
    first: NDArray[np.int32]
    stop: NDArray[np.int32]


def line_scratch(length: int) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.int32]]:
    """What `line_runs` works in: a byte for each voxel and at least one that stays 0, the same as words, and places.

    Made here and not in the kernels, where numba would take half a second more to compile.
    """
    inside = np.zeros((length // 8 + 1) * 8, np.uint8)
    return inside, inside.view(np.uint64), np.empty(inside.size + 8, np.int32)


@njit(cache=True, nogil=True, inline="always")
def line_runs(line, lower, upper, scratch, first, stop, n):  # type: ignore[no-untyped-def]
    """Append the runs of one line from place n on; ``scratch`` comes from `line_scratch`."""
    inside, words, ends = scratch
    for i in range(line.size):  # this loop becomes vector instructions
        inside[i] = np.uint8(line[i] >= lower) & np.uint8(line[i] <= upper)
    found = np.int64(0)
    before = _NONE
    for w in range(words.size):
        word = words[w]
        changes = word ^ (word << _BYTE | before)
        before = word >> _LAST
        if changes == _NONE:
            continue
        for n_byte in range(8):  # no branch: in noise the processor could not foresee it
            ends[found] = 8 * w + n_byte
            found += np.int64(changes & _BIT)
            changes >>= _BYTE
    for m in range(found // 2):
        first[n + m] = ends[2 * m]
        stop[n + m] = ends[2 * m + 1]
    return n + found // 2


@njit(cache=True, nogil=True)
def _with_room(array, used, more):  # type: ignore[no-untyped-def]
    wider = np.empty(2 * array.size + more, np.int32)
    for n in range(used):  # assigning a slice would take numba seconds to compile
        wider[n] = array[n]
    return wider


@njit(cache=True, nogil=True)
def _slab_runs(image, lower, upper, scratch, start, end):  # type: ignore[no-untyped-def]
    _, height, length = image.shape
    most = length // 2 + 1
    first = np.empty(max(most, (end - start) * height * 8), np.int32)  # memory is only used as far as it is written
    stop = np.empty_like(first)
    lines = np.empty((end - start) * height, np.int64)
    n = 0
    for k in range(start, end):
        for j in range(height):
            lines[(k - start) * height + j] = n
            if n + most > first.size:
                first, stop = _with_room(first, n, most), _with_room(stop, n, most)
            n = line_runs(image[k, j], lower, upper, scratch, first, stop, n)
    return lines, first[:n], stop[:n]


def find_runs(image: NDArray[Any], lower: Any, upper: Any) -> Runs:
    """The runs of the voxels with lower <= value <= upper.

    ``image`` comes from `arrays.as_image` and the limits from `arrays.limits_as`; NaN is never inside. More than
    2**31 - 1 runs or voxels along one axis raise a TooLargeError.
    """
    depth, height, length = image.shape
    if length > _MOST - 8:
        raise TooLargeError(f"the image has {length} voxels along i, and at most {_MOST - 8} can be worked on; crop or resample it first")
    parts = in_slabs(lambda start, end: _slab_runs(image, lower, upper, line_scratch(length), start, end), depth)
    offsets = np.cumsum([0] + [part[1].size for part in parts])
    if offsets[-1] > _MOST:
        raise TooLargeError(f"the mask falls into {offsets[-1]} runs, more than {_MOST}; crop or resample the scan first")
    lines = np.empty(depth * height + 1, np.int64)
    at = 0
    for part, offset in zip(parts, offsets, strict=False):
        np.add(part[0], offset, out=lines[at : at + part[0].size])
        at += part[0].size
    lines[-1] = offsets[-1]
    first, stop = (np.concatenate([part[n] for part in parts]) for n in (1, 2))
    return Runs((depth, height, length), lines, first, stop)


@njit(cache=True, nogil=True, inline="always")
def first_run(stop, low, high, i):  # type: ignore[no-untyped-def]
    """The first of the runs of one line, low up to high, that ends after i."""
    while low < high:
        middle = (low + high) // 2
        if stop[middle] > i:
            high = middle
        else:
            low = middle + 1
    return low


def reach(connectivity: int) -> tuple[int, int]:
    """How far runs of a face-neighbour and of a diagonal line may lie apart along i and still touch (-1: never)."""
    return {6: (0, -1), 18: (1, 0), 26: (1, 1)}[connectivity_of(connectivity)]


@njit(cache=True, nogil=True, inline="always")
def _root(parent, n):  # type: ignore[no-untyped-def]
    above = np.uint32(parent[n])
    while above != n:
        over = np.uint32(parent[above])
        parent[n] = over
        n, above = over, np.uint32(parent[over])
    return n


@njit(cache=True, nogil=True, inline="always")
def _join_runs(parent, a, b):  # type: ignore[no-untyped-def]
    """Join two runs; the smaller root stays a root. Places are unsigned: numba need not ask for negative ones."""
    root_a, root_b = _root(parent, a), _root(parent, b)
    if root_a < root_b:
        parent[root_b] = root_a
    elif root_b < root_a:
        parent[root_a] = root_b


@njit(cache=True, nogil=True)
def _join_lines(parent, lines, first, stop, here, there, apart):  # type: ignore[no-untyped-def]
    """Join the touching runs of two lines in one sweep over both."""
    a, a_end = np.uint32(lines[here]), np.uint32(lines[here + 1])
    b, b_end = np.uint32(lines[there]), np.uint32(lines[there + 1])
    while a < a_end and b < b_end:
        if (first[a] < stop[b] + apart) & (first[b] < stop[a] + apart):
            if parent[a] != parent[b]:
                _join_runs(parent, a, b)
        a_first = np.uint32(stop[a] < stop[b])  # added, not branched on: which run ends first is like a coin
        a += a_first
        b += np.uint32(1) - a_first


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


def link_runs(runs: Runs, connectivity: int, planes: bool = True) -> NDArray[np.int32]:
    """For each run a run of its component before it, or itself where it is the first: a forest, joined in threads.

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
    return parent


def connect_runs(runs: Runs, connectivity: int, planes: bool = True) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The component of each run (int32, from 0 in order of first appearance) and the voxels of each component.

    ``planes`` as in `link_runs`.
    """
    parent = link_runs(runs, connectivity, planes)
    return parent, _number_components(parent, runs.first, runs.stop)


@njit(cache=True, nogil=True)
def _join_seeds(parent, lines, first, stop, height, seeds):  # type: ignore[no-untyped-def]
    """Join all runs that hold a seed; give the root of that component, or -1 where no run does."""
    joined = np.int64(-1)
    for s in range(seeds.shape[0]):
        line = seeds[s, 0] * height + seeds[s, 1]
        n = first_run(stop, lines[line], lines[line + 1], seeds[s, 2])
        if n < lines[line + 1] and first[n] <= seeds[s, 2]:
            if joined >= 0:
                _join_runs(parent, np.uint32(joined), np.uint32(n))
            joined = n
    return np.int64(_root(parent, np.uint32(joined))) if joined >= 0 else joined


@njit(cache=True, nogil=True)
def _mark(is_inside, parent, root, start, end):  # type: ignore[no-untyped-def]
    for n in range(start, end):
        above = np.uint32(n)
        while np.uint32(parent[above]) != above:  # other threads read the forest: it is not shortened here
            above = np.uint32(parent[above])
        is_inside[n] = np.int64(above) == root


def runs_with_seeds(runs: Runs, seeds: NDArray[np.int64], connectivity: int) -> NDArray[np.uint8]:
    """1 for each run connected to a run that holds a seed, 0 for the others; ``seeds`` N x 3 (k, j, i), in the image."""
    parent = link_runs(runs, connectivity)
    root = _join_seeds(parent, runs.lines, runs.first, runs.stop, runs.shape[1], seeds)
    is_inside = np.empty(parent.size, np.uint8)
    if parent.size:
        in_slabs(lambda start, end: _mark(is_inside, parent, root, start, end), parent.size)
    return is_inside


@njit(cache=True, nogil=True, inline="always")
def fill_run(line, first, stop, value):  # type: ignore[no-untyped-def]
    """Set the voxels of one run: unsigned places, so that numba asks for no negative ones and the loop is a fill."""
    for i in range(np.uint64(first), np.uint64(stop)):
        line[i] = value


@njit(cache=True, nogil=True)
def _paint_slab(out, lines, first, stop, component, values, start, end):  # type: ignore[no-untyped-def]
    height = out.shape[1]
    for k in range(start, end):
        for j in range(height):
            line = out[k, j]
            for n in range(lines[k * height + j], lines[k * height + j + 1]):
                value = values[component[n]]
                if value != 0:
                    fill_run(line, first[n], stop[n], value)


def paint_runs(runs: Runs, component: NDArray[np.int32], values: NDArray[Any]) -> NDArray[Any]:
    """An array of the dtype of ``values`` that holds ``values[component]`` in each run and 0 elsewhere."""
    out = np.zeros(runs.shape, values.dtype)
    table = (out, runs.lines, runs.first, runs.stop, component, values)
    in_slabs(lambda start, end: _paint_slab(*table, start, end), runs.shape[0])
    return out
