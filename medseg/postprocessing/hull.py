"""Convex hulls of segments."""

from __future__ import annotations

from typing import Literal

from medseg.core.label_map import LabelMap
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams
from medseg.postprocessing.selection import changed, kernel_axis


class ConvexHullParams(MethodParams):
    """Parameters of `convex-hull`."""

    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    within: Literal["volume", "axial", "coronal", "sagittal"] = Field(
        "volume", description="One hull in 3D, or one in each slice of that plane by itself"
    )


@method("convex-hull", stage=Stage.POSTPROCESS, reference="doi:10.1145/235815.235821")
def convex_hull(label_map: LabelMap, params: ConvexHullParams) -> LabelMap:
    """Fill each segment up to its convex hull: the smallest shape without dents that holds all its voxel centres.

    Right on unequal, oblique and sheared grids alike (a straight line stays straight). Pieces of one segment share a hull.
    Only background is filled, segments in the order of their numbers. Slices are those of the array axis that is nearest to
    the plane's normal.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> from medseg.core.segment import Segment
    >>> corner = LabelMap(np.array([[[1, 1, 1], [1, 0, 0], [1, 0, 0]]], np.uint8), Geometry((1, 3, 3), np.eye(4)), (Segment(1, "a"),))
    >>> convex_hull(corner, ConvexHullParams()).array[0].tolist()
    [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    """
    from medseg.kernels import convex

    axis = kernel_axis(label_map, params.within)
    return changed(label_map, params.segments, lambda mask: convex.convex_hull(mask, axis))
