"""Which segments a method works on, and on which box of voxels each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.preprocessing.crop import Box, segment_boxes

Change = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]

PLANES = {"sagittal": "RL", "coronal": "AP", "axial": "SI"}


def selected(label_map: LabelMap, labels: Iterable[str] | None) -> list[tuple[Segment, Box]]:
    """Return the named segments (or all) that have voxels, each with its bounding box; raises UnknownSegmentError.

    >>> from medseg.core.geometry import Geometry
    >>> organs = LabelMap(np.array([[[0, 3]]], np.uint8), Geometry((1, 1, 2), np.eye(4)), (Segment(3, "liver"), Segment(4, "spleen")))
    >>> [(segment.label, box.start) for segment, box in selected(organs, None)]
    [('liver', (0, 0, 1))]
    """
    wanted = label_map.segments if labels is None else [label_map[label] for label in dict.fromkeys(labels)]
    boxes = segment_boxes(label_map)
    return [(segment, boxes[segment.number]) for segment in wanted if segment.number in boxes]


def changed(label_map: LabelMap, labels: Iterable[str] | None, change: Change, margin_mm: float = 0.0) -> LabelMap:
    """Return the label map with a change of the mask of each selected segment.

    `change` takes the mask (k,j,i) of one segment inside its bounding box, widened by a margin where the grid goes on, and
    returns another. What it takes away becomes background, what it adds is only taken from background. A segment that loses
    its last voxel gives the finding SEGMENT_EMPTY, and so does a label map in which none of them has any.
    """
    chosen = selected(label_map, labels)
    if not chosen:
        return nothing_to_change(label_map)
    array: npt.NDArray[Any] = label_map.array.copy(order="F")
    findings = list(label_map.findings)
    for segment, box in chosen:
        part = array[box.widened(label_map.geometry, margin_mm).slices]
        before = np.asarray(part == segment.number, order="F")
        after = change(before.view(np.uint8).T).T
        part[before & (after == 0)] = 0
        part[(after != 0) & (part == 0)] = segment.number
        if not after.any():
            findings.append(nothing_left(segment))
    return label_map.with_array(array, findings=tuple(findings))


def nothing_to_change(label_map: LabelMap) -> LabelMap:
    """Return the label map as it is, with SEGMENT_EMPTY unless it is told already: no selected segment has a voxel."""
    if any(finding.code == "SEGMENT_EMPTY" for finding in label_map.findings):
        return label_map
    found = Finding("SEGMENT_EMPTY", Severity.INFO, "no segment to work on has a voxel: nothing was changed", {})
    return label_map.with_array(label_map.array, findings=(*label_map.findings, found))


def nothing_left(segment: Segment) -> Finding:
    """Return the finding that a segment has lost its last voxel."""
    message = f"nothing is left of {segment.label}: every voxel was removed"
    return Finding("SEGMENT_EMPTY", Severity.WARNING, message, {"segment": segment.label})


def hull_of(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that holds some boxes.

    >>> hull_of([Box((0, 4, 1), (2, 5, 3)), Box((1, 1, 1), (6, 2, 2))])
    Box(start=(0, 1, 1), stop=(6, 5, 3))
    """
    start = np.min([box.start for box in boxes], axis=0)
    stop = np.max([box.stop for box in boxes], axis=0)
    return Box(tuple(start.tolist()), tuple(stop.tolist()))


def inside_of(box: Box, region: Box) -> tuple[slice, ...]:
    """Return the index of a box into an array of the region that holds it."""
    return tuple(slice(a - r, b - r) for a, b, r in zip(box.start, box.stop, region.start, strict=True))


def kernel_axis(label_map: LabelMap, plane: str) -> int | None:
    """Return the axis (0: k, 1: j, 2: i) across which the planes nearest to axial, coronal or sagittal lie; None for "volume"."""
    if plane == "volume":
        return None
    return 2 - next(n for n, code in enumerate(label_map.geometry.orientation) if code in PLANES[plane])
