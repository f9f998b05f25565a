from __future__ import annotations

import itertools

import numpy as np
import pytest

from medseg.kernels.clusters import Classes, assign, paint, relax


def random_classes(rng: np.random.Generator, number: int, size: int, position: np.ndarray | None = None) -> Classes:
    factors = np.triu(rng.normal(0, 1, (number, size, size))) + np.eye(size)
    position = np.zeros((0, 4)) if position is None else position
    return Classes(rng.normal(0, 1, (number, size)), factors, rng.normal(0, 0.5, number), position)


def costs(channels: np.ndarray, classes: Classes) -> np.ndarray:
    """(K, k, j, i), by numpy."""
    grid = np.stack([*np.indices(channels.shape[1:]), np.ones(channels.shape[1:])])
    x = np.concatenate([channels, np.tensordot(classes.position, grid, 1)])
    apart = x[None] - classes.means[:, :, None, None, None]
    return (np.einsum("cfg,cgkji->cfkji", classes.factors, apart) ** 2).sum(axis=1) + classes.offsets[:, None, None, None]


def energy(labels: np.ndarray, cost: np.ndarray, weights: np.ndarray) -> float:
    inside = labels > 0
    total = 0.5 * float(np.take_along_axis(cost, np.maximum(labels, 1)[None].astype(int) - 1, 0)[0][inside].sum())
    for axis in range(3):
        one, other = (np.moveaxis(labels, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        total += float(weights[axis]) * int(((one != other) & (one > 0) & (other > 0)).sum())
    return total


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_painting_looks_each_intensity_up(shape: tuple[int, int, int], dtype: str, rng: np.random.Generator) -> None:
    image = rng.integers(0, 100, shape).astype(dtype)
    table = rng.integers(0, 255, 80).astype(np.uint8)
    assert np.array_equal(paint(image, 10, 1, table), table[np.clip(image.astype(int) - 10, 0, 79)])
    assert np.array_equal(paint(image, 10, 0.5, table), table[np.clip(((image.astype(int) - 10) * 0.5).astype(int), 0, 79)])


def test_what_is_not_finite_is_painted_0() -> None:
    assert paint(np.array([[[np.nan, np.inf, -np.inf, 1.0]]]), 0, 1, np.array([3, 4], np.uint8)).tolist() == [[[0, 0, 0, 4]]]


def test_each_voxel_gets_its_cheapest_class(shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    channels = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    inside = (rng.random(shape) < 0.8).astype(np.uint8)
    classes = random_classes(rng, 5, 5, rng.normal(0, 0.1, (3, 4)))
    expected = np.where(inside, costs(channels, classes).argmin(axis=0) + 1, 0)
    assert np.array_equal(assign(channels, inside, classes), expected)


def test_relaxing_ends_where_no_single_voxel_is_better_off(shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    channels = rng.normal(0, 1, (1, *shape)).astype(np.float32)
    inside = (rng.random(shape) < 0.9).astype(np.uint8)
    classes = random_classes(rng, 3, 1)
    weights = np.array([0.7, 0.3, 1.1])
    cost = costs(channels, classes)
    labels = assign(channels, inside, classes)
    before = energy(labels, cost, weights)
    assert relax(channels, labels, classes, weights, 500)
    assert np.array_equal(labels > 0, inside > 0)
    final = energy(labels, cost, weights)
    assert final <= before + 1e-9
    for place in itertools.islice(zip(*np.nonzero(inside), strict=True), 300):
        for number in (1, 2, 3):
            changed = labels.copy()
            changed[place] = number
            assert energy(changed, cost, weights) >= final - 1e-5


def test_the_energy_falls_with_every_round(rng: np.random.Generator) -> None:
    channels = rng.normal(0, 1, (1, 9, 10, 11)).astype(np.float32)
    classes, weights = random_classes(rng, 4, 1), np.array([0.9, 0.9, 0.9])
    cost = costs(channels, classes)
    energies = []
    for rounds in range(8):
        labels = assign(channels, np.ones(channels.shape[1:], np.uint8), classes)
        relax(channels, labels, classes, weights, rounds)
        energies.append(energy(labels, cost, weights))
    assert energies[1] < energies[0]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(energies))


def test_relaxing_does_not_depend_on_the_order_of_the_axes(rng: np.random.Generator) -> None:
    channels = rng.normal(0, 1, (1, 8, 10, 6)).astype(np.float32)
    classes, weights = random_classes(rng, 3, 1), np.array([0.5, 0.8, 1.2])

    def relaxed(channels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        labels = assign(channels, np.ones(channels.shape[1:], np.uint8), classes)
        relax(channels, labels, classes, weights, 500)
        return labels

    expected = relaxed(channels, weights)
    turned = np.ascontiguousarray(channels[:, ::-1, :, ::-1].transpose(0, 2, 3, 1))
    found = relaxed(turned, weights[[1, 2, 0]])
    assert np.array_equal(found, expected[::-1, :, ::-1].transpose(1, 2, 0))


def test_a_few_wrong_voxels_are_put_right_and_a_strong_field_makes_all_one() -> None:
    rng = np.random.default_rng(1)
    truth = np.zeros((16, 16, 16), bool)
    truth[:, :, 8:] = True
    channels = (truth + rng.normal(0, 0.5, truth.shape)).astype(np.float32)[None]
    classes = Classes(np.array([[0.0], [1.0]]), np.full((2, 1, 1), 2.0), np.zeros(2), np.zeros((0, 4)))
    labels = assign(channels, np.ones(truth.shape, np.uint8), classes)
    wrong = (labels != truth + 1).sum()
    relax(channels, labels, classes, np.ones(3), 100)
    assert (labels != truth + 1).sum() < 0.1 * wrong
