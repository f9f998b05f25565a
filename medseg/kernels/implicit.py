"""Analytic solids sampled on a grid: mean value, majority label and exact share of each label in every voxel.

A solid is a row of numbers (the names below give their places) and is inside where its implicit function is negative.
Most voxels are decided by one sample at their centre. A voxel is sampled finely where a solid's border may cross it:
where the function at the centre is smaller than 0.6 of its change to the neighbours, summed over the axes; half of it
would do for a linear function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .slabs import in_slabs

# Places in a row. FRAME takes mm to (u, v, w), the local coordinates over the semi-axes, and everything below it is in these:
# the profile a polynomial in w, lobes (count, size, phase, twist), shears (axis, size, power, power), period, half-height,
# phase, and FACTOR = √(a·b) over the half-width of a ring. BOX holds the 8 corners, in mm, of a box around the solid.
KIND, CENTRE, FRAME, EXPONENT, TERMS, PROFILE, LOBES, SHEARS, PERIOD, FACTOR, BOX, ROW = 0, 1, 4, 13, 14, 17, 23, 35, 67, 70, 71, 95
MOST_TERMS, MOST_LOBES, MOST_SHEARS = 6, 3, 8  # TERMS, TERMS + 1 and TERMS + 2 hold how many there are
CLOSED, OPEN, STACK, RINGS = 0, 1, 2, 3
MOST_SOLIDS = 128  # one bit each in two words

# Korobov lattices: number of points and multiplier, the one of least error over random planes. 37 points do as well as a grid
# of 64, because planes along an axis of the voxel meet 37 different heights and not 4. They hold the centre and are symmetric
# about it, so that the majority favours neither side of a plane.
LATTICES = {17: 6, 37: 13, 61: 28, 127: 55}
WITHIN = 17
_SAFETY = 0.6


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
def _raised(x, m):  # type: ignore[no-untyped-def]
    """x^m for x ≥ 0, without the slow general power where m is 2, 2.5, 3 or 4 (or half of these)."""
    if m == 2.0:
        return x * x
    if m == 2.5:
        return x * x * np.sqrt(x)
    if m == 3.0:
        return x * x * x
    if m == 4.0:
        return x * x * x * x
    if m == 1.0:
        return x
    if m == 1.25:
        return x * np.sqrt(np.sqrt(x))
    return x * np.sqrt(x) if m == 1.5 else x**m


@njit(cache=True, nogil=True, inline="always")
def _profile(row, s):  # type: ignore[no-untyped-def]
    s = min(1.0, max(-1.0, s))
    last = PROFILE + int(row[TERMS]) - 1
    value = row[last]
    for at in range(last - 1, PROFILE - 1, -1):
        value = value * s + row[at]
    return value


@njit(cache=True, nogil=True)
def _implicit(row, r, a, s):  # type: ignore[no-untyped-def]
    r, a, s = r - row[CENTRE], a - row[CENTRE + 1], s - row[CENTRE + 2]
    u = row[FRAME] * r + row[FRAME + 1] * a + row[FRAME + 2] * s
    v = row[FRAME + 3] * r + row[FRAME + 4] * a + row[FRAME + 5] * s
    w = row[FRAME + 6] * r + row[FRAME + 7] * a + row[FRAME + 8] * s
    for n in range(int(row[TERMS + 2]) - 1, -1, -1):
        at = SHEARS + 4 * n
        if row[at] == 0.0:
            u -= row[at + 1] * _power(v, row[at + 2]) * _power(w, row[at + 3])
        elif row[at] == 1.0:
            v -= row[at + 1] * _power(w, row[at + 2]) * _power(u, row[at + 3])
        else:
            w -= row[at + 1] * _power(u, row[at + 2]) * _power(v, row[at + 3])
    m = row[EXPONENT]
    section = _raised(abs(u), m) + _raised(abs(v), m)
    if row[TERMS + 1] > 0.0:  # only with m = 2
        angle = np.arctan2(v, u)
        here = min(1.0, max(-1.0, w))
        swell = 0.0
        for n in range(int(row[TERMS + 1])):
            at = LOBES + 4 * n
            swell += row[at + 1] * np.cos(row[at] * angle - row[at + 2] - row[at + 3] * here)
        section /= 1.0 + (1.0 - here * here) * swell
    kind = row[KIND]
    along = w
    if kind >= STACK:
        along = (w - row[PERIOD + 2]) / row[PERIOD]
        along = (along - np.floor(along) - 0.5) * row[PERIOD] / row[PERIOD + 1]
    edge = _raised(max(0.0, _profile(row, along if kind == STACK else w)), 0.5 * m)
    if kind == RINGS:
        wall = (section / edge - 1.0) / m * row[FACTOR]
        return max(wall * wall + along * along - 1.0, 2.0 * (abs(w) - 1.0))
    if kind == STACK:
        return max(section - edge, abs(along) - 1.0, 2.0 * (abs(w) - 1.0))
    return max(section - edge, 2.0 * (abs(w) - 1.0)) if kind == CLOSED else section - edge


@njit(cache=True, nogil=True)
def _level(rows, within, n, r, a, s):  # type: ignore[no-untyped-def]
    """The implicit function of solid n, cut by the solids it is bound to."""
    level = _implicit(rows[n], r, a, s)
    n = within[n]
    while n >= 0:
        level = max(level, _implicit(rows[n], r, a, s))
        n = within[n]
    return level


@njit(cache=True, nogil=True)
def _box(row, inverse, shape, first, stop):  # type: ignore[no-untyped-def]
    """Index limits (k0, k1, j0, j1, i0, i1) on the grid of the box of a solid, one voxel wider on every side."""
    limits = np.zeros(6, np.int64)
    for axis in range(3):
        low, high = np.inf, -np.inf
        for n in range(8):
            at = inverse[axis, 3]
            for m in range(3):
                at += inverse[axis, m] * row[BOX + 3 * n + m]
            low, high = min(low, at), max(high, at)
        last = shape[2 - axis]
        side = 2 * (2 - axis)
        limits[side] = np.int64(np.floor(max(low, -2.0))) - 1
        limits[side + 1] = np.int64(np.ceil(min(high, last + 2.0))) + 2
        limits[side] = max(limits[side], 0)
        limits[side + 1] = min(limits[side + 1], last)
    limits[0], limits[1] = max(limits[0], first), min(limits[1], stop)
    return limits


@njit(cache=True, nogil=True)
def _mark(rows, within, n, affine, limits, first, level, sure, unsure):  # type: ignore[no-untyped-def]
    """Where solid n surely covers a voxel it becomes `sure` and all before it are forgotten; at its border it is `unsure`."""
    k0, k1, j0, j1, i0, i1 = limits
    # one layer more on every side of the box gives each voxel in it all its neighbours
    for k in range(k0 - 1, k1 + 1):
        for j in range(j0 - 1, j1 + 1):
            for i in range(i0 - 1, i1 + 1):
                r = affine[0, 0] * i + affine[0, 1] * j + affine[0, 2] * k + affine[0, 3]
                a = affine[1, 0] * i + affine[1, 1] * j + affine[1, 2] * k + affine[1, 3]
                s = affine[2, 0] * i + affine[2, 1] * j + affine[2, 2] * k + affine[2, 3]
                level[k - first + 1, j + 1, i + 1] = _level(rows, within, n, r, a, s)
    word, bit = n // 64, np.uint64(1) << np.uint64(n % 64)
    for k in range(k0, k1):
        p = k - first + 1
        for j in range(j0, j1):
            for i in range(i0, i1):
                here = level[p, j + 1, i + 1]
                change = max(abs(level[p - 1, j + 1, i + 1] - here), abs(level[p + 1, j + 1, i + 1] - here))
                change += max(abs(level[p, j, i + 1] - here), abs(level[p, j + 2, i + 1] - here))
                change += max(abs(level[p, j + 1, i] - here), abs(level[p, j + 1, i + 2] - here))
                if abs(here) <= _SAFETY * change:
                    unsure[p - 1, j, i, word] |= bit
                elif here < 0:
                    sure[p - 1, j, i] = n
                    unsure[p - 1, j, i, 0] = 0
                    unsure[p - 1, j, i, 1] = 0


@njit(cache=True, nogil=True)
def _fine(rows, within, centre, offsets, open_solids, sure, hits):  # type: ignore[no-untyped-def]
    """Count in `hits` which solid wins at each sample of one voxel: the last one that is inside, else the sure one."""
    hits[:] = 0
    for sample in range(offsets.shape[0]):
        r, a, s = centre[0] + offsets[sample, 0], centre[1] + offsets[sample, 1], centre[2] + offsets[sample, 2]
        winner = sure
        for at in range(open_solids.size - 1, -1, -1):
            if _level(rows, within, open_solids[at], r, a, s) < 0:
                winner = open_solids[at]
                break
        hits[winner] += 1


@njit(cache=True, nogil=True)
def _majority(hits, numbers, votes):  # type: ignore[no-untyped-def]
    """Add up the hits of the solids of each number in `votes`; return the number with most, and whether it shares that place."""
    best, is_tied = -1, False
    for n in range(hits.size):
        if hits[n]:
            votes[numbers[n]] += hits[n]
    for n in range(hits.size):
        number = numbers[n]
        if not votes[number] or number == best:
            continue
        if best < 0 or votes[number] > votes[best]:
            best, is_tied = number, False
        elif votes[number] == votes[best]:
            best, is_tied = min(best, number), True
    return best, is_tied


@njit(cache=True, nogil=True)
def _at_centre(rows, within, centre, open_solids, sure):  # type: ignore[no-untyped-def]
    """The solid that wins at the centre of a voxel."""
    for at in range(open_solids.size - 1, -1, -1):
        if _level(rows, within, open_solids[at], centre[0], centre[1], centre[2]) < 0:
            return open_solids[at]
    return sure


@njit(cache=True, nogil=True)
def _scan(rows, coarse, values, numbers, within, affine, inverse, offsets, wanted, out, labels, share, first, stop):  # type: ignore[no-untyped-def]
    count, shape = rows.shape[0], out.shape
    level = np.empty((stop - first + 2, shape[1] + 2, shape[2] + 2), np.float32)
    sure = np.full((stop - first, shape[1], shape[2]), count, np.uint8)  # the place after the last: the surroundings
    unsure = np.zeros((stop - first, shape[1], shape[2], 2), np.uint64)
    for n in range(count):
        limits = _box(rows[n], inverse, shape, first, stop)
        if within[n] >= 0:
            bond = _box(rows[within[n]], inverse, shape, first, stop)
            for side in range(0, 6, 2):
                limits[side] = max(limits[side], bond[side])
                limits[side + 1] = min(limits[side + 1], bond[side + 1])
        if limits[0] < limits[1] and limits[2] < limits[3] and limits[4] < limits[5]:
            _mark(rows, within, n, affine, limits, first, level, sure, unsure)
    totals, votes = np.zeros(256), np.zeros(256, np.int64)
    hits, centre, open_solids = np.zeros(count + 1, np.int64), np.empty(3), np.empty(count, np.int64)
    for k in range(first, stop):
        for j in range(shape[1]):
            for i in range(shape[2]):
                top = np.int64(sure[k - first, j, i])
                low, high = unsure[k - first, j, i, 0], unsure[k - first, j, i, 1]
                if low == 0 and high == 0:
                    number = numbers[top]
                    out[k, j, i], labels[k, j, i] = values[top], number
                    totals[number] += 1.0
                    if number == wanted:
                        share[k, j, i] = 1.0
                    continue
                for axis in range(3):
                    centre[axis] = affine[axis, 0] * i + affine[axis, 1] * j + affine[axis, 2] * k + affine[axis, 3]
                found = 0
                is_border = False
                for n in range(count):
                    if (low if n < 64 else high) >> np.uint64(n % 64) & np.uint64(1):
                        open_solids[found] = n
                        found += 1
                        is_border = is_border or numbers[n] != numbers[top]
                points = offsets if is_border else coarse  # inside one segment only the mean value is at stake
                samples = points.shape[0]
                _fine(rows, within, centre, points, open_solids[:found], top, hits)
                best, is_tied = _majority(hits, numbers, votes)
                if is_tied:  # a fixed winner would make its segment grow
                    number = numbers[_at_centre(rows, within, centre, open_solids[:found], top)]
                    best = number if votes[number] == votes[best] else best
                labels[k, j, i] = best
                mean = 0.0
                for n in range(count + 1):
                    if hits[n]:
                        mean += hits[n] * values[n]
                        number = numbers[n]
                        totals[number] += votes[number] / samples
                        if number == wanted and votes[number]:
                            share[k, j, i] = votes[number] / samples
                        votes[number] = 0  # a number that several solids share is counted once
                out[k, j, i] = mean / samples
    return totals


def sample_solids(
    rows: NDArray[np.float64],
    values: NDArray[np.float64],
    numbers: NDArray[np.int64],
    within: NDArray[np.int64],
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    samples: int | tuple[int, int, int] = 37,
    wanted: int = -1,
) -> Sampled:
    """Sample solids, the later ones over the earlier ones, on a grid of `shape` (k,j,i) with an affine (i,j,k) → mm.

    `values` and `numbers` (0 to 255) have one entry a solid and a last one for the surroundings; `within` binds a
    solid to an earlier one outside of which it does not count (-1: free). `samples` is how a voxel is sampled that the
    border of a segment crosses: at the points of a lattice (one of `LATTICES`), or at the middles of so many equal
    parts along i, j, k; where only borders within one segment cross, fewer samples are taken (17, or half the parts).
    A tie goes to the label at the centre of the voxel, else to the smaller one. `share` is the part of each voxel that
    label `wanted` fills, and empty where none is wanted.
    """
    if rows.ndim != 2 or rows.shape[1] != ROW or len(rows) > MOST_SOLIDS:
        raise ValueError(f"rows has shape {rows.shape}; pass at most {MOST_SOLIDS} rows of {ROW} numbers")
    if len(values) != len(rows) + 1 or len(numbers) != len(rows) + 1 or len(within) != len(rows):
        raise ValueError("values and numbers need one entry a solid and one for the surroundings, within one a solid")
    out, labels = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    share = np.zeros(shape if wanted >= 0 else (0, 0, 0), np.float32)
    fixed: tuple[Any, ...] = (
        np.ascontiguousarray(rows, np.float64),
        _offsets(WITHIN if isinstance(samples, int) else tuple((n + 1) // 2 for n in samples), affine),
        np.ascontiguousarray(values, np.float64),
        np.ascontiguousarray(numbers, np.int64),
        np.ascontiguousarray(within, np.int64),
        np.array(affine, np.float64),
        np.linalg.inv(affine),
        _offsets(samples, affine),
        wanted,
    )
    parts = in_slabs(lambda start, stop: _scan(*fixed, out, labels, share, start, stop), shape[0])
    return Sampled(out, labels, np.sum(parts, axis=0), share)


def _offsets(samples: int | tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sample points of a voxel, in mm from its centre: the middles of equal parts, or a lattice of `samples` points."""
    if isinstance(samples, int):
        steps = np.arange(samples)[:, None] * np.array([1, LATTICES[samples], LATTICES[samples] ** 2])
        index = ((steps + samples // 2) % samples - samples // 2) / samples
    else:
        parts = [(np.arange(n) + 0.5) / n - 0.5 for n in samples]
        index = np.stack(np.meshgrid(*parts, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.ascontiguousarray(index @ affine[:3, :3].T)
