"""Where the frames of a DICOM SEG lie: on a grid of their own, or on that of a scan; from positions, hardly from other tags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, GeometryMismatchError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.io.dicom.seg_header import FloatArray, SegHeader
from medseg.io.dicom.sort import LPS_TO_RAS, SAME_POSITION_MM, normal_of
from medseg.io.voxels import count_voxels

OFF_GRID_SHARE = 0.05  # a frame further than this share of the spacing from its place lies on no even grid
OFF_LINE_SHARE = 0.25  # a frame further than this share of a pixel beside the line of its stack is shifted
LONGEST_STACK_MM = 5000.0  # no patient is longer; positions further apart are damaged
SAME_LENGTH_SHARE = 0.01

Labels = npt.NDArray[Any]


@dataclass(frozen=True)
class Placement:
    """A grid, and where on it each frame lies: `planes` (n,) are indices along the stack.

    `axes` are the axes of a (k,j,i) array along which stack, rows and columns run; `flips` say which of them run backwards;
    `corner` is the index, along the (flipped) rows and columns, of a frame's first pixel.
    """

    geometry: Geometry
    planes: npt.NDArray[np.intp]
    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool] = (False, False)
    corner: tuple[int, int] = (0, 0)
    findings: tuple[Finding, ...] = ()

    def stack_of(self, array: Labels, rows: int, columns: int) -> Labels:
        """Return the view (planes, rows, columns) of a (k,j,i) array on which frames lie as they are stored."""
        view = array.transpose(self.axes)
        view = view[:, :: -1 if self.flips[0] else 1, :: -1 if self.flips[1] else 1]
        row, column = self.corner
        return view[:, row : row + rows, column : column + columns]


def along_normal(header: SegHeader) -> FloatArray:
    """Return each frame's position along the normal, (n,) mm."""
    return np.asarray(header.positions @ normal_of(header.orientation))


def distinct_planes(header: SegHeader) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Return the positions of the planes along the normal, rising, and the number of each frame's plane."""
    along = along_normal(header)
    order = np.argsort(along, kind="stable")
    starts = np.diff(along[order], prepend=-np.inf) > SAME_POSITION_MM
    numbers = np.empty(len(along), dtype=np.intp)
    numbers[order] = np.cumsum(starts) - 1
    return along[order][starts], numbers


def own_placement(header: SegHeader, frame_uid: str | None) -> Placement:
    """Return the grid from the first to the last frame; frames left out as empty leave empty planes.

    Raises UnsupportedFormatError where distances are uneven or frames shifted against each other.
    """
    positions, _ = distinct_planes(header)
    reach = float(positions[-1] - positions[0])
    if reach > LONGEST_STACK_MM:
        raise UnsupportedFormatError(
            f"{header.file}: its frames reach over {reach:.0f} mm, more than any patient: the positions are damaged"
        )
    step, findings = _step(header, positions)
    if not _fits(positions, step):
        gaps = np.diff(positions)
        raise UnsupportedFormatError(
            f"{header.file}: its frames lie at uneven distances ({gaps.min():.3g} to {gaps.max():.3g} mm), on no even grid;"
            " give the scan it was drawn on, or measure it slice by slice (read_native_slices)"
        )
    along = along_normal(header)
    planes = np.rint((along - positions[0]) / _refined(positions, step)).astype(np.intp)
    first, last = int(along.argmin()), int(along.argmax())
    count = int(planes.max()) + 1
    _check_count((header.columns, header.rows, count), header.file)
    affine = np.eye(4)
    row, column = _axes(header)
    affine[:3, 0], affine[:3, 1] = row, column
    way = header.positions[last] - header.positions[first]
    affine[:3, 2] = way / (count - 1) if count > 1 else normal_of(header.orientation) * step
    affine[:3, 3] = header.positions[first]
    off_line = header.positions - (affine[:3, 3] + planes[:, None] * affine[:3, 2])
    beside = off_line - (off_line @ normal_of(header.orientation))[:, None] * normal_of(header.orientation)
    if np.linalg.norm(beside, axis=1).max() > OFF_LINE_SHARE * min(header.pixel_spacing):
        raise UnsupportedFormatError(
            f"{header.file}: its frames are shifted sideways against each other by up to {np.linalg.norm(beside, axis=1).max():.3g} mm,"
            " so they form no grid; give the scan it was drawn on"
        )
    return Placement(Geometry((header.columns, header.rows, count), LPS_TO_RAS @ affine, frame_uid), planes, findings=findings)


