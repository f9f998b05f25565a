"""Histograms, the thresholds that follow from them, and masks between two limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image, limits_as
from .slabs import in_slabs

BINS = 65536


@njit(cache=True, nogil=True)
def _count_integers(image, lowest, bins, start, end):  # type: ignore[no-untyped-def]
    # Four tables in turn: equal neighbours would otherwise wait for each other's write.
    counts = np.zeros((4, bins), np.int64)
    for k in range(start, end):
        for j in range(image.shape[1]):
            line = image[k, j]
            whole = line.size // 4 * 4
            for i in range(0, whole, 4):
                counts[0, np.uint64(np.int64(line[i]) - lowest)] += 1
                counts[1, np.uint64(np.int64(line[i + 1]) - lowest)] += 1
                counts[2, np.uint64(np.int64(line[i + 2]) - lowest)] += 1
                counts[3, np.uint64(np.int64(line[i + 3]) - lowest)] += 1
            for i in range(whole, line.size):
                counts[0, np.uint64(np.int64(line[i]) - lowest)] += 1
    return counts[0] + counts[1] + counts[2] + counts[3]


@njit(cache=True, nogil=True)
def _finite_range(image, start, end):  # type: ignore[no-untyped-def]
    low, high = np.inf, -np.inf
    for k in range(start, end):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                value = np.float64(image[k, j, i])
                if np.isfinite(value):
                    low = min(low, value)
                    high = max(high, value)
    return low, high


@njit(cache=True, nogil=True)
def _count_bins(image, low, scale, start, end):  # type: ignore[no-untyped-def]
    counts = np.zeros(65536, np.int64)
    for k in range(start, end):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                value = np.float64(image[k, j, i])
                if np.isfinite(value):
                    at = np.int64((value - low) * scale)
                    counts[at if at < 65535 else 65535] += 1
    return counts


def histogram(image: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The values of an image in rising order and how many voxels hold each.

    Exact for integers of up to 16 bits: one entry for each value from the least to the greatest, empty ones
    included. Anything else (32-bit integers, floats): 65,536 equal bins over the finite range, each given by its
    middle; NaN and infinite voxels are left out. Both arrays are empty where no voxel is finite; a constant image
    gives one entry. Memory: 8 bytes for each value or bin, for each of 16 slabs.

    >>> values, counts = histogram(np.array([[[3, 3, 5]]], np.int16))
    >>> values.tolist(), counts.tolist()
    ([3.0, 4.0, 5.0], [2, 0, 1])
    """
    image = as_image(image)
    if image.dtype.itemsize <= 2:
        info = np.iinfo(image.dtype)
        bins = int(info.max) - int(info.min) + 1
        parts = in_slabs(lambda start, end: _count_integers(image, int(info.min), bins, start, end), image.shape[0], 4)
        counts = np.sum(parts, axis=0)
        held = np.flatnonzero(counts)
        counts = counts[held[0] : held[-1] + 1]
        return np.arange(len(counts), dtype=np.float64) + float(info.min + int(held[0])), counts
    ranges = in_slabs(lambda start, end: _finite_range(image, start, end), image.shape[0])
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if not low <= high:
        return np.empty(0), np.empty(0, np.int64)
    scale = _bins_per_unit(low, high)
    if low == high or not np.isfinite(scale):
        finite = int(np.count_nonzero(np.isfinite(image)))
        return np.array([low / 2 + high / 2]), np.array([finite], np.int64)
    parts = in_slabs(lambda start, end: _count_bins(image, low, scale, start, end), image.shape[0], 4)
    return low + (np.arange(BINS) + 0.5) / scale, np.sum(parts, axis=0)


def _bins_per_unit(low: float, high: float) -> float:
    with np.errstate(over="ignore", divide="ignore"):
        return float(np.float64(BINS) / (np.float64(high) - np.float64(low)))


