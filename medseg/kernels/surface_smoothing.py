"""Smoothing a net of many labels without losing volume.

Each point goes to the mean of its neighbours step by step (Laplace), and what that takes from the shape is smoothed the same way and
given back (twicing), so that steps between voxels go and curvature stays. Then each surface between two labels is moved along its
normal, by as much as brings every label back to its volume: the movements are differences of one number a label, found from
a linear system whose matrix holds the areas between the labels. Points never leave their cell of eight voxels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from medseg.kernels.slabs import in_slabs
from medseg.kernels.surface_nets import Nets

_CORRECTIONS = 4  # at most
_CLOSE, _CLOSE_VOXELS = 5e-4, 0.02  # share of its volume, or voxels, by which a label may miss it
_PARTS = 4  # parts of a step: few, for each step waits for all of them
_DENSE = 256  # labels up to which the areas between them are added up in a table


def smooth_net(net: Nets, steps: int, metric: NDArray[np.float64] | None = None) -> Nets:
    """Return the net with smoother points; every label keeps its volume as far as the cells allow.

    `steps` are rounded up to an even number, 0 leaves the net as it is; `metric` (3,3), the affine's columns times each other,
    says by which diagonal a quad is cut. Raises ValueError for a negative number.

    >>> from medseg.kernels.surface_nets import surface_nets
    >>> cube = surface_nets(np.ones((5, 5, 5), np.uint8))
    >>> cube.points[0].tolist(), bool((smooth_net(cube, 16).points[0] > -0.4).all())  # its corner is rounded
    ([-0.5, -0.5, -0.5], True)
    """
    if steps < 0:
        raise ValueError(f"{steps} smoothing steps; pass 0 or more")
    if steps == 0 or not len(net.points):
        return net
    gram = np.eye(3) if metric is None else np.ascontiguousarray(metric, np.float64)
    half = (steps + 1) // 2
    # arrays are used again: fresh memory costs as much as a step
    spare = np.empty_like(net.points)
    once = _relaxed(net.points, np.empty_like(net.points), spare, net, half)
    smooth = _relaxed(once, np.empty_like(net.points), spare, net, half)
    in_slabs(lambda start, stop: _twiced(once, smooth, net.cells, start, stop), len(smooth), _PARTS)
    rows, count = _rows(net)
    target, _ = _measured(net.points, net.quads, rows, gram, count)
    sums = np.empty((len(smooth), 7), np.float32)
    for _ in range(_CORRECTIONS):
        volumes, between = _measured(smooth, net.quads, rows, gram, count)
        if (np.abs(target - volumes)[1:] <= np.maximum(_CLOSE * target[1:], _CLOSE_VOXELS)).all():
            break
        _move(smooth, net, rows, _offsets(between, target - volumes), sums)
    return replace(net, points=smooth)


def _relaxed(
    points: NDArray[np.float32], target: NDArray[np.float32], spare: NDArray[np.float32], net: Nets, steps: int
) -> NDArray[np.float32]:
    """Put the points after some steps into `target`; `spare` is overwritten."""
    source = points
    for left in range(steps, 0, -1):
        read, write = source, target if left % 2 else spare
        in_slabs(lambda start, stop: _relax(read, write, net.bits, net.neighbours, start, stop), len(points), _PARTS)  # noqa: B023
        source = write
    return source


def _rows(net: Nets) -> tuple[NDArray[np.int32], int]:
    """The place of both labels of each quad among all labels, in ascending order, and how many there are; 0 is always the first."""
    if net.sides.dtype.itemsize <= 2:
        table = np.zeros(np.iinfo(net.sides.dtype).max + 1, np.int32)
        table[net.sides[:, 0]] = 1
        table[net.sides[:, 1]] = 1
        table[0] = 1
        places = np.cumsum(table, dtype=np.int32) - 1
        return places[net.sides], int(places[-1]) + 1
    numbers = np.unique(np.append(net.sides, net.sides.dtype.type(0)))
    return np.searchsorted(numbers, net.sides).astype(np.int32), len(numbers)


def _measured(
    points: NDArray[np.float32], quads: NDArray[np.int32], rows: NDArray[np.int32], gram: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], sparse.csr_matrix]:
    """Volume of each label, and the areas between labels."""
    dense = count if count <= _DENSE else 0

    def part(start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        return _volumes(points, quads, rows, gram, count, dense, start, stop)  # type: ignore[no-any-return]

    parts = in_slabs(part, len(quads))
    volumes = np.sum([volume for volume, _, _ in parts], axis=0)
    if dense:
        return volumes, sparse.csr_matrix(np.sum([between for _, between, _ in parts], axis=0))
    areas = np.concatenate([areas for _, _, areas in parts]).astype(np.float64)
    return volumes, sparse.coo_matrix((areas, (rows[:, 0], rows[:, 1])), (count, count)).tocsr()


def _offsets(between: sparse.csr_matrix, missing: NDArray[np.float64]) -> NDArray[np.float32]:
    """How far each label wants its surface outward (0 for the outside), so that their differences bring what is missing."""
    both = between + between.T
    system = sparse.diags(np.asarray(both.sum(axis=1)).ravel()) - both
    offsets = np.zeros(len(missing), np.float32)
    inner = system.tocsr()[1:, 1:]
    offsets[1:] = spsolve(inner.tocsc(), missing[1:]) if len(missing) <= _DENSE else _conjugate_gradients(inner, missing[1:])
    return np.clip(offsets, -0.5, 0.5)


def _conjugate_gradients(system: sparse.csr_matrix, right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve a symmetric positive system, scaled by its diagonal, well enough for a correction that is repeated."""
    scale = 1 / system.diagonal()
    solution, rest = np.zeros_like(right), right.copy()
    better = scale * rest
    direction, size = better.copy(), float(rest @ better)
    enough = 1e-8 * size
    for _ in range(200):
        if size <= enough:
            break
        image = system @ direction
        step = size / float(direction @ image)
        solution += step * direction
        rest -= step * image
        better = scale * rest
        size, before = float(rest @ better), size
        direction = better + size / before * direction
    return solution


