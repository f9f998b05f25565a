from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from medseg.kernels.distance import close, dilate, distance_mm, erode, open_

SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.7, 0.9), (0.4, 2.0, 5.0)]


def ball(radius_mm: float, spacing: tuple[float, ...]) -> NDArray[np.bool_]:
    """All steps between voxels that are no longer than the radius, one by one."""
    steps = [np.arange(-int(radius_mm / s) - 1, int(radius_mm / s) + 2) * s for s in spacing]
    return sum(step**2 for step in np.meshgrid(*steps, indexing="ij")) <= radius_mm**2 * (1 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.tuples(*[st.integers(1, 22)] * 3), st.sampled_from(SPACINGS), st.floats(0.02, 0.999))
def test_distances_equal_scipy(number: int, shape: tuple[int, int, int], spacing: tuple[float, ...], density: float) -> None:
    mask = np.random.default_rng(number).random(shape) < density
    mask.flat[0] = False
    ours = distance_mm(mask, spacing)
    assert ours.dtype == np.float32
    expected = ndimage.distance_transform_edt(mask, sampling=spacing)
    assert np.allclose(ours, expected, rtol=1e-6)
    capped = distance_mm(mask, spacing, max_distance_mm=2.5)
    assert np.allclose(capped, np.where(expected <= 2.5 * (1 + 1e-6), expected, np.inf), rtol=1e-6)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_distances_in_a_real_body(ct: NDArray[Any], spacing: tuple[float, ...]) -> None:
    body = ct > -300
    assert np.allclose(distance_mm(body, spacing), ndimage.distance_transform_edt(body, sampling=spacing), rtol=1e-6)


def test_a_small_mask_in_a_large_array_and_one_at_the_corner() -> None:
    for corner in ((10, 20, 30), (0, 0, 0)):
        mask = np.zeros((30, 40, 50), np.uint8)
        mask[tuple(slice(n, n + 5) for n in corner)] = 1
        assert np.allclose(distance_mm(mask, (1, 2, 3)), ndimage.distance_transform_edt(mask, sampling=(1, 2, 3)), rtol=1e-6)


def test_empty_and_full_masks() -> None:
    assert not distance_mm(np.zeros((2, 3, 4), bool), (1, 1, 1)).any()
    assert np.isinf(distance_mm(np.ones((2, 3, 4), bool), (1, 1, 1))).all()
    for function in (dilate, erode, open_, close):
        assert not function(np.zeros((2, 3, 4), bool), 2, (1, 1, 1)).any()
        assert function(np.ones((2, 3, 4), bool), 2, (1, 1, 1)).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.tuples(*[st.integers(1, 16)] * 3), st.sampled_from(SPACINGS), st.sampled_from([0, 0.5, 1, 2, 2.1, 3.7]))
def test_growing_and_shrinking_equal_a_ball_of_voxels(number: int, shape: tuple[int, int, int], spacing: Any, radius: float) -> None:
    rng = np.random.default_rng(number)
    few, many, element = rng.random(shape) < 0.05, rng.random(shape) < 0.95, ball(radius, spacing)
    assert np.array_equal(dilate(few, radius, spacing), ndimage.binary_dilation(few, element))
    shrunk = ndimage.binary_erosion(many, element, border_value=1)
    assert np.array_equal(erode(many, radius, spacing), shrunk)
    assert np.array_equal(open_(many, radius, spacing), ndimage.binary_dilation(shrunk, element))
    margin = [max(element.shape) if length > 1 else 0 for length in shape]
    wide = ndimage.binary_dilation(np.pad(few, [(add, add) for add in margin]), element)
    closed = ndimage.binary_erosion(wide, element, border_value=1)  # beyond the margins nothing is inside any more
    assert np.array_equal(close(few, radius, spacing), closed[tuple(slice(add, add + n) for add, n in zip(margin, shape, strict=True))])


def test_real_organs_as_simpleitk_grows_and_shrinks_them(organs: NDArray[Any]) -> None:
    """ITK's ball of 2 voxels holds the steps of up to 2.5 voxels; with equal spacing that is a ball of 2.5 * 3 mm."""
    number = int(np.bincount(organs.ravel())[1:].argmax()) + 1
    mask = (organs == number).astype(np.uint8)
    image, spacing, radius = sitk.GetImageFromArray(mask), (3.0, 3.0, 3.0), [2, 2, 2]
    element = ball(7.4, spacing)[1:-1, 1:-1, 1:-1]
    offsets = sitk.GetArrayFromImage(sitk.BinaryDilate(sitk.GetImageFromArray(np.pad(np.ones((1, 1, 1), np.uint8), 2)), radius))
    assert np.array_equal(offsets, element)
    assert np.array_equal(dilate(mask, 7.4, spacing), sitk.GetArrayFromImage(sitk.BinaryDilate(image, radius)))
    assert np.array_equal(erode(mask, 7.4, spacing), sitk.GetArrayFromImage(sitk.BinaryErode(image, radius)))
    assert np.array_equal(close(mask, 7.4, spacing), sitk.GetArrayFromImage(sitk.BinaryMorphologicalClosing(image, radius)))


def test_the_voxel_at_the_radius_belongs_to_the_ball() -> None:
    mask = np.zeros((1, 1, 9), np.uint8)
    mask[0, 0, 4] = 1
    assert dilate(mask, 3 * 0.7, (1, 1, 0.7)).sum() == 7
    assert dilate(mask, 3 * 0.7 - 1e-4, (1, 1, 0.7)).sum() == 5
    assert erode(1 - mask, 2.1, (1, 1, 0.7)).tolist() == [[[1, 0, 0, 0, 0, 0, 0, 0, 1]]]


@pytest.mark.parametrize("radius", [-1, np.nan, np.inf])
def test_radii_without_meaning_raise(radius: float) -> None:
    with pytest.raises(ValueError, match="radius_mm"):
        dilate(np.ones((1, 1, 1), bool), radius, (1, 1, 1))
    with pytest.raises(ValueError, match="max_distance_mm"):
        distance_mm(np.ones((1, 1, 1), bool), (1, 1, 1), max_distance_mm=0)
