"""Where the slices of a stack lie: order, gaps, tilt and affine, from positions and orientations alone (PS3.3, C.7.6.2).

InstanceNumber, SliceThickness and SpacingBetweenSlices never decide anything here: they are often wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.io.dicom.header import SliceHeader, Vector

FloatArray = npt.NDArray[np.float64]

UNIT_TOLERANCE = 1e-3  # row and column directions may miss length 1 by this much: headers carry 6 digits
RIGHT_ANGLE_TOLERANCE = 1e-3  # and their cosine may miss 0 by this much
SAME_POSITION_MM = 0.01  # slices closer than this lie at one position
SAME_POSITION_SHARE = 0.05  # and so do slices closer than this share of the usual gap
EVEN_MM = 0.01  # a gap this far from the usual one is rounding of the header
ROUNDING_SHARE = 0.2  # lengths in mm mean nothing beside the gaps of a micro-CT: there they are cut to this share of a gap
UNEVEN_SHARE = 0.05  # a gap beyond this share is not the same gap any more: no affine places the slices

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes point left, posterior, superior; medseg's right, anterior, superior


@dataclass(frozen=True)
class StackGeometry:
    """A sorted stack of n slices, in LPS mm: `order` indexes the given slices, `positions_mm` lie along the normal.

    `gaps_mm` are the n - 1 steps along the normal; `usual_gap_mm` is their lower median (NaN for one slice). `drift_mm` is the
    sideways way from first to last slice, `tilt_degrees` the angle between stack and normal, `bend_mm` the largest
    distance of a slice from the straight line through the first and last, across and along the normal.
    """

    order: tuple[int, ...]
    normal: FloatArray
    positions_mm: FloatArray
    gaps_mm: FloatArray
    usual_gap_mm: float
    drift_mm: float
    tilt_degrees: float
    bend_mm: tuple[float, float]


def normal_of(orientation: Sequence[float]) -> FloatArray:
    """Return the unit normal, row direction × column direction.

    >>> normal_of((0, 1, 0, 0, 0, -1)).tolist()  # a sagittal image
    [-1.0, 0.0, 0.0]
    """
    normal = np.cross(np.asarray(orientation[:3], dtype=np.float64), np.asarray(orientation[3:6], dtype=np.float64))
    return np.asarray(normal / np.linalg.norm(normal))


def is_sound_orientation(orientation: Sequence[float] | None) -> bool:
    """Whether six numbers are two unit vectors at a right angle."""
    if orientation is None or len(orientation) != 6 or not all(map(math.isfinite, orientation)):
        return False
    a, b, c, d, e, f = orientation  # plain numbers: this is asked of every slice, several times
    lengths_fit = abs(math.hypot(a, b, c) - 1) <= UNIT_TOLERANCE and abs(math.hypot(d, e, f) - 1) <= UNIT_TOLERANCE
    return lengths_fit and abs(a * d + b * e + c * f) < RIGHT_ANGLE_TOLERANCE


def is_sound_position(position: Sequence[float] | None) -> bool:
    """Whether a position is three finite numbers."""
    return position is not None and len(position) == 3 and all(map(math.isfinite, position))


def is_sound_spacing(spacing: Sequence[float] | None) -> bool:
    """Whether pixel spacing is two positive numbers."""
    return spacing is not None and len(spacing) == 2 and all(math.isfinite(s) and s > 0 for s in spacing)


def has_geometry(header: SliceHeader) -> bool:
    """Whether a slice has a usable position and orientation."""
    return not header.unusable and is_sound_position(header.position) and is_sound_orientation(header.orientation)


def is_even(slices: Sequence[SliceHeader]) -> bool:
    """Whether all gaps of a stack are the usual one."""
    stack = measure_stack(slices)
    return not odd_gaps(stack).size


def odd_gaps(stack: StackGeometry) -> npt.NDArray[np.intp]:
    """Return the indices of gaps that are not the usual one any more."""
    limit = max(min(EVEN_MM, ROUNDING_SHARE * stack.usual_gap_mm), UNEVEN_SHARE * stack.usual_gap_mm)
    return np.flatnonzero(np.abs(stack.gaps_mm - stack.usual_gap_mm) > limit)


def positions_along_normal(slices: Sequence[SliceHeader]) -> FloatArray:
    """Return each slice's position along the normal of the first, (n,) mm; every slice must have position and orientation."""
    points = np.asarray([header.position for header in slices], dtype=np.float64)
    return np.asarray(points @ normal_of(_orientation(slices[0])))


