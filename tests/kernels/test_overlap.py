from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.kernels.overlap import overlap_counts


def check(reference: NDArray[Any], prediction: NDArray[Any]) -> None:
    numbers, in_reference, in_prediction, common = overlap_counts(reference, prediction)
    expected = np.union1d(reference, prediction)
    assert numbers.tolist() == expected[expected > 0].tolist()
    for n, number in enumerate(numbers.tolist()):
        a, b = reference == number, prediction == number
        assert (in_reference[n], in_prediction[n], common[n]) == (a.sum(), b.sum(), (a & b).sum())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 8), st.integers(1, 9), st.sampled_from([1, 5, 8, 16, 24, 33])),
    st.integers(1, 40),
    st.sampled_from([(np.uint8, 255), (np.uint16, 65_535), (np.uint32, 2**32 - 1)]),
)
def test_equal_to_counting_each_label(number: int, shape: tuple[int, int, int], run: int, kind: tuple[Any, int]) -> None:
    """For every width of the labels, up to the largest of them."""
    rng = np.random.default_rng(number)
    values = np.array([0, 1, kind[1] - 1, kind[1]], kind[0])
    reference, prediction = (values[np.repeat(rng.integers(0, 4, shape), run, axis=2)] for _ in range(2))
    check(reference, prediction)
    check(reference, np.roll(reference, 1, axis=2))


def test_arrays_that_do_not_begin_at_a_whole_word(rng: np.random.Generator) -> None:
    memory = rng.integers(0, 3, 2 * 8 * 16 + 8).astype(np.uint8)
    for offset in range(1, 8):
        reference = memory[offset : offset + 256].reshape(2, 8, 16)
        check(reference, np.roll(reference, 3, axis=1))


@pytest.mark.parametrize("dtypes", [("uint8", "uint8"), ("uint8", "uint16"), ("uint32", "uint8"), ("int64", "uint8"), ("bool", "uint8")])
def test_dtypes_may_differ(dtypes: tuple[str, str], rng: np.random.Generator) -> None:
    reference, prediction = (rng.integers(0, 2, (4, 5, 16)).astype(dtype) for dtype in dtypes)
    check(reference, prediction)


def test_thousands_of_large_numbers(rng: np.random.Generator) -> None:
    reference = rng.integers(0, 2**32, (3, 20, 40)).astype(np.uint32)
    prediction = np.where(rng.random(reference.shape) < 0.5, reference, 7).astype(np.uint32)
    numbers, in_reference, in_prediction, common = overlap_counts(reference, prediction)
    assert len(numbers) > 2000
    assert in_reference.sum() == (reference > 0).sum()
    assert in_prediction.sum() == (prediction > 0).sum()
    assert common.sum() == ((reference == prediction) & (reference > 0)).sum()


def test_real_organs_as_simpleitk_measures_them(organs: NDArray[Any]) -> None:
    moved = np.roll(organs, (1, 2, 0), axis=(0, 1, 2))
    theirs = sitk.LabelOverlapMeasuresImageFilter()
    theirs.Execute(sitk.GetImageFromArray(organs), sitk.GetImageFromArray(moved))
    numbers, a, b, common = overlap_counts(organs, moved)
    for n, number in enumerate(numbers.tolist()):
        assert 2 * common[n] / (a[n] + b[n]) == pytest.approx(theirs.GetDiceCoefficient(number), rel=1e-12)
    check(organs, moved)


def test_nothing_on_either_side_and_another_grid() -> None:
    assert [array.size for array in overlap_counts(np.zeros((1, 2, 3), int), np.zeros((1, 2, 3), int))] == [0] * 4
    with pytest.raises(ValueError, match="shape"):
        overlap_counts(np.zeros((1, 2, 3), int), np.zeros((1, 2, 4), int))
