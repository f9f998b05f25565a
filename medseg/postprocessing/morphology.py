"""Segments grown, shrunk, opened and closed by balls in mm."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.postprocessing.selection import changed, hull_of, inside_of, nothing_to_change, selected
from medseg.preprocessing.crop import Box, plane_distance_mm
from medseg.preprocessing.distances import away_mm, closed, opened, reach_mm, shrunk

_BALLS = "doi:10.1109/TPAMI.1987.4767941"
_DISTANCE = "doi:10.4086/toc.2012.v008a019"
_FEW = 5  # segments that a message names
_SLACK = 1e-6  # as in the distances: a plane at the very radius counts


class ClosingParams(MethodParams):
    """Parameters of `closing`."""

    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    radius_mm: Number = Field(
        3.0, description="Radius of the ball: clefts, gaps and holes that it does not fit into are filled", unit="mm", gt=0, le=100
    )


@method("closing", stage=Stage.POSTPROCESS, reference=_BALLS)
def closing(label_map: LabelMap, params: ClosingParams) -> LabelMap:
    """Close clefts and gaps of each segment: what no ball of a radius outside the segment can reach is filled.

    A dilation and an erosion with one ball in mm, exact on unequal, oblique and sheared grids (distances between voxel
    centres); the end of the scan plays no part. Only background is filled; segments in the order of their numbers. The result
    stays in the segment's bounding box.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> gap = LabelMap(np.array([[[1, 0, 1, 0, 0, 0, 1]]], np.uint8), Geometry((1, 1, 7), np.eye(4)), (Segment(1, "aorta"),))
    >>> closing(gap, ClosingParams(radius_mm=1)).array.ravel().tolist()
    [1, 1, 1, 0, 0, 0, 1]
    """
    return changed(label_map, params.segments, lambda mask: closed(mask, label_map.geometry, params.radius_mm))


class OpeningParams(MethodParams):
    """Parameters of `opening`."""

    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    radius_mm: Number = Field(
        2.0, description="Radius of the ball: bridges, spikes and islands that it does not fit into are removed", unit="mm", gt=0, le=100
    )


@method("opening", stage=Stage.POSTPROCESS, reference=_BALLS)
def opening(label_map: LabelMap, params: OpeningParams) -> LabelMap:
    """Remove thin bridges and spikes of each segment: what balls of a radius inside the segment do not reach.

    An erosion and a dilation with one ball in mm, exact on unequal, oblique and sheared grids; where the scan ends the
    segment counts as going on. What is removed becomes background. A segment that loses all voxels gives the finding
    SEGMENT_EMPTY.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> spike = LabelMap(np.array([[[0, 1, 0, 1, 1, 1, 0]]], np.uint8), Geometry((1, 1, 7), np.eye(4)), (Segment(1, "liver"),))
    >>> opening(spike, OpeningParams(radius_mm=1)).array.ravel().tolist()
    [0, 0, 0, 1, 1, 1, 0]
    """
    grid = label_map.geometry
    return changed(label_map, params.segments, lambda mask: opened(mask, grid, params.radius_mm), reach_mm(grid))


class MarginParams(MethodParams):
    """Parameters of `margin`."""

    margin_mm: Number = Field(description="How far the surface moves: above 0 outwards, below 0 inwards", unit="mm", ge=-100, le=100)
    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    over_others: bool = Field(
        False, description="Whether a segment also grows over segments that are not selected, not only over background"
    )


@method("margin", stage=Stage.POSTPROCESS, reference=_DISTANCE)
def margin(label_map: LabelMap, params: MarginParams) -> LabelMap:
    """Grow or shrink segments by a margin in mm.

    The margin is the exact distance between voxel centres, on unequal, oblique and sheared grids, computed in a box around
    the segment. Where several segments grow towards each other each voxel goes to the nearest of them (the lower number at
    equal distance); selected segments never lose voxels to one another. A surface moves by whole voxels: by up to half a voxel less
    than the margin. Where the scan ends nothing is shrunk. A margin that
    would go beyond the scan gives the finding GROWN_PAST_SCAN (one for all segments), a segment that shrinks away SEGMENT_EMPTY.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> dot = LabelMap(np.array([[[0, 0, 0, 1, 0]]], np.uint8), Geometry((1, 1, 5), np.diag([1, 1, 2, 1])), (Segment(1, "tumour"),))
    >>> margin(dot, MarginParams(margin_mm=4)).array.ravel().tolist()
    [0, 1, 1, 1, 1]
    """
    grid = label_map.geometry
    if params.margin_mm < 0:
        return changed(label_map, params.segments, lambda mask: shrunk(mask, grid, -params.margin_mm), reach_mm(grid))
    chosen = selected(label_map, params.segments)
    if not chosen:
        return nothing_to_change(label_map)
    if params.margin_mm == 0:
        return label_map
    return _grown(label_map, chosen, params)


def _grown(label_map: LabelMap, chosen: list[tuple[Segment, Box]], params: MarginParams) -> LabelMap:
    """Let segments grow at one pace: a voxel goes to the segment that reaches it first."""
    grid = label_map.geometry
    boxes = [box.widened(grid, params.margin_mm) for _, box in chosen]
    region = hull_of(boxes)
    labels = label_map.array[region.slices]
    free = ~np.isin(labels, [segment.number for segment, _ in chosen]) if params.over_others else labels == 0
    array: npt.NDArray[Any] = label_map.array.copy(order="F")
    target = array[region.slices]
    nearest = np.full(labels.shape, np.inf, np.float32, order="F")
    for (segment, _), box in zip(chosen, boxes, strict=True):
        place = inside_of(box, region)
        mask = np.asarray(labels[place] == segment.number, order="F")
        away = away_mm(mask.T, grid, params.margin_mm).T
        takes = free[place] & (away < nearest[place])
        nearest[place][takes] = away[takes]
        target[place][takes] = segment.number
    past = _past_scan([segment.label for segment, box in chosen if _leaves(box, grid, params.margin_mm)], params.margin_mm)
    return label_map.with_array(array, findings=(*label_map.findings, *past))


def _leaves(box: Box, grid: Geometry, margin_mm: float) -> bool:
    """Whether a margin reaches planes that the scan does not have."""
    planes_mm = plane_distance_mm(grid)
    below = (np.asarray(box.start) + 1) * planes_mm
    above = (np.asarray(grid.shape) - np.asarray(box.stop) + 1) * planes_mm
    return bool(min(below.min(), above.min()) <= margin_mm * (1 + _SLACK))


def _past_scan(labels: list[str], margin_mm: float) -> list[Finding]:
    if not labels:
        return []
    few = ", ".join(labels[:_FEW]) + (f" and {len(labels) - _FEW} more" if len(labels) > _FEW else "")
    message = (
        f"{few} grown by {margin_mm:g} mm {'reaches' if len(labels) == 1 else 'reach'} beyond the scan: what lies there is missing from "
        f"{'its volume' if len(labels) == 1 else 'their volumes'}; use a scan that shows more around, or a smaller margin"
    )
    return [Finding("GROWN_PAST_SCAN", Severity.WARNING, message, {"segments": labels, "margin_mm": margin_mm})]
