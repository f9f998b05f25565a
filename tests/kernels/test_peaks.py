"""Peaks that stand out, against the h-maxima transform of scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction

from medseg.kernels.peaks import peaks, split_at_waists

EVERY = np.ones((3, 3, 3), bool)


def maxima_of_the_transform(heights: np.ndarray, least: float) -> np.ndarray:
    """Regional maxima of the reconstruction of heights - h under heights, numbered."""
    rebuilt = reconstruction(heights - least, heights, footprint=EVERY)
    return label(local_maxima(rebuilt, footprint=EVERY, allow_borders=True), connectivity=3)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least", [1, 3, 6])
def test_they_are_the_maxima_of_the_h_maxima_transform(seed: int, least: int) -> None:
    """One peak in each maximum of the transform, and none elsewhere; whole numbers, so that nothing is rounded."""
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, (12, 14, 16)), 1)
    heights = np.rint(20 + 60 * rough).clip(1).astype(np.float32)
    found = peaks(heights, np.ones(heights.shape, np.uint8), least)
    # a peak of dynamics exactly h melts into its surroundings in the transform: half a step decides as ours does
    expected = maxima_of_the_transform(heights.astype(np.float64), least - 0.5)
    places = expected[found > 0]
    assert expected.max() > 1
    assert sorted(places) == list(range(1, expected.max() + 1))
    assert sorted(found[found > 0]) == list(range(1, expected.max() + 1))


def test_peaks_are_sought_inside_only() -> None:
    heights = np.array([[[9, 5, 1, 4, 2, 8]]], np.float32)
    mask = np.array([[[0, 1, 1, 1, 0, 1]]], np.uint8)
    assert peaks(heights, mask, 1).tolist() == [[[0, 2, 0, 3, 0, 1]]]
    assert not peaks(heights, np.zeros_like(mask), 1).any()
    with pytest.raises(ValueError, match="least is 0"):
        peaks(heights, mask, 0)


def test_two_balls_are_split_where_they_meet() -> None:
    k, j, i = np.indices((21, 21, 37))
    one, two = ((k - 10) ** 2 + (j - 10) ** 2 + (i - 11) ** 2) < 81, ((k - 10) ** 2 + (j - 10) ** 2 + (i - 25) ** 2) < 64
    mask = (one | two).astype(np.uint8)
    depth = ndimage.distance_transform_edt(mask).astype(np.float32)
    lumps = split_at_waists(depth, mask, 2)
    assert lumps.max() == 2
    assert np.array_equal(lumps > 0, mask > 0)
    assert (lumps[10, 10, :17] <= 1).all()
    assert (lumps[10, 10, 20:33] == 2).all()
    assert split_at_waists(depth, mask, 6).max() == 1
