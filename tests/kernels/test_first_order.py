from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from medseg.kernels.extents import label_runs
from medseg.kernels.first_order import label_first_order, label_weights


def entropy_and_uniformity(values: NDArray[Any], bin_width: float) -> tuple[float, float]:
    low = np.floor(values.min() / bin_width) * bin_width
    counts, _ = np.histogram(values, np.arange(low, values.max() + 2 * bin_width, bin_width))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()), float((shares**2).sum())


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
def test_every_statistic(dtype: str, rng: np.random.Generator) -> None:
    labels = rng.integers(0, 4, (9, 11, 13)).astype(np.uint16)
    image = rng.gamma(2, 40, labels.shape).astype(dtype) if dtype != "int16" else rng.normal(30, 60, labels.shape).astype(dtype)
    found = label_first_order(label_runs(labels), image, 25)
    for n in range(3):
        values = image[labels == n + 1].astype(np.float64)
        low, median, high = np.percentile(values, [10, 50, 90])
        middle = values[(values >= low) & (values <= high)]
        assert found.finite[n] == values.size
        assert found.mean[n] == pytest.approx(values.mean(), rel=1e-12)
        assert found.variance[n] == pytest.approx(values.var(), rel=1e-12)
        assert found.skewness[n] == pytest.approx(stats.skew(values), rel=1e-9)
        assert found.excess_kurtosis[n] == pytest.approx(stats.kurtosis(values), rel=1e-9, abs=1e-9)
        assert (found.minimum[n], found.maximum[n]) == (values.min(), values.max())
        assert found.percentiles[n] == pytest.approx(np.percentile(values, [10, 25, 50, 75, 90]), rel=1e-12)
        assert found.mean_absolute_deviation[n] == pytest.approx(np.abs(values - values.mean()).mean(), rel=1e-12)
        assert found.robust_mean_absolute_deviation[n] == pytest.approx(np.abs(middle - middle.mean()).mean(), rel=1e-12)
        assert found.median_absolute_deviation[n] == pytest.approx(np.abs(values - median).mean(), rel=1e-12)
        assert found.energy[n] == pytest.approx((values**2).sum(), rel=1e-12)
        expected = entropy_and_uniformity(values, 25)
        assert (found.entropy[n], found.uniformity[n]) == pytest.approx(expected, rel=1e-12)


def test_what_is_not_finite_is_left_out() -> None:
    labels = np.array([[[1, 1, 1, 2, 2, 3]]], np.uint8)
    image = np.array([[[np.nan, 2, 4, np.inf, -np.inf, 7]]], np.float32)
    found = label_first_order(label_runs(labels), image, 25)
    assert found.finite.tolist() == [2, 0, 1]
    assert found.mean.tolist()[::2] == [3, 7]
    assert np.isnan(found.mean[1])
    assert np.isnan(found.skewness[2])  # a single value has no shape
    total, finite, index = label_weights(label_runs(labels), image)
    assert (total.tolist(), finite.tolist()) == ([6, 0, 7], [2, 0, 1])
    assert index[0].tolist() == pytest.approx([0, 0, (2 * 1 + 4 * 2) / 6])
    assert np.isnan(index[1]).all()


def test_a_large_offset_costs_no_digits(rng: np.random.Generator) -> None:
    image = rng.normal(0, 1e-2, (10, 9, 30))
    found = label_first_order(label_runs(np.ones(image.shape, np.uint8)), image + 1e6, 25)
    assert found.variance[0] == pytest.approx((image + 1e6 - 1e6).var(), rel=1e-9)
    assert found.skewness[0] == pytest.approx(stats.skew((image + 1e6 - 1e6).ravel()), rel=1e-6)


def test_weights_of_scattered_labels(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 5, (6, 7, 8)).astype(np.uint8)
    image = rng.gamma(2, 3, labels.shape).astype(np.float32)
    total, _, index = label_weights(label_runs(labels), image)
    for n in range(4):
        mask = labels == n + 1
        weights = image[mask].astype(float)
        assert total[n] == pytest.approx(weights.sum(), rel=1e-12)
        assert index[n] == pytest.approx(weights @ np.argwhere(mask) / weights.sum(), rel=1e-12)


def test_wrong_arguments_are_refused() -> None:
    runs = label_runs(np.ones((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="resample one onto the grid"):
        label_first_order(runs, np.ones((2, 2, 3)), 25)
    with pytest.raises(ValueError, match="positive"):
        label_first_order(runs, np.ones((2, 2, 2)), 0)
