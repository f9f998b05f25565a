"""What contours lose or gain on a grid, in millilitres."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.io.dicom.contour_checks import MANY_PLANES, SMALL_SHARE, name_of
from medseg.io.dicom.contour_planes import ContourStack, filled_volume_mm3, with_slabs
from medseg.io.dicom.contours import Roi

BEYOND_VOXELS = 0.6  # points further than this outside the outermost voxel centres lie beyond the grid
SMALL_VOXELS = 1000  # of fewer voxels the volume on the grid says little
RASTER_SHARE = 0.05  # a volume on the grid that misses the contours' own by more than this share is worth a word


def judge_volume(roi: Roi, index: npt.NDArray[np.float64], volume_ml: float, grid: Geometry) -> list[Finding]:
    """Say where the volume on the grid is not that of the contours; `index` (n, 3) are the contours' points on the grid."""
    if roi.volume_ml is None:
        return []
    difference = roi.volume_ml - volume_ml
    details = {"roi": roi.number, "volume_ml": volume_ml, "contour_volume_ml": roi.volume_ml}
    outside = (index < -BEYOND_VOXELS) | (index > np.array(grid.shape) - 1 + BEYOND_VOXELS)
    if outside.any() and difference > SMALL_SHARE * roi.volume_ml:
        text = (
            f"{name_of(roi)}: reaches beyond the scan: {volume_ml:.4g} ml lie on the grid, the contours enclose {roi.volume_ml:.4g} ml;"
            " its volume on this scan is a lower bound"
        )
        return [Finding("CONTOURS_OUTSIDE_GRID", Severity.WARNING, text, details)]
    is_large = roi.volume_ml * 1000 > SMALL_VOXELS * grid.voxel_volume_mm3
    if is_large and abs(difference) > RASTER_SHARE * roi.volume_ml:
        text = (
            f"{name_of(roi)}: {volume_ml:.4g} ml on the grid, {roi.volume_ml:.4g} ml by the contours themselves: the grid is too coarse"
            " for it, or its slices are not those of the contours; report the volume of the contours"
        )
        return [Finding("VOLUME_ON_GRID", Severity.WARNING, text, details)]
    return []


def judge_gaps(roi: Roi, stack: ContourStack, planes: npt.NDArray[np.int64], step_mm: float) -> tuple[Finding, ...]:
    """Say which planes of a grid between contours, which lie on `planes`, have none; `step_mm` is the grid's."""
    steps = np.abs(np.diff(planes))
    gaps = np.flatnonzero(steps > 1)
    if not gaps.size:
        return ()
    missing = int((steps[gaps] - 1).sum())
    where = [float(stack.positions_mm[plane]) for plane in gaps]
    drawn = float(stack.moments[:, 0].sum()) * step_mm / 1000
    filled = filled_volume_mm3(with_slabs(stack, step_mm)) / 1000
    shown = ", ".join(f"{at:.1f}" for at in where[:5]) + (", ..." if len(where) > 5 else "")
    text = (
        f"{name_of(roi)}: no contour on {missing} slice(s) of the scan, after {shown} mm along the stack: {drawn:.4g} ml on the slices that"
        f" are drawn, about {filled:.4g} ml with the gaps filled. If it is one structure, draw the missing contours or fill the gaps"
        " (interpolate)"
    )
    details = {"roi": roi.number, "after_mm": where, "missing_planes": missing, "drawn_ml": drawn, "filled_ml": filled}
    return (Finding("CONTOUR_GAPS", Severity.WARNING if int(steps[gaps].min()) - 1 <= MANY_PLANES else Severity.INFO, text, details),)


def judge_filled(roi: Roi, drawn: npt.NDArray[np.int64], runs: npt.NDArray[np.int32], grid: Geometry) -> tuple[Finding, ...]:
    """Say how much of a region lies on planes that no contour was drawn on."""
    made = ~np.isin(runs[:, 0], drawn)
    planes = len(np.unique(runs[made, 0]))
    if not planes:
        return ()
    volume = float((runs[made, 3] - runs[made, 2]).sum()) * grid.voxel_volume_mm3 / 1000
    text = (
        f"{name_of(roi)}: {planes} slice(s) without a contour were filled between their neighbours, {volume:.4g} ml of it is interpolated"
    )
    return (Finding("CONTOUR_GAPS_FILLED", Severity.WARNING, text, {"roi": roi.number, "planes": planes, "volume_ml": volume}),)
