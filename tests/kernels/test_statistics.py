from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from medseg.kernels.statistics import label_percentiles, label_statistics


def check(labels: NDArray[Any], image: NDArray[Any]) -> None:
    """Every field against numpy, label by label."""
    found = label_statistics(labels, image)
    assert found.numbers.tolist() == np.unique(labels[labels > 0]).tolist()
    for n, number in enumerate(found.numbers):
        mask = labels == number
        index = np.argwhere(mask)
        values = image[mask].astype(np.float64)
        finite = values[np.isfinite(values)]
        assert found.voxels[n] == len(index)
        assert found.centroid[n] == pytest.approx(index.mean(axis=0), rel=1e-12)
        assert found.first[n].tolist() == index.min(axis=0).tolist()
        assert found.last[n].tolist() == index.max(axis=0).tolist()
        faces = [mask[0], mask[-1], mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]]
        assert found.border[n].tolist() == [face.sum() for face in faces]
        assert found.non_finite[n] == len(values) - len(finite)
        ours = [found.mean[n], found.std[n], found.minimum[n], found.maximum[n]]
        expected = [finite.mean(), finite.std(), finite.min(), finite.max()] if len(finite) else [np.nan] * 4
        assert ours == pytest.approx(expected, rel=1e-11, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    ("labels_dtype", "dtype"),
    [("uint8", "int16"), ("uint8", "uint16"), ("uint16", "uint8"), ("uint32", "float32"), ("int64", "float64"), ("uint8", "int32")],
)
def test_every_field(shape: tuple[int, int, int], labels_dtype: str, dtype: str, rng: np.random.Generator) -> None:
    image = rng.integers(0, 250, shape).astype(dtype)
    check(rng.integers(0, 5, shape).astype(labels_dtype), image)
    check(np.repeat(rng.integers(0, 3, shape).astype(labels_dtype), 5, axis=2), np.repeat(image, 5, axis=2))


def test_real_organs_as_simpleitk_measures_them(ct: NDArray[Any], organs: NDArray[Any]) -> None:
    check(organs, ct)
    theirs = sitk.LabelStatisticsImageFilter()
    theirs.Execute(sitk.GetImageFromArray(ct), sitk.GetImageFromArray(organs))
    ours = label_statistics(organs, ct)
    assert len(ours.numbers) > 30
    for n, number in enumerate(ours.numbers.tolist()):
        assert ours.voxels[n] == theirs.GetCount(number)
        assert ours.mean[n] == pytest.approx(theirs.GetMean(number), rel=1e-12)
        assert ours.minimum[n] == theirs.GetMinimum(number)
        assert ours.maximum[n] == theirs.GetMaximum(number)
        count = ours.voxels[n]  # ITK divides by the voxels minus one
        assert ours.std[n] ** 2 * count == pytest.approx(theirs.GetVariance(number) * (count - 1), rel=1e-9)


def test_thousands_of_large_and_scattered_numbers(rng: np.random.Generator) -> None:
    labels = rng.integers(1, 2**32, (4, 30, 40)).astype(np.uint32)
    labels[:, ::2] = labels[:1, :1, :1]
    found = label_statistics(labels, labels.astype(np.float64))
    numbers, counts = np.unique(labels, return_counts=True)
    assert np.array_equal(found.numbers, numbers)
    assert np.array_equal(found.voxels, counts)
    assert np.array_equal(found.mean, numbers.astype(np.float64))
    assert np.array_equal(found.std, np.zeros(len(numbers)))


def test_nan_and_infinity_are_counted_and_left_out() -> None:
    image = np.array([[[np.nan, 1, 3, np.inf, np.nan, -np.inf]]], np.float32)
    check(np.array([[[1, 1, 1, 1, 2, 2]]], np.uint8), image)


def test_a_large_offset_costs_no_digits(rng: np.random.Generator) -> None:
    image = 1e9 + rng.normal(0, 1e-2, (20, 9, 30))
    image[0, 0, 0] = 1e9
    found = label_statistics(np.ones(image.shape, np.uint8), image)
    shifted = image - 1e9
    assert found.std[0] == pytest.approx(shifted.std(), rel=1e-6)
    assert found.mean[0] - 1e9 == pytest.approx(shifted.mean(), abs=3e-7)


def test_sums_of_squares_beyond_53_bits_are_exact() -> None:
    """A mean of 60000 with a deviation of 0.5 over millions of voxels."""
    image = np.full((40, 250, 200), 60_000, np.uint16)
    image[:, ::2] += 1
    found = label_statistics(np.ones(image.shape, np.uint8), image)
    assert found.mean[0] == 60_000.5
    assert found.std[0] == 0.5


def test_no_image_gives_no_intensities_and_no_label_gives_no_rows() -> None:
    found = label_statistics(np.array([[[3, 0, 3]]], np.uint8))
    assert found.voxels.tolist() == [2]
    assert np.isnan([found.mean[0], found.std[0], found.minimum[0], found.maximum[0]]).all()
    assert found.non_finite.tolist() == [0]
    empty = label_statistics(np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4)))
    assert len(empty.numbers) == len(empty.voxels) == 0
    assert empty.centroid.shape == (0, 3)
    assert label_percentiles(np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4)), [50]).shape == (0, 1)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64", "int32"])
@pytest.mark.parametrize("few_bins", [0, 1 << 22])
def test_percentiles_equal_numpy(
    shape: tuple[int, int, int], dtype: str, few_bins: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.kernels.statistics._FEW_BINS", few_bins)
    labels, image = rng.integers(0, 4, shape).astype(np.uint16), rng.integers(0, 200, shape).astype(dtype)
    if np.dtype(dtype).kind == "f":
        image[rng.random(shape) < 0.1] = np.nan
    asked = [0, 2.5, 33, 50, 77.7, 100]
    ours = label_percentiles(labels, image, asked)
    for n, number in enumerate(np.unique(labels[labels > 0])):
        values = image[labels == number].astype(np.float64)
        values = values[np.isfinite(values)]
        expected = np.percentile(values, asked) if len(values) else np.full(6, np.nan)
        assert np.array_equal(ours[n], expected, equal_nan=True)


def test_medians_of_real_organs(ct: NDArray[Any], organs: NDArray[Any]) -> None:
    ours = label_percentiles(organs, ct, [50, 95], label_statistics(organs, ct))
    expected = [np.percentile(ct[organs == number], [50, 95]) for number in np.unique(organs)[1:]]
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("percentiles", [[-1], [101], [np.nan], [[50]]])
def test_percentiles_outside_0_to_100_raise(percentiles: Any) -> None:
    with pytest.raises(ValueError, match="percentiles"):
        label_percentiles(np.ones((1, 1, 1), np.uint8), np.ones((1, 1, 1)), percentiles)


def test_another_grid_raises() -> None:
    with pytest.raises(ValueError, match="shape"):
        label_statistics(np.ones((1, 1, 1), np.uint8), np.ones((1, 1, 2)))
