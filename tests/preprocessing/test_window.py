from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.preprocess import preprocess


@pytest.mark.parametrize(("preset", "low", "high"), [("abdomen", -160, 240), ("lung", -1350, 150), ("brain", 0, 80)])
def test_a_window_is_that_of_itk_on_a_real_scan(ct: Volume, preset: str, low: float, high: float) -> None:
    expected = sitk.GetArrayFromImage(sitk.IntensityWindowing(sitk.GetImageFromArray(ct.array.T.astype(np.float64)), low, high, 0.0, 1.0))
    found = preprocess(ct, "window", preset=preset)
    assert found.array.dtype == np.float32
    assert found.unit == ""
    assert np.allclose(found.array.T, expected, atol=1e-6)


def test_nan_stays_and_any_number_is_cut() -> None:
    values = np.array([[[np.nan, -np.inf, -1e300, 5, 1e300, np.inf]]])
    found = preprocess(Volume(values, Geometry((1, 1, 6), np.eye(4))), "window", centre=5, width=2).array.ravel()
    assert np.isnan(found[0])
    assert found[1:].tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("chosen", [{}, {"centre": 1}, {"centre": 1, "width": 0}, {"preset": "lung", "width": 2}, {"preset": "x"}])
def test_impossible_windows_are_refused(chosen: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="window: "):
        preprocess(Volume(np.zeros((1, 1, 2)), Geometry((1, 1, 2), np.eye(4))), "window", **chosen)


@pytest.mark.parametrize(("modality", "unit", "told"), [("MR", "", True), ("PT", "g/ml", True), ("CT", "HU", False), ("", "", False)])
def test_a_preset_for_ct_is_told_on_a_scan_known_to_be_none(modality: str, unit: str, told: bool) -> None:
    scan = Volume(np.zeros((1, 1, 2)), Geometry((1, 1, 2), np.eye(4)), modality, unit)
    assert [one.code for one in preprocess(scan, "window", preset="bone").findings] == ["WINDOW_FOR_CT"] * told
    assert preprocess(scan, "window", centre=1, width=2).findings == ()
