"""The linear function from stored values to intensities (PS3.3, C.11.1)."""

from __future__ import annotations

import math

from medseg.core.errors import InputError
from medseg.io.dicom.header import SliceHeader


def rescale(header: SliceHeader) -> tuple[float, float]:
    """Return (slope, intercept) of a slice, (1, 0) where it has none; raises InputError where they give no intensities."""
    slope = 1.0 if header.slope is None else header.slope
    intercept = 0.0 if header.intercept is None else header.intercept
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise InputError(f"{header.path}: rescale slope {slope} and intercept {intercept} give no intensities")
    return slope, intercept
