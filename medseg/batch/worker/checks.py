"""What the contact sheet sorts cases by, taken while the segmentation is still in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable, SegmentRow


def checks_of(label_map: LabelMap, table: MeasurementTable) -> dict[str, Any]:
    """Return what the measurements do not tell of a segmentation.

    `components` is the number of connected pieces (26 neighbours) of each segment that has voxels.
    """
    return {"components": {row.label: _components(label_map, row) for row in table if row.voxel_count}}


def _components(label_map: LabelMap, row: SegmentRow) -> int:
    """Count the pieces of a segment within its bounding box."""
    from medseg.kernels.runs import connect_runs, find_runs

    assert row.bounding_box is not None  # a segment with voxels has one
    box = tuple(slice(first, last + 1) for first, last in zip(*row.bounding_box, strict=True))
    part = np.ascontiguousarray(label_map.array[box].T)
    number = part.dtype.type(row.number)
    return len(connect_runs(find_runs(part, number, number), 26)[1])
