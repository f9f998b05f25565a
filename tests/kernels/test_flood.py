from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import flood as skimage_flood

from medseg.kernels.flood import flood, flood_mean_std, grow, masked_mean_std, seed_mean_std


def itk_flood(image: NDArray[Any], seeds: NDArray[Any], lower: float, upper: float, connectivity: int) -> NDArray[Any]:
    growing = sitk.ConnectedThresholdImageFilter()
    growing.SetLower(lower)
    growing.SetUpper(upper)
    growing.SetConnectivity(growing.FullConnectivity if connectivity == 26 else growing.FaceConnectivity)
    for seed in seeds:
        growing.AddSeed([int(n) for n in seed[::-1]])
    return sitk.GetArrayFromImage(growing.Execute(sitk.GetImageFromArray(image)))


def seeds_in(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> NDArray[Any]:
    return np.stack([rng.integers(0, length, count) for length in shape], axis=1)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize("connectivity", [6, 26])
def test_equal_to_itk_for_every_dtype(shape: tuple[int, int, int], dtype: str, connectivity: Any, rng: np.random.Generator) -> None:
    for width in (2, 4, 6):
        image = rng.integers(0, 10, shape).astype(dtype)
        seeds = seeds_in(rng, shape, 2)
        ours = flood(image, seeds, 2, 2 + width, connectivity)
        assert ours.dtype == np.uint8
        assert np.array_equal(ours, itk_flood(image, seeds, 2, 2 + width, connectivity))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([6, 18, 26]), st.tuples(*[st.integers(1, 24)] * 3), st.integers(0, 8))