@njit(cache=True, nogil=True)
def _relax(source, target, bits, neighbours, start, stop):  # type: ignore[no-untyped-def]
    """One step: each point goes half the way to the mean of its neighbours."""
    half = np.float32(0.5)
    for n in range(start, stop):
        faces = bits[n] >> 8
        x = y = z = np.float32(0)
        count = 0
        for face in range(6):
            if faces & 1:
                if face == 0:
                    other = n - 1
                elif face == 1:
                    other = n + 1
                else:
                    other = neighbours[n, face - 2]
                x += source[other, 0]
                y += source[other, 1]
                z += source[other, 2]
                count += 1
            faces >>= 1
        share = half / np.float32(count)
        target[n, 0] = half * source[n, 0] + share * x
        target[n, 1] = half * source[n, 1] + share * y
        target[n, 2] = half * source[n, 2] + share * z


@njit(cache=True, nogil=True)
def _twiced(once, twice, cells, start, stop):  # type: ignore[no-untyped-def]
    """Points smoothed once, and what that took smoothed and given back: 2 S - S², for S is linear. Back in their cells."""
    for n in range(start, stop):
        for axis in range(3):
            twice[n, axis] = _in_cell(np.float32(2) * once[n, axis] - twice[n, axis], cells[n, axis])


@njit(cache=True, nogil=True)
def _in_cell(place, cell):  # type: ignore[no-untyped-def]
    room = np.float32(0.49)  # voxels from the middle of the cell along each axis
    middle = np.float32(cell) - np.float32(0.5)
    return min(max(place, middle - room), middle + room)


