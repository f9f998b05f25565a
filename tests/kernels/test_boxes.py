from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.kernels.boxes import erode_box


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.tuples(*[st.integers(1, 12)] * 3), st.tuples(*[st.integers(0, 14)] * 3))
def test_it_is_the_least_of_the_box_as_scipy_has_it(number: int, shape: tuple[int, int, int], radii: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(number).random(shape) < 0.95
    expected = ndimage.minimum_filter(mask.astype(np.uint8), [2 * radius + 1 for radius in radii], mode="constant", cval=1)
    before = mask.copy()
    assert np.array_equal(erode_box(mask, radii), expected)
    assert np.array_equal(mask, before)


def test_any_other_number_than_zero_is_inside() -> None:
    assert erode_box(np.array([[[3, 255, 0]]], np.uint8), (0, 0, 0)).tolist() == [[[1, 1, 0]]]
    assert erode_box(np.array([[[3, 255, 1]]], np.uint8), (0, 0, 1)).tolist() == [[[1, 1, 1]]]


@pytest.mark.parametrize("radii", [(1, 1), (0, -1, 0)])
def test_impossible_radii_are_refused(radii: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="three whole numbers"):
        erode_box(np.ones((2, 2, 2), np.uint8), radii)
