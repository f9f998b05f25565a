"""Where the surface of every label runs: surface elements (surfels) with their area, or border voxels.

A surfel lies at the centre of a cell of 2 x 2 x 2 voxels that is partly inside a mask; its configuration (`kernels.
marching_cubes` has the order of the bits) says how much surface the cell holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import as_labels
from .cells import mark_mixed
from .label_table import grown_hash, place_of
from .marching_cubes import cell_areas_mm2
from .slabs import SLABS, in_slabs, slab_limits


@lru_cache(maxsize=1)
def _symmetries() -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]:
    """The 48 ways to swap and turn round the axes: what they make of the axes (i, j, k), and of each configuration."""
    corners = [(n & 1, n >> 1 & 1, n >> 2) for n in range(8)]
    found = []
    for order in permutations(range(3)):
        for flips in product((0, 1), repeat=3):
            axes = np.zeros((3, 3), np.int64)  # new axes as columns, in steps of the old ones
            axes[order, range(3)] = 1 - 2 * np.array(flips)
            moved = [sum((corner[order[a]] ^ flips[a]) << a for a in range(3)) for corner in corners]
            codes = np.array([sum((code >> n & 1) << moved[n] for n in range(8)) for code in range(256)])
            found.append((axes, codes))
    return tuple(found)


def surfel_areas_mm2(affine: ArrayLike) -> NDArray[np.float64]:
    """The area of the surface in a cell of each configuration, [256] in mm2, as DeepMind's surface-distance counts it.

    Where the inside corners of a face are diagonal, what is rarer among the eight corners is kept apart (inside and
    outside are treated alike); each piece is cut into the triangles of the largest area. With right angles between the
    axes the table equals that of surface-distance. On a sheared grid, where several cuts that are equal on a cube differ,
    it is their mean, so that no order or direction of the axes is preferred. ``affine`` (3, 3) or (4, 4), index to mm.

    >>> surfel_areas_mm2(np.eye(3))[[0, 1, 15, 255]].round(4).tolist()
    [0.0, 0.2165, 1.0, 0.0]
    """
    steps = np.asarray(affine, np.float64)[:3, :3]
    filled = np.array([code.bit_count() for code in range(256)])
    total = np.zeros(256)
    for axes, codes in _symmetries():
        # cell_areas_mm2 joins the inside corners of a diagonal face; for the inverse configuration that parts them
        joined = cell_areas_mm2(steps @ axes)
        parted = joined[::-1]
        total += np.where(filled < 4, parted, np.where(filled > 4, joined, (joined + parted) / 2))[codes]
    areas = total / len(_symmetries())
    areas.setflags(write=False)
    return areas


@dataclass(frozen=True)
class SurfacePoints:
    """The surface points of several labels, one label after the other, each in rising order of (k, j, i).

    Points of label n are rows ``begins[n]`` to ``begins[n + 1]``. Point (k, j, i) of a surfel is the centre of the cell
    between voxel (k, j, i) and the one after it along each axis, so it starts at -1; ``codes`` is its configuration. A
    border voxel is at its own index, with code 0.
    """

    points: NDArray[np.int32]  # [n, 3]
    codes: NDArray[np.uint8]  # [n]
    begins: NDArray[np.int64]  # [labels + 1]


@njit(cache=True, nogil=True)
def _cells(labels, empty, table, write, points, codes, start, end):  # type: ignore[no-untyped-def]
    """Surfels of the cells before plane k, k from start to end: counted in write, and stored where there is room."""
    keys, slots = table
    depth, height, length = labels.shape
    mixed = np.zeros((length + 8) // 8 * 8, np.uint8)
    words = mixed.view(np.uint64)
    corners = np.zeros(8, np.uint64)
    recent, recent_row = np.uint64(0), -1
    stores = codes.size > 0
    for k in range(start, end):
        for j in range(height + 1):
            lines = (
                labels[k - 1, j - 1] if k > 0 and j > 0 else empty,
                labels[k - 1, j] if k > 0 and j < height else empty,
                labels[k, j - 1] if k < depth and j > 0 else empty,
                labels[k, j] if k < depth and j < height else empty,
            )
            mark_mixed(lines, mixed)
            for w in range(words.size):
                if words[w] == 0:
                    continue
                for cell in range(8 * w, min(8 * w + 8, length + 1)):
                    if mixed[cell] == 0:
                        continue
                    for n in range(4):
                        corners[2 * n] = lines[n][cell - 1] if cell > 0 else 0
                        corners[2 * n + 1] = lines[n][cell] if cell < length else 0
                    seen = np.int64(0)
                    for n in range(8):
                        label = corners[n]
                        if label == 0 or (seen >> n) & 1:
                            continue
                        bits = np.int64(0)
                        for m in range(n, 8):
                            bits |= np.int64(corners[m] == label) << m
                        seen |= bits
                        if label != recent:
                            recent, recent_row = label, slots[place_of(keys, slots, label)]
                        if recent_row < 0:
                            continue
                        at = write[recent_row]
                        write[recent_row] = at + 1
                        if stores:
                            points[at, 0], points[at, 1], points[at, 2] = k - 1, j - 1, cell - 1
                            codes[at] = bits


@njit(cache=True, nogil=True)
def _border_voxels(labels, empty, table, write, points, codes, start, end):  # type: ignore[no-untyped-def]
    """Voxels of the planes from start to end with a face neighbour of another label; as _cells."""
    keys, slots = table
    depth, height, length = labels.shape
    recent, recent_row = np.uint64(0), -1
    stores = codes.size > 0
    mixed = np.zeros((length + 7) // 8 * 8, np.uint8)
    words = mixed.view(np.uint64)
    for k in range(start, end):
        for j in range(height):
            line = labels[k, j]
            above, below = labels[k - 1, j] if k > 0 else empty, labels[k + 1, j] if k + 1 < depth else empty
            before, after = labels[k, j - 1] if j > 0 else empty, labels[k, j + 1] if j + 1 < height else empty
            for i in range(length):
                a = line[i]
                mixed[i] = np.uint8(a != above[i]) | np.uint8(a != below[i]) | np.uint8(a != before[i]) | np.uint8(a != after[i])
            for i in range(length - 1):
                mixed[i] |= np.uint8(line[i] != line[i + 1])
            for i in range(1, length):
                mixed[i] |= np.uint8(line[i] != line[i - 1])
            mixed[0], mixed[length - 1] = 1, 1
            for w in range(words.size):
                if words[w] == 0:
                    continue
                for i in range(8 * w, min(8 * w + 8, length)):
                    label = np.uint64(line[i])
                    if mixed[i] == 0 or label == 0:
                        continue
                    if label != recent:
                        recent, recent_row = label, slots[place_of(keys, slots, label)]
                    if recent_row < 0:
                        continue
                    at = write[recent_row]
                    write[recent_row] = at + 1
                    if stores:
                        points[at, 0], points[at, 1], points[at, 2] = k, j, i


@njit(cache=True, nogil=True)
def _table(numbers):  # type: ignore[no-untyped-def]
    keys, slots = np.zeros(1024, np.uint64), np.full(1024, -1, np.int64)
    for n in range(numbers.size):
        if 4 * n > keys.size:
            keys, slots = grown_hash(keys, slots)
        at = place_of(keys, slots, numbers[n])
        keys[at], slots[at] = numbers[n], n
    return keys, slots


class SurfaceScan:
    """The surface of labels on one array (k, j, i), counted first so that the caller can bound the memory.

    ``numbers`` are the labels looked for, each once; ``voxels`` takes the border voxels (with a face neighbour outside
    the label) in place of the surfels. What lies outside the array is background: a mask that the array cuts off is
    closed there.

    >>> scan = SurfaceScan(np.ones((1, 1, 1), np.uint8), [1])
    >>> scan.counts.tolist(), scan.points([0]).codes.tolist()
    ([8], [128, 64, 32, 16, 8, 4, 2, 1])
    """

    def __init__(self, labels: NDArray[Any], numbers: ArrayLike, voxels: bool = False) -> None:
        self._labels = as_labels(labels)
        self._numbers = np.asarray(numbers, np.uint64)
        self._kernel = _border_voxels if voxels else _cells
        self._empty = np.zeros(self._labels.shape[2], self._labels.dtype)
        self._empty.flags.writeable = False
        planes = self._labels.shape[0] + (0 if voxels else 1)
        self._planes = planes
        self._starts = [start for start, _ in slab_limits(planes, SLABS)]
        self._per_slab = np.zeros((len(self._starts), len(self._numbers)), np.int64)
        self._run(self._numbers, self._per_slab.copy(), None)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Points of each label, in the order of the numbers."""
        return np.asarray(self._per_slab.sum(axis=0))

    def _run(self, numbers: NDArray[np.uint64], write: NDArray[np.int64], out: SurfacePoints | None) -> None:
        table = _table(numbers)
        points = np.zeros((0, 3), np.int32) if out is None else out.points
        codes = np.zeros(0, np.uint8) if out is None else out.codes

        def work(start: int, end: int) -> None:
            row = write[self._starts.index(start)]
            self._kernel(self._labels, self._empty, table, row, points, codes, start, end)

        in_slabs(work, self._planes, SLABS)
        if out is None:
            self._per_slab = write

    def points(self, rows: ArrayLike) -> SurfacePoints:
        """The points of some of the labels, given by their place in ``numbers``."""
        chosen = np.asarray(rows, np.int64)
        per_slab = self._per_slab[:, chosen]
        begins = np.concatenate([[0], np.cumsum(per_slab.sum(axis=0))])
        out = SurfacePoints(np.zeros((int(begins[-1]), 3), np.int32), np.zeros(int(begins[-1]), np.uint8), begins)
        write = begins[:-1] + np.cumsum(per_slab, axis=0) - per_slab
        if begins[-1]:
            self._run(self._numbers[chosen], write, out)
        return out
