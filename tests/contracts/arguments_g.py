"""The least arguments of postprocessing."""

from __future__ import annotations

import numpy as np

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment


def livers(grid: Geometry) -> LabelMap:
    """A label map on that grid whose every other voxel is a liver."""
    array = (np.arange(int(np.prod(grid.shape))).reshape(grid.shape) % 2).astype(np.uint8)
    return LabelMap(array, grid, (Segment(1, "liver"),))


ARGUMENTS = {
    "closing": {"radius_mm": 1.5},
    "opening": {"radius_mm": 1.5},
    "margin": {"margin_mm": 1.5},
    "convex-hull": {},
    "combine": {"operation": "union", "other": livers},
    "constrain": {"segments": ["liver"], "inside": ["liver"], "organs": livers},
    "joint-smooth": {},
    "refine-boundary": {"band_mm": 1.0},
    "instances": {},
    "panoptic": {"things": ["liver"], "things_map": livers},
}
NEW_SEGMENTS = {"combine", "instances", "panoptic"}  # their result has other segments than what they were given
MAY_REFUSE = {"constrain", "panoptic"}  # they name segments, or make numbers, that a label map may not have or hold
