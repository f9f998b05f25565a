"""The least arguments of the methods on edges and texture; CORNER is the place of voxel (0,0,0)."""

from __future__ import annotations

import numpy as np

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment

CORNER = (3.0, -4.0, 5.0)


def scribbles(geometry: Geometry) -> LabelMap:
    """A structure at the first voxel and background at the last one (a grid of one voxel has only background)."""
    marks = np.zeros(geometry.shape, np.uint8)
    marks[0, 0, 0] = 1
    marks[-1, -1, -1] = 2
    return LabelMap(marks, geometry, (Segment(1, "structure"), Segment(2, "background")))


ARGUMENTS = {
    "sobel": {},
    "laplacian-of-gaussian": {},
    "gabor": {"wavelength_mm": 4.0, "directions": 3},
    "local-binary-pattern": {},
    "structure-tensor": {"sigma_mm": 0.5, "neighbourhood_mm": 1.0},
    "canny": {},
    "zero-crossings": {},
    "edge-surfaces": {"gap_mm": 1.0},
    "texture-clustering": {"features": ["intensity", "deviation"], "scale_mm": 1.0},
    "pixel-classifier": {"scribbles": scribbles, "sigmas_mm": [1.0], "trees": 5},
}
# `edge-surfaces` is told by edges, but a voxel without a value is never inside of any of these
BY_INTENSITY = {"canny", "zero-crossings", "edge-surfaces", "texture-clustering", "pixel-classifier"}