def position_groups(slices: Sequence[SliceHeader]) -> list[list[int]]:
    """Group the indices of slices that lie at one position, in order along the normal."""
    along = positions_along_normal(slices)
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    coincident = min(SAME_POSITION_MM, ROUNDING_SHARE * float(steps.max(initial=0)))
    apart = steps[steps > coincident]
    limit = max(coincident, SAME_POSITION_SHARE * float(np.median(apart))) if apart.size else coincident
    groups = [[int(order[0])]]
    for step, index in zip(steps, order[1:], strict=True):
        if step > limit:
            groups.append([])
        groups[-1].append(int(index))
    return groups


def measure_stack(slices: Sequence[SliceHeader]) -> StackGeometry:
    """Sort the slices of one stack along their normal and measure gaps, tilt and bend."""
    along = positions_along_normal(slices)
    order = np.argsort(along, kind="stable")
    points = np.asarray([slices[i].position for i in order], dtype=np.float64)
    normal = normal_of(_orientation(slices[0]))
    positions = along[order]
    gaps = np.diff(positions)
    way = points[-1] - points[0]
    length = float(way @ normal)
    drift = float(np.linalg.norm(way - length * normal))
    return StackGeometry(
        order=tuple(int(i) for i in order),
        normal=normal,
        positions_mm=positions,
        gaps_mm=gaps,
        usual_gap_mm=float(np.sort(gaps)[(gaps.size - 1) // 2]) if gaps.size else float("nan"),
        drift_mm=drift,
        tilt_degrees=math.degrees(math.atan2(drift, length)) if length else 0.0,
        bend_mm=_bend(points, normal),
    )


def _bend(points: FloatArray, normal: FloatArray) -> tuple[float, float]:
    """How far slices lie from their even places on the line from first to last: across and along the normal.

    Across is measured at each slice's own position along the normal, so that uneven gaps of a tilted stack are no bend.
    """
    if len(points) < 3:
        return 0.0, 0.0
    along = points @ normal
    share = (along - along[0]) / (along[-1] - along[0]) if along[-1] > along[0] else np.zeros(len(points))
    off_line = points - (points[0] + share[:, None] * (points[-1] - points[0]))
    even = along[0] + (along[-1] - along[0]) * np.linspace(0, 1, len(points))
    return float(np.linalg.norm(off_line, axis=1).max()), float(np.abs(along - even).max())


def stack_affine(slices: Sequence[SliceHeader]) -> FloatArray:
    """Return index (i,j,k) → RAS mm of slices in order: i along rows, j down columns, k from first to last position.

    A tilted stack keeps its shear. One slice alone gets its slice thickness, or 1 mm, along the normal.
    """
    first, last = slices[0], slices[-1]
    row, column = np.asarray(_orientation(first)[:3]), np.asarray(_orientation(first)[3:])
    row_spacing, column_spacing = first.pixel_spacing or (float("nan"),) * 2
    affine = np.eye(4)
    affine[:3, 0] = row / np.linalg.norm(row) * column_spacing  # PixelSpacing is (row spacing, column spacing)
    affine[:3, 1] = column / np.linalg.norm(column) * row_spacing
    affine[:3, 3] = _position(first)
    if len(slices) > 1:
        affine[:3, 2] = (np.asarray(_position(last)) - np.asarray(_position(first))) / (len(slices) - 1)
    else:
        affine[:3, 2] = normal_of(_orientation(first)) * (first.numbers["slice_thickness"] or 1.0)
    return np.asarray(LPS_TO_RAS @ affine)


def _orientation(header: SliceHeader) -> tuple[float, ...]:
    return header.orientation or (float("nan"),) * 6


def _position(header: SliceHeader) -> Vector:
    x, y, z = header.position or (float("nan"),) * 3
    return x, y, z
