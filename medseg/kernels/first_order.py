"""First-order statistics of the intensities of every label, from its sorted values; no pass over the volume for a label."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import config, njit
from numpy.typing import NDArray

from .arrays import as_image
from .extents import LabelRuns

_SHARES = 256  # of the labels, handed to the threads one after the other: labels differ in size


@dataclass(frozen=True)
class FirstOrder:
    """One entry for each label, over its finite voxels; NaN for a label without any, and where a value is undefined.

    Moments divide by the number of voxels. ``percentiles`` [n, 5] are the 10th, 25th, 50th, 75th and 90th.
    """

    finite: NDArray[np.int64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    skewness: NDArray[np.float64]
    excess_kurtosis: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    percentiles: NDArray[np.float64]
    mean_absolute_deviation: NDArray[np.float64]
    robust_mean_absolute_deviation: NDArray[np.float64]
    median_absolute_deviation: NDArray[np.float64]
    energy: NDArray[np.float64]
    entropy: NDArray[np.float64]
    uniformity: NDArray[np.float64]


@njit(cache=True, nogil=True)
def _gather(image, k, j, first, stop, begin, end, out):  # type: ignore[no-untyped-def]
    """The finite values of the runs from begin to end; gives their number."""
    count = 0
    for n in range(begin, end):
        line = image[k[n], j[n]]
        for i in range(first[n], stop[n]):
            if np.isfinite(line[i]):
                out[count] = line[i]
                count += 1
    return count


@njit(cache=True, nogil=True)
def _weigh(image, k, j, first, stop, begin, end, row):  # type: ignore[no-untyped-def]
    """Voxels, sum of the intensities, and sums of intensity times k, j and i from the first run, of the finite voxels."""
    for n in range(begin, end):
        line, total, moment = image[k[n], j[n]], 0.0, 0.0
        for i in range(first[n], stop[n]):
            if np.isfinite(line[i]):
                row[0] += 1
                total += np.float64(line[i])
                moment += np.float64(line[i]) * (i - first[begin])
        row[1] += total
        row[2] += total * (k[n] - k[begin])
        row[3] += total * (j[n] - j[begin])
        row[4] += moment


@njit(cache=True, nogil=True)
def _percentile(values, share):  # type: ignore[no-untyped-def]
    """Linear interpolation, as numpy.percentile."""
    place = share / 100 * (values.size - 1)
    below = np.int64(place)
    low = np.float64(values[below])
    if below + 1 >= values.size:
        return low
    high = np.float64(values[below + 1])
    part = place - below
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


@njit(cache=True, nogil=True)
def _deviations(values, mean, median, low, high):  # type: ignore[no-untyped-def]
    """Mean absolute deviations about the mean, about the robust mean (of the values from low to high), and about the median."""
    about_mean, about_median, robust_sum, robust = 0.0, 0.0, 0.0, 0
    for n in range(values.size):
        value = np.float64(values[n])
        about_mean += abs(value - mean)
        about_median += abs(value - median)
        if low <= value <= high:
            robust_sum += value - median
            robust += 1
    robust_mean, about_robust = median + robust_sum / max(robust, 1), 0.0
    for n in range(values.size):
        value = np.float64(values[n])
        if low <= value <= high:
            about_robust += abs(value - robust_mean)
    return about_mean / values.size, about_robust / robust if robust > 0 else np.nan, about_median / values.size


@njit(cache=True, nogil=True)
def _histogram(values, bin_width):  # type: ignore[no-untyped-def]
    """Entropy (bits) and uniformity of the sorted values in bins that begin at multiples of their width."""
    entropy, uniformity, begin = 0.0, 0.0, 0
    least = np.floor(np.float64(values[0]) / bin_width)
    here = 0.0
    for n in range(values.size + 1):
        place = np.floor(np.float64(values[n]) / bin_width) - least if n < values.size else -1.0
        if place != here:
            share = (n - begin) / values.size
            entropy -= share * np.log2(share)
            uniformity += share * share
            begin, here = n, place
    return entropy, uniformity


@njit(cache=True, nogil=True)
def _describe(values, bin_width, row):  # type: ignore[no-untyped-def]
    """Fill a row from the sorted values of one label."""
    size = values.size
    shares = (10.0, 25.0, 50.0, 75.0, 90.0)
    for n in range(5):
        row[6 + n] = _percentile(values, shares[n])
    median = row[8]
    total = 0.0
    for n in range(size):  # about the median: keeps the digits of values with a large offset
        total += np.float64(values[n]) - median
    mean = median + total / size
    second, third, fourth, energy = 0.0, 0.0, 0.0, 0.0
    for n in range(size):
        value = np.float64(values[n])
        step = value - mean
        square = step * step
        second += square
        third += square * step
        fourth += square * square
        energy += value * value
    row[0], row[1] = mean, second / size
    row[4], row[5] = values[0], values[size - 1]
    if values[0] != values[size - 1] and second > 0:
        row[2] = third / size / (second / size) ** 1.5
        row[3] = fourth / size / (second / size) ** 2 - 3
    row[11], row[12], row[13] = _deviations(values, mean, median, row[6], row[10])
    row[14] = energy
    row[15], row[16] = _histogram(values, bin_width)


def label_first_order(runs: LabelRuns, image: NDArray[Any], bin_width: float) -> FirstOrder:
    """First-order statistics of every label of ``runs`` over the image (k, j, i) of the same grid.

    NaN and infinite voxels are left out. Bins of entropy and uniformity begin at multiples of ``bin_width``, in the unit of
    the image, as in pyradiomics.

    >>> from medseg.kernels.extents import label_runs
    >>> runs = label_runs(np.array([[[1, 1, 1, 0]]], np.uint8))
    >>> label_first_order(runs, np.array([[[4, 8, 3, 9]]], np.int16), 25).mean.tolist()
    [5.0]
    """
    image = as_image(image)
    if image.shape != runs.shape:
        raise ValueError(f"labels have shape {runs.shape} and image {image.shape}; resample one onto the grid of the other")
    if not bin_width > 0:
        raise ValueError(f"bin_width is {bin_width}; pass a positive number in the unit of the image")
    count = runs.numbers.size
    step = max(1, count // _SHARES)
    rows, finite = np.full((count, 17), np.nan), np.zeros(count, np.int64)

    def work(begin: int) -> None:
        for n in range(begin, min(begin + step, count)):
            values = np.empty(runs.voxels[n], image.dtype)
            finite[n] = _gather(image, runs.k, runs.j, runs.first, runs.stop, runs.starts[n], runs.starts[n + 1], values)
            if finite[n]:
                values = values[: finite[n]]
                values.sort()
                _describe(values, float(bin_width), rows[n])

    threads = max(1, int(config.NUMBA_NUM_THREADS))
    with ThreadPoolExecutor(threads, thread_name_prefix="medseg") as pool:
        list(pool.map(work, range(0, count, step)))
    columns = rows.T
    return FirstOrder(
        finite=finite,
        mean=columns[0],
        variance=columns[1],
        skewness=columns[2],
        excess_kurtosis=columns[3],
        minimum=columns[4],
        maximum=columns[5],
        percentiles=rows[:, 6:11],
        mean_absolute_deviation=columns[11],
        robust_mean_absolute_deviation=columns[12],
        median_absolute_deviation=columns[13],
        energy=columns[14],
        entropy=columns[15],
        uniformity=columns[16],
    )


def label_weights(runs: LabelRuns, image: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """The sum of the finite intensities of every label [n], their number [n], and the mean index (k, j, i) weighted by them [n, 3].

    The weighted index is NaN for a label whose intensities add up to 0.

    >>> from medseg.kernels.extents import label_runs
    >>> total, finite, index = label_weights(label_runs(np.array([[[1, 1]]], np.uint8)), np.array([[[1, 3]]], np.int16))
    >>> total.tolist(), index.tolist()
    ([4.0], [[0.0, 0.0, 0.75]])
    """
    image = as_image(image)
    rows = np.zeros((runs.numbers.size, 5))
    for n in range(runs.numbers.size):
        _weigh(image, runs.k, runs.j, runs.first, runs.stop, runs.starts[n], runs.starts[n + 1], rows[n])
    origin = np.stack([array[runs.starts[:-1]] for array in (runs.k, runs.j, runs.first)], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.where(rows[:, 1:2] != 0, rows[:, 2:] / rows[:, 1:2] + origin, np.nan)
    return rows[:, 1].copy(), rows[:, 0].astype(np.int64), index
