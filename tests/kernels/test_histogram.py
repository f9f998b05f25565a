from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu, threshold_otsu

from medseg.kernels.histogram import histogram, limits_reached, otsu_thresholds, threshold


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_integers_are_counted_exactly(shape: tuple[int, int, int], dtype: str, rng: np.random.Generator) -> None:
    info = np.iinfo(dtype)
    image = rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    image.flat[0], image.flat[-1] = info.min, info.max
    values, counts = histogram(image)
    held, expected = np.unique(image, return_counts=True)
    assert np.array_equal(values[counts > 0], held)
    assert np.array_equal(counts[counts > 0], expected)
    assert np.array_equal(np.diff(values), np.ones(len(values) - 1))


def test_a_real_ct_is_counted_exactly(ct: NDArray[Any]) -> None:
    values, counts = histogram(ct)
    assert np.array_equal(counts, np.bincount((ct - int(ct.min())).ravel()))
    assert (values[0], values[-1]) == (ct.min(), ct.max())


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_wide_numbers_fall_into_65536_bins(dtype: str, rng: np.random.Generator) -> None:
    image = rng.normal(0, 1e6, (6, 7, 8)).astype(dtype)
    values, counts = histogram(image)
    expected, edges = np.histogram(image.astype(np.float64), 65536, (float(image.min()), float(image.max())))
    assert len(values) == 65536
    assert np.allclose(values, (edges[:-1] + edges[1:]) / 2)
    assert counts.sum() == image.size
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 1  # a value on an edge may fall to either side


def test_voxels_that_are_not_finite_are_left_out() -> None:
    values, counts = histogram(np.array([[[0, 1, np.nan, np.inf, -np.inf, 1]]], np.float32))
    assert counts.sum() == 3
    assert (counts[0], counts[-1]) == (1, 2)
    values, counts = histogram(np.full((1, 1, 2), np.nan))
    assert len(values) == len(counts) == 0


@pytest.mark.parametrize("value", [7, 7.5])
def test_a_constant_image_has_one_entry(value: float) -> None:
    values, counts = histogram(np.full((2, 3, 4), value, np.int16 if value == 7 else np.float32))
    assert values.tolist() == [value]
    assert counts.tolist() == [24]


def between(cuts: Sequence[float], values: NDArray[Any], counts: NDArray[Any]) -> Fraction:
    """The part of the variance between the classes that depends on the cuts, in whole numbers without rounding."""
    group = np.searchsorted(cuts, values, side="left")
    total = Fraction(0)
    for n in range(len(cuts) + 1):
        weight = sum(counts[group == n].tolist())
        moment = sum(c * int(v) for c, v in zip(counts[group == n].tolist(), values[group == n].tolist(), strict=True))
        total += Fraction(moment * moment, weight) if weight else 0
    return total


def test_otsu_equals_scikit_image_on_a_real_ct(ct: NDArray[Any]) -> None:
    """For three classes scikit-image sums in float32 and lands one HU beside the optimum."""
    values, counts = histogram(ct)
    assert otsu_thresholds(values, counts).tolist() == [threshold_otsu(hist=(counts, values))]
    ours, theirs = otsu_thresholds(values, counts, 3), threshold_multiotsu(hist=(counts, values), classes=3)
    assert ours == pytest.approx(theirs, abs=1)
    best = between(ours.tolist(), values, counts)
    assert best >= between(theirs.tolist(), values, counts)
    for step in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        assert best >= between((ours + step).tolist(), values, counts)


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_the_variance_between_the_classes_is_the_largest_of_all_cuts(classes: int, rng: np.random.Generator) -> None:
    """Against every possible cut of small histograms with gaps, without rounding."""
    values = np.arange(-6.0, 7.0)
    for _ in range(4):
        counts = rng.integers(0, 20, 13) * (rng.random(13) < 0.8)
        counts[[0, 3, 6, 9, 12]] += 1
        ours = otsu_thresholds(values, counts, classes)
        assert len(ours) == classes - 1
        best = max(between(cuts, values, counts) for cuts in combinations(values[:-1].tolist(), classes - 1))
        assert between(ours.tolist(), values, counts) == best


def test_as_many_values_as_classes_are_told_apart_and_fewer_raise() -> None:
    values, counts = np.arange(5.0), np.array([3, 0, 2, 0, 1])
    assert otsu_thresholds(values, counts, 3).tolist() == [0, 2]
    with pytest.raises(ValueError, match="3 different values"):
        otsu_thresholds(values, counts, 4)
    with pytest.raises(ValueError, match="classes"):
        otsu_thresholds(values, counts, 6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64", "int64", "bool"])
def test_threshold(shape: tuple[int, int, int], dtype: str, rng: np.random.Generator) -> None:
    image = rng.integers(0, 9, shape).astype(dtype)
    mask = threshold(image, 0.5, 6)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, (image >= 0.5) & (image <= 6))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_limits_reached(shape: tuple[int, int, int], dtype: str, rng: np.random.Generator) -> None:
    image = rng.integers(0, 99, shape).astype(dtype)
    limits = [10, 10, 33.5, 98, 1e6]
    assert np.array_equal(limits_reached(image, limits), sum((image >= limit).astype(int) for limit in limits))
    assert limits_reached(np.array([[[np.nan, np.inf]]]), [0, 1]).tolist() == [[[0, 2]]]


def test_nan_is_outside_and_limits_without_values_give_an_empty_mask() -> None:
    assert threshold(np.array([[[np.nan, 1]]]), -np.inf, np.inf).tolist() == [[[0, 1]]]
    assert threshold(np.ones((1, 1, 2), np.int16), 0.2, 0.8).sum() == 0
