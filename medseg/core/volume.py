"""A 3D scan: intensities on a grid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, InputError
from medseg.core.finding import Finding
from medseg.core.geometry import Geometry


@dataclass(frozen=True)
class Source:
    """Where a volume came from: its path as given, format, DICOM series, and its files in the order of the k axis.

    Holds nothing that names a patient but what the user's own paths hold; reports and provenance leave the paths out.
    """

    path: str
    format: str
    series_uid: str | None = None
    files: tuple[str, ...] = ()
    sop_instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities of a CT or MR scan on a grid.

    `array` has axes (i,j,k), i running fastest in memory, so `array.T` is a C-contiguous (k,j,i) view at no cost; it is
    read-only. `unit` is "HU" for CT, "" where the scanner's numbers have no unit. Raises GeometryError where array and
    grid disagree, InputError where the values are not real numbers.

    >>> grid = Geometry((2, 3, 4), np.eye(4))
    >>> Volume(np.zeros((2, 3, 4), np.int16), grid, modality="CT", unit="HU").array.T.flags.c_contiguous
    True
    """

    array: npt.NDArray[Any]
    geometry: Geometry
    modality: str = ""
    unit: str = ""
    source: Source | None = None
    findings: tuple[Finding, ...] = field(default=())

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.shape != self.geometry.shape:
            raise GeometryError(f"the array has shape {array.shape}, its grid {self.geometry.shape}: a volume is 3D, axes (i,j,k)")
        if array.dtype.kind not in "iufb":
            raise InputError(f"intensities must be real numbers, got {array.dtype}")
        object.__setattr__(self, "array", as_native_fortran(array))
        object.__setattr__(self, "findings", tuple(self.findings))

    def with_array(self, array: npt.NDArray[Any], geometry: Geometry | None = None, **changes: Any) -> Volume:
        """Return this volume with other intensities, and another grid where given."""
        return replace(self, array=array, geometry=geometry or self.geometry, **changes)


def as_native_fortran(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a read-only view or copy with the first axis fastest and native byte order."""
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    native = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="F").view()
    native.setflags(write=False)
    return native
