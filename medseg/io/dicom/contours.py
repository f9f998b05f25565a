"""What an RTSTRUCT holds: regions of interest drawn as contours, in RAS mm (PS3.3, C.8.8.5, C.8.8.6 and C.8.8.8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.codes import Code
from medseg.core.errors import UnknownSegmentError
from medseg.core.finding import Finding
from medseg.core.segment import Colour

if TYPE_CHECKING:
    from medseg.io.dicom.contour_planes import ContourStack

CLOSED, XOR, OPEN, OPEN_CURVE, POINT = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "OPEN_PLANAR", "OPEN_NONPLANAR", "POINT"
FILLED = frozenset({CLOSED, XOR})  # the kinds that enclose something


@dataclass(frozen=True, eq=False)
class Contour:
    """One contour: its kind (a defined term of (3006,0042)), `points_mm` (n, 3) RAS, and the images it was drawn on.

    `frames` are the frame numbers, from 1, of `sop_instance_uids` where those are multi-frame; empty otherwise.
    """

    kind: str
    points_mm: npt.NDArray[np.float64]
    sop_instance_uids: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Roi:
    """One region of interest; it may have no contour at all.

    `interpreted_type` is what it stands for ("GTV", "ORGAN", "EXTERNAL", ...), `generation` how it was made ("MANUAL",
    "SEMIAUTOMATIC", "AUTOMATIC"); both "" where the file does not say. `volume_ml` comes from the contours alone: area by the
    even-odd rule × the width of each plane; None where `no_volume` says why. `stack` holds the closed contours plane by plane.
    """

    number: int
    name: str
    contours: tuple[Contour, ...] = ()
    interpreted_type: str = ""
    generation: str = ""
    colour: Colour | None = None
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None
    frame_of_reference_uid: str = ""
    volume_ml: float | None = None
    no_volume: str = ""
    stack: ContourStack | None = None

    @property
    def points_mm(self) -> npt.NDArray[np.float64]:
        """The points of the POINT contours, (n, 3) RAS mm."""
        points = [contour.points_mm for contour in self.contours if contour.kind == POINT]
        return np.concatenate(points) if points else np.empty((0, 3))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        planes = self.stack.positions_mm if self.stack is not None else np.empty(0)
        return {
            "number": self.number,
            "name": self.name,
            "interpreted_type": self.interpreted_type,
            "generation": self.generation,
            "colour": None if self.colour is None else list(self.colour),
            "type": None if self.type is None else self.type.to_dict(),
            "contours": len(self.contours),
            "planes": len(planes),
            "range_mm": [float(planes[0]), float(planes[-1])] if len(planes) else None,
            "usual_gap_mm": self.stack.usual_gap_mm if self.stack is not None else None,
            "volume_ml": self.volume_ml,
            "no_volume": self.no_volume,
        }


@dataclass(frozen=True, eq=False)
class StructureSet:
    """The regions of interest of one RTSTRUCT file in its order, what they refer to, and what reading them noticed.

    `path` is as given; `step_mm` is the usual distance between the planes of all ROIs, None where no ROI has two planes.
    """

    path: str
    rois: tuple[Roi, ...]
    label: str = ""
    approval: str = ""
    sop_instance_uid: str = ""
    series_uid: str = ""
    frame_of_reference_uid: str = ""
    referenced_series_uids: tuple[str, ...] = ()
    step_mm: float | None = None
    findings: tuple[Finding, ...] = field(default=())

    def __getitem__(self, name: str | int) -> Roi:
        for roi in self.rois:
            if name in (roi.name, roi.number):
                return roi
        raise UnknownSegmentError(f"no ROI {name!r} in this structure set; it has: {', '.join(roi.name for roi in self.rois) or 'none'}")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "path": self.path,
            "label": self.label,
            "approval": self.approval,
            "frame_of_reference_uid": self.frame_of_reference_uid or None,
            "referenced_series_uids": list(self.referenced_series_uids),
            "step_mm": self.step_mm,
            "rois": [roi.to_dict() for roi in self.rois],
            "findings": [finding.to_dict() for finding in self.findings],
        }
