"""Closed surfaces of single labels out of the net of all of them.

Where a label touches itself only across an edge or a corner, the net has one point for several sheets of its surface. Here each
sheet gets a point of its own, a hundredth of a voxel apart, and sheets that share the edge between two cells get one in its middle.
Every edge then belongs to exactly two triangles (cf. Schaefer et al. 2007, doi:10.1109/TVCG.2007.1012). All other points and triangles
are those of the neighbouring label.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
from numba import config, njit
from numpy.typing import NDArray

from medseg.kernels.arrays import as_labels
from medseg.kernels.surface_nets import SPECIAL, Nets
from medseg.kernels.surface_tables import EDGE_CORNERS, surface_tables

Mesh = tuple[NDArray[np.float32], NDArray[np.int32]]

_SLOTS = 9  # a special cell may have three sheets beside the first, and two points in the middle of each of its edges towards 0
_EDGE_CORNERS = np.array(EDGE_CORNERS, np.int64)
# By direction of a quad: the edge that it crosses, as each of its four cells numbers it; the axes along which its sides run
_EDGES = np.array([(0, 1, 3, 2), (4, 6, 7, 5), (8, 9, 11, 10)], np.int64)
_AXES = np.array([(1, 2), (2, 0), (0, 1)], np.int64)
# Of the two cells at a side of a quad (0-1, 1-2, 2-3, 3-0), the one with the larger index and the other
_UPPER = np.array([0, 1, 3, 0], np.int64)
_LOWER = np.array([1, 2, 2, 3], np.int64)


def label_meshes(net: Nets, labels: NDArray[Any], numbers: Sequence[int], metric: NDArray[np.float64] | None = None) -> list[Mesh]:
    """Return the closed surface of each number: vertices (V,3) float32, indices (i,j,k), and outward triangles (T,3) int32.

    `labels` (k,j,i) is the array that `net` was made of; `metric` (3,3), the affine's columns times each other, decides by which
    diagonal a quad is cut. A number that is not there gives an empty mesh.

    >>> from medseg.kernels.surface_nets import surface_nets
    >>> labels = np.array([[[3, 7]]], np.uint8)
    >>> [(len(vertices), len(triangles)) for vertices, triangles in label_meshes(surface_nets(labels), labels, [3, 7, 9])]
    [(8, 12), (8, 12), (0, 0)]
    """
    labels = as_labels(labels)
    tables = surface_tables()
    gram = np.eye(3) if metric is None else np.ascontiguousarray(metric, np.float64)
    flat = net.sides.T.reshape(-1)
    order = np.argsort(flat, kind="stable")
    limits = np.searchsorted(flat[order], np.asarray([*numbers, *(n + 1 for n in numbers)], np.uint64)).reshape(2, -1)
    special = (net.bits & SPECIAL) > 0
    rank = np.cumsum(special, dtype=np.int32) - 1
    size = len(net.points) + _SLOTS * int(special.sum())
    threads = max(1, min(int(config.NUMBA_NUM_THREADS), len(numbers)))
    free: SimpleQueue[NDArray[np.int32]] = SimpleQueue()
    for _ in range(threads):
        free.put(np.full(size, -1, np.int32))

    def mesh(n: int) -> Mesh:
        places = free.get()
        try:
            found: Mesh = _mesh(
                (net.points, net.quads, net.directions, net.cells, net.bits, rank), order[limits[0, n] : limits[1, n]], labels,
                numbers[n], (tables.sheet, tables.sheets, tables.pinched, tables.pull, _EDGES, _AXES, _UPPER, _LOWER, _EDGE_CORNERS),
                gram, places,
            )  # fmt: skip
        finally:
            free.put(places)
        return found

    largest_first = sorted(range(len(numbers)), key=lambda n: int(limits[0, n] - limits[1, n]))
    with ThreadPoolExecutor(threads, thread_name_prefix="medseg") as pool:
        done = dict(zip(largest_first, pool.map(mesh, largest_first), strict=True))
    return [done[n] for n in range(len(numbers))]


@njit(cache=True, nogil=True)
def _mask(labels, cells, point, number):  # type: ignore[no-untyped-def]
    """Which of the eight voxels of a cell have the number."""
    depth, height, width = labels.shape
    mask = 0
    for corner in range(8):
        i = cells[point, 0] - 1 + (corner & 1)
        j = cells[point, 1] - 1 + (corner >> 1 & 1)
        k = cells[point, 2] - 1 + (corner >> 2)
        if 0 <= i < width and 0 <= j < height and 0 <= k < depth and labels[k, j, i] == number:
            mask |= 1 << corner
    return mask


@njit(cache=True, nogil=True)
def _mesh(net, entries, labels, number, tables, gram, places):  # type: ignore[no-untyped-def]
    """The mesh of one number; `places` (all -1, and so again at the end) holds the vertex of each point, sheet and middle."""
    points, quads, directions, cells, bits, rank = net
    sheet, sheets, pull, edges = tables[0], tables[1], tables[3], tables[4]
    apart = np.float32(0.01)
    used = np.empty(entries.size + 64, np.int64)
    vertices = np.empty((entries.size + 64, 3), np.float32)
    triangles = np.empty((2 * entries.size + 64, 3), np.int32)
    count, made = 0, 0
    corner = np.empty(4, np.int64)
    masks = np.empty(4, np.int64)
    ring = np.empty(8, np.int64)
    for entry in entries:
        side = 1 if entry >= quads.shape[0] else 0
        quad = entry - side * quads.shape[0]
        direction = directions[quad]
        if used.size < count + 8:
            used = np.concatenate((used, np.empty(used.size, np.int64)))
            vertices = np.concatenate((vertices, np.empty_like(vertices)))
        if triangles.shape[0] < made + 6:
            triangles = np.concatenate((triangles, np.empty_like(triangles)))
        specials = 0
        for n in range(4):
            point = quads[quad, n]
            slot, moved, masks[n] = np.int64(point), -1, -1
            if bits[point] & 64:
                specials += 1
                masks[n] = _mask(labels, cells, point, number)
                if sheets[masks[n]] > 1:
                    moved = sheet[masks[n], edges[direction, n]]
                    slot = points.shape[0] + 9 * np.int64(rank[point]) + moved - 1 if moved > 0 else slot
            if places[slot] < 0:
                places[slot] = count
                used[count] = slot
                for axis in range(3):
                    shift = apart * pull[masks[n], moved, axis] if moved >= 0 else np.float32(0)
                    vertices[count, axis] = points[point, axis] + shift
                count += 1
            corner[n] = places[slot]
        length, start = 4, -1
        ring[:4] = corner
        if specials > 1:
            row = points.shape[0] + 9 * rank[quads[quad]].astype(np.int64) + 3
            length, start, count = _ring(ring, corner, masks, row, (direction, side), tables, places, used, vertices, count)
        if start < 0:
            start = _diagonal(points, quads, quad, gram)
        made = _cut(ring, length, start, side, triangles, made)
    for n in range(count):
        places[used[n]] = -1
    return vertices[:count].copy(), triangles[:made].copy()


@njit(cache=True, nogil=True)
def _ring(ring, corner, masks, row, place, tables, places, used, vertices, count):  # type: ignore[no-untyped-def]
    """The corners of a quad with the middles of edges that two sheets share; how many, one of the middles (-1 none), vertices."""
    pinched, edges, axes, upper, lower, edge_corners = tables[2], tables[4], tables[5], tables[6], tables[7], tables[8]
    direction, side = place
    length, start = 0, -1
    for n in range(4):
        after = (n + 1) & 3
        axis, up = axes[direction, n & 1], upper[n]
        ring[length] = corner[n]
        length += 1
        if masks[n] < 0 or masks[after] < 0 or not (pinched[masks[up], 2 * axis] and pinched[masks[lower[n]], 2 * axis + 1]):
            continue
        inside = edge_corners[edges[direction, up], side]  # the sheet's own corner tells the two apart
        slot = row[up] + 2 * axis + (inside >> (1 if axis == 0 else 0) & 1)
        if places[slot] < 0:
            places[slot] = count
            used[count] = slot
            for m in range(3):
                towards = np.float32((inside >> m & 1) - 0.5) if m != axis else np.float32(0)
                middle = np.float32(0.5) * (vertices[corner[n], m] + vertices[corner[after], m])
                vertices[count, m] = middle + np.float32(0.01) * towards
            count += 1
        start = length
        ring[length] = places[slot]
        length += 1
    return length, start, count


@njit(cache=True, nogil=True)
def _cut(ring, length, start, side, triangles, made):  # type: ignore[no-untyped-def]
    """Cut a ring into triangles from one corner on, outward for its side; how many triangles there are then."""
    for n in range(1, length - 1):
        one, two = ring[(start + n) % length], ring[(start + n + 1) % length]
        triangles[made, 0] = ring[start]
        triangles[made, 1] = two if side else one
        triangles[made, 2] = one if side else two
        made += 1
    return made


@njit(cache=True, nogil=True)
def _diagonal(points, quads, quad, gram):  # type: ignore[no-untyped-def]
    """The corner from which the shorter diagonal starts, 0 or 1; the same for the labels on both sides."""
    lengths = np.zeros(2)
    for n in range(2):
        p, q = quads[quad, n], quads[quad, n + 2]
        for a in range(3):
            for b in range(3):
                lengths[n] += gram[a, b] * (points[q, a] - points[p, a]) * (points[q, b] - points[p, b])
    return 1 if lengths[1] < lengths[0] * (1 - 1e-6) else 0