@njit(cache=True, nogil=True)
def _volumes(points, quads, rows, gram, count, dense, start, stop):  # type: ignore[no-untyped-def]
    """Volume of each label by the divergence theorem, cut into triangles as meshes are; areas between labels, in a table or by quad."""
    volumes = np.zeros(count)
    between = np.zeros((dense, dense))
    areas = np.empty(0 if dense else stop - start, np.float32)
    for quad in range(start, stop):
        a, b, c, d = quads[quad, 0], quads[quad, 1], quads[quad, 2], quads[quad, 3]
        px, py, pz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        qx, qy, qz = points[d, 0] - points[b, 0], points[d, 1] - points[b, 1], points[d, 2] - points[b, 2]
        sx, sy, sz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        nx, ny, nz = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx  # twice the area
        area = np.float32(0.5) * np.sqrt(nx * nx + ny * ny + nz * nz)
        if dense:
            between[rows[quad, 0], rows[quad, 1]] += area
        else:
            areas[quad - start] = area
        # twice the area times the height of corner a over the origin, and the tetrahedron between the two ways to cut the quad
        six = np.float64(nx) * points[a, 0] + np.float64(ny) * points[a, 1] + np.float64(nz) * points[a, 2]
        tetrahedron = np.float64(sx) * nx + np.float64(sy) * ny + np.float64(sz) * nz
        first = gram[0, 0] * px * px + gram[1, 1] * py * py + gram[2, 2] * pz * pz
        first += 2 * (gram[0, 1] * px * py + gram[0, 2] * px * pz + gram[1, 2] * py * pz)
        second = gram[0, 0] * qx * qx + gram[1, 1] * qy * qy + gram[2, 2] * qz * qz
        second += 2 * (gram[0, 1] * qx * qy + gram[0, 2] * qx * qz + gram[1, 2] * qy * qz)
        if second < first * (1 - 1e-6):
            six += tetrahedron
        volumes[rows[quad, 0]] += six / 6
        volumes[rows[quad, 1]] -= six / 6
    return volumes, between, areas


def _move(points: NDArray[np.float32], net: Nets, rows: NDArray[np.int32], offsets: NDArray[np.float32], sums: NDArray[np.float32]) -> None:
    """Move points in place along their normals by what the two labels of their quads ask for, and keep them in their cells."""
    _ask(points, net.quads, rows, offsets, sums)
    in_slabs(lambda start, stop: _moved(points, net.cells, sums, start, stop), len(points), _PARTS)


@njit(cache=True, nogil=True)
def _ask(points, quads, rows, offsets, sums):  # type: ignore[no-untyped-def]
    """By point: the sum over its quads of their normals times change, of their normals, and of their areas."""
    sums[:] = 0
    for quad in range(quads.shape[0]):
        a, b, c, d = quads[quad, 0], quads[quad, 1], quads[quad, 2], quads[quad, 3]
        px, py, pz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        qx, qy, qz = points[d, 0] - points[b, 0], points[d, 1] - points[b, 1], points[d, 2] - points[b, 2]
        nx, ny, nz = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx
        size = np.sqrt(nx * nx + ny * ny + nz * nz)
        change = offsets[rows[quad, 0]] - offsets[rows[quad, 1]]
        sign = np.float32(1 if rows[quad, 0] < rows[quad, 1] else -1)
        for n in range(4):
            point = quads[quad, n]
            sums[point, 0] += change * nx
            sums[point, 1] += change * ny
            sums[point, 2] += change * nz
            sums[point, 3] += sign * nx
            sums[point, 4] += sign * ny
            sums[point, 5] += sign * nz
            sums[point, 6] += size


@njit(cache=True, nogil=True)
def _moved(points, cells, sums, start, stop):  # type: ignore[no-untyped-def]
    further = np.float32(1.3)  # points near to edges move less than their label asks for
    for n in range(start, stop):
        length = np.sqrt(sums[n, 3] ** 2 + sums[n, 4] ** 2 + sums[n, 5] ** 2)
        length = max(length, np.float32(0.5) * sums[n, 6])  # shorter only where several surfaces meet
        if length > 0:
            for axis in range(3):
                points[n, axis] = _in_cell(points[n, axis] + further * sums[n, axis] / length, cells[n, axis])
