"""Mixtures of normal distributions, fitted to weighted points by expectation maximisation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medseg.segmentation.classical.centres import best_bins, squared_distances
from medseg.segmentation.classical.intensities import Bins, middle_and_scale

Floats = npt.NDArray[np.float64]

_SETTLED = 1e-7  # gain of the mean log likelihood of a point that ends the rounds
_LEAST_VARIANCE = 1e-6  # of the variance of all points: a class of one intensity keeps a width


@dataclass(frozen=True)
class Mixture:
    """Classes: shares (K), means (K,F), covariances (K,F,F); and how well they fit."""

    shares: Floats
    means: Floats
    covariances: Floats
    mean_log_likelihood: float = 0.0
    has_settled: bool = False

    def factors(self) -> Floats:
        """Return upper triangular U (K,F,F) with UᵀU the inverse of the covariance."""
        return np.ascontiguousarray(np.linalg.cholesky(np.linalg.inv(self.covariances)).transpose(0, 2, 1))

    def offsets(self) -> Floats:
        """Return what each class costs beside the squared distance: log of the determinant less twice the log of the share."""
        return np.asarray(np.linalg.slogdet(self.covariances)[1] - 2 * np.log(np.maximum(self.shares, 1e-300)))

    def log_densities(self, points: Floats) -> Floats:
        """Return the log of share times density (M,K) at points (M,F)."""
        factors, offsets = self.factors(), self.offsets()
        out = np.empty((len(points), len(self.means)))
        for k, mean in enumerate(self.means):
            out[:, k] = -0.5 * (((points - mean) @ factors[k].T) ** 2).sum(axis=1) - 0.5 * offsets[k]
        return out - 0.5 * points.shape[1] * np.log(2 * np.pi)

    def rescaled(self, middle: float, scale: float) -> Mixture:
        """Return the classes of numbers that are these times `scale` plus `middle`."""
        return replace(self, means=self.means * scale + middle, covariances=self.covariances * scale**2)

    def ordered(self, order: npt.NDArray[np.int64]) -> Mixture:
        """Return the classes in another order."""
        return replace(self, shares=self.shares[order], means=self.means[order], covariances=self.covariances[order])


def fit_mixture(points: Floats, weights: Floats, centres: Floats, iterations: int, floor: float = 0.0) -> Mixture:
    """Fit a mixture to points (M,F) with weights (M), beginning with the points nearest to each centre (K,F).

    Variances do not fall below `floor`, nor below a millionth of the variance of all points.
    """
    from medseg.kernels.points import mixture_round

    total = float(weights.sum())
    middle = weights @ points / total
    spread = float((weights @ (points - middle) ** 2).sum() / total / points.shape[1])
    least = max(floor, _LEAST_VARIANCE * spread)
    mixture = _start(points, weights, centres, least)
    before = -np.inf
    for _ in range(iterations):
        likelihood, totals, sums, squares = mixture_round(points, weights, mixture.means, mixture.factors(), mixture.offsets())
        fit = float(likelihood / total) - 0.5 * points.shape[1] * np.log(2 * np.pi)
        if fit - before < _SETTLED:
            return replace(mixture, mean_log_likelihood=fit, has_settled=True)
        before = fit
        mixture = _maximised(mixture.means, (totals, sums, squares), total, least)
    return replace(mixture, mean_log_likelihood=before)


def _start(points: Floats, weights: Floats, centres: Floats, least: float) -> Mixture:
    """The classes of the points nearest to each centre."""
    first = squared_distances(points, centres).argmin(axis=1)
    totals = np.bincount(first, weights=weights, minlength=len(centres)).astype(np.float64)
    apart = points - centres[first]
    sums, squares = np.zeros(centres.shape), np.zeros((*centres.shape, points.shape[1]))
    for c in range(len(centres)):
        inside = first == c
        weighted = apart[inside] * weights[inside, None]
        sums[c], squares[c] = weighted.sum(axis=0), weighted.T @ apart[inside]
    return _maximised(centres, (totals, sums, squares), float(weights.sum()), least)


def _maximised(means: Floats, found: tuple[Floats, Floats, Floats], total: float, least: float) -> Mixture:
    """The mixture that weight, sum and sum of squares around the former means of each class give."""
    totals = found[0] + 1e-12 * total
    steps = found[1] / totals[:, None]
    covariances = found[2] / totals[:, None, None] - steps[:, :, None] * steps[:, None, :]
    narrow = np.linalg.eigvalsh(covariances)[:, 0] < least
    covariances[narrow] += np.eye(means.shape[1]) * least
    return Mixture(totals / totals.sum(), means + steps, covariances)


def mixture_of_histogram(bins: Bins, classes: int, iterations: int) -> tuple[Mixture, float, float]:
    """Fit a mixture to counted intensities; also return the middle and the scale that its numbers are relative to.

    No variance falls below that of rounding to a bin (width²/12).
    """
    held = bins.counts > 0
    values, counts = bins.values[held], bins.counts[held].astype(np.float64)
    middle, scale = middle_and_scale(values, counts)
    points = ((values - middle) / scale)[:, None]
    first = best_bins(points[:, 0], counts, classes)
    start = np.bincount(first, weights=counts * points[:, 0]) / np.bincount(first, weights=counts)
    return fit_mixture(points, counts, start[:, None], iterations, (bins.width / scale) ** 2 / 12), middle, scale
