from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from medseg.kernels.cheapest_paths import grow

AXES_MM = {
    "cubes": np.eye(3),
    "anisotropic": np.diag([2.5, 1.1, 0.8]),
    "left-handed and oblique": np.array([[0.0, 0.0, -3.0], [0.6, 0.8, 0.0], [-0.8, 0.6, 0.0]]),
    "sheared": np.array([[0.0, 0.9, 2.8], [0.0, 1.0, 0.0], [0.7, 0.0, 0.0]]),
}
STEPS = [(k, j, i) for k in (-1, 0, 1) for j in (-1, 0, 1) for i in (-1, 0, 1) if (k, j, i) > (0, 0, 0)]


def by_scipy(
    image: NDArray[Any], markers: NDArray[Any], axes_mm: NDArray[Any], edge_mm: float, connectivity: int, mask: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels and cost (in units of 1/1024 of the shortest step) from one run of scipy's Dijkstra for each label."""
    number = np.arange(image.size).reshape(image.shape)
    mask = np.ones(image.shape, bool) if mask is None else mask
    shortest = min(np.linalg.norm(np.array(step) @ axes_mm) for step in STEPS)
    rows, columns, costs = [], [], []
    for step in STEPS:
        if np.abs(step).sum() > {6: 1, 18: 2, 26: 3}[connectivity]:
            continue
        one = tuple(slice(max(0, -n), length - max(0, n)) for n, length in zip(step, image.shape, strict=True))
        other = tuple(slice(max(0, n), length - max(0, -n)) for n, length in zip(step, image.shape, strict=True))
        open_ = (mask[one] & mask[other]).ravel()
        difference = (image[one].astype(float) - image[other].astype(float)).ravel()[open_] * edge_mm
        way = np.hypot(np.linalg.norm(np.array(step) @ axes_mm), difference) / shortest * 1024
        rows.append(number[one].ravel()[open_])
        columns.append(number[other].ravel()[open_])
        costs.append(np.minimum(np.floor(way + 0.5), 1024 * 1024))
    graph = coo_matrix((np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))), (image.size, image.size)).tocsr()
    labels = np.unique(markers[(markers > 0) & mask])
    seeds = [np.flatnonzero(((markers == label) & mask).ravel()) for label in labels]
    each = np.array([dijkstra(graph, directed=False, indices=places, min_only=True) for places in seeds])
    best = each.min(axis=0).reshape(image.shape)
    return np.where(np.isfinite(best), labels[each.argmin(axis=0)].reshape(image.shape), 0), best * shortest / 1024


def random_case(shape: tuple[int, int, int], labels: int, dtype: str = "uint8") -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 6, shape).astype(np.float32)  # few values: many paths of equal cost
    markers = np.zeros(shape, dtype)
    markers.flat[rng.choice(markers.size, 3 * labels, replace=False)] = np.repeat(np.arange(1, labels + 1), 3)
    return image, markers


@pytest.mark.parametrize("kind", AXES_MM)
@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_costs_and_labels_are_those_of_dijkstra_for_each_label(kind: str, connectivity: Any) -> None:
    image, markers = random_case((9, 11, 13), 5)
    labels, cost = grow(image, markers, AXES_MM[kind], 0.7, connectivity)
    expected_labels, expected_cost = by_scipy(image, markers, AXES_MM[kind], 0.7, connectivity)
    assert np.allclose(cost, expected_cost, rtol=1e-6)
    assert np.array_equal(labels, expected_labels)  # at equal cost too: the lower label
    assert set(np.unique(labels)) == {1, 2, 3, 4, 5}


