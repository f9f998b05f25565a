"""Surface nets of all labels in one pass: one point a cell of eight voxels, one quad a pair of touching voxels that differ.

Gibson 1998, doi:10.1007/BFb0056277; of many labels at once: Frisken 2022, http://jcgt.org/published/0011/01/03/. The points
lie on the corners of the voxels, so the net encloses exactly the voxels; smoothing moves each inside its own cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medseg.core.errors import TooLargeError
from medseg.kernels.arrays import as_labels, as_words
from medseg.kernels.slabs import in_slabs, slab_limits
from medseg.kernels.surface_tables import surface_tables

SPECIAL = 64  # bit of a cell in which a label has more than one sheet, or touches itself across an edge


@dataclass(frozen=True, eq=False)
class Nets:
    """The net of all labels of an array (k,j,i), in index coordinates.

    `points` (N,3) float32 are indices (i,j,k); `quads` (M,4) int32 go round the direction from the first to the second voxel;
    `sides` (M,2) the labels of these two, 0 outside the array; `directions` (M,) uint8 the axis between them (0 i, 1 j, 2 k);
    `cells` (N,3) int32 each point's cell (i,j,k), which lies before the voxel of the same index; `bits` (N,) uint16 its six
    faces that the net passes, SPECIAL, and from bit 8 on the faces along which it is smoothed: where three labels meet only
    those that such a line passes. `neighbours` (N,4) int32 are the points beyond the faces -j, +j, -k, +k, where the net passes
    them, else undefined; those beyond -i and +i are the points before and after.
    """

    points: NDArray[np.float32]
    quads: NDArray[np.int32]
    sides: NDArray[Any]
    directions: NDArray[np.uint8]
    cells: NDArray[np.int32]
    bits: NDArray[np.uint16]
    neighbours: NDArray[np.int32]


def surface_nets(labels: NDArray[Any]) -> Nets:
    """Return the net of all labels of an array (k,j,i), on the corners of the voxels; what touches the border is closed there.

    Raises ValueError or TypeError for poor arrays.

    >>> net = surface_nets(np.ones((1, 1, 1), np.uint8))
    >>> net.points.shape, net.quads.shape
    ((8, 3), (6, 4))
    """
    labels = as_labels(labels)
    words, per_word, repeat = as_words(labels)
    tables = surface_tables()
    depth, _, width = labels.shape
    empty = np.zeros(width, labels.dtype)
    empty.setflags(write=False)

    def find(start: int, stop: int) -> tuple[Any, ...]:
        return _find(labels, empty, words, per_word, repeat, tables.faces, tables.special, start, stop)  # type: ignore[no-any-return]

    found = in_slabs(find, depth + 1)
    counts = np.array([(len(columns), quads) for columns, _, _, quads in found])
    if counts[:, 0].sum() >= 2**31 - 1:
        raise TooLargeError("the surfaces have more than two thousand million points; take fewer labels or a coarser grid")
    first = np.concatenate([[[0, 0]], counts.cumsum(axis=0)])
    points, quad_count = (int(n) for n in first[-1])
    net = Nets(
        np.empty((points, 3), np.float32),
        np.empty((quad_count, 4), np.int32),
        np.empty((quad_count, 2), labels.dtype),
        np.empty(quad_count, np.uint8),
        np.empty((points, 3), np.int32),
        np.concatenate([bits for _, bits, _, _ in found]),
        np.empty((points, 4), np.int32),
    )
    starts = {start: n for n, (start, _) in enumerate(slab_limits(depth + 1))}

    def join(start: int, stop: int) -> None:
        n = starts[start]
        before = found[n - 1] if n else found[0]
        last_rows = before[2][-labels.shape[1] - 1 :] if n else before[2][:0]
        _join(
            labels, found[n][0], found[n][2], (before[0], last_rows), (int(first[n, 0]), int(first[n, 1])), (start, stop),
            (net.points, net.quads, net.sides, net.directions, net.cells, net.neighbours, net.bits),
        )  # fmt: skip

    in_slabs(join, depth + 1)
    return net


@njit(cache=True, nogil=True)
def _find(labels, empty, words, per_word, repeat, faces, special, start, stop):  # type: ignore[no-untyped-def]
    """The cells of some planes that hold different labels: column, bits, cells in each row, and how many quads they own."""
    depth, height, width = labels.shape
    columns = np.empty(1024, np.int32)
    bits = np.empty(1024, np.uint16)
    rows = np.zeros((stop - start) * (height + 1), np.int32)
    count = 0
    quads = 0
    in_row = width // per_word if per_word > 0 else 0
    for k in range(start, stop):
        for j in range(height + 1):
            low, high, near, far = k > 0, k < depth, j > 0, j < height
            a = labels[k - 1, j - 1] if low and near else empty
            b = labels[k - 1, j] if low and far else empty
            c = labels[k, j - 1] if high and near else empty
            d = labels[k, j] if high and far else empty
            at = ((k - 1) * height + j - 1) * in_row
            wa = at if low and near else -1
            wb = at + in_row if low and far else -1
            wc = at + height * in_row if high and near else -1
            wd = at + (height + 1) * in_row if high and far else -1
            v0, v2, v4, v6 = empty[0], empty[0], empty[0], empty[0]
            before = count
            i = 0
            while i <= width:
                if in_row > 0 and i % per_word == 0 and i < width and v0 == v2 and v0 == v4 and v0 == v6:
                    word = np.uint64(v0) * repeat
                    n = i // per_word
                    while n < in_row and _same(words, (wa, wb, wc, wd), n, word):
                        n += 1
                    i = n * per_word
                if i < width:
                    v1, v3, v5, v7 = a[i], b[i], c[i], d[i]
                else:
                    v1, v3, v5, v7 = empty[0], empty[0], empty[0], empty[0]
                if v0 != v1 or v2 != v3 or v4 != v5 or v6 != v7 or v0 != v2 or v0 != v4 or v0 != v6:
                    if count == columns.size:
                        columns = np.concatenate((columns, np.empty(columns.size, np.int32)))
                        bits = np.concatenate((bits, np.empty(bits.size, np.uint16)))
                    columns[count] = i
                    bits[count] = _bits((v0, v1, v2, v3, v4, v5, v6, v7), faces, special)
                    count += 1
                    quads += int(v0 != v1) + int(v0 != v2) + int(v0 != v4)
                v0, v2, v4, v6 = v1, v3, v5, v7
                i += 1
            rows[(k - start) * (height + 1) + j] = count - before
    return columns[:count].copy(), bits[:count].copy(), rows, quads


@njit(cache=True, nogil=True)
def _same(words, rows, n, word):  # type: ignore[no-untyped-def]
    """Whether the n-th word of four rows is this one; a row outside the array (-1) holds zeros."""
    for row in rows:
        if (words[row + n] if row >= 0 else np.uint64(0)) != word:
            return False
    return True


@njit(cache=True, nogil=True)
def _bits(v, faces, special):  # type: ignore[no-untyped-def]
    """The faces along which the point of a cell is smoothed, and whether the cell is special for one of its labels."""
    mask = 0
    other = v[0]
    several = False
    for n in range(8):
        if v[n] == v[0]:
            mask |= 1 << n
        elif other == v[0]:
            other = v[n]
        elif v[n] != other:
            several = True
    if not several:
        return np.uint16(faces[mask] * 257 | (64 if special[mask] or special[255 ^ mask] else 0))
    found = 0
    unusual = False
    for n in range(8):
        mask = 0
        for m in range(8):
            if v[m] == v[n]:
                mask |= 1 << m
        found |= faces[mask]
        unusual = unusual or special[mask]
    three = 0
    for face in range(6):  # corners of a face: two axes span it
        base = (face & 1) << (face >> 1)
        first = 2 if face < 2 else 1
        second = 2 if face >= 4 else 4
        p, q, r, s = v[base], v[base + first], v[base + second], v[base + first + second]
        distinct = 1 + int(q != p) + int(r not in (p, q)) + int(s not in (p, q, r))
        if distinct >= 3:
            three |= 1 << face
    return np.uint16(found | (three if three else found) << 8 | (64 if unusual else 0))


@njit(cache=True, nogil=True)
def _join(labels, columns, rows, before, first, planes, out):  # type: ignore[no-untyped-def]
    """Number the cells of some planes, make their points, quads and neighbours (-j, +j, -k, +k)."""
    points, quads, sides, directions, cells, neighbours, bits = out
    depth, height, width = labels.shape
    maps = np.zeros((2, height + 1, width + 1), np.int32)
    start, stop = planes
    point, quad = first
    at = point - before[1].sum()
    from_column = before[0].size - before[1].sum()
    for j in range(before[1].size):  # the last plane of the slab before
        for _ in range(before[1][j]):
            maps[(start + 1) & 1, j, before[0][from_column]] = at
            at += 1
            from_column += 1
    column = 0
    zero = labels.dtype.type(0)
    for k in range(start, stop):
        here, below = maps[k & 1], maps[(k + 1) & 1]
        for j in range(height + 1):
            for _ in range(rows[(k - start) * (height + 1) + j]):
                i = columns[column]
                column += 1
                here[j, i] = point
                points[point, 0], points[point, 1], points[point, 2] = i - 0.5, j - 0.5, k - 0.5
                cells[point, 0], cells[point, 1], cells[point, 2] = i, j, k
                if bits[point] & 4:
                    neighbours[point, 0] = here[j - 1, i]
                    neighbours[here[j - 1, i], 1] = point
                if bits[point] & 16:
                    neighbours[point, 2] = below[j, i]
                    neighbours[below[j, i], 3] = point
                v = labels[k - 1, j - 1, i - 1] if k > 0 and j > 0 and i > 0 else zero
                v1 = labels[k - 1, j - 1, i] if k > 0 and j > 0 and i < width else zero
                v2 = labels[k - 1, j, i - 1] if k > 0 and j < height and i > 0 else zero
                v4 = labels[k, j - 1, i - 1] if k < depth and j > 0 and i > 0 else zero
                if v != v1:
                    quads[quad, 0], quads[quad, 1], quads[quad, 2], quads[quad, 3] = point, here[j - 1, i], below[j - 1, i], below[j, i]
                    sides[quad, 0], sides[quad, 1], directions[quad] = v, v1, 0
                    quad += 1
                if v != v2:
                    quads[quad, 0], quads[quad, 1], quads[quad, 2], quads[quad, 3] = point, below[j, i], below[j, i - 1], here[j, i - 1]
                    sides[quad, 0], sides[quad, 1], directions[quad] = v, v2, 1
                    quad += 1
                if v != v4:
                    quads[quad, 0], quads[quad, 1], quads[quad, 2], quads[quad, 3] = (
                        point,
                        here[j, i - 1],
                        here[j - 1, i - 1],
                        here[j - 1, i],
                    )
                    sides[quad, 0], sides[quad, 1], directions[quad] = v, v4, 2
                    quad += 1
                point += 1