def test_equal_to_the_components_that_hold_a_seed(number: int, connectivity: Any, shape: tuple[int, int, int], width: int) -> None:
    rng = np.random.default_rng(number)
    image, seeds = rng.integers(0, 10, shape).astype(np.int16), seeds_in(rng, shape, 3)
    labels, _ = ndimage.label((image >= 1) & (image <= 1 + width), ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity]))
    hit = [labels[tuple(seed)] for seed in seeds if labels[tuple(seed)]]
    assert np.array_equal(flood(image, seeds, 1, 1 + width, connectivity), np.isin(labels, hit))


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize(("lower", "upper"), [(-300, 3000), (-1100, -200), (90, 250)])
def test_equal_to_the_peers_on_a_real_ct(ct: NDArray[Any], connectivity: Any, lower: int, upper: int) -> None:
    inside = np.argwhere((ct >= lower) & (ct <= upper))
    for seed in inside[:: len(inside) // 3][:3]:
        ours = flood(ct, seed[None], lower, upper, connectivity)
        assert ours.sum() > 0
        if connectivity == 18:
            masked = ((ct >= lower) & (ct <= upper)).astype(np.uint8)
            assert np.array_equal(ours, skimage_flood(masked, tuple(seed), connectivity=2))
        else:
            assert np.array_equal(ours, itk_flood(ct, seed[None], lower, upper, connectivity))


def test_room_for_runs_grows(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Noise has so many runs that the first room is used up again and again; nothing is lost."""
    monkeypatch.setattr("medseg.kernels.flood._FIRST_ROOM", 1)
    monkeypatch.setattr("medseg.kernels.flood._LARGE_SHARE", 1)
    image = rng.integers(0, 4, (40, 60, 50)).astype(np.int16)
    seeds = np.argwhere(image > 0)[:1]
    assert np.array_equal(flood(image, seeds, 1, 3, 6), itk_flood(image, seeds, 1, 3, 6))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([6, 18, 26]), st.tuples(*[st.integers(1, 24)] * 3), st.integers(0, 8), st.integers(0, 4))
def test_all_runs_and_line_by_line_find_the_same(
    number: int, connectivity: Any, shape: tuple[int, int, int], width: int, seed_count: int
) -> None:
    rng = np.random.default_rng(number)
    image, seeds = rng.integers(0, 10, shape).astype(np.int16), seeds_in(rng, shape, seed_count)
    small, large = (grow(image, seeds, 1, 1 + width, connectivity, expect_large=expected) for expected in (False, True))
    labels, _ = ndimage.label((image >= 1) & (image <= 1 + width), ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity]))
    inside = np.isin(labels, [labels[tuple(seed)] for seed in seeds if labels[tuple(seed)]])
    assert large.is_large == (seed_count > 0)
    for region in (small, large):
        assert np.array_equal(region.mask(), inside)
        mean, std = region.mean_std()
        if inside.any():
            assert (mean, std) == (pytest.approx(image[inside].mean()), pytest.approx(image[inside].std(), abs=1e-9))
        else:
            assert np.isnan(mean)
            assert np.isnan(std)


def test_a_region_that_reaches_many_lines_is_taken_from_all_runs(ct: NDArray[Any]) -> None:
    body, speck = np.array([[15, 70, 84]]), np.array([[0, 0, 0]])
    assert grow(ct, body, -300, 3000).is_large
    small = grow(ct, speck, float(ct[0, 0, 0]), float(ct[0, 0, 0]))
    assert small.mask()[0, 0, 0] == 1
    assert not grow(np.eye(40)[None].repeat(40, 0), speck, 1, 1).is_large


def test_sums_of_the_farthest_short_integers_do_not_overflow() -> None:
    image = np.tile(np.array([0, 65_535], np.uint16), (30, 40, 50))
    mean, std = flood_mean_std(image, np.array([[0, 0, 0]]), 0, 65_535)
    assert mean == 32_767.5
    assert std == pytest.approx(32_767.5, rel=1e-15)


def test_limits_between_the_integers_hold_no_voxel_that_is_not_between_them() -> None:
    image = np.array([[[0, 1, 2, 3]]], np.int16)
    assert flood(image, np.array([[0, 0, 1]]), 0.5, 2.5).tolist() == [[[0, 1, 1, 0]]]
    assert flood(image, np.array([[0, 0, 1]]), 0.2, 0.8).sum() == 0
    assert flood(image, np.array([[0, 0, 1]]), -1e9, 1e9).sum() == 4


def test_nan_is_never_inside_and_cuts_the_region() -> None:
    image = np.array([[[1, np.nan, 1, np.inf]]], np.float32)
    assert flood(image, np.array([[0, 0, 2]]), -np.inf, np.inf).tolist() == [[[0, 0, 1, 1]]]
    assert flood(image, np.array([[0, 0, 1]]), -np.inf, np.inf).sum() == 0


def test_the_limits_belong_to_the_region_also_in_float32() -> None:
    image = np.full((1, 1, 3), 0.1, np.float32)
    assert flood(image, np.array([[0, 0, 0]]), 0.1, 0.1).sum() == 3


def test_no_seed_and_seeds_outside_the_limits_give_an_empty_mask() -> None:
    image = np.zeros((2, 2, 2), np.int16)
    assert flood(image, np.empty((0, 3), int), 0, 1).sum() == 0
    assert flood(image, np.array([[0, 0, 0]]), 5, 6).sum() == 0


def test_the_same_seed_twice_and_two_regions() -> None:
    image = np.array([[[1, 0, 1, 0, 1]]], np.uint8)
    assert flood(image, np.array([[0, 0, 0], [0, 0, 0], [0, 0, 4]]), 1, 1).tolist() == [[[1, 0, 0, 0, 1]]]


@pytest.mark.parametrize("seeds", [[[2, 0, 0]], [[-1, 0, 0]], [[0.5, 0, 0]], [[0, 0]]])
def test_seeds_that_are_no_voxels_raise(seeds: Any) -> None:
    with pytest.raises(ValueError, match="seed"):
        flood(np.zeros((2, 2, 2), np.int16), np.array(seeds), 0, 1)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
@pytest.mark.parametrize("ddof", [0, 1])
def test_mean_and_deviation_of_a_mask(shape: tuple[int, int, int], dtype: str, ddof: int, rng: np.random.Generator) -> None:
    image, mask = rng.integers(0, 200, shape).astype(dtype), rng.random(shape) < 0.6
    mask.flat[0] = True
    values = image[mask].astype(np.float64)
    mean, std = masked_mean_std(image, mask, ddof)
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    if values.size > ddof:
        assert std == pytest.approx(values.std(ddof=ddof), rel=1e-12)
    else:
        assert np.isnan(std)


def test_a_large_offset_costs_no_digits(rng: np.random.Generator) -> None:
    image = 1e9 + rng.normal(0, 1, (5, 6, 7))
    mean, std = masked_mean_std(image, np.ones(image.shape, bool))
    assert mean == pytest.approx(image.mean(), rel=1e-15)
    assert std == pytest.approx(image.std(), rel=1e-6)


def test_an_empty_mask_has_no_mean() -> None:
    assert np.isnan(masked_mean_std(np.zeros((2, 2, 2)), np.zeros((2, 2, 2), bool))).all()
    with pytest.raises(ValueError, match="shape"):
        masked_mean_std(np.zeros((2, 2, 2)), np.zeros((2, 2, 3), bool))


def test_the_first_step_of_confidence_connected_is_that_of_itk(ct: NDArray[Any]) -> None:
    """With no iterations ITK's filter reports mean and variance of the cubes around the seeds."""
    seeds = np.array([[15, 50, 60], [10, 40, 70], [0, 0, 0]])
    growing = sitk.ConfidenceConnectedImageFilter()
    for seed in seeds:
        growing.AddSeed([int(n) for n in seed[::-1]])
    growing.SetNumberOfIterations(0)
    growing.SetInitialNeighborhoodRadius(2)
    growing.Execute(sitk.GetImageFromArray(ct))
    mean, std = seed_mean_std(ct, seeds, radius=2)
    assert mean == pytest.approx(growing.GetMean(), rel=1e-9)
    assert std**2 == pytest.approx(growing.GetVariance(), rel=1e-9)


def test_neighbourhoods_need_a_seed_and_one_value_has_no_deviation() -> None:
    assert np.isnan(seed_mean_std(np.ones((1, 1, 1)), np.array([[0, 0, 0]]), radius=0)[1])
    with pytest.raises(ValueError, match="at least one seed"):
        seed_mean_std(np.ones((1, 1, 1)), np.empty((0, 3), int))


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
@pytest.mark.parametrize("ddof", [0, 1])
def test_mean_and_deviation_of_a_flood_are_those_of_its_voxels(
    shape: tuple[int, int, int], dtype: str, ddof: int, rng: np.random.Generator
) -> None:
    image = rng.integers(100, 110, shape).astype(dtype)
    seeds = seeds_in(rng, shape, 2)
    inside = image[flood(image, seeds, 101, 107, 26) != 0].astype(np.float64)
    mean, std = flood_mean_std(image, seeds, 101, 107, 26, ddof)
    if inside.size <= ddof:
        assert np.isnan(std)
    else:
        assert (mean, std) == (pytest.approx(inside.mean()), pytest.approx(inside.std(ddof=ddof), abs=1e-9))


def test_a_flood_that_finds_nothing_has_no_mean() -> None:
    image = np.array([[[5, 7, 0]]], np.int16)
    assert np.isnan(flood_mean_std(image, np.array([[0, 0, 2]]), 4, 8)).all()
    assert np.isnan(flood_mean_std(image, np.empty((0, 3), np.int64), 4, 8)).all()
    assert np.isnan(flood_mean_std(image.astype(np.uint8), np.array([[0, 0, 0]]), 300, 400)).all()
