"""Size, place, border contact and intensity of all labels in one pass; percentiles in a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image, as_labels, as_words, same_shape
from .label_table import grown_hash, place_of, run_end
from .slabs import in_slabs

# Columns of the integer table of a slab: one row for each label that it holds.
_VOXELS, _FINITE, _SUM, _SQUARES = 0, 1, 2, 3
_CENTRE = 4  # sums of k, j and 2 * i
_LEAST, _MOST = 7, 10  # box
_FACES = 13  # k-, k+, j-, j+, i-, i+
_COLUMNS = 19
_FAR = np.iinfo(np.int64).max
# Histograms of more entries than this (and than voxels) are not made: the values are sorted instead.
_FEW_BINS = 1 << 22


@dataclass(frozen=True)
class LabelStatistics:
    """One entry (row) for each label that occurs, in rising order of ``numbers``; 0 is background and not listed.

    Indices are voxels in the order (k, j, i). ``mean``, ``std`` (divided by the number of voxels, ddof=0),
    ``minimum`` and ``maximum`` are taken over the finite voxels; NaN where there are none or no image was given.
    """

    numbers: NDArray[Any]  # [n] the labels
    voxels: NDArray[np.int64]  # [n]
    centroid: NDArray[np.float64]  # [n, 3]
    first: NDArray[np.int64]  # [n, 3] least index of the box
    last: NDArray[np.int64]  # [n, 3] greatest index of the box (inclusive)
    border: NDArray[np.int64]  # [n, 6] voxels on the faces k-, k+, j-, j+, i-, i+ of the array
    non_finite: NDArray[np.int64]  # [n] NaN and infinite voxels, left out of the intensities
    mean: NDArray[np.float64]  # [n]
    std: NDArray[np.float64]  # [n]
    minimum: NDArray[np.float64]  # [n]
    maximum: NDArray[np.float64]  # [n]


@njit(cache=True, nogil=True)
def _grown_order(order):  # type: ignore[no-untyped-def]
    more = np.zeros(4 * order.size, np.uint64)
    for n in range(order.size):  # loops, here and below: assigning a slice takes numba seconds to compile
        more[n] = order[n]
    return more


@njit(cache=True, nogil=True)
def _grown_rows(table, reals):  # type: ignore[no-untyped-def]
    more = np.zeros((4 * table.shape[0], table.shape[1]), np.int64)
    more_reals = np.zeros((4 * table.shape[0], 4))
    for n in range(table.shape[0]):
        for column in range(table.shape[1]):
            more[n, column] = table[n, column]
        for column in range(4):
            more_reals[n, column] = reals[n, column]
    return more, more_reals


@njit(cache=True, nogil=True)
def _add_place(row, k, j, first, stop, shape):  # type: ignore[no-untyped-def]
    depth, height, length = shape
    count = stop - first
    if row[0] == 0:
        row[7], row[8], row[9] = k, j, first
        row[10], row[11], row[12] = k, j, stop - 1
    row[0] += count
    row[4] += k * count
    row[5] += j * count
    row[6] += (first + stop - 1) * count
    row[8], row[9] = min(row[8], j), min(row[9], first)
    row[10], row[11], row[12] = k, max(row[11], j), max(row[12], stop - 1)
    row[13] += count if k == 0 else 0
    row[14] += count if k == depth - 1 else 0
    row[15] += count if j == 0 else 0
    row[16] += count if j == height - 1 else 0
    row[17] += 1 if first == 0 else 0
    row[18] += 1 if stop == length else 0


@njit(cache=True, nogil=True)
def _add_integers(row, real, line, first, stop):  # type: ignore[no-untyped-def]
    """Exact sums: 16-bit values squared fit 2**31 times into 63 bits."""
    total, squares = np.int64(0), np.int64(0)
    low, high = line[first], line[first]
    for i in range(first, stop):
        value = np.int64(line[i])
        total += value
        squares += value * value
        low = min(low, line[i])
        high = max(high, line[i])
    if row[1] == 0:
        real[2], real[3] = low, high
    row[1] += stop - first
    row[2] += total
    row[3] += squares
    real[2], real[3] = min(real[2], np.float64(low)), max(real[3], np.float64(high))


@njit(cache=True, nogil=True)
def _add_reals(row, real, line, first, stop):  # type: ignore[no-untyped-def]
    """Mean and squared deviations of the run about its own first value, merged into those of the label."""
    count, centre, total, squares = 0, 0.0, 0.0, 0.0
    low, high = np.inf, -np.inf
    for i in range(first, stop):
        value = np.float64(line[i])
        if np.isfinite(value):
            if count == 0:
                centre = value
            count += 1
            total += value - centre
            squares += (value - centre) * (value - centre)
            low, high = min(low, value), max(high, value)
    if count > 0:
        if row[1] == 0:
            real[2], real[3] = low, high
        mean = centre + total / count
        before = row[1]
        step = mean - real[0]
        real[0] += step * count / (before + count)
        real[1] += max(squares - total * total / count, 0.0) + step * step * (before * (count / (before + count)))
        real[2], real[3] = min(real[2], low), max(real[3], high)
        row[1] += count


@njit(cache=True, nogil=True)
def _slab(labels, words, per_word, repeat, image, kind, start, end):  # type: ignore[no-untyped-def]
    """Tables of the labels in the planes from start to end; kind 0: no image, 1: integers of 16 bits, 2: reals."""
    keys, slots = np.zeros(1024, np.uint64), np.full(1024, -1, np.int64)
    table, reals = np.zeros((256, 19), np.int64), np.zeros((256, 4))
    order = np.zeros(256, np.uint64)
    used = 0
    length = labels.shape[2]
    for k in range(start, end):
        for j in range(labels.shape[1]):
            line = labels[k, j]
            base = (k * labels.shape[1] + j) * length // max(per_word, 1)
            i = 0
            while i < length:
                label = line[i]
                first = i
                i = run_end(line, words, base, per_word, repeat, i)
                if label == 0:
                    continue
                at = place_of(keys, slots, np.uint64(label))
                if slots[at] < 0:
                    if used == table.shape[0]:
                        table, reals = _grown_rows(table, reals)
                        keys, slots = grown_hash(keys, slots)
                        order = _grown_order(order)
                        at = place_of(keys, slots, np.uint64(label))
                    keys[at], slots[at] = label, used
                    order[used] = label
                    used += 1
                row = table[slots[at]]
                _add_place(row, k, j, first, i, labels.shape)
                if kind == 1:
                    _add_integers(row, reals[slots[at]], image[k, j], first, i)
                elif kind == 2:
                    _add_reals(row, reals[slots[at]], image[k, j], first, i)
    return order[:used], table[:used], reals[:used]


def _merged(parts: list[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.float64]]:
    """One table from those of the slabs, in the order of the slabs."""
    numbers = np.unique(np.concatenate([part[0] for part in parts]))
    table = np.zeros((len(numbers), _COLUMNS), np.int64)
    table[:, _LEAST:_MOST], table[:, _MOST:_FACES] = _FAR, -1
    reals = np.zeros((len(numbers), 4))
    reals[:, 2], reals[:, 3] = np.inf, -np.inf
    for labels, rows, values in parts:
        at = np.searchsorted(numbers, labels)
        before, count = table[at, _FINITE], rows[:, _FINITE]
        some = np.maximum(before + count, 1)
        step = np.where(count > 0, values[:, 0] - reals[at, 0], 0.0)
        reals[at, 0] += step * count / some
        reals[at, 1] += values[:, 1] + step * step * (before * (count / some))
        held = count > 0
        reals[at[held], 2] = np.minimum(reals[at[held], 2], values[held, 2])
        reals[at[held], 3] = np.maximum(reals[at[held], 3], values[held, 3])
        table[at, :_LEAST] += rows[:, :_LEAST]
        table[at, _LEAST:_MOST] = np.minimum(table[at, _LEAST:_MOST], rows[:, _LEAST:_MOST])
        table[at, _MOST:_FACES] = np.maximum(table[at, _MOST:_FACES], rows[:, _MOST:_FACES])
        table[at, _FACES:] += rows[:, _FACES:]
    return numbers, table, reals


def _integer_moments(table: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and std from exact sums; the product is taken in whole numbers of any length, then rounded once."""
    mean, std = np.empty(len(table)), np.empty(len(table))
    for n, (count, total, squares) in enumerate(table[:, [_FINITE, _SUM, _SQUARES]].tolist()):
        mean[n] = total / count
        std[n] = ((count * squares - total * total) / (count * count)) ** 0.5
    return mean, std


