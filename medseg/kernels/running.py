"""Means over a window around every voxel by running sums: the cost does not grow with the window.

A window of L voxels along an axis need not be a whole odd number: it covers ``floor(half)`` whole voxels on each side, with
half = (L - 1) / 2, and the share ``half - floor(half)`` of the next ones. What lies outside the array, and what is not
finite, does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .slabs import in_slabs

MEAN, OFFSET, SAUVOLA = 0, 1, 2
# Each slab first adds up the planes of one window: few slabs keep that small.
_SLABS = 4


class _Plan(NamedTuple):
    """What is done with every plane; intensities are relative to the centre."""

    centre: float
    whole: NDArray[np.int64]  # voxels on each side along k, j, i
    part: NDArray[np.float64]  # share of the next ones
    held: tuple[NDArray[np.float64], ...]  # how much of the window lies within the array, along k, j, i
    counts: bool  # whether finite voxels must be counted
    rule: int
    numbers: NDArray[np.float64]  # side, weight, spread, start of the scale, least difference


@njit(cache=True, nogil=True)
def _add_plane(plane, weight, sums, squares, counts):  # type: ignore[no-untyped-def]
    """Add weight times v, and where asked for times v² and 1, of a plane to the sums of each (j, i)."""
    for j in range(plane.shape[0]):
        line, total = plane[j], sums[0, j]
        if counts:
            number = sums[sums.shape[0] - 1, j]
            for i in range(line.size):
                is_held = np.isfinite(line[i])
                total[i] += weight * line[i] if is_held else 0.0
                number[i] += weight if is_held else 0.0
        else:
            for i in range(line.size):
                total[i] += weight * line[i]
        if squares:
            square = sums[1, j]
            for i in range(line.size):
                square[i] += weight * line[i] * line[i] if np.isfinite(line[i]) else 0.0


@njit(cache=True, nogil=True)
def _add_row(sums, j, weight, rows):  # type: ignore[no-untyped-def]
    if j < 0 or j >= sums.shape[1]:
        return
    for m in range(sums.shape[0]):
        source, row = sums[m, j], rows[m]
        for i in range(row.size):
            row[i] += weight * source[i]


@njit(cache=True, nogil=True)
def _across(row, whole, part, out):  # type: ignore[no-untyped-def]
    """Sums of one row over the window along i."""
    length = row.size
    total = 0.0
    for i in range(min(whole, length)):
        total += row[i]
    for i in range(length):
        if i + whole < length:
            total += row[i + whole]
        if i - whole - 1 >= 0:
            total -= row[i - whole - 1]
        ends = 0.0
        if part > 0:
            if i + whole + 1 < length:
                ends += row[i + whole + 1]
            if i - whole - 1 >= 0:
                ends += row[i - whole - 1]
        out[i] = total + part * ends


@njit(cache=True, nogil=True)
def _decide(line, sums, number, rule, numbers, mean_line, mask_line):  # type: ignore[no-untyped-def]
    """Write the mean, or whether each voxel lies beyond the limit of its window; ``number`` is what each window holds."""
    sign, weight, spread, scale_from, least = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    for i in range(line.size):
        # rounding of shares leaves next to nothing where a window is empty
        mean = sums[0, i] / number[i] if number[i] > 1e-9 else np.nan
        if rule == MEAN:
            mean_line[i] = mean
            continue
        limit = mean
        if rule == SAUVOLA:
            std = np.sqrt(max(sums[1, i] / number[i] - mean * mean, 0.0)) if number[i] > 1e-9 else np.nan
            limit = scale_from + (mean - scale_from) * (1 + weight * (std / spread - 1))
        # with sign -1 a structure is darker; NaN compares as outside
        mask_line[i] = np.uint8(sign * (line[i] - limit) > least)


@njit(cache=True, nogil=True)
def _finish_plane(plane, columns, whole, part, share, along_j, along_i, counts, rule, numbers, means, mask):  # type: ignore[no-untyped-def]
    """From the sums over k to those over the window, and to what is written about one plane."""
    height, length = plane.shape
    size = columns.shape[0]
    rows, wide, sums = np.zeros((size, length)), np.empty((size, length)), np.empty((size, length))
    number = np.empty(length)
    for j in range(min(whole[1], height)):
        _add_row(columns, j, 1.0, rows)
    for j in range(height):
        _add_row(columns, j + whole[1], 1.0, rows)
        _add_row(columns, j - whole[1] - 1, -1.0, rows)
        for m in range(size):
            for i in range(length):
                wide[m, i] = rows[m, i]
        if part[1] > 0:
            _add_row(columns, j - whole[1] - 1, part[1], wide)
            _add_row(columns, j + whole[1] + 1, part[1], wide)
        for m in range(size):
            _across(wide[m], whole[2], part[2], sums[m])
        for i in range(length):
            number[i] = sums[size - 1, i] if counts else share * along_j[j] * along_i[i]
        _decide(plane[j], sums, number, rule, numbers, means[j if rule == MEAN else 0], mask[0 if rule == MEAN else j])


def _windows(image: NDArray[Any], plan: _Plan, means: NDArray[Any], mask: NDArray[Any], start: int, end: int) -> None:
    """The planes from start to end: the sums over k run on from plane to plane."""
    depth, height, length = image.shape
    squares = plan.rule == SAUVOLA
    columns = np.zeros((1 + squares + plan.counts, height, length))
    reach, part = int(plan.whole[0]), float(plan.part[0])

    def plane_at(k: int) -> NDArray[np.float64]:
        return np.asarray(image[k] - np.float64(plan.centre))

    def add(k: int, weight: float, sums: NDArray[np.float64]) -> None:
        if 0 <= k < depth:
            _add_plane(plane_at(k), weight, sums, squares, plan.counts)

    for k in range(start - reach, start + reach):
        add(k, 1.0, columns)
    for k in range(start, end):
        add(k + reach, 1.0, columns)
        if k > start:
            add(k - reach - 1, -1.0, columns)
        wide = columns
        if part > 0:
            wide = columns.copy()
            add(k - reach - 1, part, wide)
            add(k + reach + 1, part, wide)
        m, n = (k, 0) if plan.rule == MEAN else (0, k)
        held = (float(plan.held[0][k]), plan.held[1], plan.held[2], plan.counts)
        _finish_plane(plane_at(k), wide, plan.whole, plan.part, *held, plan.rule, plan.numbers, means[m], mask[n])


def _held(length: int, whole: int, part: float) -> NDArray[np.float64]:
    """How much of the window around each place of a line lies within the line."""
    at = np.arange(length)
    inner = np.minimum(at + whole, length - 1) - np.maximum(at - whole, 0) + 1
    return inner + part * ((at - whole > 0).astype(np.float64) + (at + whole < length - 1))


def _halves(half_voxels: Sequence[float], shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    halves = [float(value) for value in half_voxels]
    if len(halves) != 3 or not all(math.isfinite(value) and value >= 0 for value in halves):
        raise ValueError(f"half_voxels is {tuple(halves)}; pass three numbers >= 0 in the order (k, j, i)")
    # a window that reaches beyond the array on both sides everywhere holds all of it, however large it is
    whole = [min(math.floor(value), length) for value, length in zip(halves, shape, strict=True)]
    part = [min(value - n, 1.0) for value, n in zip(halves, whole, strict=True)]
    return np.array(whole, np.int64), np.array(part)


def _run_windows(image: NDArray[Any], half_voxels: Sequence[float], rule: int, numbers: Sequence[float] = (0.0,) * 5) -> NDArray[Any]:
    image = as_image(image)
    whole, part = _halves(half_voxels, image.shape)
    # relative to a whole number near the middle sums of whole numbers stay exact and squares keep their digits
    sample = image[image.shape[0] // 2].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    centre = float(np.rint(sample.mean())) if sample.size else 0.0
    sign, weight, spread, scale_from, least = numbers
    held = tuple(_held(*line) for line in zip(image.shape, whole.tolist(), part.tolist(), strict=True))
    counts = image.dtype.kind == "f" and not all(bool(np.isfinite(plane).all()) for plane in image)
    plan = _Plan(centre, whole, part, held, counts, rule, np.array([sign, weight, spread, scale_from - centre, least]))
    small = (1, *image.shape[1:])
    means = np.empty(image.shape if rule == MEAN else small, np.float32)
    mask = np.empty(small if rule == MEAN else image.shape, np.uint8)
    in_slabs(lambda start, end: _windows(image, plan, means, mask, start, end), image.shape[0], _SLABS)
    if rule != MEAN:
        return mask
    means += np.float32(centre)
    return means


def window_mean(image: NDArray[Any], half_voxels: Sequence[float]) -> NDArray[np.float32]:
    """The mean over the window around each voxel, as float32; NaN where no voxel of the window is finite.

    ``image`` and ``half_voxels`` in the order (k, j, i). Memory: the result, 4 bytes per voxel, and planes.

    >>> window_mean(np.array([[[0, 3, 6, 9]]], np.int16), (0, 0, 1)).tolist()
    [[[1.5, 3.0, 6.0, 7.5]]]
    """
    return _run_windows(image, half_voxels, MEAN)


def beyond_window_mean(
    image: NDArray[Any], half_voxels: Sequence[float], side: int, offset: float, slack: float = 0.0
) -> NDArray[np.uint8]:
    """1 where a voxel is brighter (side 1) or darker (side -1) than the mean of its window by more than offset + slack.

    Memory: the result, 1 byte per voxel, and planes.

    >>> beyond_window_mean(np.array([[[0, 0, 9, 0]]], np.int16), (0, 0, 1), 1, 2).tolist()
    [[[0, 0, 1, 0]]]
    """
    return _run_windows(image, half_voxels, OFFSET, (side, 0.0, 1.0, 0.0, offset + slack))


def beyond_sauvola(
    image: NDArray[Any], half_voxels: Sequence[float], side: int, weight: float, spread: float, scale_from: float, slack: float = 0.0
) -> NDArray[np.uint8]:
    """1 where a voxel lies beyond Sauvola's limit z + (mean - z) (1 + weight (std / spread - 1)), z being ``scale_from``.

    Side 1: brighter, -1: darker. Mean and standard deviation are those of the window. Memory: the result, 1 byte per
    voxel, and planes.

    >>> beyond_sauvola(np.array([[[9, 9, 2, 9]]], np.int16), (0, 0, 1), -1, 0.5, 5, 0).tolist()
    [[[0, 0, 1, 0]]]
    """
    return _run_windows(image, half_voxels, SAUVOLA, (side, weight, spread, scale_from, slack))
