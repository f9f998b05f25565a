"""Centres of classes among points: k-means, the start of the other clustering methods too."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_FINE = 4096
_FEW_POINTS = 20_000


def best_bins(values: Floats, counts: npt.NDArray[Any], classes: int) -> Indices:
    """Return the class (from 0) of each value for the least sum of squares of all partitions, found exactly.

    An empty value takes the class of the next higher one that is held. With two classes this is Otsu's threshold.

    >>> best_bins(np.array([0.0, 1.0, 2.0, 9.0]), np.array([3, 2, 0, 4]), 2).tolist()
    [0, 0, 1, 1]
    """
    from medseg.kernels.histogram import best_split

    held = np.flatnonzero(counts)
    weights = np.asarray(counts, np.float64)[held]
    centred = values[held] - np.average(values[held], weights=weights)
    ends = held[best_split(centred, weights, classes)]
    return np.searchsorted(ends, np.arange(len(values)), side="left")


def k_means(points: Floats, classes: int, iterations: int) -> tuple[Floats, bool]:
    """Return centres (K,F) of points (M,F) by Lloyd's rounds, and whether they settled.

    The best of several starts: the exact partition of the points along each axis, and along each principal axis. Nothing is
    drawn at random, so the result does not depend on the order of the points.
    """
    # the starts are compared on fewer points, the best one is then settled on all
    few = np.ascontiguousarray(points[:: -(-len(points) // _FEW_POINTS)])
    best: tuple[float, Floats] | None = None
    for line in _lines(few):
        start = _means(few, _along(line, classes), classes)
        if start is not None:
            centres, total, _ = _rounds(few, start, iterations)
            if best is None or total < best[0] * (1 - 1e-9):
                best = (total, centres)
    if best is None:  # every axis alone has fewer values than classes
        places = np.unique(points, axis=0)
        best = (0.0, places[np.linspace(0, len(places) - 1, classes).round().astype(int)])
    centres, _, has_settled = _rounds(points, best[1], iterations)
    return centres, has_settled


def squared_distances(points: Floats, centres: Floats) -> Floats:
    """Return the squared distance (M,K) of each point to each centre.

    >>> squared_distances(np.array([[0.0, 3.0]]), np.array([[4.0, 0.0], [0.0, 3.0]])).tolist()
    [[25.0, 0.0]]
    """
    out = np.empty((len(points), len(centres)))
    for k, centre in enumerate(centres):
        out[:, k] = ((points - centre) ** 2).sum(axis=1)
    return out


def _rounds(points: Floats, centres: Floats, iterations: int) -> tuple[Floats, float, bool]:
    """Lloyd's rounds; return centres, the sum of squares, and whether they settled."""
    from medseg.kernels.points import lloyd_round

    nearest, total = np.full(len(points), -1), np.inf
    sums, numbers = np.empty(centres.shape), np.empty(len(centres), np.int64)
    for _ in range(iterations):
        changed, total, furthest = lloyd_round(points, np.ascontiguousarray(centres), nearest, sums, numbers)
        if not changed:
            return centres, total, True
        # a class that lost all its points begins anew at the point that is worst off
        centres = np.where(numbers[:, None] > 0, sums / np.maximum(numbers, 1)[:, None], points[furthest])
    return centres, total, False


def _lines(points: Floats) -> list[Floats]:
    """The points along each axis and each principal axis."""
    axes = np.eye(points.shape[1])
    if points.shape[1] > 1:
        axes = np.column_stack([axes, np.linalg.eigh(np.cov(points.T))[1]])
    return [points @ axis for axis in axes.T]


def _along(line: Floats, classes: int) -> Indices:
    """The exact partition of numbers, counted in fine bins."""
    low, high = line.min(), line.max()
    place = np.zeros(len(line), np.int64) if high <= low else np.minimum((line - low) / (high - low) * _FINE, _FINE - 1).astype(np.int64)
    counts = np.bincount(place, minlength=_FINE)
    if np.count_nonzero(counts) < classes:
        return np.zeros(len(line), np.int64)
    return best_bins(np.arange(_FINE, dtype=np.float64), counts, classes)[place]


def _means(points: Floats, classes_of: Indices, classes: int) -> Floats | None:
    """The mean of each class, or None where one is empty."""
    number = np.bincount(classes_of, minlength=classes)
    if not number.all():
        return None
    sums = [np.bincount(classes_of, weights=column, minlength=classes) for column in points.T]
    return np.stack(sums, axis=1) / number[:, None]