def label_statistics(labels: NDArray[Any], image: NDArray[Any] | None = None) -> LabelStatistics:
    """Voxels, centroid, box, border contact and intensity of every label, in one pass.

    ``labels`` and ``image`` (k, j, i) of the same shape; labels are integers >= 0 of any size, 0 is background. For
    images of 8 and 16 bits the sums are exact; for wider ones mean and deviation are accumulated about local means,
    which keeps the digits of large offsets. The result does not depend on the number of threads.

    >>> found = label_statistics(np.array([[[7, 7, 0, 900]]], np.uint16), np.array([[[1, 3, 9, 5]]], np.int16))
    >>> found.numbers.tolist(), found.voxels.tolist(), found.mean.tolist(), found.std.tolist()
    ([7, 900], [2, 1], [2.0, 5.0], [1.0, 0.0])
    """
    labels = as_labels(labels)
    kind = 0
    if image is not None:
        image = as_image(image)
        same_shape(labels, image, ("labels", "image"))
        kind = 1 if image.dtype.itemsize <= 2 else 2
    # Without an image the labels stand in for it (they are not read): one compiled variant less.
    values = labels if image is None else image
    words, per_word, repeat = as_words(labels)
    parts = in_slabs(lambda start, end: _slab(labels, words, per_word, repeat, values, kind, start, end), labels.shape[0])
    numbers, table, reals = _merged(parts)
    voxels, finite = table[:, _VOXELS], table[:, _FINITE]
    centroid = table[:, _CENTRE:_LEAST] / (voxels[:, None] * np.array([1, 1, 2]))
    if kind == 1:
        mean, std = _integer_moments(table)
    else:
        mean, std = reals[:, 0].copy(), np.sqrt(reals[:, 1] / np.maximum(finite, 1))
    absent = finite == 0
    minimum, maximum = reals[:, 2].copy(), reals[:, 3].copy()
    for array in (mean, std, minimum, maximum):
        array[absent] = np.nan
    return LabelStatistics(
        numbers=numbers.astype(labels.dtype),
        voxels=voxels.copy(),
        centroid=centroid,
        first=table[:, _LEAST:_MOST].copy(),
        last=table[:, _MOST:_FACES].copy(),
        border=table[:, _FACES:].copy(),
        non_finite=voxels - finite if kind else np.zeros_like(voxels),
        mean=mean,
        std=std,
        minimum=minimum,
        maximum=maximum,
    )


