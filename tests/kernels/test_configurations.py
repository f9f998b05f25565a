from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.kernels.configurations import label_configurations
from medseg.kernels.statistics import label_statistics


def by_hand(labels: NDArray[Any], number: int) -> NDArray[np.int64]:
    """Every cell of one label, by eight shifted copies of its padded mask."""
    mask = np.pad(labels == number, 1)
    code = np.zeros(np.array(mask.shape) - 1, np.int64)
    for n in range(8):
        corner = (n >> 2, n >> 1 & 1, n & 1)
        code |= mask[tuple(slice(c, c + m) for c, m in zip(corner, code.shape, strict=True))].astype(np.int64) << n
    counts = np.bincount(code.ravel(), minlength=256)
    counts[0] = 0
    return counts


def check(labels: NDArray[Any]) -> None:
    numbers = np.unique(labels[labels > 0])
    found = label_configurations(labels, numbers)
    assert found.shape == (len(numbers), 256)
    for counts, number in zip(found, numbers, strict=True):
        assert counts.tolist() == by_hand(labels, number).tolist()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int64"])
def test_random_labels_of_every_shape(shape: tuple[int, int, int], dtype: str, rng: np.random.Generator) -> None:
    labels = rng.integers(0, 4, shape).astype(dtype)
    check(labels)
    check(labels.repeat(9, axis=2))
    check(labels.repeat(3, axis=0).repeat(4, axis=1).repeat(33, axis=2))


def test_real_organs(organs: NDArray[Any]) -> None:
    check(organs)


def test_corners_of_the_cells_are_those_of_the_voxels(organs: NDArray[Any]) -> None:
    """Each voxel is a corner of eight cells, whatever touches it and wherever the array ends."""
    known = label_statistics(organs)
    corners = np.array([n.bit_count() for n in range(256)])
    assert (label_configurations(organs, known.numbers) @ corners).tolist() == (8 * known.voxels).tolist()


def test_a_label_that_fills_the_array_has_cells_beyond_every_face() -> None:
    counts = label_configurations(np.full((3, 4, 64), 9, np.uint8), np.array([9]))
    assert counts.sum() == 4 * 5 * 65
    assert counts[0, 255] == 2 * 3 * 63


def test_only_the_numbers_asked_for() -> None:
    labels = np.array([[[1, 2, 3, 0]]], np.uint8)
    both = label_configurations(labels, np.array([1, 2, 3]))
    assert label_configurations(labels, np.array([2])).tolist() == both[1:2].tolist()
    assert label_configurations(labels, np.array([3, 200])).tolist() == [both[2].tolist(), [0] * 256]
    assert label_configurations(labels, np.array([], np.uint8)).shape == (0, 256)


def test_tens_of_thousands_of_labels() -> None:
    labels = np.arange(1, 30001, dtype=np.uint32).reshape(30, 40, 25) * 143_165
    counts = label_configurations(labels.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2), labels.ravel())
    cube = by_hand(np.ones((2, 2, 2)), 1)
    assert (counts == cube).all()


def test_numbers_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="rising order"):
        label_configurations(np.ones((2, 2, 2), np.uint8), np.array([2, 1]))