def _check_count(shape: tuple[int, int, int], file: Path) -> None:
    count_voxels(shape, str(file))


def _axes(header: SegHeader) -> tuple[FloatArray, FloatArray]:
    """Return the steps from pixel to pixel along a row and down a column, LPS mm; PixelSpacing is (row, column) spacing."""
    row, column = np.asarray(header.orientation[:3]), np.asarray(header.orientation[3:])
    return row / np.linalg.norm(row) * header.pixel_spacing[1], column / np.linalg.norm(column) * header.pixel_spacing[0]


def _fits(positions: FloatArray, step: float) -> bool:
    """Whether all positions are whole numbers of steps apart."""
    places = (positions - positions[0]) / _refined(positions, step)
    return bool(np.abs(places - np.rint(places)).max() <= OFF_GRID_SHARE)


def _refined(positions: FloatArray, step: float) -> float:
    """Return the step that divides the whole stack evenly: headers round, and small errors add up over many slices."""
    reach = float(positions[-1] - positions[0])
    return reach / max(round(reach / step), 1) if reach else step


def _step(header: SegHeader, positions: FloatArray) -> tuple[float, tuple[Finding, ...]]:
    """Return the distance of planes: that of neighbours, or a part of it where frames are left out everywhere between."""
    tag = header.spacing_tag_mm
    if len(positions) == 1:
        return _single_step(tag or header.thickness_tag_mm)
    gaps = np.diff(positions)
    usual = float(gaps[gaps < 1.5 * gaps.min()].mean())  # of neighbours; single positions are rounded
    counted = _counted_step(header)
    if counted and _fits(positions, counted):
        return counted, ()
    if tag is None:
        # without neighbours the thickness may say more; where it does not, the frames are uneven, and then nothing fits
        return (usual if _fits(positions, usual) else header.thickness_tag_mm or usual), ()
    if tag < usual and not _same(tag, usual) and _fits(positions, tag):
        return _sparse_step(header, gaps, usual, tag)
    if _same(tag, usual):
        return (usual if _fits(positions, usual) else tag), ()
    text = f"the header names a slice spacing of {tag:g} mm, the frames lie {usual:g} mm apart: the positions count"
    return usual, (Finding("SLICE_SPACING_IGNORED", Severity.INFO, text, {"header_mm": tag, "positions_mm": usual}),)


def _single_step(length: float | None) -> tuple[float, tuple[Finding, ...]]:
    step = length or 1.0
    text = f"one slice only: its volume rests on the {'thickness in the header' if length else 'guess'} of {step:g} mm"
    return step, (Finding("SINGLE_SLICE", Severity.WARNING, text, {"spacing_mm": step}),)


def _sparse_step(header: SegHeader, gaps: FloatArray, usual: float, tag: float) -> tuple[float, tuple[Finding, ...]]:
    """Choose where no two frames are as near as the header says: either frames between were left out, or the header is wrong."""
    thickness = header.thickness_tag_mm or 0.0
    is_even = len(gaps) > 1 and bool(np.all(np.abs(gaps - usual) <= OFF_GRID_SHARE * usual))
    whole = bool(np.all(np.abs(gaps / usual - np.rint(gaps / usual)) <= OFF_GRID_SHARE))
    if not whole or (not is_even and _same(thickness, tag)):
        return tag, ()  # uneven gaps of whole steps: frames were left out, and two tags agree on the step
    takes_tag = _same(thickness, tag) or (not is_even and not _same(thickness, usual))
    step, other = (tag, usual) if takes_tag else (usual, tag)
    text = (
        f"no two frames are nearer than {usual:g} mm, the header names a spacing of {tag:g} mm; {step:g} mm was taken. With {other:g} mm"
        f" volumes are {other / step:.3g} times as large: give the scan it was drawn on to be sure"
    )
    return step, (Finding("SLICE_SPACING_UNSURE", Severity.WARNING, text, {"taken_mm": step, "other_mm": other}),)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME_LENGTH_SHARE * max(one, other)


def _counted_step(header: SegHeader) -> float | None:
    """Return the distance of planes by their places in the stack, None where the file only counts the frames it has."""
    if header.stack_numbers is None:
        return None
    numbers, along = header.stack_numbers.astype(np.float64), along_normal(header)
    distinct = np.unique(numbers)
    if len(distinct) < 2 or (np.diff(distinct) == 1).all():
        return None
    slope, start = np.polyfit(numbers, along, 1)
    fits = np.abs(slope * numbers + start - along).max() <= OFF_GRID_SHARE * abs(slope)
    return float(abs(slope)) if fits and abs(slope) > SAME_POSITION_MM else None


