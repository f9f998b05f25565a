from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed as skimage_watershed

from medseg.kernels import compact_watershed as kernel
from medseg.kernels.compact_watershed import compact_watershed
from medseg.kernels.watershed import watershed


def markers_in(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    markers = np.zeros(shape, np.uint8)
    places = rng.choice(markers.size, max(1, markers.size // 200), replace=False)
    markers.flat[places] = 1 + np.arange(len(places)) % 250
    return markers


@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (18, 2), (26, 3)])
def test_equal_to_scikit_image_on_heights_that_differ(
    shape: tuple[int, int, int], connectivity: Any, rank: int, rng: np.random.Generator
) -> None:
    """Where two entries of the queue are equal scikit-image takes either; noise has no equal ones."""
    image, markers = rng.normal(10, 3, shape), markers_in(rng, shape)
    for compactness in (0.01, 0.7, 30.0):
        expected = skimage_watershed(image, markers, connectivity=rank, compactness=compactness)
        found = compact_watershed(image, markers, compactness, np.eye(3), connectivity)
        assert np.array_equal(found, expected)


def test_a_mask_and_a_full_heap(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr(kernel, "_FIRST_ROOM", 32)
    image, markers, mask = rng.normal(0, 1, (15, 16, 17)), markers_in(rng, (15, 16, 17)), rng.random((15, 16, 17)) < 0.8
    expected = skimage_watershed(image, markers, connectivity=1, compactness=0.1, mask=mask)
    assert np.array_equal(compact_watershed(image, markers, 0.1, np.eye(3), mask=mask), expected)


def test_much_compactness_gives_the_cells_of_the_nearest_marker_in_mm(rng: np.random.Generator) -> None:
    """On a sheared grid with unequal spacing: each voxel belongs to the marker that is nearest in the patient."""
    world = np.array([[0.9, 0.0, 0.4], [0.0, 1.6, 0.2], [0.1, 0.0, 2.1]])
    shape = (14, 15, 16)
    places = rng.choice(int(np.prod(shape)), 6, replace=False)
    markers = np.zeros(shape, np.uint8)
    markers.flat[places] = np.arange(1, 7)
    points = np.stack(np.indices(shape), axis=-1).reshape(-1, 3) @ world.T
    distances = np.linalg.norm(points[:, None] - points[places][None], axis=-1)
    found = compact_watershed(rng.random(shape), markers, 1e6, world, 26)
    clear = np.diff(np.sort(distances, axis=1)[:, :2], axis=1)[:, 0] > 0.5  # the cells are grown through neighbours
    assert (found.reshape(-1) == distances.argmin(axis=1) + 1)[clear].mean() > 0.99


def test_no_compactness_floods_like_the_plain_one_where_basins_are_clear() -> None:
    image = np.abs(np.arange(24.0) % 8 - 4).reshape(1, 1, 24) + np.linspace(0, 0.1, 24)
    markers = np.zeros(image.shape, np.uint8)
    markers[0, 0, [4, 12, 20]] = [1, 2, 3]
    assert np.array_equal(compact_watershed(image, markers, 0, np.eye(3)), watershed(image, markers))


def test_nan_and_wrong_numbers() -> None:
    image, markers = np.array([[[0.0, np.nan, 1.0, 0.0]]]), np.array([[[1, 0, 0, 2]]], np.uint8)
    assert compact_watershed(image, markers, 1, np.eye(3)).tolist() == [[[1, 1, 2, 2]]]
    with pytest.raises(ValueError, match="compactness"):
        compact_watershed(image, markers, -1, np.eye(3))
    with pytest.raises(ValueError, match="compactness"):
        compact_watershed(image, markers, np.inf, np.eye(3))


def test_lines_part_compact_basins(rng: np.random.Generator) -> None:
    """scikit-image draws no lines between compact basins: no two basins touch, and a line voxel touches at least two."""
    image, markers = rng.normal(0, 1, (14, 15, 16)), np.zeros((14, 15, 16), np.uint8)
    markers[2::5, 2::5, 2::5] = np.arange(27).reshape(3, 3, 3) + 1
    labels = compact_watershed(image, markers, 0.5, np.eye(3), lines=True)
    near = ndimage.generate_binary_structure(3, 1)
    highest = ndimage.maximum_filter(labels, footprint=near, mode="constant")
    lowest = ndimage.minimum_filter(np.where(labels == 0, 99, labels), footprint=near, mode="constant", cval=99)
    assert not ((labels > 0) & (highest != lowest)).any()
    assert len(np.unique(labels)) == 28
    assert 0.1 < (labels == 0).mean() < 0.6
    assert (highest != lowest)[labels == 0].mean() > 0.9
