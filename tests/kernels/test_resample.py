from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from medseg.kernels.resample import resample_labels, resample_linear, resample_nearest

KINDS = ["diagonal", "permutation", "oblique", "sheared"]


def grid(kind: str, rng: np.random.Generator, source: tuple[int, ...], target: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """A matrix of the kind, mirrored axes included, that maps middle to about middle."""
    scales = rng.uniform(0.4, 1.6, 3) * rng.choice([-1, 1], 3)
    matrix = np.diag(scales)
    if kind == "permutation":
        matrix = matrix[[[1, 2, 0], [2, 0, 1], [0, 2, 1]][rng.integers(3)]]
    elif kind == "oblique":
        matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ matrix
    elif kind == "sheared":
        matrix = matrix + np.array([[0, 0.3, 0], [0, 0, 0], [-0.2, 0, 0]])
    middle = (np.array(source) - 1) / 2 - matrix @ ((np.array(target) - 1) / 2)
    return matrix, middle + rng.normal(0, 0.4, 3)


def itk_resample(image: NDArray[Any], matrix: Any, offset: Any, shape: tuple[int, ...], fill: float, how: int, kind: int) -> NDArray[Any]:
    """The same grid as a transform between two images with unit spacing; ITK's order is (i, j, k)."""
    turned = matrix[::-1, ::-1]
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(turned.ravel().tolist())
    transform.SetTranslation(np.asarray(offset, float)[::-1].tolist())
    size = [int(length) for length in shape[::-1]]
    identity = np.eye(3).ravel().tolist()
    found = sitk.Resample(sitk.GetImageFromArray(image), size, transform, how, (0, 0, 0), (1, 1, 1), identity, fill, kind)
    return sitk.GetArrayFromImage(found)


def shapes(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(rng.integers(1, 16, 3).tolist()), tuple(rng.integers(1, 16, 3).tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8"])
def test_linear_equals_itk(kind: str, dtype: str, rng: np.random.Generator) -> None:
    for _ in range(8):
        source, target = shapes(rng)
        image = rng.integers(0, 250, source).astype(dtype)
        matrix, offset = grid(kind, rng, source, target)
        theirs = itk_resample(image, matrix, offset, target, 7, sitk.sitkLinear, sitk.sitkFloat64)
        ours = resample_linear(image, matrix, offset, target, 7, as_float=True)
        assert ours.dtype == np.float32
        assert np.allclose(ours, theirs, rtol=1e-6, atol=1e-4)
        kept = resample_linear(image, matrix, offset, target, 7)
        assert kept.dtype == image.dtype
        if image.dtype.kind != "f":
            clear = np.abs(theirs - np.floor(theirs) - 0.5) > 1e-4
            assert np.array_equal(kept[clear], np.rint(theirs)[clear])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8", "float64"])
def test_nearest_equals_itk(kind: str, dtype: str, rng: np.random.Generator) -> None:
    for _ in range(8):
        source, target = shapes(rng)
        image = rng.integers(0, 250, source).astype(dtype)
        matrix, offset = grid(kind, rng, source, target)
        theirs = itk_resample(image, matrix, offset, target, 7, sitk.sitkNearestNeighbor, sitk.sitkUnknown)
        assert np.array_equal(resample_nearest(image, matrix, offset, target, 7), theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_equal_linear_interpolation_of_each_label(kind: str, rng: np.random.Generator) -> None:
    """Against SimpleITK on one-hot images and the largest of them, wherever there is one."""
    for _ in range(8):
        source, target = shapes(rng)
        labels = rng.integers(0, 4, source).astype(np.uint8)
        matrix, offset = grid(kind, rng, source, target)
        hot = [
            itk_resample((labels == n).astype(np.float64), matrix, offset, target, -1, sitk.sitkLinear, sitk.sitkFloat64) for n in range(4)
        ]
        weights = np.stack(hot)
        ours = resample_labels(labels, matrix, offset, target, 200)
        outside = weights[0] < 0
        assert (ours[outside] == 200).all()
        ranked = np.sort(weights, axis=0)
        clear = ~outside & (ranked[-1] - ranked[-2] > 1e-7)
        assert np.array_equal(ours[clear], weights.argmax(axis=0)[clear])
        tied = weights >= ranked[-1] - 1e-7
        assert np.take_along_axis(tied, ours[None] * ~outside[None], axis=0)[0][~outside].all()


def test_a_real_ct_and_its_organs_on_an_oblique_grid(ct: NDArray[Any], organs: NDArray[Any], rng: np.random.Generator) -> None:
    target = (25, 80, 90)
    matrix, offset = grid("oblique", rng, ct.shape, target)
    theirs = itk_resample(ct, matrix, offset, target, -1024, sitk.sitkLinear, sitk.sitkFloat64)
    assert np.abs(resample_linear(ct, matrix, offset, target, -1024, as_float=True) - theirs).max() < 1e-3
    ours = resample_labels(organs, matrix, offset, target)
    assert set(np.unique(ours)) <= set(np.unique(organs))
    number = int(np.bincount(organs.ravel())[1:].argmax()) + 1
    share = itk_resample((organs == number).astype(np.float64), matrix, offset, target, 0, sitk.sitkLinear, sitk.sitkFloat64)
    assert (ours[share > 0.5 + 1e-6] == number).all()


@pytest.mark.parametrize("function", [resample_linear, resample_nearest, resample_labels])
def test_the_same_grid_gives_the_same_values(function: Any, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    array = rng.integers(0, 60_000, shape).astype(np.uint16)
    assert np.array_equal(function(array, np.eye(3), np.zeros(3), shape), array)
    turned = function(array, np.eye(3)[[1, 2, 0]], np.zeros(3), (shape[2], shape[0], shape[1]))
    assert np.array_equal(turned, array.transpose(2, 0, 1))
    mirrored = function(array, -np.eye(3), np.array(shape) - 1.0, shape)
    assert np.array_equal(mirrored, array[::-1, ::-1, ::-1])


@pytest.mark.parametrize("mixed", [0.0, 1e-12])
def test_half_a_voxel_outside_the_border_counts_and_more_does_not(mixed: float) -> None:
    """Both roads, along lines and voxel by voxel, in the same way."""
    image = np.array([[[10, 20]]], np.int16)
    matrix = np.diag([1, 1, 0.25])
    matrix[0, 1] = mixed
    offset = np.array([0, 0, -0.75])
    assert resample_linear(image, matrix, offset, (1, 1, 11), -1).tolist() == [[[-1, 10, 10, 10, 12, 15, 18, 20, 20, -1, -1]]]
    assert resample_nearest(image, matrix, offset, (1, 1, 11), -1).tolist() == [[[-1, 10, 10, 10, 10, 20, 20, 20, 20, -1, -1]]]
    labels = resample_labels(image.astype(np.uint8), matrix, offset, (1, 1, 11), 3)
    assert labels.tolist() == [[[3, 10, 10, 10, 10, 10, 20, 20, 20, 3, 3]]]


def test_a_tie_goes_to_the_nearest_voxel() -> None:
    """At 0.4 of the way label 5 holds the nearest corner with 0.6 against 0.4; at a sum of one half each the corner decides."""
    labels = np.array([[[5, 1], [1, 5]]], np.uint8)  # weights at (j, i) = (0.5, 0.3): 5 gets .35 + .15, 1 gets .15 + .35
    assert resample_labels(labels, np.eye(3), np.array([0, 0.5, 0.3]), (1, 1, 1)).tolist() == [[[1]]]
    labels = np.array([[[5, 1], [2, 2]]], np.uint8)  # at (0.5, 0.2): 5 gets .4, 1 gets .1, 2 gets .5
    assert resample_labels(labels, np.eye(3), np.array([0, 0.5, 0.2]), (1, 1, 1)).tolist() == [[[2]]]
    labels = np.array([[[1, 5, 5], [1, 1, 5]]], np.uint8)  # at (0.25, 0.75): .1875 + .0625 + .1875 against .5625
    assert resample_labels(labels, np.eye(3), np.array([0, 0.25, 0.75]), (1, 1, 1)).tolist() == [[[5]]]
    labels = np.array([[[1, 5], [2, 2]]], np.uint8)
    labels[0, 1] = [1, 2]  # at (0, 0.5): a tie of 1 and 5, equally near: the lower number
    assert resample_labels(labels, np.eye(3), np.array([0, 0, 0.5]), (1, 1, 1)).tolist() == [[[1]]]
    labels = np.array([[[9, 4]], [[4, 7]]], np.uint8)  # at (k, i) = (1/3, 1/4): 9 gets 1/2, 4 gets 1/6 + 1/4
    assert resample_labels(labels, np.eye(3), np.array([1 / 3, 0, 0.25]), (1, 1, 1)).tolist() == [[[9]]]
    labels = np.array([[[4, 9]], [[9, 7]]], np.uint8)  # at (1/3, 1/4): 4 gets 1/2, and 9 gets 5/12
    assert resample_labels(labels, np.eye(3), np.array([1 / 3, 0, 0.25]), (1, 1, 1)).tolist() == [[[4]]]
    labels = np.array([[[9, 4]], [[4, 4]]], np.uint8)  # at (1/3, 1/4) again one half each: 9 holds the nearest corner
    assert resample_labels(labels, np.eye(3), np.array([1 / 3, 0, 0.25]), (1, 1, 1)).tolist() == [[[9]]]


def test_dtypes_are_kept_and_nan_stays() -> None:
    for dtype in (np.int64, np.int8, np.float64, np.uint32):
        assert resample_linear(np.ones((1, 1, 2), dtype), np.eye(3), np.zeros(3), (1, 1, 2)).dtype == dtype
    assert resample_labels(np.ones((1, 1, 2), bool), np.eye(3), np.zeros(3), (1, 1, 2)).dtype == bool
    image = np.array([[[np.nan, 1.0, 2.0]]], np.float32)
    assert np.array_equal(resample_nearest(image, np.eye(3), np.zeros(3), (1, 1, 4), np.nan)[0, 0], [np.nan, 1, 2, np.nan], equal_nan=True)
    halves = resample_linear(image, np.eye(3), np.array([0, 0, 0.5]), (1, 1, 2))
    assert np.array_equal(halves[0, 0], [np.nan, 1.5], equal_nan=True)


@pytest.mark.parametrize("function", [resample_linear, resample_nearest, resample_labels])
def test_what_makes_no_grid_raises(function: Any) -> None:
    image = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="matrix"):
        function(image, np.eye(4), np.zeros(3), (2, 2, 2))
    with pytest.raises(ValueError, match="NaN"):
        function(image, np.eye(3), np.array([0, np.nan, 0]), (2, 2, 2))
    with pytest.raises(ValueError, match="shape"):
        function(image, np.eye(3), np.zeros(3), (2, 0, 2))
    with pytest.raises(ValueError, match="fill is 256"):
        function(image, np.eye(3), np.zeros(3), (2, 2, 2), 256)


@pytest.mark.parametrize("function", [resample_linear, resample_labels, resample_nearest])
@pytest.mark.parametrize("step", [0.6, 1.7])
def test_memory_is_the_result_alone(function: Any, step: float) -> None:
    image = np.zeros((180, 160, 170), np.uint16)  # large beside what starting the threads takes
    arguments = (np.diag([step] * 3), np.zeros(3), [int(length / step) for length in image.shape])
    function(image, *arguments)
    tracemalloc.start()
    out = function(image, *arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * out.nbytes
