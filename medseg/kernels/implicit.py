"""Analytic solids sampled on a grid: mean value, majority label and exact share of each label in every voxel.

A solid is a row of numbers (the names below give their places) and is inside where its implicit function is negative.
Most voxels are decided by one sample at their centre. A voxel is sampled finely where a solid's border may cross it:
where the function at the centre is smaller than three quarters of its change to the neighbours, half of which would
do for a linear function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .slabs import in_slabs

# Places in a row. The profile is a polynomial in s, the lobes (count, size, phase, twist), the shears (axis, mm, power, power).
KIND, CENTRE, TO_LOCAL, SEMI_AXES, EXPONENT, PROFILE, LOBES, SHEARS, PERIOD, LOW, HIGH, ROW = 0, 1, 4, 13, 16, 17, 23, 35, 67, 71, 74, 77
PROFILE_TERMS, MOST_LOBES, MOST_SHEARS = LOBES - PROFILE, 3, 8
CLOSED, OPEN, STACK, RINGS = 0, 1, 2, 3
MOST_SOLIDS = 64  # one bit each

_SAFETY = 0.75
_OUTSIDE = np.float32(1e30)


@dataclass(frozen=True)
class Sampled:
    """What a grid sees: mean value (float32), majority label (uint8), both (k,j,i), and voxels' worth of each label."""

    values: NDArray[np.float32]
    labels: NDArray[np.uint8]
    label_voxels: NDArray[np.float64]
    share: NDArray[np.float32]


@njit(cache=True, nogil=True, inline="always")
def _power(x, n):  # type: ignore[no-untyped-def]
    if n == 0.0:
        return 1.0
    if n == 1.0:
        return x
    if n == 2.0:
        return x * x
    return x * x * x if n == 3.0 else x * x * x * x


@njit(cache=True, nogil=True, inline="always")
def _profile(row, s):  # type: ignore[no-untyped-def]
    s = min(1.0, max(-1.0, s))
    value = row[PROFILE + PROFILE_TERMS - 1]
    for n in range(PROFILE_TERMS - 2, -1, -1):
        value = value * s + row[PROFILE + n]
    return value


@njit(cache=True, nogil=True)
def _implicit(row, r, a, s):  # type: ignore[no-untyped-def]
    r, a, s = r - row[CENTRE], a - row[CENTRE + 1], s - row[CENTRE + 2]
    m = TO_LOCAL
    x = row[m] * r + row[m + 1] * a + row[m + 2] * s
    y = row[m + 3] * r + row[m + 4] * a + row[m + 5] * s
    z = row[m + 6] * r + row[m + 7] * a + row[m + 8] * s
    for n in range(MOST_SHEARS - 1, -1, -1):
        at = SHEARS + 4 * n
        size = row[at + 1]
        if size == 0.0:
            continue
        u, v, w = x / row[SEMI_AXES], y / row[SEMI_AXES + 1], z / row[SEMI_AXES + 2]
        if row[at] == 0.0:
            x -= size * _power(v, row[at + 2]) * _power(w, row[at + 3])
        elif row[at] == 1.0:
            y -= size * _power(w, row[at + 2]) * _power(u, row[at + 3])
        else:
            z -= size * _power(u, row[at + 2]) * _power(v, row[at + 3])
    u, v, w = x / row[SEMI_AXES], y / row[SEMI_AXES + 1], z / row[SEMI_AXES + 2]
    m = row[EXPONENT]
    square = u * u + v * v if m == 2.0 else (abs(u) ** m + abs(v) ** m) ** (2.0 / m)
    if row[LOBES + 1] != 0.0:
        angle = np.arctan2(v, u)
        here = min(1.0, max(-1.0, w))
        swell = 0.0
        for n in range(MOST_LOBES):
            at = LOBES + 4 * n
            if row[at + 1] != 0.0:
                swell += row[at + 1] * np.cos(row[at] * angle - row[at + 2] - row[at + 3] * here)
        square /= 1.0 + (1.0 - here * here) * swell
    kind = row[KIND]
    if kind == CLOSED:
        return max(square - _profile(row, w), 2.0 * (abs(w) - 1.0))
    if kind == OPEN:
        return square - _profile(row, w)
    period, half = row[PERIOD], row[PERIOD + 1]
    beyond = 2.0 * (abs(w) - 1.0)
    offset = (z - row[PERIOD + 2]) / period
    offset = (offset - np.floor(offset) - 0.5) * period / half
    if kind == STACK:
        return max(max(square - _profile(row, offset), abs(offset) - 1.0), beyond)
    wall = (np.sqrt(square / _profile(row, w)) - 1.0) * np.sqrt(row[SEMI_AXES] * row[SEMI_AXES + 1]) / row[PERIOD + 3]
    return max(wall * wall + offset * offset - 1.0, beyond)


