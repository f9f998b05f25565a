"""Voxels given to classes: by a table over intensities, by the nearest centre, and with neighbours that agree.

Features are float32 (C, k, j, i), C channels; the position of a voxel may stand behind them as further features, which are
computed and never stored: ``position`` (P, 4) times (k, j, i, 1). Class c costs |U_c (x - m_c)|² + b_c, with x the features
of the voxel, ``factors`` U (K, F, F) upper triangular, ``means`` m (K, F), ``offsets`` b (K), F = C + P. Classes are numbered
from 1, at most 255; of equal costs the first is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .slabs import in_slabs


@dataclass(frozen=True)
class Classes:
    """What a class costs: means (K, F), factors (K, F, F), offsets (K), and the position (P, 4) of a voxel as features."""

    means: NDArray[np.float64]
    factors: NDArray[np.float64]
    offsets: NDArray[np.float64]
    position: NDArray[np.float64]


@njit(cache=True, nogil=True)
def _paint_slab(image, low, scale, table, out, start, end):  # type: ignore[no-untyped-def]
    last = table.size - 1
    for k in range(start, end):
        for j in range(image.shape[1]):
            line, row = image[k, j], out[k, j]
            for i in range(line.size):
                value = np.float64(line[i])
                if not np.isfinite(value):
                    row[i] = 0
                    continue
                at = np.int64((value - low) * scale)
                row[i] = table[min(max(at, 0), last)]


@njit(cache=True, nogil=True)
def _paint_integers(image, low, table, out, start, end):  # type: ignore[no-untyped-def]
    last = np.int32(table.size - 1)
    for k in range(start, end):
        for j in range(image.shape[1]):
            line, row = image[k, j], out[k, j]
            for i in range(line.size):
                at = np.int32(line[i]) - low
                row[i] = table[min(max(at, np.int32(0)), last)]


def paint(image: NDArray[Any], low: float, scale: float, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``table[(value - low) * scale]`` of each voxel; intensities beyond the table take its ends; NaN and infinity are 0.

    Memory: 1 byte per voxel.

    >>> paint(np.array([[[3, 4, 5]]], np.int16), 3, 1, np.array([7, 8, 9], np.uint8)).tolist()
    [[[7, 8, 9]]]
    """
    image = as_image(image)
    table = np.ascontiguousarray(table, np.uint8)
    out = np.empty(image.shape, np.uint8)
    if image.dtype.itemsize <= 2 and scale == 1:
        whole = np.int32(low)
        in_slabs(lambda start, end: _paint_integers(image, whole, table, out, start, end), image.shape[0])
    else:
        in_slabs(lambda start, end: _paint_slab(image, float(low), float(scale), table, out, start, end), image.shape[0])
    return out


@njit(cache=True, nogil=True)
def _features_of(channels, position, k, j, i, x):  # type: ignore[no-untyped-def]
    count = channels.shape[0]
    for c in range(count):
        x[c] = channels[c, k, j, i]
    for p in range(position.shape[0]):
        x[count + p] = position[p, 0] * k + position[p, 1] * j + position[p, 2] * i + position[p, 3]


@njit(cache=True, nogil=True)
def _costs(x, means, factors, offsets, cost):  # type: ignore[no-untyped-def]
    size = x.size
    for c in range(means.shape[0]):
        total = offsets[c]
        for f in range(size):
            part = 0.0
            for g in range(f, size):
                part += factors[c, f, g] * (x[g] - means[c, g])
            total += part * part
        cost[c] = total


@njit(cache=True, nogil=True)
def _assign_slab(channels, inside, means, factors, offsets, position, out, start, end):  # type: ignore[no-untyped-def]
    x, cost = np.empty(means.shape[1]), np.empty(means.shape[0])
    for k in range(start, end):
        for j in range(inside.shape[1]):
            for i in range(inside.shape[2]):
                if inside[k, j, i] == 0:
                    out[k, j, i] = 0
                    continue
                _features_of(channels, position, k, j, i, x)
                _costs(x, means, factors, offsets, cost)
                best = 0
                for c in range(1, cost.size):
                    if cost[c] < cost[best]:
                        best = c
                out[k, j, i] = best + 1


def assign(channels: NDArray[np.float32], inside: NDArray[np.uint8], classes: Classes) -> NDArray[np.uint8]:
    """The cheapest class of each voxel inside, 0 outside. Memory: 1 byte per voxel."""
    out = np.empty(inside.shape, np.uint8)
    table = (classes.means, classes.factors, classes.offsets, classes.position)
    in_slabs(lambda start, end: _assign_slab(channels, inside, *table, out, start, end), inside.shape[0])
    return out


@njit(cache=True, nogil=True)
def _pair(labels, k, j, i, dk, dj, di, number):  # type: ignore[no-untyped-def]
    """How many of the two neighbours across one pair of faces are of another class (outside does not count)."""
    differ = 0.0
    for sign in (-1, 1):
        a, b, c = k + sign * dk, j + sign * dj, i + sign * di
        if a < 0 or b < 0 or c < 0 or a >= labels.shape[0] or b >= labels.shape[1] or c >= labels.shape[2]:
            continue
        other = labels[a, b, c]
        if other not in (0, number):
            differ += 1.0
    return differ


