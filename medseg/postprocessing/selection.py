"""Which segments a method works on, and on which box of voxels each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.preprocessing.crop import Box, segment_boxes

Change = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]


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


def changed(label_map: LabelMap, labels: Iterable[str] | None, change: Change) -> LabelMap:
    """Return the label map with a change of the mask of each selected segment.

    `change` takes the mask (k,j,i) of one segment inside its bounding box and returns another. What it takes away becomes
    background, what it adds is only taken from background. A segment that loses its last voxel gives the finding SEGMENT_EMPTY.
    """
    array: npt.NDArray[Any] = label_map.array.copy(order="F")
    findings = list(label_map.findings)
    for segment, box in selected(label_map, labels):
        part = array[box.slices]
        before = np.asarray(part == segment.number, order="F")
        after = change(before.view(np.uint8).T).T
        part[before & (after == 0)] = 0
        part[(after != 0) & (part == 0)] = segment.number
        if not after.any():
            message = f"nothing is left of {segment.label}: every voxel was removed"
            findings.append(Finding("SEGMENT_EMPTY", Severity.WARNING, message, {"segment": segment.label}))
    return label_map.with_array(array, findings=tuple(findings))