@njit(cache=True, nogil=True)
def _top(bits, within):  # type: ignore[no-untyped-def]
    """Number of the solid that wins: the last one that is inside, and inside the one it is bound to; -1 for none."""
    for n in range(within.size - 1, -1, -1):
        if bits >> np.uint64(n) & np.uint64(1):
            bound = within[n]
            if bound < 0 or bits >> np.uint64(bound) & np.uint64(1):
                return n
    return -1


@njit(cache=True, nogil=True)
def _box(row, inverse, shape, first, stop):  # type: ignore[no-untyped-def]
    """Index limits (k0, k1, j0, j1, i0, i1) of the box of a solid on the grid, one voxel wider on every side."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for corner in range(8):
        local = np.empty(3)
        for axis in range(3):
            local[axis] = row[HIGH + axis] if corner >> axis & 1 else row[LOW + axis]
        world = np.empty(3)
        for axis in range(3):  # TO_LOCAL is a rotation: its transpose leads back
            world[axis] = row[CENTRE + axis]
            for n in range(3):
                world[axis] += row[TO_LOCAL + 3 * n + axis] * local[n]
        for axis in range(3):
            at = inverse[axis, 3]
            for n in range(3):
                at += inverse[axis, n] * world[n]
            low[axis], high[axis] = min(low[axis], at), max(high[axis], at)
    limits = np.empty(6, np.int64)
    for axis in range(3):
        last = shape[2 - axis]
        limits[2 * (2 - axis)] = max(0, np.int64(np.floor(max(low[axis], -2.0))) - 1)
        limits[2 * (2 - axis) + 1] = min(last, np.int64(np.ceil(min(high[axis], last + 2.0))) + 2)
    limits[0], limits[1] = max(limits[0], first), min(limits[1], stop)
    return limits


@njit(cache=True, nogil=True)
def _mark(row, n, affine, limits, first, level, inside, unsure):  # type: ignore[no-untyped-def]
    """Set bit n of `inside` where the centre lies inside, and of `unsure` where the border may cross the voxel."""
    k0, k1, j0, j1, i0, i1 = limits
    # one layer more on every side of the box gives each voxel in it all its neighbours
    for k in range(k0 - 1, k1 + 1):
        for j in range(j0 - 1, j1 + 1):
            for i in range(i0 - 1, i1 + 1):
                r = affine[0, 0] * i + affine[0, 1] * j + affine[0, 2] * k + affine[0, 3]
                a = affine[1, 0] * i + affine[1, 1] * j + affine[1, 2] * k + affine[1, 3]
                s = affine[2, 0] * i + affine[2, 1] * j + affine[2, 2] * k + affine[2, 3]
                level[k - first + 1, j + 1, i + 1] = _implicit(row, r, a, s)
    bit = np.uint64(1) << np.uint64(n)
    for k in range(k0, k1):
        p = k - first + 1
        for j in range(j0, j1):
            for i in range(i0, i1):
                here = level[p, j + 1, i + 1]
                change = max(abs(level[p - 1, j + 1, i + 1] - here), abs(level[p + 1, j + 1, i + 1] - here))
                change += max(abs(level[p, j, i + 1] - here), abs(level[p, j + 2, i + 1] - here))
                change += max(abs(level[p, j + 1, i] - here), abs(level[p, j + 1, i + 2] - here))
                if abs(here) <= _SAFETY * change:
                    unsure[p - 1, j, i] |= bit
                elif here < 0:
                    inside[p - 1, j, i] |= bit


@njit(cache=True, nogil=True)
def _fine(rows, within, centre, offsets, known, open_bits, hits):  # type: ignore[no-untyped-def]
    """Count in `hits` (last place: no solid) which solid wins at each sample of one voxel."""
    hits[:] = 0
    for sample in range(offsets.shape[0]):
        r, a, s = centre[0] + offsets[sample, 0], centre[1] + offsets[sample, 1], centre[2] + offsets[sample, 2]
        bits = known
        for n in range(rows.shape[0]):
            bit = np.uint64(1) << np.uint64(n)
            if open_bits & bit and _implicit(rows[n], r, a, s) < 0:
                bits |= bit
        hits[_top(bits, within)] += 1  # -1 counts in the last place


@njit(cache=True, nogil=True)
def _scan(rows, values, numbers, within, affine, inverse, offsets, wanted, grid, out, labels, share, first, stop):  # type: ignore[no-untyped-def]
    depth, count = stop - first, rows.shape[0]
    shape = (grid[0], grid[1], grid[2])
    level = np.empty((depth + 2, shape[1] + 2, shape[2] + 2), np.float32)
    inside = np.zeros((depth, shape[1], shape[2]), np.uint64)
    unsure = np.zeros((depth, shape[1], shape[2]), np.uint64)
    for n in range(count):
        limits = _box(rows[n], inverse, shape, first, stop)
        if limits[0] < limits[1] and limits[2] < limits[3] and limits[4] < limits[5]:
            _mark(rows[n], n, affine, limits, first, level, inside, unsure)
    totals, votes = np.zeros(256), np.zeros(256, np.int64)
    hits, centre = np.zeros(count + 1, np.int64), np.empty(3)
    samples = offsets.shape[0]
    for k in range(first, stop):
        for j in range(shape[1]):
            for i in range(shape[2]):
                known, maybe = inside[k - first, j, i], unsure[k - first, j, i]
                sure = _top(known, within)
                # A solid below one that surely covers it cannot win; a bound one needs its bond, so that is kept.
                if sure >= 0:
                    kept = np.uint64(0)
                    for n in range(sure + 1, count):
                        if maybe >> np.uint64(n) & np.uint64(1):
                            kept |= np.uint64(1) << np.uint64(n)
                        if within[n] >= 0 and (maybe | known) >> np.uint64(n) & np.uint64(1):
                            kept |= maybe & (np.uint64(1) << np.uint64(within[n]))
                    maybe = kept
                if maybe == 0:
                    out[k, j, i] = values[sure]  # place -1 holds the surroundings
                    labels[k, j, i] = numbers[sure]
                    totals[numbers[sure]] += 1.0
                    if share.size and numbers[sure] == wanted:
                        share[k, j, i] = 1.0
                    continue
                for axis in range(3):
                    centre[axis] = affine[axis, 0] * i + affine[axis, 1] * j + affine[axis, 2] * k + affine[axis, 3]
                _fine(rows, within, centre, offsets, known, maybe, hits)
                mean = 0.0
                best = -1
                for n in range(count + 1):
                    if hits[n]:
                        mean += hits[n] * values[n]
                        votes[numbers[n]] += hits[n]
                for n in range(count + 1):
                    number = numbers[n]
                    if votes[number]:
                        if best < 0 or votes[number] > votes[best] or (votes[number] == votes[best] and number < best):
                            best = number
                for n in range(count + 1):
                    number = numbers[n]
                    if votes[number]:
                        totals[number] += votes[number] / samples
                        if share.size and number == wanted:
                            share[k, j, i] = votes[number] / samples
                        votes[number] = 0  # so that a number that several solids share is counted once
                out[k, j, i] = mean / samples
                labels[k, j, i] = best
    return totals


def sample_solids(
    rows: NDArray[np.float64],
    values: NDArray[np.float64],
    numbers: NDArray[np.int64],
    within: NDArray[np.int64],
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    samples: tuple[int, int, int] = (4, 4, 4),
    wanted: int = -1,
) -> Sampled:
    """Sample solids, the later ones over the earlier ones, on a grid of `shape` (k,j,i) with an affine (i,j,k) → mm.

    `values` and `numbers` (0 to 255) have one entry a solid and a last one for the surroundings; `within` binds a
    solid to an earlier one outside of which it does not count (-1: free). `samples` is the number of samples along
    i, j, k in a voxel that a border crosses; the majority label of a tie is the smaller one. `share` is the part of
    each voxel that label `wanted` fills, and empty where none is wanted.
    """
    if rows.ndim != 2 or rows.shape[1] != ROW or len(rows) > MOST_SOLIDS:
        raise ValueError(f"rows has shape {rows.shape}; pass at most {MOST_SOLIDS} rows of {ROW} numbers")
    if len(values) != len(rows) + 1 or len(numbers) != len(rows) + 1 or len(within) != len(rows):
        raise ValueError("values and numbers need one entry a solid and one for the surroundings, within one a solid")
    steps = [(np.arange(n) + 0.5) / n - 0.5 for n in samples]
    index = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = np.ascontiguousarray(index @ affine[:3, :3].T)
    out, labels = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    share = np.zeros(shape if wanted >= 0 else (0, 0, 0), np.float32)
    fixed: tuple[Any, ...] = (
        np.ascontiguousarray(rows, np.float64),
        np.ascontiguousarray(values, np.float64),
        np.ascontiguousarray(numbers, np.int64),
        np.ascontiguousarray(within, np.int64),
        np.array(affine, np.float64),
        np.linalg.inv(affine),
        offsets,
        wanted,
        np.array(shape, np.int64),
    )
    parts = in_slabs(lambda start, stop: _scan(*fixed, out, labels, share, start, stop), shape[0])
    return Sampled(out, labels, np.sum(parts, axis=0), share)
