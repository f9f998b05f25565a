"""Where a random walker first meets a mark: conjugate gradients on the graph of voxels, with a hierarchy of coarser ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import as_labels, as_mask, same_shape
from .slabs import in_slabs

TOLERANCE = 1e-6  # of the error (in the norm of its energy) against that of the answer: probabilities right to 1e-3
_MOST_ROUNDS = 400
_FLOOR = 1e-6  # the least share of a weight that an edge leaves: no voxel is cut off
_COARSEST = 64  # voxels of a grid that is solved by sweeps alone


class _Grid(NamedTuple):
    """One grid of the hierarchy; flat arrays with `pad` voxels before and behind, so that no neighbour lies outside."""

    shape: tuple[int, int, int]
    steps: NDArray[np.int64]  # (n, 3) neighbours (k, j, i), each pair once
    flat: NDArray[np.int64]  # the same as offsets
    pad: int
    weights: NDArray[np.float32]  # (n, voxels): of the edge to voxel + flat
    diagonal: NDArray[np.float32]  # 0: not unknown (a mark, closed, or nothing there)
    factors: NDArray[np.int64]  # voxels of this grid in one of the next, along each axis


def lattice(axes_mm: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return steps (n, 3) between neighbours and weights >= 0 whose sum w · step · stepᵀ, in mm, is the unit matrix.

    ``axes_mm``: three rows, the steps along k, j, i in mm. Three steps along the axes where these are at right angles, with
    1 / length² as weights; up to six on a sheared grid. Selling 1874, doi:10.1515/crll.1874.77.143.

    >>> steps, weights = lattice(np.diag([2.0, 1.0, 1.0]))
    >>> weights.tolist()
    [0.25, 1.0, 1.0]
    """
    inverse = np.linalg.inv(np.asarray(axes_mm, np.float64))
    tensor = inverse.T @ inverse
    base = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]], np.int64)
    slack = 1e-9 * float(np.trace(tensor))
    for _ in range(1000):
        acute = [(a, b) for a, b in combinations(range(4), 2) if base[a] @ tensor @ base[b] > slack]
        if not acute:
            break
        a, b = acute[0]
        rest = [n for n in range(4) if n not in (a, b)]
        base[rest] += base[a]
        base[a] = -base[a]
    found = {}
    for a, b in combinations(range(4), 2):
        weight = -float(base[a] @ tensor @ base[b])
        c, d = (n for n in range(4) if n not in (a, b))
        step = tuple(int(n) for n in np.cross(base[c], base[d]))
        if weight > slack:
            found[max(step, tuple(-n for n in step))] = weight
    steps = sorted(found, reverse=True)
    return np.array(steps, np.int64), np.array([found[step] for step in steps])


