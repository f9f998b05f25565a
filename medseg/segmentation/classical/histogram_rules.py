"""Rules that find one threshold in a histogram: each returns the last bin of the dark side.

Every rule takes all possible cuts into account (no iteration, no start value); of equally good cuts the lowest is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.segmentation.classical.intensities import Bins

Floats = npt.NDArray[np.float64]


def li(bins: Bins) -> int:
    """The cut with the least cross entropy between the scan and its two means; the lowest intensity counts as 0.

    >>> counts = np.array([4, 2, 0, 1, 9])
    >>> li(Bins(np.arange(5.0), counts, np.arange(5.0), 1.0, True))
    1
    """
    held, values, counts = _held(bins)
    dark, bright = _sides(counts)
    moment_dark, moment_bright = _sides(counts * (values - values[0]))
    gain = _times_log(moment_dark, moment_dark / dark) + _times_log(moment_bright, moment_bright / bright)
    return int(held[gain.argmax()])


def yen(bins: Bins) -> int:
    """The cut with the largest entropic correlation of the two sides."""
    held, _, counts = _held(bins)
    dark, bright = _sides(counts)
    squares_dark, squares_bright = _sides(counts * counts)
    correlation = 2 * (np.log(dark) + np.log(bright)) - np.log(squares_dark) - np.log(squares_bright)
    return int(held[correlation.argmax()])


def maximum_entropy(bins: Bins) -> int:
    """The cut with the largest sum of the entropies of the two sides."""
    held, _, counts = _held(bins)
    dark, bright = _sides(counts)
    logs_dark, logs_bright = _sides(counts * np.log(counts))
    entropy = np.log(dark) - logs_dark / dark + np.log(bright) - logs_bright / bright
    return int(held[entropy.argmax()])


def kittler(bins: Bins) -> int:
    """The cut with the least error if both sides were normal distributions.

    A bin stands for all intensities across its width, whose variance is width²/12: so a side of one intensity (air that is
    0 everywhere) has a variance too.
    """
    held, values, counts = _held(bins)
    span = values[-1] - values[0]  # as the unit: squares of huge intensities stay finite
    values = (values - values[0]) / span
    centred = values - np.average(values, weights=counts)
    total = counts.sum()
    cost = np.zeros(len(held) - 1)
    for number, moment, square in zip(_sides(counts), _sides(counts * centred), _sides(counts * centred**2), strict=True):
        variance = np.maximum(square / number - (moment / number) ** 2, 0) + (bins.width / span) ** 2 / 12
        share = number / total
        cost += share * (np.log(variance) - 2 * np.log(share))
    return int(held[cost.argmin()])


def triangle(bins: Bins) -> int:
    """The bin furthest from the line between the peak of the histogram and its far end."""
    counts = bins.counts.astype(np.int64)
    peak = int(counts.argmax())
    low, high = (int(end) for end in np.flatnonzero(counts)[[0, -1]])
    flip = peak - low < high - peak
    if flip:
        counts, peak, low = counts[::-1], len(counts) - 1 - peak, len(counts) - 1 - high
    width = peak - low
    steps = np.arange(width, dtype=np.int64)
    # whole numbers: exact for every scan that fits into memory
    distance = counts[peak] * steps - width * counts[low + steps]
    found = int(distance.argmax()) + low
    # the far end itself would leave nothing on its side
    return len(counts) - 1 - max(found, low + 1) if flip else found


def _held(bins: Bins) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """The bins that hold a voxel, their values and counts."""
    held = np.flatnonzero(bins.counts)
    return held, bins.values[held], bins.counts[held].astype(np.float64)


def _sides(amounts: Floats) -> tuple[Floats, Floats]:
    """Sums up to and including each bin but the last, and of the bins above it."""
    return np.cumsum(amounts)[:-1], np.cumsum(amounts[::-1])[::-1][1:]


def _times_log(factor: Floats, value: Floats) -> Any:
    return factor * np.log(value, out=np.zeros_like(value), where=value > 0)