def test_a_mask_closes_voxels_and_what_lies_behind_them() -> None:
    image, markers = random_case((8, 9, 10), 4)
    mask = np.random.default_rng(1).random(image.shape) > 0.45
    markers[~mask] = 0
    mask[:3, :3, :3], markers[:3, :3, :3] = False, 7  # markers outside do not count
    mask[1, 1, 1], markers[1, 1, 1] = True, 0  # inside, and no way leads there
    labels, cost = grow(image, markers, AXES_MM["anisotropic"], 2.0, 6, mask)
    expected_labels, expected_cost = by_scipy(image, markers, AXES_MM["anisotropic"], 2.0, 6, mask)
    reached = np.isfinite(expected_cost) & mask
    assert np.allclose(cost[reached], expected_cost[reached], rtol=1e-6)
    assert np.array_equal(labels, np.where(reached, expected_labels, 0))
    assert np.isinf(cost[~reached]).all()
    assert (labels[mask] == 0).any()
    assert reached.any()


def test_costs_are_cut_so_that_no_edge_is_a_wall() -> None:
    image = np.array([[[0, 1e9, 0, 0]]], np.float32)
    labels, cost = grow(image, np.array([[[3, 0, 0, 0]]], np.uint8), np.eye(3), 1.0)
    assert labels.tolist() == [[[3, 3, 3, 3]]]
    assert cost.tolist() == [[[0, 1024, 2048, 2049]]]


def test_flipping_and_turning_the_array_turns_the_labels_bit_for_bit() -> None:
    image, markers = random_case((10, 9, 8), 6)
    axes_mm = AXES_MM["sheared"]
    labels, cost = grow(image, markers, axes_mm, 0.3)
    for axis in range(3):
        flipped = axes_mm.copy()
        flipped[axis] *= -1
        again = grow(np.flip(image, axis), np.flip(markers, axis), flipped, 0.3)
        assert np.array_equal(np.flip(again[0], axis), labels)
        assert np.array_equal(np.flip(again[1], axis), cost)
    turned = grow(image.transpose(2, 0, 1), markers.transpose(2, 0, 1), axes_mm[[2, 0, 1]], 0.3)
    assert np.array_equal(turned[0].transpose(1, 2, 0), labels)


def test_many_labels_of_large_numbers_and_a_long_queue() -> None:
    """More labels than 16 bits hold, and a front that needs more memory than the queue begins with."""
    shape = (90, 90, 90)
    numbers = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.uint32)
    markers = np.where(numbers % 8 == 0, numbers + 4_000_000, 0).astype(np.uint32)
    labels, cost = grow(np.zeros(shape), markers, np.eye(3), 1.0, 6)
    assert labels.dtype == np.uint32
    assert np.array_equal(labels[markers > 0], markers[markers > 0])
    beside = (cost > 0) & (cost < 1.5)
    padded = np.pad(markers, 1)
    inner = slice(1, -1)
    around = [np.roll(padded, shift, axis)[inner, inner, inner] for axis in range(3) for shift in (1, -1)]
    lowest = np.min([np.where(values > 0, values, 2**32 - 1) for values in around], axis=0)
    assert np.array_equal(labels[beside], lowest[beside])
    assert beside.mean() > 0.4


def test_the_cost_on_a_real_ct_is_that_of_dijkstra(ct: NDArray[Any]) -> None:
    part = np.clip(ct[2:18, 30:60, 30:60], -150, 250).astype(np.float32)
    markers = np.zeros(part.shape, np.uint8)
    markers[8, 15, 15], markers[2, 2, 2], markers[12, 25, 8] = 1, 2, 3
    found = grow(part, markers, np.diag([3.0, 3.0, 3.0]), 0.2)
    expected = by_scipy(part, markers, np.diag([3.0, 3.0, 3.0]), 0.2, 26)
    assert np.allclose(found[1], expected[1], rtol=1e-6)
    assert np.array_equal(found[0], expected[0])


def test_what_cannot_grow_is_refused() -> None:
    image, markers = np.zeros((2, 3, 4)), np.ones((2, 3, 4), np.uint8)
    with pytest.raises(ValueError, match="resample one onto the grid"):
        grow(image, markers[:1], np.eye(3))
    with pytest.raises(ValueError, match="three independent steps"):
        grow(image, markers, np.ones((3, 3)))
    with pytest.raises(ValueError, match="connectivity is 8"):
        grow(image, markers, np.eye(3), connectivity=8)  # type: ignore[arg-type]
