from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from medseg.segmentation.learned import labels_back
from medseg.segmentation.learned.labels_back import labels_on_grid

NUMBERS = [0, 3, 9, 300]


def logits_of(*shape: int, seed: int = 0, smooth: bool = False) -> torch.Tensor:
    values = np.random.default_rng(seed).normal(size=(len(NUMBERS), *shape)).astype(np.float32)
    if smooth:
        from scipy.ndimage import gaussian_filter

        values = np.stack([gaussian_filter(channel, 2) for channel in values])
    return torch.from_numpy(values)


def expected_labels(logits: torch.Tensor, matrix: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """scipy's interpolation of every channel at every voxel, and how clear the win is."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")).reshape(3, -1)
    places = matrix[:, :3] @ index + matrix[:, 3:]
    places = np.clip(places, 0, np.array(logits.shape[1:])[:, None] - 1)
    values = np.stack([map_coordinates(channel.numpy().astype(np.float64), places, order=1, mode="nearest") for channel in logits])
    ordered = np.sort(values, axis=0)
    return np.array(NUMBERS)[values.argmax(0)].reshape(shape), (ordered[-1] - ordered[-2]).reshape(shape)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(
    "matrix",
    [
        np.hstack([np.eye(3) * 0.4, np.array([[-0.3], [0.2], [0.0]])]),
        np.hstack([np.diag([2.5, 1.0, 1.7]), np.zeros((3, 1))]),
        np.array([[0.0, 0.5, 0.0, 1.0], [-0.6, 0.0, 0.0, 9.5], [0.0, 0.0, 0.8, -2.0]]),
        np.array([[0.5, 0.1, 0.0, 0.3], [-0.1, 0.6, 0.2, 1.0], [0.05, -0.2, 0.5, 2.0]]),
    ],
)
def test_equals_scipys_interpolation_of_every_channel(matrix: np.ndarray, smooth: bool) -> None:
    shape = (13, 17, 11)
    logits = logits_of(9, 10, 12, smooth=smooth)
    expected, margin = expected_labels(logits, matrix, shape)
    got = labels_on_grid(logits, matrix, shape, NUMBERS)
    assert got.dtype == np.uint16
    clear = margin > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(got[clear], expected[clear])


def test_the_same_grid_gives_the_plain_argmax_and_slabs_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = logits_of(7, 8, 9)
    matrix = np.hstack([np.eye(3), np.zeros((3, 1))])
    whole = labels_on_grid(logits, matrix, (7, 8, 9), NUMBERS)
    np.testing.assert_array_equal(whole, np.array(NUMBERS)[logits.argmax(0).numpy()])
    monkeypatch.setattr(labels_back, "_SLAB_VOXELS", 1)
    np.testing.assert_array_equal(labels_on_grid(logits, matrix, (7, 8, 9), NUMBERS), whole)


def test_grids_of_one_voxel_along_an_axis_work() -> None:
    logits = logits_of(1, 5, 1)
    matrix = np.hstack([np.eye(3) * 0.5, np.zeros((3, 1))])
    expected, _ = expected_labels(logits, matrix, (2, 9, 3))
    np.testing.assert_array_equal(labels_on_grid(logits, matrix, (2, 9, 3), NUMBERS), expected)