def placement_on(geometry: Geometry, header: SegHeader, frame_uid: str | None) -> Placement:
    """Return where the frames lie on the grid of a scan, whose axes may run in other directions or order.

    Raises GeometryMismatchError where a frame lies beside its planes or its pixels between its voxels.
    """
    to_index = np.linalg.inv(geometry.affine) @ LPS_TO_RAS
    row, column = _axes(header)
    steps = np.stack([to_index[:3, :3] @ row, to_index[:3, :3] @ column])
    whole = np.rint(steps)
    starts = header.positions @ to_index[:3, :3].T + to_index[:3, 3]
    if not (np.abs(whole).sum(axis=1) == 1).all() or abs(whole[0] @ whole[1]) or not _is_near(steps, whole, header):
        raise _elsewhere(header.file, geometry, "its pixels do not lie on the voxels of the scan")
    i_axis, j_axis = (int(np.flatnonzero(one)[0]) for one in whole)
    k_axis = 3 - i_axis - j_axis
    index = np.rint(starts)
    off = np.abs(starts - index).max(axis=0)
    if off.max() > OFF_GRID_SHARE:
        raise _elsewhere(header.file, geometry, f"a frame lies {off.max():.2g} of a voxel beside the scan's")
    flips = (bool(whole[1].sum() < 0), bool(whole[0].sum() < 0))
    corner = []
    for axis, flipped, extent in ((j_axis, flips[0], header.rows), (i_axis, flips[1], header.columns)):
        first = geometry.shape[axis] - 1 - index[:, axis] if flipped else index[:, axis]
        if (first != first[0]).any() or first[0] < 0 or first[0] + extent > geometry.shape[axis]:
            raise _elsewhere(header.file, geometry, "its frames reach beyond the scan, or are shifted against each other")
        corner.append(int(first[0]))
    planes = index[:, k_axis].astype(np.intp)
    if planes.min() < 0 or planes.max() >= geometry.shape[k_axis]:
        raise _elsewhere(header.file, geometry, "some frames lie above or below the scan")
    findings: tuple[Finding, ...] = ()
    if frame_uid and geometry.frame_of_reference_uid and frame_uid != geometry.frame_of_reference_uid:
        text = "segmentation and scan name different frames of reference, but their voxels coincide: check that they belong together"
        findings = (Finding("OTHER_FRAME_OF_REFERENCE", Severity.WARNING, text),)
    axes = (2 - k_axis, 2 - j_axis, 2 - i_axis)
    return Placement(geometry, planes, axes, flips, (corner[0], corner[1]), findings)


def _is_near(steps: FloatArray, whole: FloatArray, header: SegHeader) -> bool:
    """Whether the last pixel of a row and of a column still lie on their voxels."""
    drift = np.abs(steps - whole).max(axis=1) * (header.columns - 1, header.rows - 1)
    return bool(drift.max() <= OFF_GRID_SHARE)


def _elsewhere(file: Path, geometry: Geometry, what: str) -> GeometryMismatchError:
    return GeometryMismatchError(
        f"{file}: the segmentation does not lie on the grid of the scan ({what}); give the scan it was drawn on, or resample it", geometry
    )


def scan_planes(header: SegHeader, positions_mm: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return which of a scan's slices, at rising positions along the normal, each frame lies on.

    Raises GeometryMismatchError where a frame lies between slices, GeometryError where positions do not rise.
    """
    positions = np.asarray(positions_mm, dtype=np.float64)
    if positions.ndim != 1 or len(positions) < 2 or not (np.diff(positions) > 0).all():
        raise GeometryError("the positions of a scan's slices must be two or more that rise")
    along = along_normal(header)
    right = np.clip(np.searchsorted(positions, along), 1, len(positions) - 1)
    nearest = np.where(along - positions[right - 1] < positions[right] - along, right - 1, right)
    if np.abs(positions[nearest] - along).max() > OFF_GRID_SHARE * float(np.diff(positions).min()) + SAME_POSITION_MM:
        raise GeometryMismatchError(f"{header.file}: its frames do not lie on the slices of the scan; give the scan it was drawn on")
    return np.asarray(nearest, dtype=np.intp)
