"""A structure set just written, compared with the segments it was made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medseg.core.errors import OutputVerificationError
from medseg.core.label_map import LabelMap
from medseg.io.dicom.contour_fill import fill_roi
from medseg.io.dicom.contours import Roi, StructureSet
from medseg.io.dicom.source_slices import ON_SLICE_STEPS, SourceSlices
from medseg.kernels.polygons import count_in_runs

AREA_SHARE = 0.005  # contours may enclose this share more or less than the voxels do
CENTRE_PIXELS = 0.5  # and their centre may lie this far beside that of the voxels
OFF_SLICE_MM = 0.01  # contours lie on the slice they refer to, as far as that lies on the plane of the grid


def check_structures(structures: StructureSet, layers: Sequence[LabelMap], slices: SourceSlices) -> None:
    """Compare contours as read back with the segments: voxels, area, and place by the headers of the slices.

    The voxels are those of the contours filled on the grid. The place does not use the grid: contours are brought to rows and
    columns by position, orientation and pixel spacing of the slice, as DICOM gives them, so that left and right cannot be
    exchanged. Raises OutputVerificationError.
    """
    rois = {roi.number: roi for roi in structures.rois}
    expected = {segment.number for layer in layers for segment in layer.segments}
    if set(rois) != expected or len(structures.rois) != len(expected):
        raise OutputVerificationError(f"{len(expected)} segments were written, {len(structures.rois)} are there")
    for layer in layers:
        counts = np.bincount(layer.array.ravel(order="K"), minlength=max(expected, default=0) + 1)
        for segment in layer.segments:
            _check_roi(rois[segment.number], int(counts[segment.number]), layer, slices)


def _check_roi(roi: Roi, voxels: int, layer: LabelMap, slices: SourceSlices) -> None:
    name = f"segment {roi.number} {roi.name!r}"
    if voxels == 0 or roi.stack is None:
        if bool(voxels) != (roi.stack is not None) or roi.contours:
            raise OutputVerificationError(f"{name} has {voxels} voxels and came back with {len(roi.contours)} contours")
        return
    runs = fill_roi(roi, layer.geometry)
    filled = int((runs[:, 3] - runs[:, 2]).sum())
    hit = count_in_runs(layer.array.T, runs, roi.number)
    if filled != voxels or hit != voxels:
        raise OutputVerificationError(f"{name}: {voxels} voxels were written, the contours hold {hit} of them and {filled} in all")
    pixel_mm2 = float(np.linalg.norm(np.cross(layer.geometry.affine[:3, 0], layer.geometry.affine[:3, 1])))
    area = float(roi.stack.moments[:, 0].sum()) / pixel_mm2
    if abs(area - voxels) > AREA_SHARE * voxels:
        raise OutputVerificationError(f"{name}: its contours enclose {area:.6g} pixels, its voxels are {voxels}")
    _check_place(roi, runs, slices, layer.geometry.voxel_volume_mm3 / pixel_mm2, name)


def _check_place(roi: Roi, runs: npt.NDArray[np.int32], slices: SourceSlices, step_mm: float, name: str) -> None:
    """Compare the centre of the contours of every plane, by the slice's header, with that of its voxels."""
    stack = roi.stack
    if stack is None:
        return
    planes = np.unique(runs[:, 0])
    length = (runs[:, 3] - runs[:, 2]).astype(np.float64)
    areas = stack.moments[:, 0]
    centres = (stack.moments[:, 1:] / areas[:, None]) @ stack.axes[:2] + stack.positions_mm[:, None] * stack.axes[2]
    if len(planes) != len(centres):
        raise OutputVerificationError(f"{name}: voxels on {len(planes)} planes, contours on {len(centres)}")
    for k in planes:
        nearest = _pixel_of_plane(slices, int(k), centres)
        if nearest is None:
            continue  # no slice lies there: the grid was resampled
        here = runs[:, 0] == k
        weight = length[here] / length[here].sum()
        column = float(weight @ (runs[here, 2] + runs[here, 3] - 1) / 2)
        row = float(weight @ runs[here, 1])
        found = np.abs(nearest - (column, row, 0.0))
        if found[:2].max() > CENTRE_PIXELS or found[2] > OFF_SLICE_MM + ON_SLICE_STEPS * step_mm:
            raise OutputVerificationError(f"{name}: its contours on plane {k} lie {found[:2].max():.3g} pixels beside its voxels")


def _pixel_of_plane(slices: SourceSlices, k: int, centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """The centre that lies on slice k, as (column, row, mm off the slice)."""
    pixels = slices.to_pixel(k, centres)
    return None if pixels is None else pixels[np.abs(pixels[:, 2]).argmin()]
