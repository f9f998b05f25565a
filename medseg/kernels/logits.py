"""From network outputs to labels: interpolation, rounding and arg-max in one pass.

Outputs are (channels, K, J, I) float32. Linear interpolation never exceeds its corners: where one channel wins at all
corners of a cell, by more than the roundings, it wins inside; only the other voxels are worked out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .half import rounded
from .slabs import in_slabs

# By how much of its size a channel must win at a corner for the win to be certain: one step of half, of float32.
_HALF_MARGIN = 2.0**-9
_FLOAT_MARGIN = 2.0**-20
_LEAST_MARGIN = 1e-6
# sigmoid(x) > 0.5 in float32 from here on: nearer to zero it rounds to 0.5.
REGION_ABOVE = np.float32(8.95e-8)
# Voxels between two runs of open ones that are not worth a run of their own.
_GAP = 16

Taps = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@njit(cache=True, nogil=True)
def _corner_winners(outputs, margin, winners, start, end):  # type: ignore[no-untyped-def]
    """The channel that wins at each voxel, -1 where it does not win clearly."""
    channels, _, height, length = outputs.shape
    best, second = np.empty(length, np.float32), np.empty(length, np.float32)
    winner = np.empty(length, np.int32)
    factor, least = np.float32(margin), np.float32(_LEAST_MARGIN)
    for k in range(start, end):
        for j in range(height):
            line = outputs[0, k, j]
            for i in range(length):
                best[i], second[i], winner[i] = line[i], np.float32(-np.inf), 0
            for c in range(1, channels):
                line = outputs[c, k, j]
                for i in range(length):
                    value, most = line[i], best[i]
                    wins = value > most
                    second[i] = max(second[i], most if wins else value)
                    best[i] = value if wins else most
                    winner[i] = c if wins else winner[i]
            for i in range(length):
                needed = max(abs(best[i]), abs(second[i])) * factor + least
                winners[k, j, i] = winner[i] if best[i] - second[i] > needed else -1


def clear_winners(outputs: NDArray[np.float32], half: bool = False) -> NDArray[np.int16]:
    """Return the channel that wins at each voxel (K,J,I) by more than the roundings of an interpolation, else -1.

    ``half``: rounding of interpolated values to half precision counts as well.

    >>> clear_winners(np.array([[[[0.0, 2.0]]], [[[1.0, 2.0]]]], np.float32)).tolist()
    [[[1, -1]]]
    """
    winners = np.empty(outputs.shape[1:], np.int16)
    margin = _HALF_MARGIN if half else _FLOAT_MARGIN
    in_slabs(lambda start, end: _corner_winners(outputs, margin, winners, start, end), outputs.shape[1])
    return winners


@njit(cache=True, nogil=True)
def _line_winners(winners, k0, k1, j0, j1, line):  # type: ignore[no-untyped-def]
    """The channel that wins at the four rows around a line, -1 where they differ."""
    a, b, c, d = winners[k0, j0], winners[k0, j1], winners[k1, j0], winners[k1, j1]
    for i in range(line.size):
        same = (a[i] == b[i]) & (a[i] == c[i]) & (a[i] == d[i])
        line[i] = a[i] if same else -1


@njit(cache=True, nogil=True)
def _interpolated_run(outputs, corners, weights, along, first, stop, half, buffers):  # type: ignore[no-untyped-def]
    """The largest channel of the voxels ``first`` to ``stop`` of a line, into ``winner``."""
    k0, k1, j0, j1 = corners
    w00, w01, w10, w11 = weights
    low, high, part = along
    line, best, winner = buffers
    begin, end = low[first], high[stop - 1] + 1
    if low[stop - 1] < low[first]:
        begin, end = low[stop - 1], high[first] + 1
    one = np.float32(1)
    for c in range(outputs.shape[0]):
        a, b, d, e = outputs[c, k0, j0], outputs[c, k0, j1], outputs[c, k1, j0], outputs[c, k1, j1]
        for i in range(np.int64(begin), np.int64(end)):
            line[i] = a[i] * w00 + b[i] * w01 + d[i] * w10 + e[i] * w11
        if c == 0:
            for i in range(first, stop):
                value = line[low[i]] * (one - part[i]) + line[high[i]] * part[i]
                best[i], winner[i] = rounded(value) if half else value, 0
        elif half:
            for i in range(first, stop):
                value = rounded(line[low[i]] * (one - part[i]) + line[high[i]] * part[i])
                wins = value > best[i]
                best[i] = value if wins else best[i]
                winner[i] = c if wins else winner[i]
        else:
            for i in range(first, stop):
                value = line[low[i]] * (one - part[i]) + line[high[i]] * part[i]
                wins = value > best[i]
                best[i] = value if wins else best[i]
                winner[i] = c if wins else winner[i]


@njit(cache=True, nogil=True)
def _labels_lines(outputs, winners, shortcut, taps_k, taps_j, along, half, numbers, out, start, end):  # type: ignore[no-untyped-def]
    low, high, _ = along
    count = out.shape[2]
    line, best, winner = np.empty(outputs.shape[3], np.float32), np.empty(count, np.float32), np.empty(count, np.int32)
    known = np.empty(outputs.shape[3], np.int16)
    opened = 0
    one = np.float32(1)
    for k in range(start, end):
        k0, k1, wk = taps_k[0][k], taps_k[1][k], taps_k[2][k]
        for j in range(out.shape[1]):
            j0, j1, wj = taps_j[0][j], taps_j[1][j], taps_j[2][j]
            corners = (k0, k1, j0, j1)
            weights = ((one - wk) * (one - wj), (one - wk) * wj, wk * (one - wj), wk * wj)
            if not shortcut:
                _interpolated_run(outputs, corners, weights, along, 0, count, half, (line, best, winner))
                opened += count
            else:
                _line_winners(winners, k0, k1, j0, j1, known)
                first, stop = -1, -1
                for i in range(count):
                    least = known[low[i]]
                    if least >= 0 and least == known[high[i]]:
                        continue
                    if first >= 0 and i - stop > _GAP:
                        _interpolated_run(outputs, corners, weights, along, first, stop, half, (line, best, winner))
                        opened += stop - first
                        first = -1
                    if first < 0:
                        first = i
                    stop = i + 1
                if first >= 0:
                    _interpolated_run(outputs, corners, weights, along, first, stop, half, (line, best, winner))
                    opened += stop - first
                for i in range(count):
                    least = known[low[i]]
                    if least >= 0 and least == known[high[i]]:
                        winner[i] = least
            for i in range(count):
                out[k, j, i] = numbers[winner[i]]
    return opened


@njit(cache=True, nogil=True)
def _regions_lines(outputs, taps_k, taps_j, along, half, numbers, out, start, end):  # type: ignore[no-untyped-def]
    low, high, part = along
    line = np.empty(outputs.shape[3], np.float32)
    one = np.float32(1)
    for k in range(start, end):
        k0, k1, wk = taps_k[0][k], taps_k[1][k], taps_k[2][k]
        for j in range(out.shape[1]):
            j0, j1, wj = taps_j[0][j], taps_j[1][j], taps_j[2][j]
            w00, w01, w10, w11 = (one - wk) * (one - wj), (one - wk) * wj, wk * (one - wj), wk * wj
            for i in range(out.shape[2]):
                out[k, j, i] = 0
            for c in range(outputs.shape[0]):
                a, b, d, e = outputs[c, k0, j0], outputs[c, k0, j1], outputs[c, k1, j0], outputs[c, k1, j1]
                for i in range(line.size):
                    line[i] = a[i] * w00 + b[i] * w01 + d[i] * w10 + e[i] * w11
                for i in range(out.shape[2]):
                    value = line[low[i]] * (one - part[i]) + line[high[i]] * part[i]
                    value = rounded(value) if half else value
                    if value > REGION_ABOVE:
                        out[k, j, i] = numbers[c]


def labels_by_lines(
    outputs: NDArray[np.float32],
    taps: tuple[Taps, Taps, Taps],
    numbers: NDArray[Any],
    *,
    half: bool = False,
    regions: bool = False,
    shortcut: bool = True,
) -> tuple[NDArray[np.uint16], float]:
    """Return the labels of a grid along the axes of ``outputs``, and the share of voxels that had to be interpolated.

    ``taps`` hold, per axis, the lower and the upper row and the weight of the upper one for each voxel of the labels
    (K,J,I), monotonous along the last axis. The largest channel wins, the first of equals; with ``regions`` every
    channel above sigmoid 0.5 is painted in turn. ``half`` rounds interpolated values to half precision first.
    ``shortcut`` finds out where nothing needs to be interpolated; it never changes a label.

    >>> ends = np.array([0]), np.array([0]), np.zeros(1)
    >>> along = np.array([0, 0]), np.array([1, 1]), np.array([0.25, 0.75])
    >>> outputs = np.array([[[[4.0, 0.0]]], [[[0.0, 4.0]]]], np.float32)
    >>> labels_by_lines(outputs, (ends, ends, along), np.array([0, 9]))[0].tolist()
    [[[0, 9]]]
    """
    out = np.empty([len(tap[0]) for tap in taps], np.uint16)
    table = np.ascontiguousarray(numbers, out.dtype)
    three = tuple((low.astype(np.uint32), high.astype(np.uint32), weight.astype(np.float32)) for low, high, weight in taps)
    if regions:
        in_slabs(lambda start, end: _regions_lines(outputs, *three, half, table, out, start, end), out.shape[0])
        return out, 1.0
    winners = clear_winners(outputs, half) if shortcut else np.empty((0, 0, 0), np.int16)
    opened = in_slabs(lambda start, end: _labels_lines(outputs, winners, shortcut, *three, half, table, out, start, end), out.shape[0])
    return out, sum(opened) / max(1, out.size)
