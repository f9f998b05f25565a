from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from skimage.filters import apply_hysteresis_threshold

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment


def scan(array: np.ndarray) -> Volume:
    return Volume(array, Geometry(array.shape, np.diag([0.8, 1.1, 2.5, 1])), "CT", "HU")


@pytest.mark.parametrize(("weak", "strong"), [(130, 400), (40, 1200), (-100, -100), (100, 5000)])
def test_it_is_that_of_itk_on_a_real_scan(ct: Volume, weak: float, strong: float) -> None:
    double = sitk.DoubleThresholdImageFilter()
    double.SetThreshold1(weak)
    double.SetThreshold2(strong)
    double.SetThreshold3(32767)
    double.SetThreshold4(32767)
    double.SetFullyConnected(True)
    expected = sitk.GetArrayFromImage(double.Execute(sitk.GetImageFromArray(ct.array.T)))
    found = segment(ct, "hysteresis-threshold", weak=weak, strong=strong)
    assert np.array_equal(found.array.T, expected)
    assert [finding.code for finding in found.findings] == ([] if expected.any() else ["SEGMENT_EMPTY"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("connectivity", [6, 26])
def test_it_is_that_of_scikit_image(dtype: type, connectivity: int) -> None:
    """scikit-image always takes 6 neighbours, and neither threshold belongs to its structure."""
    array = np.random.default_rng(3).integers(0, 100, (13, 14, 15)).astype(dtype)
    expected = apply_hysteresis_threshold(array, 59, 96)
    found = segment(scan(array), "hysteresis-threshold", weak=60, strong=97, connectivity=connectivity)
    assert 0 < expected.sum() < (array >= 60).sum()
    if connectivity == 6:
        assert np.array_equal(found.array, expected)
    else:
        assert not (expected & (found.array == 0)).any()
        assert found.array.sum() > expected.sum()


def test_dark_structures_are_bright_ones_of_the_negative(ct: Volume) -> None:
    dark = segment(ct, "hysteresis-threshold", weak=-300, strong=-850, side="below")
    negative = segment(ct.with_array((-ct.array).astype(np.int16)), "hysteresis-threshold", weak=300, strong=850)
    assert dark.array.any()
    assert np.array_equal(dark.array, negative.array)


def test_nan_parts_and_is_outside() -> None:
    array = np.array([[[5, np.nan, 5, 9, 5]]], np.float32)
    assert segment(scan(array), "hysteresis-threshold", weak=5, strong=9).array.ravel().tolist() == [0, 0, 1, 1, 1]


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    volume = scan(np.zeros((2, 2, 2), np.int16))
    with pytest.raises(ParameterError, match=r"strong \(3\) must lie at or above weak \(4\)"):
        segment(volume, "hysteresis-threshold", weak=4, strong=3)
    with pytest.raises(ParameterError, match="at or below"):
        segment(volume, "hysteresis-threshold", weak=3, strong=4, side="below")
