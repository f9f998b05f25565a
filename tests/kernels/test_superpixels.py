from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medseg.kernels.superpixels import superpixels

SHEARED = np.array([[0.9, 0.0, 0.4], [0.0, 1.6, 0.2], [0.1, 0.0, 2.1]])


def cloud(rng: np.random.Generator, shape: tuple[int, int, int] = (20, 30, 40)) -> NDArray[np.float32]:
    return (ndimage.gaussian_filter(rng.normal(0, 1, shape), 2) * 300).astype(np.float32)


def plain(image: NDArray[Any], world: NDArray[Any], size_mm: float, compactness: float, rounds: int) -> NDArray[Any]:
    """Every voxel compared with every centre in reach, in float64; the pieces are not joined yet."""
    shape = image.shape
    spacing = np.linalg.norm(world, axis=0)
    cells = [max(1, min(n, round(n * s / size_mm))) for n, s in zip(shape, spacing, strict=True)]
    places = np.indices(shape).reshape(3, -1).T
    cell = [places[:, a] * cells[a] // shape[a] for a in range(3)]
    labels = (cell[0] * cells[1] + cell[1]) * cells[2] + cell[2]
    reach = np.maximum(size_mm * np.linalg.norm(np.linalg.inv(world), axis=1), 1)
    values = image.reshape(-1).astype(np.float64)
    for _ in range(rounds):
        best = np.full(len(values), np.inf)
        chosen = labels.copy()
        for n in np.unique(labels):
            centre, mean = places[labels == n].mean(axis=0), values[labels == n].mean()
            apart = places - centre
            near = (np.abs(apart) <= reach).all(axis=1)
            distance = ((values - mean) / compactness) ** 2 + (np.linalg.norm(apart @ world.T, axis=1) / size_mm) ** 2
            nearer = near & (distance < best)
            best[nearer], chosen[nearer] = distance[nearer], n
        labels = chosen
    return labels.reshape(shape)


@pytest.mark.parametrize("world", [np.eye(3), np.diag([4.0, 1.1, 0.8]), SHEARED])
def test_equal_to_the_paper_written_down_simply(world: NDArray[Any], rng: np.random.Generator) -> None:
    image = cloud(rng, (9, 14, 17))
    expected = plain(image, world, 5.0, 40.0, 3)
    found = superpixels(image[None], world, 5.0, 40.0, 3)
    # pieces that were joined to a neighbour differ, and voxels where float32 decides the other way
    whole = np.zeros(image.shape, bool)
    for n in np.unique(expected):
        parts, _ = ndimage.label(expected == n)
        whole |= parts == np.bincount(parts.ravel())[1:].argmax() + 1 if parts.any() else False
    pairs = np.unique(np.stack([expected[whole], found[whole]]), axis=1)
    usual = [found[whole & (expected == n)] for n in np.unique(expected)]
    agreeing = sum((values == np.bincount(values).argmax()).sum() for values in usual)
    assert agreeing / whole.sum() > 0.99
    assert len(pairs.T) < 1.2 * len(usual)


def test_every_superpixel_is_one_piece_and_not_tiny(rng: np.random.Generator) -> None:
    for compactness in (2.0, 30.0, 1e4):
        labels = superpixels(cloud(rng)[None], np.diag([1.5, 1, 1]), 6.0, compactness)
        voxels = np.bincount(labels.ravel())
        numbers = np.flatnonzero(voxels)
        assert 0 not in numbers
        assert all(ndimage.label(labels == n)[1] == 1 for n in numbers)
        assert voxels[numbers].min() >= 0.25 * 6**3 / 1.5 * 0.9


def test_much_compactness_keeps_the_grid_and_little_follows_the_edges() -> None:
    image = np.zeros((12, 12, 24), np.float32)
    image[:, :, 9:] = 100  # an edge that is not on the grid of 6
    even = superpixels(image[None], np.eye(3), 6, 1e6)
    assert len(np.unique(even)) == 2 * 2 * 4
    assert (np.bincount(even.ravel())[np.unique(even)] == 6**3).all()
    sharp = superpixels(image[None], np.eye(3), 6, 10)
    assert not set(np.unique(sharp[:, :, :9])) & set(np.unique(sharp[:, :, 9:]))


def test_the_image_turned_round_gives_the_labels_turned_round(rng: np.random.Generator) -> None:
    image = cloud(rng, (12, 18, 24))
    one = superpixels(image[None], np.eye(3), 6, 50)
    other = superpixels(np.ascontiguousarray(image[None, :, ::-1, ::-1]), np.eye(3), 6, 50)[:, ::-1, ::-1]
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1, return_counts=True)[1]
    assert np.sort(pairs)[::-1][: len(np.unique(one))].sum() / image.size > 0.97


def test_channels_a_mask_and_voxels_without_value(rng: np.random.Generator) -> None:
    channels = np.zeros((2, 8, 8, 16), np.float32)
    channels[1, ..., 5:] = 100  # only the second channel shows the edge
    mask = rng.random((8, 8, 16)) < 0.95
    channels[0, 3, 3, 3] = np.nan
    labels = superpixels(channels, np.eye(3), 4, 10, mask=mask)
    assert np.array_equal(labels == 0, ~mask | np.isnan(channels[0]))
    inside = labels > 0
    assert not set(labels[..., :5][inside[..., :5]]) & set(labels[..., 5:][inside[..., 5:]])


def test_more_than_65535_superpixels(rng: np.random.Generator) -> None:
    labels = superpixels(rng.normal(0, 1, (1, 45, 45, 45)).astype(np.float32), np.eye(3), 1.0, 1e6, 1)
    assert len(np.unique(labels)) == 45**3 > 65_535


def test_thick_slices_hold_superpixels_one_slice_thick() -> None:
    labels = superpixels(np.zeros((1, 3, 12, 12), np.float32), np.diag([9.0, 1, 1]), 4, 10)
    assert len(np.unique(labels)) == 3 * 3 * 3
    assert not set(np.unique(labels[0])) & set(np.unique(labels[1]))


def test_wrong_numbers_raise() -> None:
    with pytest.raises(ValueError, match="size_mm"):
        superpixels(np.zeros((1, 2, 2, 2)), np.eye(3), 0, 1)
    with pytest.raises(ValueError, match="channels"):
        superpixels(np.zeros((2, 2, 2)), np.eye(3), 1, 1)
