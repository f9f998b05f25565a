"""Constraints between segments: a tumour lies inside its organ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.postprocessing.selection import hull_of, nothing_left, selected
from medseg.preprocessing.crop import Box, crop_to, plane_distance_mm
from medseg.preprocessing.distances import grown, reach_mm

Bools = npt.NDArray[np.bool_]


class ConstrainParams(MethodParams):
    """Parameters of `constrain`."""

    segments: list[str] = Field(description="Labels of the segments that must lie inside, such as a tumour", min_length=1)
    inside: list[str] = Field(description="Labels of the segments that hold them, such as the organ", min_length=1)
    organs: LabelMapInput | None = Field(None, description="Label map with the segments that hold them; empty: the segmentation itself")
    margin_mm: Number = Field(
        0.0, description="What lies no farther than this outside the organ still counts as inside", unit="mm", ge=0, le=100
    )
    outside: Literal["remove", "clip"] = Field(
        "remove", description="What becomes background: connected pieces that lie outside, or every voxel outside"
    )
    least_share: Number = Field(
        0.1, description="A piece stays if this share of its volume, or of its surface, lies in or against the organ", ge=0, le=1
    )


@method(
    "constrain", stage=Stage.POSTPROCESS, reference="doi:10.1016/j.media.2022.102680 (LiTS: liver tumours are counted inside the liver)"
)
def constrain(label_map: LabelMap, params: ConstrainParams) -> LabelMap:
    """Keep segments only where they lie inside other segments: a tumour inside its organ.

    The organ counts with its holes filled and grown by `margin_mm`. `remove` judges each connected piece (26 neighbours) as a
    whole: it stays if `least_share` of its volume lies in the organ, or `least_share` of its surface against it, since a label
    map that holds both cuts the tumour out of its organ. `clip` takes away every voxel outside; give the organ from
    another label map then, which holds it whole. What goes becomes background and is told by the finding OUTSIDE_CONSTRAINT with its volume
    and place. An organ without a voxel gives the finding CONSTRAINT_EMPTY, and nothing is removed. Raises UnknownSegmentError,
    GeometryMismatchError where the organs lie on another grid.

    >>> grid = Geometry((1, 1, 7), np.eye(4))
    >>> both = LabelMap(np.array([[[1, 1, 2, 0, 0, 2, 2]]], np.uint8), grid, (Segment(1, "liver"), Segment(2, "tumour")))
    >>> constrain(both, ConstrainParams(segments=["tumour"], inside=["liver"])).array.ravel().tolist()
    [1, 1, 2, 0, 0, 0, 0]
    """
    organs = label_map if params.organs is None else params.organs
    if not organs.geometry.matches(label_map.geometry):
        raise GeometryMismatchError(
            "constrain: the organs lie on another grid; restore their label map onto the grid of the segmentation first",
            label_map.geometry,
            organs.geometry,
        )
    holders = [organs[label] for label in dict.fromkeys(params.inside)]
    if not selected(organs, [holder.label for holder in holders]):
        return label_map.with_array(label_map.array, findings=(*label_map.findings, _no_organ(holders)))
    array: npt.NDArray[Any] = label_map.array.copy(order="F")
    findings = list(label_map.findings)
    organ = _organ(organs, holders, params.margin_mm)
    for segment, box in selected(label_map, params.segments):
        wide = box.widened(label_map.geometry, reach_mm(label_map.geometry))
        part, within = label_map.array[wide.slices], organ[wide.slices]
        mask = part == segment.number
        goes = mask & ~within if params.outside == "clip" else _pieces_outside(mask, within, label_map.geometry, params.least_share)
        if goes.any():
            array[wide.slices][goes] = 0
            findings.append(_told(segment, holders, goes, mask, wide, label_map.geometry))
            if not (mask & ~goes).any():
                findings.append(nothing_left(segment))
    return label_map.with_array(array, findings=tuple(findings))


def _organ(organs: LabelMap, holders: Sequence[Segment], margin_mm: float) -> Bools:
    """The voxels (i,j,k) of the holding segments together, without holes, grown by a margin."""
    from medseg.kernels.components import fill_holes

    boxes = [box for _, box in selected(organs, [holder.label for holder in holders])]
    wide = hull_of(boxes).widened(organs.geometry, margin_mm + reach_mm(organs.geometry))
    part = crop_to(organs, wide)
    mask = fill_holes(np.isin(part.array, [holder.number for holder in holders]).T)
    if margin_mm > 0:
        mask = grown(mask, part.geometry, margin_mm)
    whole = np.zeros(organs.array.shape, bool, order="F")
    whole[wide.slices] = mask.T
    return whole


def _pieces_outside(mask: Bools, within: Bools, grid: Geometry, least_share: float) -> Bools:
    """The connected pieces of a mask that lie neither in the organ nor against it by the least share."""
    from medseg.kernels.components import label_components

    pieces_kji, sizes = label_components(np.asarray(mask, order="F").T, 26)
    pieces = pieces_kji.T
    inside = np.bincount(pieces[mask & within], minlength=len(sizes)) / np.maximum(sizes, 1)
    contact = _contact(pieces, mask, within, grid, len(sizes))
    stays = np.maximum(inside, contact) >= least_share
    stays[0] = True
    return np.asarray(~stays[pieces])


def _contact(pieces: npt.NDArray[Any], mask: Bools, within: Bools, grid: Geometry, count: int) -> npt.NDArray[np.float64]:
    """The share of the surface of each piece that lies against the organ; voxel faces weigh as their area in mm²."""
    surface, against = np.zeros(count), np.zeros(count)
    areas_mm2 = grid.voxel_volume_mm3 / plane_distance_mm(grid)
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(0, -1), slice(1, None)
        for here, there in ((tuple(low), tuple(high)), (tuple(high), tuple(low))):
            border = mask[here] & ~mask[there]
            surface += areas_mm2[axis] * np.bincount(pieces[here][border], minlength=count)
            against += areas_mm2[axis] * np.bincount(pieces[here][border & within[there]], minlength=count)
    return np.asarray(against / np.where(surface > 0, surface, 1))


def _told(segment: Segment, holders: Sequence[Segment], goes: Bools, mask: Bools, box: Box, grid: Geometry) -> Finding:
    from medseg.kernels.components import label_components

    pieces, sizes = label_components(np.asarray(goes, order="F").T, 26)
    centre = np.argwhere(pieces.T == 1).mean(axis=0) + box.start
    place = ", ".join(f"{value:.1f}" for value in grid.index_to_world(centre))
    voxels = int(goes.sum())
    volume_ml, share = voxels * grid.voxel_volume_mm3 / 1000, voxels / int(mask.sum())
    names = " and ".join(holder.label for holder in holders)
    message = (
        f"{volume_ml:.3g} ml ({100 * share:.3g} %) of {segment.label} lay outside {names} and became background: "
        f"{len(sizes) - 1} {'piece, at' if len(sizes) == 2 else 'pieces, the largest at'} about ({place}) mm RAS"
    )
    details = {"segment": segment.label, "inside": [holder.label for holder in holders], "volume_ml": volume_ml, "pieces": len(sizes) - 1}
    return Finding("OUTSIDE_CONSTRAINT", Severity.WARNING, message, details)


def _no_organ(holders: Sequence[Segment]) -> Finding:
    names = " and ".join(holder.label for holder in holders)
    message = f"{names} has no voxel: nothing can lie inside it, so nothing was removed"
    return Finding("CONSTRAINT_EMPTY", Severity.WARNING, message, {"inside": [holder.label for holder in holders]})
