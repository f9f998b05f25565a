"""Contours brought onto a grid: which voxel centres lie inside.

A contour on a plane of the scan fills that plane only, so planes without a contour stay empty unless `interpolate` is asked for.
Where contours lie between the planes of the grid, each grid plane takes the contour plane whose slab it lies in: the nearest
one, within half the distance of the contours; so it is too on a grid that was made for the contours. Where the planes of the
contours are not parallel to the grid's at all, a voxel is inside where its centre lies in the prism of contour × slab. Inside
is by the even-odd rule (`medseg.kernels.polygons`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment
from medseg.core.volume import Source
from medseg.io.dicom.contour_checks import name_of
from medseg.io.dicom.contour_grid import default_geometry
from medseg.io.dicom.contour_losses import judge_filled, judge_gaps, judge_volume
from medseg.io.dicom.contour_planes import ContourStack, with_slabs
from medseg.io.dicom.contour_shape import interpolated
from medseg.io.dicom.contours import Roi, StructureSet
from medseg.kernels.polygons import fill_polygons, fill_prisms, paint_if_free

FloatArray = npt.NDArray[np.float64]
Runs = npt.NDArray[np.int32]
Way = Literal["planes", "slabs", "between"]  # only planes with contours; all planes in a slab; shapes between contours too

ON_PLANE_STEPS = 0.1  # contours this near to a plane of the grid, in steps, lie on it
PARALLEL_STEPS = 0.2  # contours within this many steps of one index k are parallel to the planes of the grid
_TIE = 1e-3  # steps: a plane of the grid just between two contour planes always takes the lower one, whatever the rounding
_DIGITS = 6  # of an index: hides the rounding of an inverse, so that the rule at the border decides


@dataclass(frozen=True, eq=False)
class _Filled:
    """A region's runs on the grid, and what was noticed."""

    runs: Runs
    findings: tuple[Finding, ...]


def rasterise(
    structures: StructureSet, geometry: Geometry | None = None, *, interpolate: bool = False, any_frame: bool = False
) -> tuple[LabelMap, ...]:
    """Bring the regions of a structure set onto a grid as label maps in which no two regions overlap; mostly one or two.

    Every region is a segment of the first layer that has room for it, under its own number (all renumbered from 1 where one
    is below 1); one without volume is a segment without voxels, one whose contours have no common direction is left out with
    an error among the findings. Without `geometry` the grid is `default_geometry`. `interpolate` fills planes between contours
    by shapes that change evenly; without it they stay empty. Raises GeometryMismatchError where the contours name another
    frame of reference than the grid, unless `any_frame`; InputError where no grid can be made.
    """
    notes: list[Finding] = []
    if geometry is None:
        geometry = default_geometry(structures)
    is_own = _is_own_grid(structures, geometry)
    if is_own:
        text = "no scan was given: the grid is made from the planes of the contours, its pixels are a choice, not a measurement"
        notes.append(Finding("GRID_FROM_CONTOURS", Severity.INFO, text, {"spacing_mm": list(geometry.spacing_mm)}))
    _check_frame(structures, geometry, any_frame)
    numbers = [roi.number for roi in structures.rois]
    if numbers and (min(numbers) < 1 or max(numbers) > 65535):
        notes.append(Finding("ROIS_RENUMBERED", Severity.INFO, "ROI numbers below 1 or above 65535: segments are numbered from 1"))
        numbers = list(range(1, len(numbers) + 1))
    gaps = {note.details.get("roi") for note in structures.findings if note.code == "CONTOUR_GAPS"}
    way: Way = "between" if interpolate else "slabs" if is_own else "planes"
    filled = [_fill(roi, geometry, way, roi.number in gaps) for roi in structures.rois]
    findings = (*structures.findings, *notes, *(finding for one in filled for finding in one.findings))
    drawable = [
        (_segment(roi, number), one.runs)
        for roi, number, one in zip(structures.rois, numbers, filled, strict=True)
        if not _is_refused(structures, roi)
    ]
    source = Source(structures.path, "dicom-rtstruct", structures.series_uid or None, (structures.path,), (structures.sop_instance_uid,))
    return _layers(drawable, geometry, source, findings)


def fill_roi(roi: Roi, geometry: Geometry) -> Runs:
    """Return the voxels of one region as runs (n, 4) of k, j, first i and end i."""
    return _fill(roi, geometry, "planes").runs


def _is_own_grid(structures: StructureSet, geometry: Geometry) -> bool:
    try:
        return default_geometry(structures) == geometry
    except InputError:
        return False


