"""Several regions that grow at once and compete for every voxel."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pydantic

from medseg.core.errors import InputError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number
from medseg.preprocessing.intensity import check_limits
from medseg.segmentation.classical.marks import MarkParams, everything_taken, mark
from medseg.segmentation.classical.result import label_map_on

_NAME = "competitive-growing"


class CompetitiveGrowingParams(MarkParams):
    """Parameters of `competitive-growing`."""

    max_difference: Number | None = Field(
        None, description="Greatest difference from the mean of its region at which a voxel joins; empty: no limit", unit="image", ge=0
    )
    lower: Number | None = Field(None, description="Lowest intensity that may join; empty: no lower limit", unit="image")
    upper: Number | None = Field(None, description="Highest intensity that may join; empty: no upper limit", unit="image")
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching: faces, also edges, also corners")

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> CompetitiveGrowingParams:
        if self.lower is not None or self.upper is not None:
            check_limits(self.lower, self.upper)
        return self


@method(_NAME, stage=Stage.SEGMENT, reference="doi:10.1109/34.295913; doi:10.1016/S0167-8655(97)00131-1")
def competitive_growing(volume: Volume, params: CompetitiveGrowingParams) -> LabelMap:
    """Grow several regions at once; of all voxels that touch a region the one most like it joins first.

    How like is the difference between the intensity of the smoothed scan and the mean of the region, which follows the
    region (the mean starts from its marks: give them a radius on noisy scans). Without `max_difference`, `lower` and
    `upper` every voxel that finite ones connect to a mark is shared out; what background wins is background; one structure
    alone then takes everything and gives the finding EVERYTHING_TAKEN. Turning or flipping the grid turns the result;
    spacing and shear count for marks and smoothing. Markers keep their segments; where seeds and markers share a voxel the
    seed counts. Raises ParameterError for a point outside the scan or seeds on one voxel, InputError where no mark lies on
    a voxel with a value between the limits, GeometryMismatchError where the markers lie on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[10, 11, 14, 19, 20]]], np.int16), Geometry((1, 1, 5), np.eye(4)))
    >>> chosen = CompetitiveGrowingParams(seeds=[(0, 0, 0), (0, 0, 4)], sigma_mm=0)
    >>> competitive_growing(scan, chosen).array.ravel().tolist()
    [1, 1, 1, 2, 2]
    """
    from medseg.kernels import competition, histogram

    marks = mark(volume, params, _NAME)
    allowed = marks.finite
    if params.lower is not None or params.upper is not None:
        lower = -np.inf if params.lower is None else params.lower
        between = histogram.threshold(volume.array.T, lower, np.inf if params.upper is None else params.upper)
        allowed = between if allowed is None else allowed & between
        if not marks.array[between.view(bool)].any():
            raise InputError(f"{_NAME}: no mark lies on a voxel with a value between the limits; move the seeds or widen the limits")
    most = np.inf
    if params.max_difference is not None and marks.scale:
        most = params.max_difference / marks.scale
    labels = competition.compete(marks.image, marks.array, params.connectivity, most, allowed)
    if marks.background:
        labels[labels == marks.background] = 0
    is_limited = any(limit is not None for limit in (params.max_difference, params.lower, params.upper))
    findings = everything_taken(marks.segments, marks.background, _NAME, is_limited=is_limited)
    return label_map_on(volume, labels, marks.segments, findings)
