from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medseg.core.errors import InputError, TooLargeError
from medseg.kernels import arrays, cheapest_paths, competition, graph_regions, levels, min_cut, reconstruction, superpixels, watershed
from medseg.kernels.arrays import as_image, as_labels, as_mask, limits_as, spacing_of


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("i2", "i2"),
        ("u1", "u1"),
        ("f4", "f4"),
        ("?", "u1"),
        ("i1", "i2"),
        ("u4", "f8"),
        ("i8", "f8"),
        ("f2", "f4"),
        (">i2", "i2"),
        (">f8", "f8"),
    ],
)
def test_images_become_one_of_six_native_dtypes_with_their_values(dtype: str, expected: str) -> None:
    array = np.array([[[0, 1, 1]]], dtype)
    image = as_image(array)
    assert image.dtype == np.dtype(expected)
    assert image.dtype.isnative
    assert np.array_equal(image, array)


def test_the_array_of_the_caller_stays_writeable_and_is_not_copied() -> None:
    array = np.zeros((2, 3, 4), np.int16)
    image = as_image(array)
    assert array.flags.writeable
    assert np.shares_memory(image, array)


def test_a_fortran_ordered_array_keeps_its_values() -> None:
    array = np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    assert np.array_equal(as_image(array), array)


def test_a_bool_mask_is_not_copied() -> None:
    mask = np.ones((2, 2, 2), bool)
    assert np.shares_memory(as_mask(mask), mask)
    assert as_mask(np.asfortranarray(mask)).dtype == np.uint8


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros((2, 2)), ValueError),
        (np.zeros((0, 2, 2)), ValueError),
        (np.zeros((2, 2, 2), complex), TypeError),
        ([[[1]]], TypeError),
    ],
)
def test_what_is_not_a_3d_array_of_numbers_raises(array: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="image"):
        as_image(array)  # type: ignore[arg-type]


def test_masks_and_labels_of_a_wrong_kind_raise() -> None:
    with pytest.raises(TypeError, match="mask"):
        as_mask(np.zeros((1, 1, 1), np.int16))
    with pytest.raises(TypeError, match="labels"):
        as_labels(np.zeros((1, 1, 1)))
    with pytest.raises(ValueError, match="negative"):
        as_labels(np.full((1, 1, 1), -1))
    assert as_labels(np.full((1, 1, 1), 7)).dtype == np.uint64


def test_limits_move_inwards_to_whole_numbers_and_stay_in_the_dtype() -> None:
    assert limits_as(np.dtype(np.int16), 0.5, 2.5) == (1, 2)
    assert limits_as(np.dtype(np.int16), -2.5, -0.5) == (-2, -1)
    assert limits_as(np.dtype(np.uint8), -np.inf, np.inf) == (0, 255)
    assert limits_as(np.dtype(np.uint8), 0.2, 0.8) is None
    assert limits_as(np.dtype(np.uint8), 300, 400) is None
    assert limits_as(np.dtype(np.float32), 0, 0.1) == (0, np.float32(0.1))


@pytest.mark.parametrize("limits", [(2, 1), (np.nan, 1), (0, np.nan)])
def test_limits_without_meaning_raise(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="limit"):
        limits_as(np.dtype(np.int16), *limits)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, np.nan, 1), (1, -1, 1)])
def test_spacing_must_be_three_positive_numbers(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing_mm"):
        spacing_of(spacing)


IMAGE, MARKS = np.zeros((2, 3, 4), np.float32), np.eye(4, dtype=np.uint8)[None, :3].repeat(2, axis=0)
NUMBERING: dict[str, Callable[[], object]] = {
    "join_levels": lambda: levels.join_levels(IMAGE, np.array([[0, 0, 0]])),
    "compete": lambda: competition.compete(IMAGE, MARKS),
    "grow": lambda: cheapest_paths.grow(IMAGE, MARKS, np.eye(3)),
    "min_cut": lambda: min_cut.min_cut(np.zeros((2, 3, 4), np.int32), np.zeros((3, 2, 3, 4), np.int32)),
    "superpixels": lambda: superpixels.superpixels(IMAGE[None], np.eye(3), 2, 1),
    "watershed": lambda: watershed.watershed(IMAGE, MARKS),
    "minima": lambda: reconstruction.minima(IMAGE),
}


@pytest.mark.parametrize("name", NUMBERING)
def test_a_scan_of_more_voxels_than_can_be_numbered_is_refused_with_its_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST_VOXELS", 23)
    with pytest.raises(TooLargeError, match=r"4 x 3 x 2 voxels, 24 in all.*crop") as caught:
        NUMBERING[name]()
    assert isinstance(caught.value, InputError)
    assert caught.value.exit_code == 3


def test_a_scan_of_more_edges_than_can_be_numbered_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_regions, "_MOST_EDGES", 71)  # 24 voxels with 3 edges each
    with pytest.raises(TooLargeError, match=r"24 in all, and at most about 23 .*crop"):
        graph_regions.graph_regions(IMAGE[None], np.eye(3), 1.0, 1, 6)


def test_a_border_counts_and_the_limit_itself_is_allowed() -> None:
    arrays.refuse_too_large((2, 3, 4), most=24)
    arrays.refuse_too_large((2, 3, 4), border=1, most=4 * 5 * 6)
    with pytest.raises(TooLargeError, match="24 in all"):
        arrays.refuse_too_large((2, 3, 4), border=1, most=4 * 5 * 6 - 1)