def _check_frame(structures: StructureSet, geometry: Geometry, any_frame: bool) -> None:
    own, other = structures.frame_of_reference_uid, geometry.frame_of_reference_uid
    if own and other and own != other and not any_frame:
        raise GeometryMismatchError(
            f"{structures.path}: the contours were drawn in another frame of reference than the scan's, so their places do not fit:"
            " give the scan they were drawn on, or none; any_frame=True trusts that both are the same all the same",
            geometry,
        )


def _is_refused(structures: StructureSet, roi: Roi) -> bool:
    return any(note.severity is Severity.ERROR and note.details.get("roi") == roi.number for note in structures.findings)


def _segment(roi: Roi, number: int) -> Segment:
    return Segment(number, roi.name, roi.category, roi.type, roi.modifier, colour=roi.colour)


def _layers(
    drawable: Sequence[tuple[Segment, Runs]], grid: Geometry, source: Source, findings: tuple[Finding, ...]
) -> tuple[LabelMap, ...]:
    """Put each region into the first layer where its voxels are free."""
    highest = max((segment.number for segment, _ in drawable), default=1)
    arrays: list[npt.NDArray[np.unsignedinteger]] = []  # type: ignore[type-arg]
    members: list[list[Segment]] = []
    for segment, runs in drawable:
        for array, segments in zip(arrays, members, strict=True):
            if paint_if_free(array, runs, segment.number):
                segments.append(segment)
                break
        else:
            array = np.zeros(grid.shape[::-1], smallest_unsigned(highest))
            paint_if_free(array, runs, segment.number)
            arrays.append(array)
            members.append([segment])
    if not arrays:
        return (LabelMap(np.zeros(grid.shape[::-1], np.uint8).T, grid, (), source, findings),)
    return tuple(LabelMap(array.T, grid, tuple(segments), source, findings) for array, segments in zip(arrays, members, strict=True))


def _fill(roi: Roi, grid: Geometry, way: Way, has_known_gaps: bool = False) -> _Filled:
    if roi.stack is None:
        return _Filled(np.empty((0, 4), np.int32), ())
    index = np.round(grid.world_to_index(roi.stack.points_mm()), _DIGITS) + 0.0
    spread = _plane_spread(roi.stack, index[:, 2])
    if spread.max() <= PARALLEL_STEPS:
        filled = _fill_parallel(roi, roi.stack, index, grid, way)
    else:
        filled = _fill_across(roi, roi.stack, grid, way == "between")
    has_gaps = has_known_gaps or any(note.code == "CONTOUR_GAPS" for note in filled.findings)
    judged = judge_volume(roi, index, _volume_ml(filled.runs, grid), grid)
    notes = [note for note in filled.findings if not (has_known_gaps and note.code == "CONTOUR_GAPS")]
    notes += [note for note in judged if not (has_gaps and note.code == "VOLUME_ON_GRID")]  # the gaps have said it already
    return replace(filled, findings=tuple(notes))


def _volume_ml(runs: Runs, grid: Geometry) -> float:
    return float((runs[:, 3] - runs[:, 2]).sum()) * grid.voxel_volume_mm3 / 1000


def _plane_spread(stack: ContourStack, k: FloatArray) -> FloatArray:
    """How far the points of each contour plane spread along k."""
    firsts = stack.starts[stack.plane_rings[:-1]]
    return np.asarray(np.maximum.reduceat(k, firsts) - np.minimum.reduceat(k, firsts))


def _with_width(stack: ContourStack, step_mm: float) -> ContourStack:
    """A lone contour plane of unknown width is as wide as a step of the grid."""
    return with_slabs(stack, step_mm) if np.isnan(stack.slabs_mm).any() else stack


