"""The region a contour starts from, and the box it may move in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.param import Field, LabelMapInput, MethodParams, Number, PointRAS
from medseg.preprocessing.denoise import gaussian_mm
from medseg.segmentation.classical.marks import ball
from medseg.segmentation.classical.result import label_map_on
from medseg.segmentation.classical.seeds import seed_indices


class StartParams(MethodParams):
    """Parameters that say where a contour starts; base of the methods that move one."""

    seeds: list[PointRAS] = Field([], description="Points inside the structure: the contour starts as a ball around each", unit="mm RAS")
    start_radius_mm: Number = Field(5.0, description="Radius of the balls around the seeds", unit="mm", gt=0, le=500)
    start: LabelMapInput | None = Field(None, description="Label map that the contour starts from: all its segments together")
    reach_mm: Number = Field(
        30.0, description="The contour stays in the box around the start widened by this on each side", unit="mm", gt=0, le=1000
    )
    sigma_mm: Number = Field(
        1.0, description="Standard deviation of the Gaussian that smooths the scan first; 0: none", unit="mm", ge=0, le=100
    )
    label: str = Field("region", description="Name of the segment", min_length=1)

    @pydantic.model_validator(mode="after")
    def _enough(self) -> StartParams:
        if self.start is None and not self.seeds:
            raise ValueError("give seeds, or start as a label map")
        return self


@dataclass(frozen=True)
class Start:
    """The scan in the box of a contour, all arrays (k,j,i).

    `image` is smoothed (float32), `finite` tells where the scan has a value (None: everywhere), `inside` is the start.
    """

    image: npt.NDArray[np.float32]
    finite: npt.NDArray[np.bool_] | None
    inside: npt.NDArray[np.bool_]
    box: tuple[slice, slice, slice]
    geometry: Geometry


def start_of(volume: Volume, params: StartParams, method_name: str) -> Start:
    """Return the start and the scan around it; voxels without a finite value take the mean of the others and never belong.

    Raises ParameterError for a point outside the scan, InputError where no voxel of the start has a value or intensities go
    beyond 32-bit floats, GeometryMismatchError where the start lies on another grid.
    """
    geometry = volume.geometry
    inside = _region(geometry, params, method_name)
    if volume.array.dtype.kind == "f":
        inside &= np.isfinite(volume.array.T)
    if not inside.any():
        raise InputError(f"{method_name}: no voxel of the start has a value; move the seeds or the start onto the structure")
    box = _widened_box(inside, geometry, params.reach_mm)
    part = volume.array.T[box]
    finite = None
    if part.dtype.kind == "f" and not np.isfinite(part).all():
        finite = np.isfinite(part)
        part = np.where(finite, part, part[finite].astype(np.float64).mean())
    if float(max(abs(float(part.min())), abs(float(part.max())))) > 1e18:  # squares must fit into float32
        raise InputError(f"{method_name}: intensities go beyond ±1e18 around the start; clip the scan first")
    corner = [limits.start for limits in box][::-1]
    own = geometry.cropped(corner, part.shape[::-1])
    image = gaussian_mm(part, own, params.sigma_mm) if params.sigma_mm > 0 else part.astype(np.float32)
    return Start(image, finite, inside[box], box, own)


def region_on(volume: Volume, start: Start, mask: npt.NDArray[Any], label: str, method_name: str) -> LabelMap:
    """Return what lies inside the contour, (k,j,i) in the box, as a label map on the scan."""
    labels = np.zeros(volume.array.T.shape, np.uint8)
    labels[start.box] = mask if start.finite is None else mask & start.finite
    findings = []
    if not labels.any():
        message = "the surface shrank to nothing: the start is too small for this smoothness, or lies on the wrong structure"
        findings.append(Finding("CONTOUR_VANISHED", Severity.WARNING, message))
    return label_map_on(volume, labels, [Segment(1, label, algorithm=method_name)], findings)


def _region(geometry: Geometry, params: StartParams, method_name: str) -> npt.NDArray[np.bool_]:
    inside = np.zeros(geometry.shape[::-1], bool)
    if params.start is not None:
        if not params.start.geometry.matches(geometry):
            raise GeometryMismatchError(
                f"{method_name}: the start lies on another grid than the scan; restore it onto the scan's grid first",
                geometry,
                params.start.geometry,
            )
        inside |= params.start.array.T > 0
    for centre in seed_indices(geometry, params.seeds, method_name):
        inside[tuple(ball(geometry, centre, params.start_radius_mm)[:, ::-1].T)] = True
    return inside


def _widened_box(inside: npt.NDArray[np.bool_], geometry: Geometry, reach_mm: float) -> tuple[slice, slice, slice]:
    """The box (k,j,i) of the start, wider by `reach_mm` in every direction of the patient."""
    per_mm = np.linalg.norm(np.linalg.inv(geometry.affine[:3, :3]), axis=1)[::-1]
    limits = []
    for axis in range(3):
        held = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = int(np.ceil(min(reach_mm * per_mm[axis], inside.shape[axis])))
        limits.append(slice(max(0, int(held[0]) - margin), min(inside.shape[axis], int(held[-1]) + 1 + margin)))
    return limits[0], limits[1], limits[2]
