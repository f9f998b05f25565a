from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medseg.kernels.octree import merge, neighbour_pairs, split


def steps_image(rng: np.random.Generator, shape: tuple[int, int, int] = (20, 23, 26)) -> NDArray[Any]:
    """Two balls on a ground, in noise."""
    k, j, i = np.indices(shape)
    image = 100.0 * ((k - 8) ** 2 + (j - 8) ** 2 + (i - 8) ** 2 < 30) + 200 * ((k - 12) ** 2 + (j - 15) ** 2 + (i - 18) ** 2 < 25)
    return image + rng.normal(0, 2, shape)


def box_of(mask: NDArray[Any]) -> tuple[slice, ...]:
    return ndimage.find_objects(mask.astype(np.uint8))[0]


@pytest.mark.parametrize("by_range", [False, True])
@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (5, 1, 1), (0.5, 2, 0.7)])
def test_blocks_are_boxes_that_are_homogeneous_or_single(by_range: bool, spacing_mm: tuple[float, ...], rng: np.random.Generator) -> None:
    image, tolerance = steps_image(rng), 8.0
    labels, table = split(image, spacing_mm, tolerance, by_range)
    assert labels.min() == 1
    assert labels.max() == len(table)
    boxes = ndimage.find_objects(labels.astype(np.int64))
    for number, (box, row) in enumerate(zip(boxes, table, strict=True), 1):
        values = image[box]
        assert (labels[box] == number).all()
        spread = np.ptp(values) if by_range else values.std()
        assert spread <= tolerance * (1 + 1e-9) or values.size == 1
        assert np.allclose(row, (values.size, values.mean(), ((values - values.mean()) ** 2).sum(), values.min(), values.max()), atol=1e-6)
    assert len(table) < labels.size / 3


def test_blocks_split_only_where_their_parent_was_not_homogeneous(rng: np.random.Generator) -> None:
    """A constant image stays one block, and one odd voxel costs no more than its branch of the tree."""
    image = np.zeros((16, 16, 16), np.int16)
    assert len(split(image, (1, 1, 1), 0)[1]) == 1
    image[5, 6, 7] = 1
    labels, table = split(image, (1, 1, 1), 0)
    assert len(table) == 4 * 7 + 1
    assert sorted(np.bincount(labels.ravel())[1:]) == sorted([512] * 7 + [64] * 7 + [8] * 7 + [1] * 8)


def test_thick_slices_are_parted_before_blocks_become_rods() -> None:
    """4 slices of 8 mm by 32 voxels of 1 mm: a block of 32 mm has cubes of 16, 8 mm inside, never one voxel by four slices."""
    image = np.random.default_rng(0).integers(0, 1000, (4, 32, 32)).astype(np.int16)
    labels, table = split(image, (8, 1, 1), 0, smallest_mm=8)
    sides = {tuple(s.stop - s.start for s in box) for box in ndimage.find_objects(labels.astype(np.int64))}
    assert sides == {(1, 8, 8)}
    assert len(table) == 64


def test_voxels_without_value_or_outside_the_mask_are_left_out(rng: np.random.Generator) -> None:
    image, mask = steps_image(rng).astype(np.float32), rng.random((20, 23, 26)) < 0.9
    image[3, 4, 5], image[0, 0, 0] = np.nan, np.inf
    labels, table = split(image, (1, 1, 1), 8, mask=mask)
    assert np.array_equal(labels == 0, ~(mask & np.isfinite(image)))
    assert table[:, 0].sum() == (labels > 0).sum()
    assert len(split(np.full((2, 2, 2), np.nan), (1, 1, 1), 1)[1]) == 0


def test_more_blocks_than_the_table_first_holds(rng: np.random.Generator) -> None:
    image = rng.permutation(27 * 28 * 29).reshape(27, 28, 29)
    labels, table = split(image.astype(np.int32), (1, 1, 1), 0)
    assert len(table) == image.size
    assert np.array_equal(table[labels - 1, 1], image)


def test_neighbours_are_the_labels_on_both_sides_of_a_face(shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    labels = rng.integers(0, 6, shape).astype(np.uint16)
    expected = set()
    for axis, place in product(range(3), product(*map(range, shape))):
        there = list(place)
        there[axis] += 1
        if there[axis] < shape[axis]:
            one, other = sorted((int(labels[place]), int(labels[tuple(there)])))
            if 0 < one < other:
                expected.add((one, other))
    assert [tuple(pair) for pair in neighbour_pairs(labels)] == sorted(expected)


@pytest.mark.parametrize("by_range", [False, True])
def test_merged_regions_are_homogeneous_and_no_two_could_still_be_merged(by_range: bool, rng: np.random.Generator) -> None:
    image, tolerance = steps_image(rng), 14.0 if by_range else 4.0
    labels, table = split(image, (1, 1, 1), tolerance, by_range)
    regions = merge(neighbour_pairs(labels), table, tolerance, by_range)
    merged = regions[labels - 1]
    values = {number: image[merged == number] for number in np.unique(merged)}
    assert len(values) < len(table) / 4

    def spread(array: NDArray[Any]) -> float:
        return float(np.ptp(array) if by_range else array.std())

    assert all(spread(array) <= tolerance * (1 + 1e-9) for array in values.values())
    for one, other in neighbour_pairs(merged.astype(np.uint32)):
        assert spread(np.concatenate([values[one], values[other]])) > tolerance * (1 - 1e-9)
    assert all(ndimage.label(merged == number)[1] == 1 for number in values)


def test_small_regions_join_the_neighbour_with_the_closest_mean() -> None:
    image = np.repeat(np.array([0, 0, 0, 0, 40, 100, 100, 100], np.int16), 1).reshape(1, 1, 8)
    labels, table = split(image, (1, 1, 1), 0)
    pairs = neighbour_pairs(labels)
    assert len(np.unique(merge(pairs, table.copy(), 0))) == 3
    regions = merge(pairs, table.copy(), 0, keep_at_least_voxels=2)[labels - 1].ravel()
    assert [one == other for one, other in pairwise(regions.tolist())] == [True] * 4 + [False] + [True] * 2
    assert len(np.unique(merge(pairs, table.copy(), 0, keep_at_least_voxels=9))) == 1
