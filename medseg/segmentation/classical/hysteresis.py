"""Segmentation with two thresholds: weak voxels count where they touch strong ones."""

from __future__ import annotations

import math
from typing import Literal

import pydantic

from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.segmentation.classical.result import label_map_on


class HysteresisThresholdParams(MethodParams):
    """Parameters of `hysteresis-threshold`."""

    strong: Number = Field(description="Intensity from which a voxel certainly belongs to the structure", unit="image")
    weak: Number = Field(description="Intensity from which a voxel belongs if a path of such voxels leads to a strong one", unit="image")
    side: Literal["above", "below"] = Field("above", description="Whether the structure is brighter or darker than its surroundings")
    connectivity: Literal[6, 18, 26] = Field(26, description="Neighbours that count as touching: faces, also edges, also corners")
    label: str = Field("threshold", description="Name of the segment", min_length=1)

    @pydantic.model_validator(mode="after")
    def _order(self) -> HysteresisThresholdParams:
        if (self.strong < self.weak) if self.side == "above" else (self.strong > self.weak):
            needed = "at or above" if self.side == "above" else "at or below"
            raise ValueError(
                f"strong ({self.strong:g}) must lie {needed} weak ({self.weak:g}) for structures {self.side} their surroundings"
            )
        return self


@method("hysteresis-threshold", stage=Stage.SEGMENT, reference="doi:10.1109/TPAMI.1986.4767851")
def hysteresis_threshold(volume: Volume, params: HysteresisThresholdParams) -> LabelMap:
    """Keep voxels beyond a weak threshold that are connected to a voxel beyond a strong one.

    Follows a vessel or a lesion out to its faint ends without taking every faint voxel. Both thresholds belong to the
    structure; NaN is outside. With `side` "below" everything is mirrored. Where no voxel is strong the segment is empty, with
    the finding SEGMENT_EMPTY. Voxel for voxel the result of ITK's DoubleThreshold (connectivity 6 and 26).

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[50, 90, 0, 50]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    >>> hysteresis_threshold(scan, HysteresisThresholdParams(strong=80, weak=40)).array.ravel().tolist()
    [1, 1, 0, 0]
    """
    from medseg.kernels import hysteresis

    weak, strong = ((limit, math.inf) if params.side == "above" else (-math.inf, limit) for limit in (params.weak, params.strong))
    mask = hysteresis.hysteresis(volume.array.T, weak, strong, params.connectivity)
    findings = []
    if not mask.any():
        message = f"no voxel is {params.side} the strong threshold of {params.strong:g}: the segment is empty"
        findings.append(Finding("SEGMENT_EMPTY", Severity.WARNING, message, {"weak": params.weak, "strong": params.strong}))
    return label_map_on(volume, mask, [Segment(1, params.label, algorithm="hysteresis-threshold")], findings)
