from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.kernels.levels import join_levels

FULL = {6: 1, 18: 2, 26: 3}


def region(cost: np.ndarray, seeds: np.ndarray, limit: float, connectivity: int) -> np.ndarray:
    """The voxels at or below a limit connected to a seed, by scipy."""
    labels, _ = ndimage.label(cost <= limit, ndimage.generate_binary_structure(3, FULL[connectivity]))
    return np.isin(labels, [labels[tuple(seed)] for seed in seeds if labels[tuple(seed)]])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([6, 18, 26]),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from(["uint8", "int16", "int32", "int64", "float32", "float64"]),
)
def test_every_region_is_that_of_a_flood_at_its_level(number: int, connectivity: Any, shape: tuple[int, int, int], dtype: str) -> None:
    rng = np.random.default_rng(number)
    cost = rng.integers(0, 12, shape).astype(dtype) if dtype[0] != "f" else rng.normal(0, 5, shape).astype(dtype)
    seeds = np.stack([rng.integers(0, length, 2) for length in shape], axis=1)
    levels = join_levels(cost, seeds, connectivity)
    assert levels.dtype == (np.float64 if dtype in ("int32", "int64", "float64") else np.float32)
    for limit in np.unique(cost)[:: max(cost.size // 20, 1)]:
        assert np.array_equal(levels <= limit, region(cost, seeds, limit, connectivity))


def test_levels_are_exact_where_one_outlier_puts_all_others_in_one_bucket() -> None:
    rng = np.random.default_rng(4)
    cost = rng.normal(0, 1, (6, 7, 8))
    cost[0, 0, 0] = 1e30
    seeds = np.array([[3, 3, 3]])
    levels = join_levels(cost, seeds, 6)
    for limit in np.quantile(cost, [0.2, 0.5, 0.7, 0.9]):
        assert np.array_equal(levels <= limit, region(cost, seeds, limit, 6))
    assert levels[0, 0, 0] == 1e30


def test_whole_numbers_in_floats_take_the_quick_way_to_the_same_levels() -> None:
    cost = np.random.default_rng(5).integers(0, 300, (9, 8, 7)).astype(np.float32)
    seeds = np.array([[0, 0, 0], [8, 7, 6]])
    assert np.array_equal(join_levels(cost, seeds, 18, is_whole=True), join_levels(cost, seeds, 18))


def test_what_is_not_finite_is_a_wall_and_levels_above_the_limit_are_not_reached() -> None:
    cost = np.array([[[1, 3, np.nan, 2, np.inf, -np.inf]]], np.float32)
    assert np.array_equal(join_levels(cost, np.array([[0, 0, 0]])), [[[1, 3, np.nan, np.nan, np.nan, np.nan]]], equal_nan=True)
    assert np.array_equal(
        join_levels(cost, np.array([[0, 0, 0], [0, 0, 3]]), most=2), [[[1, np.nan, np.nan, 2, np.nan, np.nan]]], equal_nan=True
    )
    assert np.isnan(join_levels(np.full((2, 2, 2), np.nan), np.array([[0, 0, 0]]))).all()
    assert np.isnan(join_levels(cost, np.array([[0, 0, 2]]))).all()


def test_extreme_ranges_have_levels_too() -> None:
    cost = np.array([[[-1e308, 1e308, 5.0]]])
    assert join_levels(cost, np.array([[0, 0, 0]])).ravel().tolist() == [-1e308, 1e308, 1e308]
    cost = np.array([[[5e-324, 0.0, 5e-324]]])
    assert join_levels(cost, np.array([[0, 0, 1]])).ravel().tolist() == [5e-324, 0.0, 5e-324]


@pytest.mark.parametrize("seed", [(-1, 0, 0), (0, 0, 4)])
def test_a_seed_outside_the_image_is_refused(seed: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="outside the image"):
        join_levels(np.zeros((2, 3, 4)), np.array([seed]))


def test_memory_is_what_the_docstring_says() -> None:
    cost = np.random.default_rng(0).integers(0, 900, (60, 64, 64)).astype(np.int16)
    join_levels(cost, np.array([[30, 30, 30]]))
    tracemalloc.start()
    try:
        join_levels(cost, np.array([[30, 30, 30]]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 13 * np.prod([length + 2 for length in cost.shape]) + 1e5
