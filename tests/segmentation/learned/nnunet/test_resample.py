"""Resampling against scikit-image, scipy and torch themselves."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("skimage")

import skimage.transform
import torch
from scipy.ndimage import map_coordinates

from medseg.segmentation.learned.nnunet.plans import Resampling
from medseg.segmentation.learned.nnunet.resample import resample_image, resample_labels, resampled_shape, separate_axis

SHAPES = [((9, 14, 11), (17, 8, 11)), ((20, 5, 7), (6, 30, 40)), ((1, 6, 5), (3, 6, 9)), ((200, 3, 4), (130, 4, 4))]


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("shape", "new"), SHAPES)
def test_is_the_resize_of_scikit_image(order: int, shape: tuple, new: tuple) -> None:
    image = noise(shape)
    expected = skimage.transform.resize(image.astype(float), new, order, mode="edge", anti_aliasing=False)
    got = resample_image(torch.from_numpy(image), new, Resampling(order=order), None).numpy()
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("new", [(7, 9, 20), (13, 9, 4), (11, 20, 9)])
@pytest.mark.parametrize("order_z", [0, 1])
def test_slice_by_slice(axis: int, new: tuple, order_z: int) -> None:
    image = noise((11, 9, 8))
    rule = Resampling(order=3, order_z=order_z)
    got = resample_image(torch.from_numpy(image), new, rule, axis).numpy()
    plane = [new[n] for n in range(3) if n != axis]
    slices = np.moveaxis(image.astype(float), axis, 0)
    stack = np.stack([skimage.transform.resize(one, plane, 3, mode="edge", anti_aliasing=False) for one in slices])
    n, m = stack.shape[0], new[axis]
    places = np.indices((m, *plane)).astype(float)
    places[0] = n / m * (places[0] + 0.5) - 0.5
    expected = np.moveaxis(map_coordinates(stack, places, order=order_z, mode="nearest") if n != m else stack, 0, axis)
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_torch_has_its_own_interpolation() -> None:
    image = torch.from_numpy(noise((6, 9, 8)))
    expected = torch.nn.functional.interpolate(image[None, None], (9, 5, 13), mode="trilinear")[0, 0]
    assert torch.equal(resample_image(image, (9, 5, 13), Resampling(kind="torch"), None), expected)
    apart = resample_image(image, (9, 5, 13), Resampling(kind="torch"), 0)
    assert torch.equal(apart[0], apart[1]) is False
    assert len({tuple(plane.ravel().tolist()) for plane in apart}) == 6  # no plane between two of them


def test_values_stay_within_their_range() -> None:
    image = np.zeros((12, 12, 12), np.float32)
    image[4:8, 4:8, 4:8] = 1  # splines overshoot at such edges
    got = resample_image(torch.from_numpy(image), (17, 17, 17), Resampling(), None)
    assert float(got.min()) == 0
    assert float(got.max()) == 1


@pytest.mark.parametrize(
    ("rule", "old", "new", "axis"),
    [
        (Resampling(), (3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),  # not more than three times as coarse
        (Resampling(), (3.1, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        (Resampling(), (1.0, 1.0, 1.0), (1.0, 1.0, 3.1), 2),
        (Resampling(), (1.0, 5.0, 5.0), (1.0, 1.0, 1.0), None),  # two coarse axes: none is apart
        (Resampling(), (1.0, 5.0, 5.0 + 1e-9), (1.0, 1.0, 1.0), None),
        (Resampling(separate=True), (1.2, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        (Resampling(separate=False), (9.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
    ],
)
def test_which_axis_stands_apart(rule: Resampling, old: tuple, new: tuple, axis: int | None) -> None:
    assert separate_axis(rule, old, new) == axis


def test_shapes_are_rounded_to_even() -> None:
    assert resampled_shape((5, 5, 3), (0.5, 1.5, 1.0), (1.0, 1.0, 2.0)) == (2, 8, 2)


def test_labels_are_those_of_the_largest_share() -> None:
    labels = np.array([0, 0, 5, 5, 5, 2], np.int16).reshape(1, 1, 6)
    got = resample_labels(labels, (1, 1, 12), Resampling(order=1), None)
    assert got.ravel().tolist() == [0, 0, 0, 0, 5, 5, 5, 5, 5, 5, 2, 2]
    assert set(np.unique(resample_labels(labels, (1, 1, 4), Resampling(kind="torch"), None))) <= {0, 5, 2}


def test_where_shares_are_equal_the_nearest_voxel_decides() -> None:
    labels = np.array([1, 2], np.int16).reshape(1, 1, 2)
    middle = resample_labels(labels, (1, 1, 3), Resampling(order=1), None)[0, 0, 1]
    nearest = map_coordinates(np.array([1.0, 2.0]), [[0.5]], order=0, mode="nearest")[0]
    assert middle == nearest