def _fill_parallel(roi: Roi, stack: ContourStack, index: FloatArray, grid: Geometry, way: Way) -> _Filled:
    planes = index[:, 2][stack.starts[stack.plane_rings[:-1]]]
    nearest = np.rint(planes).astype(np.int64)
    off = np.abs(planes - nearest)
    step_mm = grid.voxel_volume_mm3 / float(np.linalg.norm(np.cross(grid.affine[:3, 0], grid.affine[:3, 1])))
    if way == "between":
        runs = _fill_between(stack, planes, step_mm, grid)
        return _Filled(runs, judge_filled(roi, nearest[off <= ON_PLANE_STEPS], runs, grid))
    is_on_planes = off.max() <= ON_PLANE_STEPS and len(set(nearest.tolist())) == len(nearest)
    if is_on_planes and way == "planes":
        runs = fill_polygons(index[:, :2], stack.starts, stack.plane_rings, nearest, grid.shape[::-1])
        return _Filled(runs, judge_gaps(roi, stack, nearest, step_mm))
    chosen, targets = _nearest_planes(stack, planes, step_mm, grid.shape[2])
    pieces = [
        fill_polygons(index[first:end, :2], starts, np.array([0, len(starts) - 1]), np.array([k]), grid.shape[::-1])
        for plane, k in zip(chosen, targets, strict=True)
        for first, end, starts in [_span(stack, plane)]
    ]
    filled = np.concatenate(pieces) if pieces else np.empty((0, 4), np.int32)
    if is_on_planes:
        return _Filled(filled, ())
    text = (
        f"{name_of(roi)}: its contours lie up to {off.max() * step_mm:.2g} mm beside the slices; each slice takes the nearest contour"
        " within half their distance: give the scan the contours were drawn on for exact voxels"
    )
    note = Finding("CONTOURS_OFF_PLANES", Severity.WARNING, text, {"roi": roi.number, "off_mm": float(off.max() * step_mm)})
    return _Filled(filled, (note,))


def _fill_between(stack: ContourStack, planes: FloatArray, step_mm: float, grid: Geometry) -> Runs:
    """Fill the planes of the grid with contours, or with shapes between them."""
    across = _sense(planes) * step_mm  # mm along the normal per index k
    k = np.arange(grid.shape[2])[:: int(np.sign(across))]
    shapes, kept = interpolated(_with_width(stack, step_mm), stack.positions_mm[0] + (k - planes[0]) * across)
    index = np.round(grid.world_to_index(shapes.points_mm()), _DIGITS) + 0.0
    return fill_polygons(index[:, :2], shapes.starts, shapes.plane_rings, k[kept], grid.shape[::-1])


def _span(stack: ContourStack, plane: int) -> tuple[int, int, npt.NDArray[np.int64]]:
    starts = stack.starts[stack.plane_rings[plane] : stack.plane_rings[plane + 1] + 1]
    return int(starts[0]), int(starts[-1]), starts - starts[0]


def _nearest_planes(stack: ContourStack, planes: FloatArray, step_mm: float, count: int) -> tuple[list[int], list[int]]:
    """Return pairs of contour plane and index k: every plane of the grid that lies in a slab."""
    slabs = _with_width(stack, step_mm).slabs_mm
    limits = planes[:, None] + (slabs - stack.positions_mm[:, None]) / step_mm * _sense(planes)
    chosen: list[int] = []
    targets: list[int] = []
    for plane, limit in enumerate(limits):
        low, high = sorted(limit)
        inside = range(max(0, int(np.ceil(low - _TIE))), min(count, int(np.ceil(high - _TIE))))
        chosen += [plane] * len(inside)
        targets += inside
    return chosen, targets


def _sense(planes: FloatArray) -> float:
    """Whether k rises with the position of the contour planes."""
    return 1.0 if len(planes) < 2 or planes[-1] > planes[0] else -1.0


def _fill_across(roi: Roi, stack: ContourStack, grid: Geometry, interpolate: bool) -> _Filled:
    """Fill a grid whose planes cut through the planes of the contours."""
    stack = _with_width(stack, max(grid.spacing_mm))
    if interpolate and len(stack.positions_mm) > 1:
        first, last = stack.slabs_mm[0, 0], stack.slabs_mm[-1, 1]
        finer = (stack.usual_gap_mm or 1.0) / 4
        shapes, _ = interpolated(stack, np.arange(first + finer / 2, last, finer))
        stack = with_slabs(shapes, finer)
    matrix = stack.axes @ grid.affine[:3]
    reach = stack.slabs_mm[stack.point_planes] - stack.positions_mm[stack.point_planes, None]
    corners = np.concatenate([stack.points_mm() + side[:, None] * stack.axes[2] for side in reach.T])
    index = grid.world_to_index(corners)
    low = np.clip(np.floor(index.min(axis=0)), 0, grid.shape).astype(int)[::-1]
    high = np.clip(np.ceil(index.max(axis=0)) + 1, 0, grid.shape).astype(int)[::-1]
    box = ((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))
    runs = fill_prisms(stack.points, stack.starts, stack.plane_rings, stack.slabs_mm, matrix, box)
    text = (
        f"{name_of(roi)}: its contours were drawn in planes that are not parallel to the slices of this grid; they are filled as prisms"
        " between the contour planes: give the scan they were drawn on for exact voxels"
    )
    return _Filled(runs, (Finding("CONTOURS_ACROSS_GRID", Severity.WARNING, text, {"roi": roi.number}),))
