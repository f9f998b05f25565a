"""The explicit ways past a refusal when a scan is read; every one that is used is recorded among the volume's findings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medseg.core.errors import InputError


@dataclass(frozen=True)
class ReadOptions:
    """What the user decided about a scan that does not speak for itself.

    `series` is a SeriesInstanceUID, its beginning, or UID#n; `select` tells the stacks of one series apart: "2" (the second),
    "largest", or a header field such as "EchoTime=4.92". `volume_index` is one volume of a 4D file or series, from 0.
    `allow_gaps` reads a stack with missing slices, interpolated on true positions. `spacing_mm` (i,j,k) stands in where the
    file has none; such a volume has no place in the patient. `nifti_xform` chooses where sform and qform disagree.
    `assume_hu` takes stored CT values without rescale as HU. `resample_mixed` brings slices of different pixel spacing onto
    one grid. Raises InputError where a value cannot be meant.

    >>> ReadOptions(spacing_mm=(1.0, 1.0, 0.0))
    Traceback (most recent call last):
    ...
    medseg.core.errors.InputError: --spacing needs three lengths in mm above 0, got (1.0, 1.0, 0.0)
    """

    series: str | None = None
    select: str | None = None
    volume_index: int | None = None
    allow_gaps: bool = False
    spacing_mm: tuple[float, float, float] | None = None
    nifti_xform: Literal["sform", "qform"] | None = None
    assume_hu: bool = False
    resample_mixed: bool = False

    def __post_init__(self) -> None:
        spacing = self.spacing_mm
        if spacing is not None and (len(spacing) != 3 or not all(math.isfinite(step) and step > 0 for step in spacing)):
            raise InputError(f"--spacing needs three lengths in mm above 0, got {spacing}")
        if self.nifti_xform not in (None, "sform", "qform"):
            raise InputError(f"--nifti-xform is sform or qform, not {self.nifti_xform!r}")
        if self.volume_index is not None and self.volume_index < 0:
            raise InputError(f"volumes are counted from 0, got {self.volume_index}")
