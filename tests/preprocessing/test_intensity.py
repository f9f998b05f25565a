from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.preprocess import preprocess


def scan(values: object, dtype: type = np.int16) -> Volume:
    array = np.asarray(values, dtype).reshape(1, 1, -1)
    return Volume(array, Geometry(array.shape, np.eye(4)), "CT", "HU")


def test_clip_is_that_of_itk_on_a_real_scan(ct: Volume) -> None:
    expected = sitk.GetArrayFromImage(sitk.Clamp(sitk.GetImageFromArray(ct.array.T), lowerBound=-100, upperBound=240))
    clipped = preprocess(ct, "clip", lower=-100, upper=240)
    assert np.array_equal(clipped.array.T, expected)
    assert clipped.array.dtype == np.int16
    assert clipped.unit == "HU"


def test_one_limit_is_enough() -> None:
    assert preprocess(scan([-5, 0, 5]), "clip", lower=0).array.ravel().tolist() == [0, 0, 5]
    assert preprocess(scan([-5, 0, 5]), "clip", upper=0).array.ravel().tolist() == [-5, 0, 0]


@pytest.mark.parametrize(
    ("dtype", "lower", "upper", "expected"),
    [
        (np.uint8, -1000, 100, [0, 100, 100]),
        (np.uint8, 300, 400, [300, 300, 300]),
        (np.uint8, -9, -4, [-4, -4, -4]),
        (np.int16, 0.5, 100.5, [0.5, 100.5, 100.5]),
        (np.float32, 1, 150, [1, 150, 150]),
        (np.int32, -(2**40), 2**40, [0, 200, 255]),
    ],
)
def test_limits_that_the_dtype_cannot_hold(dtype: type, lower: float, upper: float, expected: list[float]) -> None:
    assert preprocess(scan([0, 200, 255], dtype), "clip", lower=lower, upper=upper).array.ravel().tolist() == expected


def test_clip_leaves_nan() -> None:
    clipped = preprocess(scan([np.nan, np.inf, -np.inf], np.float32), "clip", lower=-1, upper=1).array.ravel()
    assert np.isnan(clipped[0])
    assert clipped[1:].tolist() == [1, -1]


@pytest.mark.parametrize("limits", [{}, {"lower": 2, "upper": 1}, {"lower": float("nan")}, {"lower": "low"}])
def test_impossible_limits_are_refused(limits: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=r"clip: .*(give lower, upper or both|swap them|finite|valid number|must be a number)"):
        preprocess(scan([1, 2]), "clip", **limits)


@pytest.mark.parametrize("above", [None, -200.0])
def test_z_score_has_mean_0_and_deviation_1(ct: Volume, above: float | None) -> None:
    scaled = preprocess(ct, "normalise", kind="z-score", above=above)
    values = ct.array.astype(np.float64)
    inside = values > (-np.inf if above is None else above)
    expected = (values - values[inside].mean()) / values[inside].std()
    assert scaled.array.dtype == np.float32
    assert scaled.unit == ""
    assert np.allclose(scaled.array, expected, atol=2e-6)


def test_minmax_spans_0_to_1(ct: Volume) -> None:
    scaled = preprocess(ct, "normalise", kind="minmax").array
    expected = sitk.GetArrayFromImage(sitk.RescaleIntensity(sitk.GetImageFromArray(ct.array.T.astype(np.float64)), 0.0, 1.0))
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert np.allclose(scaled.T, expected, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.5, 99.5), (2, 98), (0, 100)])
@pytest.mark.parametrize("above", [None, -200.0])
def test_percentiles_become_0_and_1(ct: Volume, low: float, high: float, above: float | None) -> None:
    scaled = preprocess(ct, "normalise", kind="percentile", lower_percentile=low, upper_percentile=high, above=above)
    values = ct.array.astype(np.float64)
    ends = np.percentile(values[values > (-np.inf if above is None else above)], [low, high])
    assert np.allclose(scaled.array, (values - ends[0]) / (ends[1] - ends[0]), atol=2e-6 * np.ptp(values) / np.ptp(ends))


def test_percentiles_must_rise() -> None:
    with pytest.raises(ParameterError, match=r"lower_percentile \(60\) is not below upper_percentile \(40\)"):
        preprocess(scan([1, 2]), "normalise", kind="percentile", lower_percentile=60, upper_percentile=40)


def test_a_constant_scan_becomes_0_and_says_so() -> None:
    for kind in ("z-score", "minmax", "percentile"):
        flat = preprocess(scan([7, 7, 7]), "normalise", kind=kind)
        assert flat.array.ravel().tolist() == [0, 0, 0]
        assert [finding.code for finding in flat.findings] == ["CONSTANT_INTENSITY"]


def test_nan_does_not_count_and_stays() -> None:
    scaled = preprocess(scan([np.nan, 1, 3, np.inf], np.float32), "normalise", kind="minmax").array.ravel()
    assert np.isnan(scaled[0])
    assert scaled[1:3].tolist() == [0, 1]


def test_nothing_to_take_statistics_from_is_an_error() -> None:
    with pytest.raises(InputError, match="no finite intensity above 100"):
        preprocess(scan([1, 2, 3]), "normalise", above=100)
    with pytest.raises(InputError, match="no finite intensity"):
        preprocess(scan([np.nan, np.nan], np.float32), "normalise")
