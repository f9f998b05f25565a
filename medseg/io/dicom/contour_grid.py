"""A grid for contours that come without their scan."""

from __future__ import annotations

import numpy as np

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry, affine_from_parts
from medseg.io.dicom.contour_planes import ContourStack, degrees_between
from medseg.io.dicom.contours import StructureSet

PIXEL_MM = 1.0  # pixels of a grid made for contours are at most this wide,
PIXELS_ACROSS = 40  # and as small as it takes for the smallest structure to be this many wide,
FINEST_MM = 0.1  # but no smaller than this,
MOST_VOXELS = 1 << 25  # nor so small that the grid gets larger than this
MOST_PLANES = 10_000  # contours spread further than this many steps come from no scan
_MARGIN = 2  # empty voxels around the contours


def default_geometry(structures: StructureSet, pixel_mm: float | None = None) -> Geometry:
    """Return a grid whose planes are those of the contours, with pixels of 1 mm or finer, so that no scan is needed.

    Rows run to the left and columns to the back of the patient, as in a scan, where contours are axial. Regions drawn in
    another direction than most do not decide. `pixel_mm` sets the pixels; otherwise the smallest structure decides, from 0.1
    to 1 mm. Raises InputError where no region has closed contours in two planes or more.
    """
    stacks = [roi.stack for roi in structures.rois if roi.stack is not None and not np.isnan(roi.stack.slabs_mm).any()]
    if not stacks:
        raise InputError(
            f"{structures.path}: no region has closed contours in two planes or more, so no grid can be made: give the scan they were"
            " drawn on"
        )
    main = max(stacks, key=lambda stack: stack.volume_mm3)
    stacks = [stack for stack in stacks if degrees_between(stack.axes[2], main.axes[2]) < 0.5]
    normal = main.axes[2]
    axes = np.array([-main.axes[0], -main.axes[1], normal])  # to the left, to the back, upwards for axial contours
    points = np.concatenate([stack.points_mm() for stack in stacks]) @ axes.T
    start, step, count = _planes(stacks, normal)
    if count > MOST_PLANES:
        raise InputError(
            f"{structures.path}: its contours spread over {count} planes {step:.3g} mm apart, so no grid can be made: give the scan they"
            " were drawn on"
        )
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    pixel = pixel_mm or _pixel_mm(stacks, high - low, count)
    columns, rows = (int(np.ceil(reach / pixel)) + 2 * _MARGIN for reach in high - low)
    corner = np.array([*(low - (_MARGIN - 0.5) * pixel), start])
    affine = affine_from_parts(axes.T, (pixel, pixel, step), corner @ axes)
    return Geometry((max(columns, 1), max(rows, 1), count), affine, structures.frame_of_reference_uid or None)


def _planes(stacks: list[ContourStack], normal: np.ndarray) -> tuple[float, float, int]:
    """First position, step and number of planes of the comb that fits the contour planes best."""
    positions = np.unique(np.round(np.concatenate([stack.positions_mm for stack in stacks]), 6))
    step = min((stack.step_mm or stack.usual_gap_mm or 1.0) for stack in stacks)
    for _ in range(3):  # the usual step, made exact by all planes it counts
        numbers = np.rint((positions - positions[0]) / step)
        if numbers.max() < 1:
            break
        slope, _ = np.polyfit(numbers, positions, 1)
        if abs(slope - step) > 0.02 * step:
            break  # planes at uneven distances: each plane of the comb takes its nearest contour
        step = float(slope)
    numbers = np.rint((positions - positions[0]) / step)
    start = float(np.median(positions - numbers * step))
    count = int(numbers.max()) + 1
    return start - step, step, count + 2


def _pixel_mm(stacks: list[ContourStack], reach: np.ndarray, count: int) -> float:
    widest = [float(np.sqrt(stack.moments[:, 0].max())) for stack in stacks]
    wanted = min(PIXEL_MM, max(FINEST_MM, min(widest) / PIXELS_ACROSS))
    coarsest = float(np.sqrt(max(reach.prod(), 1.0) * count / MOST_VOXELS))
    return max(wanted, coarsest)
