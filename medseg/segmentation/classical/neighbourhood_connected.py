"""Region growing over voxels whose whole neighbourhood lies between limits: noise and thin bridges do not lead out."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pydantic

from medseg.core.errors import InputError
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number, PointRAS
from medseg.preprocessing.intensity import check_limits
from medseg.segmentation.classical.region_growing import leaked
from medseg.segmentation.classical.result import label_map_on
from medseg.segmentation.classical.seed_voxels import seed_voxels


class NeighbourhoodConnectedParams(MethodParams):
    """Parameters of `neighbourhood-connected`."""

    seeds: list[PointRAS] = Field([], description="Points inside the structure", unit="mm RAS")
    seed_mask: LabelMapInput | None = Field(None, description="Label map all of whose voxels are seeds, on the grid of the scan")
    lower: Number | None = Field(None, description="Lowest intensity kept; empty: no lower limit", unit="image")
    upper: Number | None = Field(None, description="Highest intensity kept; empty: no upper limit", unit="image")
    radius_mm: Number = Field(
        1.5, description="Half the edge of the box around a voxel that must lie between the limits", unit="mm", ge=0, le=50
    )
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching: faces, also edges, also corners")
    label: str = Field("region", description="Name of the segment", min_length=1)

    @pydantic.model_validator(mode="after")
    def _enough(self) -> NeighbourhoodConnectedParams:
        if not self.seeds and self.seed_mask is None:
            raise ValueError("give seeds, or a seed_mask")
        check_limits(self.lower, self.upper)
        return self


@method("neighbourhood-connected", stage=Stage.SEGMENT, reference="doi:10.3233/978-1-60750-929-5-586 (NeighborhoodConnected)")
def neighbourhood_connected(volume: Volume, params: NeighbourhoodConnectedParams) -> LabelMap:
    """Keep the voxels connected to a seed whose whole neighbourhood lies between two limits.

    The neighbourhood is a box along the axes of the grid that reaches `radius_mm` in each direction, in whole voxels (an
    axis with a greater spacing adds no neighbour); what lies beyond the scan does not count, NaN is outside. On a sheared
    grid the box is sheared too. With connectivity 6 the result is voxel for voxel that of ITK's NeighborhoodConnected of
    the same radius in voxels. The region ends that radius before the border of the structure: widen it with `margin`.
    The finding REGION_LEAKED tells of more than a third of the scan (in CT: of what is not air, -500 HU or more).
    Raises ParameterError for a point outside the scan, InputError where no seed lies in such a voxel,
    GeometryMismatchError for a seed mask on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[9, 9, 9, 9, 1, 9]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> chosen = NeighbourhoodConnectedParams(seeds=[(0, 0, 1)], lower=5)
    >>> neighbourhood_connected(scan, chosen).array.ravel().tolist()
    [1, 1, 1, 0, 0, 0]
    """
    from medseg.kernels import boxes, flood, histogram

    image = volume.array.T
    index = seed_voxels(volume.geometry, params.seeds, params.seed_mask, "neighbourhood-connected")
    lower = -math.inf if params.lower is None else params.lower
    between = histogram.threshold(image, lower, math.inf if params.upper is None else params.upper)
    radii = [int(params.radius_mm / spacing * (1 + 1e-9)) for spacing in volume.geometry.spacing_mm]
    allowed = boxes.erode_box(between, radii[::-1])
    if not allowed[tuple(index[:, ::-1].T)].any():
        raise InputError(
            "neighbourhood-connected: around every seed some voxel lies outside the limits; move the seeds away from the border of "
            f"the structure, widen the limits or choose a smaller radius_mm than {params.radius_mm:g}"
        )
    mask = flood.flood(allowed, np.ascontiguousarray(index[:, ::-1]), 1, 1, params.connectivity)
    return label_map_on(volume, mask, [Segment(1, params.label, algorithm="neighbourhood-connected")], leaked(volume, mask))
