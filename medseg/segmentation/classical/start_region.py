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

_START_MM = 5.0
_LEAST_VOXELS = 2.5  # radius of a start in voxels: the layers of a level set need room inside it
_SIDES = {
    "R": ("left", "right"),
    "L": ("right", "left"),
    "A": ("posterior", "anterior"),
    "P": ("anterior", "posterior"),
    "S": ("inferior", "superior"),
    "I": ("superior", "inferior"),
}


class StartParams(MethodParams):
    """Parameters that say where a contour starts; base of the methods that move one."""

    seeds: list[PointRAS] = Field([], description="Points inside the structure: the contour starts as a ball around each", unit="mm RAS")
    start_radius_mm: Number | None = Field(
        None,
        description="Radius of the balls around the seeds; empty: 5 mm, but at least 2.5 times the coarsest spacing",
        unit="mm",
        gt=0,
        le=500,
    )
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

    `image` is smoothed (float32), `finite` tells where the scan has a value (None: everywhere), `inside` is the start,
    `radius_mm` that of the balls around seeds (None: the start is a label map alone).
    """

    image: npt.NDArray[np.float32]
    finite: npt.NDArray[np.bool_] | None
    inside: npt.NDArray[np.bool_]
    box: tuple[slice, slice, slice]
    geometry: Geometry
    radius_mm: float | None


def start_of(volume: Volume, params: StartParams, method_name: str) -> Start:
    """Return the start and the scan around it; voxels without a finite value take the mean of the others and never belong.

    Without `start_radius_mm` the ball around a seed has a radius of 5 mm, but at least 2.5 times the coarsest spacing: a
    surface needs that many voxels around it, a thinner start vanishes in the first steps.
    Raises ParameterError for a point outside the scan, InputError where no voxel of the start has a value or intensities go
    beyond 32-bit floats, GeometryMismatchError where the start lies on another grid.
    """
    geometry = volume.geometry
    radius_mm = _radius_mm(geometry, params)
    inside = _region(geometry, params, radius_mm, method_name)
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
    return Start(image, finite, inside[box], box, own, radius_mm if params.seeds else None)


def region_on(volume: Volume, start: Start, mask: npt.NDArray[Any], label: str, method_name: str) -> LabelMap:
    """Return what lies inside the contour, (k,j,i) in the box, as a label map on the scan.

    Findings: CONTOUR_VANISHED where nothing is left, CONTOUR_AT_REACH where the region touches a face of the box that is no
    face of the scan.
    """
    labels = np.zeros(volume.array.T.shape, np.uint8)
    labels[start.box] = mask if start.finite is None else mask & start.finite
    held = labels[start.box]
    findings = _at_reach(held > 0, start, labels.shape) if held.any() else [_vanished(start)]
    return label_map_on(volume, labels, [Segment(1, label, algorithm=method_name)], findings)


def _vanished(start: Start) -> Finding:
    coarsest_mm = max(start.geometry.spacing_mm)
    if start.radius_mm is not None and start.radius_mm < _LEAST_VOXELS * coarsest_mm:
        least_mm = _LEAST_VOXELS * coarsest_mm
        message = (
            f"the surface shrank to nothing: the start has a radius of {start.radius_mm:g} mm, only {start.radius_mm / coarsest_mm:.1f} "
            f"voxels of {coarsest_mm:g} mm, too thin for a surface to move; give start_radius_mm of at least {least_mm:g}"
        )
    else:
        message = (
            "the surface shrank to nothing: smoothness, or intensities unlike those the method looks for, drew the start in; look at the "
            "limits or the edge, smooth less, or check that the seed lies inside the structure"
        )
    details = {"start_voxels": int(start.inside.sum()), "radius_mm": start.radius_mm, "coarsest_spacing_mm": coarsest_mm}
    return Finding("CONTOUR_VANISHED", Severity.WARNING, message, details)


def _at_reach(mask: npt.NDArray[np.bool_], start: Start, shape: tuple[int, ...]) -> list[Finding]:
    """The finding CONTOUR_AT_REACH where the mask touches a face of the box that is no face of the scan (shape k,j,i)."""
    sides = []
    for axis, code in enumerate(start.geometry.orientation[::-1]):
        limits = start.box[axis]
        for at, side, is_inner in zip((0, -1), _SIDES[code], (limits.start > 0, limits.stop < shape[axis]), strict=True):
            if is_inner and mask.take(at, axis).any():
                sides.append(side)
    if not sides:
        return []
    message = (
        f"the contour runs into the border of the box it may move in ({', '.join(sides)}): nothing held it there, the volume "
        "depends on the box; raise reach_mm if the structure goes on, else give an edge or limits that hold it"
    )
    return [Finding("CONTOUR_AT_REACH", Severity.WARNING, message, {"sides": sides})]


def _radius_mm(geometry: Geometry, params: StartParams) -> float:
    if params.start_radius_mm is not None:
        return params.start_radius_mm
    return max(_START_MM, _LEAST_VOXELS * max(geometry.spacing_mm))


def _region(geometry: Geometry, params: StartParams, radius_mm: float, method_name: str) -> npt.NDArray[np.bool_]:
    inside = np.zeros(geometry.shape[::-1], bool)
    if params.start is not None:
        if not params.start.geometry.matches(geometry):
            raise GeometryMismatchError(
                f"{method_name}: the start lies on another grid than the scan; "
                "bring it onto it with medseg convert LABELS OUT --label-map --like SCAN",
                geometry,
                params.start.geometry,
            )
        inside |= params.start.array.T > 0
    for centre in seed_indices(geometry, params.seeds, method_name):
        inside[tuple(ball(geometry, centre, radius_mm)[:, ::-1].T)] = True
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