@njit(cache=True, nogil=True)
def best_split(values, counts, classes):  # type: ignore[no-untyped-def]
    """Last entry of each class but the greatest for the largest between-class variance (dynamic programming).

    ``values`` in rising order around 0, ``counts`` all above 0, both float64, at least ``classes`` of them.
    """
    n = values.size
    weight = np.zeros(n + 1)
    moment = np.zeros(n + 1)
    for m in range(n):
        weight[m + 1] = weight[m] + counts[m]
        moment[m + 1] = moment[m] + counts[m] * values[m]
    best = np.full((classes, n + 1), -np.inf)
    cut = np.zeros((classes, n + 1), np.int64)
    for m in range(1, n + 1):
        best[0, m] = moment[m] * moment[m] / weight[m]
    for c in range(1, classes):
        # The best cut never moves back as the end moves on (the gain is concave): divide and conquer.
        stack = np.empty((128, 4), np.int64)
        stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = c + 1, n, c, n - 1
        top = 1
        while top > 0:
            top -= 1
            low, high, from_, to = stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3]
            if low > high:
                continue
            end = (low + high) // 2
            for m in range(from_, min(to, end - 1) + 1):
                part = moment[end] - moment[m]
                gain = best[c - 1, m] + part * part / (weight[end] - weight[m])
                if gain > best[c, end]:
                    best[c, end] = gain
                    cut[c, end] = m
            at = cut[c, end]
            stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3] = low, end - 1, from_, at
            stack[top + 1, 0], stack[top + 1, 1], stack[top + 1, 2], stack[top + 1, 3] = end + 1, high, at, to
            top += 2
    ends = np.empty(classes - 1, np.int64)
    end = n
    for c in range(classes - 1, 0, -1):
        end = cut[c, end]
        ends[c - 1] = end - 1
    return ends


def otsu_thresholds(values: NDArray[Any], counts: NDArray[Any], classes: int = 2) -> NDArray[np.float64]:
    """The ``classes - 1`` thresholds of the largest variance between the classes (exact, not searched on bins).

    ``values`` and ``counts`` as `histogram` gives them; a voxel above a threshold belongs to the next class. 2 to 5
    classes. Raises ValueError where fewer values than classes hold any voxel. Of several equally good cuts
    (a gap in the histogram) the lowest is given. Otsu 1979, doi:10.1109/TSMC.1979.4310076.

    >>> otsu_thresholds(np.array([0.0, 1.0, 2.0, 3.0]), np.array([5, 0, 0, 5])).tolist()
    [0.0]
    """
    if not 2 <= classes <= 5:
        raise ValueError(f"classes is {classes}; use 2 to 5")
    values, counts = np.asarray(values, np.float64), np.asarray(counts, np.float64)
    held = counts > 0
    if int(held.sum()) < classes:
        raise ValueError(f"the image holds {int(held.sum())} different values, too few for {classes} classes")
    values, counts = values[held], counts[held]
    # Around the mean the sums of squares keep their digits.
    centred = values - float(np.average(values, weights=counts))
    return np.asarray(values[best_split(centred, counts, classes)], np.float64)


@njit(cache=True, nogil=True)
def _threshold_slab(image, lower, upper, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(image.shape[1]):
            line, inside = image[k, j], out[k, j]
            for i in range(line.size):
                inside[i] = np.uint8(line[i] >= lower) & np.uint8(line[i] <= upper)


def threshold(image: NDArray[Any], lower: float, upper: float) -> NDArray[np.uint8]:
    """1 where lower <= value <= upper, else 0; NaN is never inside.

    >>> threshold(np.array([[[1, 2, 3]]], np.int16), 1.5, 3).tolist()
    [[[0, 1, 1]]]
    """
    image = as_image(image)
    limits = limits_as(image.dtype, lower, upper)
    if limits is None:
        return np.zeros(image.shape, np.uint8)
    out = np.empty(image.shape, np.uint8)
    in_slabs(lambda start, end: _threshold_slab(image, *limits, out, start, end), image.shape[0])
    return out


@njit(cache=True, nogil=True)
def _reached_slab(image, limits, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(image.shape[1]):
            line, row = image[k, j], out[k, j]
            for i in range(line.size):
                row[i] = 0
            for n in range(limits.size):
                limit = limits[n]
                for i in range(line.size):
                    row[i] += np.uint8(line[i] >= limit)


def limits_reached(image: NDArray[Any], limits: Sequence[float]) -> NDArray[np.uint8]:
    """How many of at most 255 limits each voxel reaches (value >= limit), in one pass; NaN reaches none.

    >>> limits_reached(np.array([[[1, 5, 9]]], np.int16), [5, 6]).tolist()
    [[[0, 1, 2]]]
    """
    image = as_image(image)
    bounds = [limits_as(image.dtype, limit, np.inf) for limit in limits]
    reachable = np.array([bound[0] for bound in bounds if bound is not None], image.dtype)
    out = np.empty(image.shape, np.uint8)
    in_slabs(lambda start, end: _reached_slab(image, reachable, out, start, end), image.shape[0])
    return out
