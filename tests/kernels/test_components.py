from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure, morphology

from medseg.kernels.components import fill_holes, keep_largest, label_components, remove_small

RANK = {6: 1, 18: 2, 26: 3}
CONNECTIVITIES = [6, 18, 26]


def same_partition(first: NDArray[Any], second: NDArray[Any]) -> bool:
    pairs = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == pairs.shape[1] == len(np.unique(pairs[1]))


def by_size(mask: NDArray[Any], connectivity: int) -> NDArray[Any]:
    """Components by scikit-image, the largest first, equal ones in the order of memory."""
    labels = measure.label(mask, connectivity=RANK[connectivity])
    _, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    held = np.flatnonzero(labels.ravel()[first])
    numbers = np.zeros(labels.max() + 1, int)
    numbers[labels.ravel()[first[held[np.lexsort((first[held], -sizes[held]))]]]] = np.arange(1, len(held) + 1)
    return numbers[labels]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(CONNECTIVITIES), st.tuples(*[st.integers(1, 24)] * 3), st.floats(0, 1))
def test_every_function_agrees_with_the_peers(number: int, connectivity: Any, shape: tuple[int, int, int], density: float) -> None:
    mask = (np.random.default_rng(number).random(shape) < density).astype(np.uint8)
    structure = ndimage.generate_binary_structure(3, RANK[connectivity])
    expected = by_size(mask, connectivity)
    labels, sizes = label_components(mask, connectivity)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, expected)
    assert np.array_equal(sizes, np.bincount(expected.ravel(), minlength=1))
    assert np.array_equal(keep_largest(mask, 2, connectivity), (expected == 1) | (expected == 2))
    kept = np.flatnonzero(sizes >= 3)
    assert np.array_equal(remove_small(mask, 3, connectivity), np.isin(expected, kept[kept > 0]))
    assert np.array_equal(fill_holes(mask, connectivity), ndimage.binary_fill_holes(mask, structure))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_components_of_a_real_ct(ct: NDArray[Any], connectivity: Any) -> None:
    mask = (ct > 150).astype(np.uint8)
    labels, sizes = label_components(mask, connectivity)
    theirs, count = ndimage.label(mask, ndimage.generate_binary_structure(3, RANK[connectivity]))
    assert len(sizes) == count + 1 > 2
    assert same_partition(labels, theirs)
    assert (np.diff(sizes[1:]) <= 0).all()
    expected = morphology.remove_small_objects(mask.astype(bool), max_size=19, connectivity=RANK[connectivity])
    assert np.array_equal(remove_small(mask, 20, connectivity), expected)


def test_clean_up_of_a_real_body_mask_as_simpleitk_does_it(ct: NDArray[Any]) -> None:
    mask = (ct > -300).astype(np.uint8)
    image = sitk.GetImageFromArray(mask)
    ordered = sitk.RelabelComponent(sitk.ConnectedComponent(image, True))
    assert np.array_equal(keep_largest(mask), sitk.GetArrayFromImage(ordered) == 1)
    assert np.array_equal(fill_holes(mask), sitk.GetArrayFromImage(sitk.BinaryFillhole(image, False, 1.0)))
    assert np.array_equal(fill_holes(mask, 26), sitk.GetArrayFromImage(sitk.BinaryFillhole(image, True, 1.0)))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (26, 2), (18, 2)])
def test_holes_plane_by_plane(ct: NDArray[Any], axis: int, connectivity: Any, rank: int) -> None:
    mask = ct > -300
    planes = [ndimage.binary_fill_holes(plane, ndimage.generate_binary_structure(2, rank)) for plane in np.moveaxis(mask, axis, 0)]
    filled = fill_holes(mask, connectivity, axis=axis)
    assert np.array_equal(filled, np.moveaxis(np.stack(planes), 0, axis))
    assert filled.flags.c_contiguous
    assert filled.sum() > fill_holes(mask, connectivity).sum()


def test_a_hollow_sphere_open_at_a_corner_is_open_only_for_diagonal_paths() -> None:
    mask = np.ones((5, 5, 5), np.uint8)
    mask[2, 2, 2] = mask[1, 1, 1] = mask[0, 0, 0] = 0
    assert fill_holes(mask, 6).sum() == 124
    assert fill_holes(mask, 26).sum() == 122


def test_one_label_of_a_label_array(organs: NDArray[Any]) -> None:
    number = int(np.bincount(organs.ravel())[1:].argmax()) + 1
    labels, sizes = label_components(organs, 6, value=number)
    theirs, count = ndimage.label(organs == number)
    assert len(sizes) == count + 1
    assert same_partition(labels, theirs)
    assert label_components(organs, 6, value=70_000)[1].tolist() == [organs.size]


def test_background_can_be_labelled() -> None:
    labels, _ = label_components(np.array([[[1, 0, 1, 0]]], np.uint16), value=0)
    assert labels.tolist() == [[[0, 1, 0, 2]]]


@pytest.mark.parametrize("dtype", [bool, np.uint8])
@pytest.mark.parametrize("value", [0, 1])
def test_empty_and_full_masks(dtype: type, value: int, shape: tuple[int, int, int]) -> None:
    mask = np.full(shape, value, dtype)
    labels, sizes = label_components(mask)
    assert np.array_equal(labels, mask)
    assert sizes.tolist() == ([0, mask.size] if value else [mask.size])
    for result in (keep_largest(mask), remove_small(mask, 1), fill_holes(mask), fill_holes(mask, axis=0)):
        assert result.dtype == np.uint8
        assert np.array_equal(result, mask)


def test_any_number_that_is_not_zero_is_inside() -> None:
    mask = np.array([[[255, 0, 2, 3]]], np.uint8)
    assert keep_largest(mask).tolist() == [[[0, 0, 1, 1]]]
    assert fill_holes(mask).tolist() == [[[1, 0, 1, 1]]]


def test_counts_and_axes_without_meaning_raise() -> None:
    mask = np.ones((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="count"):
        keep_largest(mask, 0)
    with pytest.raises(ValueError, match="axis"):
        fill_holes(mask, axis=3)
    with pytest.raises(ValueError, match="connectivity"):
        fill_holes(mask, 4)  # type: ignore[arg-type]
