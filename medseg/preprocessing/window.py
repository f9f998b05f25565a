"""A range of intensities as a viewer shows it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.finding import Finding, Severity
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number

# Centre and width in HU as readers use them; the names are those of most viewers.
WINDOWS_HU: dict[str, tuple[float, float]] = {
    "abdomen": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "liver": (60.0, 160.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "stroke": (35.0, 35.0),
}
_NO_HOUNSFIELD = {"MR": "MR", "PT": "PET", "NM": "nuclear medicine", "US": "ultrasound"}


class WindowParams(MethodParams):
    """Parameters of `window`."""

    preset: Literal["abdomen", "bone", "brain", "liver", "lung", "mediastinum", "stroke"] | None = Field(
        None, description="Window for CT by its name; empty: give centre and width"
    )
    centre: Number | None = Field(None, description="Intensity that becomes a half", unit="image")
    width: Number | None = Field(None, description="Difference of the intensities that become 1 and 0", unit="image", gt=0)

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> WindowParams:
        given = (self.centre is not None, self.width is not None)
        if self.preset is not None and any(given):
            raise ValueError("give a preset, or centre and width, not both")
        if self.preset is None and not all(given):
            raise ValueError("give centre and width, or a preset")
        return self


@method("window", stage=Stage.PREPROCESS, reference="DICOM PS3.3 C.11.2.1.3.2 (LINEAR_EXACT)")
def window(volume: Volume, params: WindowParams) -> Volume:
    """Bring the intensities within a window to 0 to 1; what lies below becomes 0, what lies above 1.

    (x - centre) / width + 1/2, as float32 without unit. NaN stays NaN. Presets are in HU: on a scan that is
    known to be no CT they give the finding WINDOW_FOR_CT.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[-1000, 40, 140, 3000]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    >>> window(scan, WindowParams(preset="abdomen")).array.ravel().tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    if params.preset is not None:
        centre, width = WINDOWS_HU[params.preset]
    else:
        centre, width = float(params.centre or 0.0), float(params.width or 1.0)
    array = volume.array
    # float32 holds 16-bit integers exactly; others are shifted and scaled at double precision first
    work = np.float32 if array.dtype.itemsize <= 2 or array.dtype == np.float32 else np.float64
    with np.errstate(over="ignore"):
        scaled: npt.NDArray[np.floating[Any]] = array.astype(work)
        scaled -= work(centre)
        scaled /= work(width)
        scaled += work(0.5)
    np.clip(scaled, 0, 1, out=scaled)
    return volume.with_array(scaled.astype(np.float32, copy=False), unit="", findings=(*volume.findings, *_no_hounsfield(volume, params)))


def _no_hounsfield(volume: Volume, params: WindowParams) -> list[Finding]:
    """A preset in HU on a scan whose intensities are none."""
    if params.preset is None or volume.unit == "HU" or volume.modality not in _NO_HOUNSFIELD:
        return []
    message = (
        f"the window {params.preset!r} is made for the Hounsfield units of CT, and this scan is {_NO_HOUNSFIELD[volume.modality]}: "
        "what it keeps is arbitrary; give centre and width"
    )
    return [Finding("WINDOW_FOR_CT", Severity.WARNING, message, {"preset": params.preset, "modality": volume.modality})]