@njit(cache=True, nogil=True)
def _propose_slab(  # type: ignore[no-untyped-def]
    channels, labels, awake, means, factors, offsets, position, weights, proposed, gain, start, end
):
    """The class that each awake voxel would rather have, its neighbours as they are, and how much that would save."""
    x, cost = np.empty(means.shape[1]), np.empty(means.shape[0])
    for k in range(start, end):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                here = labels[k, j, i]
                proposed[k, j, i] = here
                if here == 0 or awake[k, j, i] == 0:
                    continue
                _features_of(channels, position, k, j, i, x)
                _costs(x, means, factors, offsets, cost)
                for c in range(cost.size):
                    across_k = weights[0] * _pair(labels, k, j, i, 1, 0, 0, c + 1)
                    across_j = weights[1] * _pair(labels, k, j, i, 0, 1, 0, c + 1)
                    cost[c] += 2 * (across_k + across_j + weights[2] * _pair(labels, k, j, i, 0, 0, 1, c + 1))
                best = here - 1
                for c in range(cost.size):
                    if cost[c] < cost[best]:
                        best = c
                proposed[k, j, i] = best + 1
                gain[k, j, i] = cost[here - 1] - cost[best]


@njit(cache=True, nogil=True)
def _accept_slab(labels, proposed, gain, accepted, start, end):  # type: ignore[no-untyped-def]
    """Mark the changes that no better change of a neighbour speaks against; give their number."""
    count = 0
    for k in range(start, end):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                accepted[k, j, i] = 0
                old, new = labels[k, j, i], proposed[k, j, i]
                if old == new:
                    continue
                allowed = True
                for n in range(6):
                    step = 1 if n % 2 else -1
                    a, b, c = k + step * (n // 2 == 0), j + step * (n // 2 == 1), i + step * (n // 2 == 2)
                    if a < 0 or b < 0 or c < 0 or a >= labels.shape[0] or b >= labels.shape[1] or c >= labels.shape[2]:
                        continue
                    other_old, other_new = labels[a, b, c], proposed[a, b, c]
                    if other_old == other_new:
                        continue
                    # together both changes cost more than each by itself: the better one goes first
                    together = (new != other_new) - (new != other_old) - (old != other_new) + (old != other_old)
                    if together > 0 and gain[a, b, c] >= gain[k, j, i]:
                        allowed = False
                        break
                if allowed:
                    accepted[k, j, i] = 1
                    count += 1
    return count


@njit(cache=True, nogil=True)
def _wake_slab(labels, proposed, accepted, awake, start, end):  # type: ignore[no-untyped-def]
    """Awake next: what has not yet got the class it wants, and the neighbours of what changes now."""
    for k in range(start, end):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                wake = proposed[k, j, i] != labels[k, j, i]
                for n in range(6):
                    step = 1 if n % 2 else -1
                    a, b, c = k + step * (n // 2 == 0), j + step * (n // 2 == 1), i + step * (n // 2 == 2)
                    if a < 0 or b < 0 or c < 0 or a >= labels.shape[0] or b >= labels.shape[1] or c >= labels.shape[2]:
                        continue
                    wake = wake or accepted[a, b, c] != 0
                awake[k, j, i] = wake


@njit(cache=True, nogil=True)
def _change_slab(labels, proposed, accepted, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(labels.shape[1]):
            for i in range(labels.shape[2]):
                if accepted[k, j, i] != 0:
                    labels[k, j, i] = proposed[k, j, i]


def relax(
    channels: NDArray[np.float32], labels: NDArray[np.uint8], classes: Classes, weights: NDArray[np.float64], iterations: int
) -> bool:
    """Change labels in place until no voxel is better off in another class, its neighbours being as they are (ICM).

    The energy is half the cost of each voxel's class plus ``weights`` (k, j, i) for each face between two classes; 0 is outside
    and has no faces. All voxels are asked at once; where changes of neighbours contradict each other the one that saves more
    goes first, so that the energy falls with every round and the result does not depend on the order of the axes. Gives
    whether nothing was left to change within the rounds. Memory: 7 bytes per voxel. Besag 1986,
    doi:10.1111/j.2517-6161.1986.tb01412.x.
    """
    depth = labels.shape[0]
    awake, accepted = np.ones(labels.shape, np.uint8), np.empty(labels.shape, np.uint8)
    proposed, gain = np.empty(labels.shape, np.uint8), np.empty(labels.shape, np.float32)
    table = (classes.means, classes.factors, classes.offsets, classes.position, weights)
    for _ in range(iterations):
        in_slabs(lambda start, end: _propose_slab(channels, labels, awake, *table, proposed, gain, start, end), depth)
        changes = in_slabs(lambda start, end: _accept_slab(labels, proposed, gain, accepted, start, end), depth)
        if not sum(changes):
            return True
        in_slabs(lambda start, end: _wake_slab(labels, proposed, accepted, awake, start, end), depth)
        in_slabs(lambda start, end: _change_slab(labels, proposed, accepted, start, end), depth)
    return False
