"""Labels on the slices of a stack that no even grid holds, and how much of the patient each slice stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError
from medseg.core.segment import Segment


def slice_widths_mm(positions_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the length along the normal that each slice stands for: to the middle of both gaps beside it, (n,) mm.

    The first and the last slice reach as far outwards as inwards. Raises GeometryError for fewer than two positions or
    positions that do not rise.

    >>> slice_widths_mm([0, 1, 2, 5]).tolist()
    [1.0, 1.0, 2.0, 3.0]
    """
    positions = np.asarray(positions_mm, dtype=np.float64)
    if positions.ndim != 1 or len(positions) < 2 or not (np.diff(positions) > 0).all():
        raise GeometryError("slice widths need two or more positions that rise")
    return np.asarray(np.gradient(positions))


@dataclass(frozen=True, eq=False)
class NativeSlices:
    """Labels drawn on the slices as they were scanned, at uneven distances.

    `labels` has axes (k,j,i); `positions_mm` (n,) are the slices' places along their normal, rising; `pixel_area_mm2` is the
    area of one pixel in the plane. The volume of a segment is the sum of area × width over its slices.
    """

    labels: npt.NDArray[np.unsignedinteger[Any]]
    segments: tuple[Segment, ...]
    positions_mm: tuple[float, ...]
    pixel_area_mm2: float

    def __post_init__(self) -> None:
        if self.labels.ndim != 3 or len(self.labels) != len(self.positions_mm):
            raise GeometryError(f"{len(self.positions_mm)} positions for labels of shape {self.labels.shape} (k,j,i)")
        slice_widths_mm(self.positions_mm)

    @property
    def widths_mm(self) -> npt.NDArray[np.float64]:
        """The length along the normal that each slice stands for, (n,) mm."""
        return slice_widths_mm(self.positions_mm)
