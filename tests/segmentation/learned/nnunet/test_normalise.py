from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import IncompatibleModelError, InputError
from medseg.segmentation.learned.nnunet.normalise import normalise
from medseg.segmentation.learned.nnunet.plans import Intensities

CT = Intensities(mean=10.0, std=4.0, percentile_00_5=-6.0, percentile_99_5=30.0)


def image() -> np.ndarray:
    return np.array([-100, -6, 10, 14, 30, 500, 0, 0], np.float32).reshape(2, 2, 2)


def test_ct_clips_first() -> None:
    values = image()
    normalise(values, "CTNormalization", CT)
    assert values.ravel().tolist() == [-4, -4, 0, 1, 5, 5, -2.5, -2.5]


def test_z_score() -> None:
    values = image()
    normalise(values, "ZScoreNormalization", None)
    assert abs(values.mean()) < 1e-6
    assert values.std() == pytest.approx(1, abs=1e-6)


def test_z_score_within_a_mask_leaves_the_rest() -> None:
    values, mask = image(), image() != 0
    normalise(values, "ZScoreNormalization", None, mask)
    assert (values[~mask] == 0).all()
    assert values[mask].std() == pytest.approx(1, abs=1e-6)


def test_a_constant_image_stays_finite() -> None:
    for scheme in ("ZScoreNormalization", "RescaleTo01Normalization"):
        values = np.full((2, 2, 2), 7, np.float32)
        normalise(values, scheme, None)
        assert (values == 0).all()


def test_an_empty_mask_changes_nothing() -> None:
    values = image()
    normalise(values, "ZScoreNormalization", None, np.zeros((2, 2, 2), bool))
    assert (values == image()).all()


def test_ranges() -> None:
    values = image()
    normalise(values, "RescaleTo01Normalization", None)
    assert (values.min(), values.max()) == (0, 1)
    with pytest.raises(InputError, match="0 to 255"):
        normalise(image(), "RGBTo01Normalization", None)
    same = image()
    normalise(same, "NoNormalization", None)
    assert (same == image()).all()


def test_what_is_missing_is_said() -> None:
    with pytest.raises(IncompatibleModelError, match="no intensities"):
        normalise(image(), "CTNormalization", None)
    with pytest.raises(IncompatibleModelError, match="not known"):
        normalise(image(), "Other", None)