def probabilities(
    image: NDArray[Any],
    markers: NDArray[Any],
    axes_mm: ArrayLike,
    beta: float,
    mask: NDArray[Any] | None = None,
    tolerance: float = TOLERANCE,
    leave_out: int = 0,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each label and the probability (k, j, i) that a walker from a voxel meets a mark of it before any other mark.

    ``image`` (k, j, i) finite numbers, ``markers`` integers >= 0 on the same grid (0: to be decided), ``axes_mm`` three rows:
    the steps along k, j, i in mm. The walker takes an edge with weight w · exp(-beta · difference²), w from `lattice`: without
    differences the walk is the same in all directions of the patient, on any grid. Voxels outside ``mask`` are closed; those
    from which no mark can be reached have probability 0 for every label. Labels come in rising order, without ``leave_out``,
    which has what is left to 1.

    Grady 2006, doi:10.1109/TPAMI.2006.233. Conjugate gradients, preconditioned by one cycle over grids of merged voxels.
    Memory beside input and output: about 50 bytes per voxel (80 on a sheared grid).

    >>> ways = dict(probabilities(np.zeros((1, 1, 4)), np.array([[[1, 0, 0, 2]]], np.uint8), np.eye(3), 1.0))
    >>> ways[1].round(3).tolist()
    [[[1.0, 0.6669999957084656, 0.3330000042915344, 0.0]]]
    """
    seeds = as_labels(markers, "markers")
    values = np.ascontiguousarray(image, np.float32)
    same_shape(values, seeds, ("image", "markers"))
    inside = np.ones((0, 0, 0), np.uint8) if mask is None else as_mask(mask).copy()
    if mask is not None:
        same_shape(values, inside, ("image", "mask"))
    grids = _hierarchy(values, seeds, inside, np.asarray(axes_mm, np.float64), beta)
    finest = grids[0]
    for label in np.unique(seeds[(seeds > 0) & (seeds != leave_out)]).tolist():
        right = np.zeros(finest.diagonal.size, np.float32)
        marked = np.zeros(right.size, np.uint8)
        inner = slice(finest.pad, finest.pad + values.size)
        marked[inner] = (seeds == label).reshape(-1)
        _from_marks(finest.weights, finest.flat, finest.diagonal, marked, right, finest.pad)
        solved = _solve(grids, right, tolerance)[inner].reshape(values.shape)
        np.clip(solved, 0, 1, out=solved)
        solved[(seeds == label) if mask is None else (seeds == label) & (inside > 0)] = 1
        yield label, solved


def _hierarchy(
    values: NDArray[np.float32], seeds: NDArray[Any], inside: NDArray[np.uint8], axes_mm: NDArray[np.float64], beta: float
) -> list[_Grid]:
    steps, base = lattice(axes_mm)
    lengths = np.linalg.norm(axes_mm, axis=1)
    shape = (values.shape[0], values.shape[1], values.shape[2])
    flat, pad = _flat(steps, shape)
    weights = np.zeros((len(steps), values.size + 2 * pad), np.float32)
    relative = (base / base.max()).astype(np.float64)
    in_slabs(lambda start, end: _edges(values, inside, steps, relative, beta, _FLOOR, weights, pad, start, end), shape[0])
    unknown = np.zeros(weights.shape[1], np.uint8)
    unknown[pad : pad + values.size] = (seeds == 0).reshape(-1)
    if inside.size:
        unknown &= _reached(weights, flat, unknown, pad)
    diagonal = np.zeros(weights.shape[1], np.float32)
    _diagonal(weights, flat, unknown, diagonal, pad)
    grids = [_Grid(shape, steps, flat, pad, weights, diagonal, _factors(shape, lengths))]
    while int(np.prod(grids[-1].shape)) > _COARSEST and int(grids[-1].factors.max()) > 1:
        lengths = lengths * grids[-1].factors
        grids.append(_coarser(grids[-1], lengths))
    return grids


def _flat(steps: NDArray[np.int64], shape: tuple[int, int, int]) -> tuple[NDArray[np.int64], int]:
    flat = (steps[:, 0] * shape[1] + steps[:, 1]) * shape[2] + steps[:, 2]
    return flat, int(np.abs(flat).max()) + 1


def _factors(shape: tuple[int, int, int], lengths: NDArray[np.float64]) -> NDArray[np.int64]:
    """Merge two voxels along the axes on which they are strongly tied: those with steps not much longer than the shortest."""
    long = np.array(shape) > 1
    if not long.any():
        return np.ones(3, np.int64)
    return np.where(long & (lengths < 1.5 * lengths[long].min()), 2, 1)


def _coarser(fine: _Grid, lengths: NDArray[np.float64]) -> _Grid:
    k, j, i = (-(-length // int(factor)) for length, factor in zip(fine.shape, fine.factors, strict=True))
    shape = (k, j, i)
    flat, pad = _flat(fine.steps, shape)
    weights = np.zeros((len(fine.steps), k * j * i + 2 * pad), np.float32)
    diagonal = np.zeros(weights.shape[1])
    place = np.full((3, 3, 3), -1, np.int64)  # which of the steps leads from one coarse voxel to another; +100: backwards
    for number, step in enumerate(fine.steps):
        if np.abs(step).max() <= 1:
            place[tuple(step + 1)] = number
            place[tuple(1 - step)] = number + 100
    _merge(
        fine.weights,
        fine.diagonal,
        np.array(fine.shape),
        fine.steps,
        fine.pad,
        fine.factors,
        place,
        weights,
        diagonal,
        np.array(shape),
        pad,
    )
    _total(weights, flat, diagonal, pad)
    return _Grid(shape, fine.steps, flat, pad, weights, diagonal.astype(np.float32), _factors(shape, lengths))


def _solve(grids: list[_Grid], right: NDArray[np.float32], tolerance: float) -> NDArray[np.float32]:
    """Conjugate gradients with the cycle over the grids as preconditioner."""
    finest = grids[0]
    x, residual = np.zeros_like(right), right.copy()
    direction = np.zeros_like(right)
    image = np.zeros_like(right)
    before, goal = 1.0, 0.0
    for _ in range(_MOST_ROUNDS):
        better = _cycle(grids, 0, residual)
        now = _dot(residual, better)  # the square of the error as far as the preconditioner knows it
        if not now > goal:
            break
        _add_scaled(better, direction, now / before)  # direction = better + (now / before) direction
        before, goal = now, goal or tolerance**2 * now
        curvature = _multiply(finest.weights, finest.flat, finest.diagonal, direction, image, finest.pad)
        if not curvature > 0:
            break
        _step(x, residual, direction, image, now / curvature)
    return x


def _cycle(grids: list[_Grid], number: int, right: NDArray[np.float32]) -> NDArray[np.float32]:
    grid = grids[number]
    x = np.zeros_like(right)
    if number == len(grids) - 1:
        for _ in range(8):
            _sweep(grid.weights, grid.flat, grid.diagonal, x, right, grid.pad, True)
            _sweep(grid.weights, grid.flat, grid.diagonal, x, right, grid.pad, False)
        return x
    below = grids[number + 1]
    _sweep(grid.weights, grid.flat, grid.diagonal, x, right, grid.pad, True)
    coarse = np.zeros(below.diagonal.size, np.float32)
    shape, factors, coarse_shape = np.array(grid.shape), grid.factors, np.array(below.shape)
    _restrict(grid.weights, grid.flat, grid.diagonal, x, right, shape, grid.pad, factors, coarse, coarse_shape, below.pad)
    correction = _cycle(grids, number + 1, coarse)
    _prolong(x, grid.diagonal, shape, grid.pad, factors, correction, coarse_shape, below.pad)
    _sweep(grid.weights, grid.flat, grid.diagonal, x, right, grid.pad, False)
    return x


@njit(cache=True, nogil=True)
def _edges(values, inside, steps, base, beta, floor, weights, pad, start, end):  # type: ignore[no-untyped-def]
    depth, height, length = values.shape
    masked = inside.size > 0
    for k in range(start, end):
        for j in range(height):
            for i in range(length):
                if masked and inside[k, j, i] == 0:
                    continue
                v = pad + (k * height + j) * length + i
                for n in range(steps.shape[0]):
                    a, b, c = k + steps[n, 0], j + steps[n, 1], i + steps[n, 2]
                    if a < 0 or b < 0 or c < 0 or a >= depth or b >= height or c >= length:
                        continue
                    if masked and inside[a, b, c] == 0:
                        continue
                    difference = np.float64(values[k, j, i]) - np.float64(values[a, b, c])
                    weights[n, v] = base[n] * (np.exp(-beta * difference * difference) + floor)


@njit(cache=True, nogil=True)
def _diagonal(weights, flat, unknown, diagonal, pad):  # type: ignore[no-untyped-def]
    for v in range(pad, diagonal.size - pad):
        if unknown[v]:
            total = 0.0
            for n in range(flat.size):
                total += np.float64(weights[n, v]) + np.float64(weights[n, v - flat[n]])
            diagonal[v] = total


@njit(cache=True, nogil=True)
def _reached(weights, flat, unknown, pad):  # type: ignore[no-untyped-def]
    """1 where a way leads to a mark: without one the equations have no single answer."""
    reached = np.zeros(unknown.size, np.uint8)
    stack = np.empty(unknown.size, np.int64)
    held = 0
    for v in range(pad, unknown.size - pad):
        if unknown[v] == 0:
            stack[held] = v
            held += 1
    while held > 0:
        held -= 1
        v = stack[held]
        for n in range(flat.size):
            for u, weight in ((v + flat[n], weights[n, v]), (v - flat[n], weights[n, v - flat[n]])):
                if weight > 0 and unknown[u] and reached[u] == 0:
                    reached[u] = 1
                    stack[held] = u
                    held += 1
    return reached


@njit(cache=True, nogil=True)
def _from_marks(weights, flat, diagonal, marked, right, pad):  # type: ignore[no-untyped-def]
    """The right side: what each unknown voxel is tied to marks of one label by."""
    for v in range(pad, right.size - pad):
        if diagonal[v] > 0:
            total = 0.0
            for n in range(flat.size):
                if marked[v + flat[n]]:
                    total += weights[n, v]
                if marked[v - flat[n]]:
                    total += weights[n, v - flat[n]]
            right[v] = total


@njit(cache=True, nogil=True)
def _merge(weights, diagonal, shape, steps, pad, factors, place, coarse, sinks, coarse_shape, coarse_pad):  # type: ignore[no-untyped-def]
    """Edges between merged voxels: the sum of those that cross, halved, for the centres lie twice as far apart.

    ``sinks`` becomes what the voxels are tied to marks by, the rest of the diagonal.
    """
    for k in range(shape[0]):
        for j in range(shape[1]):
            for i in range(shape[2]):
                v = pad + (k * shape[1] + j) * shape[2] + i
                if not diagonal[v] > 0:
                    continue
                ck, cj, ci = k // factors[0], j // factors[1], i // factors[2]
                own = coarse_pad + (ck * coarse_shape[1] + cj) * coarse_shape[2] + ci
                sinks[own] += np.float64(diagonal[v])
                for n in range(steps.shape[0]):
                    weight = np.float64(weights[n, v])
                    if weight == 0:
                        continue
                    a, b, c = k + steps[n, 0], j + steps[n, 1], i + steps[n, 2]
                    if not diagonal[pad + (a * shape[1] + b) * shape[2] + c] > 0:
                        continue
                    a, b, c = a // factors[0], b // factors[1], c // factors[2]
                    other = coarse_pad + (a * coarse_shape[1] + b) * coarse_shape[2] + c
                    sinks[own] -= weight
                    sinks[other] -= weight
                    dk, dj, di = a - ck + 1, b - cj + 1, c - ci + 1
                    if other == own or min(dk, dj, di) < 0 or max(dk, dj, di) > 2:
                        continue
                    to = place[dk, dj, di]
                    if to >= 100:
                        coarse[to - 100, other] += 0.5 * weight
                    elif to >= 0:
                        coarse[to, own] += 0.5 * weight


@njit(cache=True, nogil=True)
def _total(weights, flat, diagonal, pad):  # type: ignore[no-untyped-def]
    for v in range(pad, diagonal.size - pad):
        total = 0.0
        for n in range(flat.size):
            total += np.float64(weights[n, v]) + np.float64(weights[n, v - flat[n]])
        # rounding may leave less than nothing: a voxel tied to nothing else needs a little to stand on
        diagonal[v] = total + max(diagonal[v], 1e-7 * total)


@njit(cache=True, nogil=True)
def _multiply(weights, flat, diagonal, x, out, pad):  # type: ignore[no-untyped-def]
    """out = A x; give x · A x."""
    product = 0.0
    for v in range(pad, x.size - pad):
        if diagonal[v] > 0:
            total = diagonal[v] * x[v]
            for n in range(flat.size):
                total -= weights[n, v] * x[v + flat[n]] + weights[n, v - flat[n]] * x[v - flat[n]]
            out[v] = total
            product += np.float64(total) * np.float64(x[v])
    return product


@njit(cache=True, nogil=True)
def _sweep(weights, flat, diagonal, x, right, pad, forward):  # type: ignore[no-untyped-def]
    """One sweep of Gauss and Seidel."""
    count = x.size - 2 * pad
    for m in range(count):
        v = pad + m if forward else pad + count - 1 - m
        if diagonal[v] > 0:
            total = right[v]
            for n in range(flat.size):
                total += weights[n, v] * x[v + flat[n]] + weights[n, v - flat[n]] * x[v - flat[n]]
            x[v] = total / diagonal[v]


@njit(cache=True, nogil=True)
def _restrict(weights, flat, diagonal, x, right, shape, pad, factors, coarse, coarse_shape, coarse_pad):  # type: ignore[no-untyped-def]
    """Add up the residual right - A x of merged voxels."""
    for k in range(shape[0]):
        for j in range(shape[1]):
            line = coarse_pad + (k // factors[0] * coarse_shape[1] + j // factors[1]) * coarse_shape[2]
            for i in range(shape[2]):
                v = pad + (k * shape[1] + j) * shape[2] + i
                if diagonal[v] > 0:
                    total = right[v] - diagonal[v] * x[v]
                    for n in range(flat.size):
                        total += weights[n, v] * x[v + flat[n]] + weights[n, v - flat[n]] * x[v - flat[n]]
                    coarse[line + i // factors[2]] += total


@njit(cache=True, nogil=True)
def _prolong(x, diagonal, shape, pad, factors, correction, coarse_shape, coarse_pad):  # type: ignore[no-untyped-def]
    for k in range(shape[0]):
        for j in range(shape[1]):
            line = coarse_pad + (k // factors[0] * coarse_shape[1] + j // factors[1]) * coarse_shape[2]
            for i in range(shape[2]):
                v = pad + (k * shape[1] + j) * shape[2] + i
                if diagonal[v] > 0:
                    x[v] += correction[line + i // factors[2]]


@njit(cache=True, nogil=True)
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for v in range(a.size):
        total += np.float64(a[v]) * np.float64(b[v])
    return total


@njit(cache=True, nogil=True)
def _add_scaled(better, direction, factor):  # type: ignore[no-untyped-def]
    for v in range(direction.size):
        direction[v] = better[v] + np.float32(factor) * direction[v]


@njit(cache=True, nogil=True)
def _step(x, residual, direction, image, length):  # type: ignore[no-untyped-def]
    for v in range(x.size):
        x[v] += np.float32(length) * direction[v]
        residual[v] -= np.float32(length) * image[v]