@njit(cache=True, nogil=True)
def _find(numbers, label):  # type: ignore[no-untyped-def]
    low, high = 0, numbers.size
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] < label:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _count_values(labels, image, numbers, zero, counts, start, end):  # type: ignore[no-untyped-def]
    """Histogram of each label: value v of label n is counted at zero[n] + v."""
    length = labels.shape[2]
    for k in range(start, end):
        for j in range(labels.shape[1]):
            line, values = labels[k, j], image[k, j]
            i = 0
            while i < length:
                label = line[i]
                if label == 0:
                    i += 1
                    continue
                base = zero[_find(numbers, label)]
                while i < length and line[i] == label:
                    counts[base + np.int64(values[i])] += 1
                    i += 1


@njit(cache=True, nogil=True)
def _gather(labels, image, numbers, write, out):  # type: ignore[no-untyped-def]
    """The finite values of each label, one label after the other."""
    length = labels.shape[2]
    for k in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            line, values = labels[k, j], image[k, j]
            i = 0
            while i < length:
                label = line[i]
                if label == 0:
                    i += 1
                    continue
                n = _find(numbers, label)
                while i < length and line[i] == label:
                    if np.isfinite(values[i]):
                        out[write[n]] = values[i]
                        write[n] += 1
                    i += 1


def _between(low: NDArray[Any], high: NDArray[Any], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation rounded as numpy.percentile does it."""
    low, high = low.astype(np.float64), high.astype(np.float64)
    step = high - low
    return np.asarray(np.where(share < 0.5, low + step * share, high - step * (1 - share)), np.float64)


def label_percentiles(
    labels: NDArray[Any], image: NDArray[Any], percentiles: Sequence[float], statistics: LabelStatistics | None = None
) -> NDArray[np.float64]:
    """Exact percentiles of the finite voxels of every label: [labels in rising order, percentiles].

    Between two voxels the value is interpolated linearly (the default of numpy.percentile; 50 is the median).
    ``statistics`` saves a pass where `label_statistics` of the same arrays is at hand. NaN for a label without a
    finite voxel. Images of up to 16 bits are counted, others sorted.

    >>> label_percentiles(np.array([[[1, 1, 1, 0]]], np.uint8), np.array([[[4, 8, 5, 9]]], np.int16), [50]).tolist()
    [[5.0]]
    """
    labels, image = as_labels(labels), as_image(image)
    same_shape(labels, image, ("labels", "image"))
    shares = np.asarray(percentiles, np.float64) / 100
    if shares.ndim != 1 or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"percentiles are {percentiles}; pass a list of numbers from 0 to 100")
    known = statistics if statistics is not None else label_statistics(labels, image)
    finite = known.voxels - known.non_finite
    places = shares[None, :] * np.maximum(finite - 1, 0)[:, None]
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(finite - 1, 0)[:, None])
    out = np.full(places.shape, np.nan)
    if image.dtype.itemsize <= 2 and len(known.numbers):
        least = known.minimum.astype(np.int64)
        widths = known.maximum.astype(np.int64) - least + 1
        if int(widths.sum()) <= max(_FEW_BINS, labels.size // 4):
            begins = np.cumsum(widths) - widths
            parts = [np.zeros(int(widths.sum()), np.int64) for _ in range(min(4, labels.shape[0]))]
            zero, free = begins - least, list(parts)
            in_slabs(lambda a, b: _count_values(labels, image, known.numbers, zero, free.pop(), a, b), labels.shape[0], len(parts))
            counts = np.sum(parts, axis=0)
            for n, begin in enumerate(begins):
                upto = np.cumsum(counts[begin : begin + widths[n]])
                low, high = (least[n] + np.searchsorted(upto, rank[n], side="right") for rank in (below, above))
                out[n] = _between(low, high, places[n] - below[n])
            return out
    begins = np.cumsum(finite) - finite
    values = np.empty(int(finite.sum()), image.dtype)
    _gather(labels, image, known.numbers, begins.copy(), values)
    for n in np.flatnonzero(finite).tolist():
        ranks = np.unique([below[n], above[n]])
        part = values[begins[n] : begins[n] + finite[n]]
        part.partition(ranks)
        out[n] = _between(part[below[n]], part[above[n]], places[n] - below[n])
    return out
