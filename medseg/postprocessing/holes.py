"""Holes inside segments."""

from __future__ import annotations

from typing import Literal

from medseg.core.label_map import LabelMap
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams
from medseg.postprocessing.selection import changed, kernel_axis


class FillHolesParams(MethodParams):
    """Parameters of `fill-holes`."""

    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    within: Literal["volume", "axial", "coronal", "sagittal"] = Field(
        "volume", description="Where a hole must be closed: in 3D, or in each slice of that plane by itself"
    )
    connectivity: Literal[6, 18, 26] = Field(
        6, description="Neighbours that lead out of a hole: with 6 a gap over an edge or corner does not open it"
    )


@method("fill-holes", stage=Stage.POSTPROCESS, reference="doi:10.1007/978-3-662-05088-0")
def fill_holes(label_map: LabelMap, params: FillHolesParams) -> LabelMap:
    """Fill the holes of each segment: what no path outside the segment joins to the border of the scan.

    Only background is filled; another segment inside a hole stays. Slices are those of the array axis that is nearest to
    the plane's normal. Segments are filled in the order of their numbers.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> from medseg.core.segment import Segment
    >>> ring = np.ones((3, 3, 1), np.uint8)
    >>> ring[1, 1] = 0
    >>> organs = LabelMap(ring, Geometry((3, 3, 1), np.eye(4)), (Segment(1, "aorta"),))
    >>> [int(fill_holes(organs, FillHolesParams(within=within)).array[1, 1, 0]) for within in ("volume", "axial")]
    [0, 1]
    """
    from medseg.kernels import components

    axis = kernel_axis(label_map, params.within)
    return changed(label_map, params.segments, lambda mask: components.fill_holes(mask, params.connectivity, axis))
