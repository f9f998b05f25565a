"""Segmentation by intensity alone: between limits, or split where the histogram says."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.preprocessing.intensity import check_limits
from medseg.segmentation.classical.intensities import around, looked_at, refuse_too_few, seen
from medseg.segmentation.classical.result import label_map_on

_OTSU = "doi:10.1109/TSMC.1979.4310076"


class ThresholdParams(MethodParams):
    """Parameters of `threshold`."""

    lower: Number | None = Field(None, description="Lowest intensity kept; empty: no lower limit", unit="image")
    upper: Number | None = Field(None, description="Highest intensity kept; empty: no upper limit", unit="image")
    label: str = Field("threshold", description="Name of the segment", min_length=1)

    @pydantic.model_validator(mode="after")
    def _limits(self) -> ThresholdParams:
        check_limits(self.lower, self.upper)
        return self


@method("threshold", stage=Stage.SEGMENT, reference="doi:10.1117/1.1631315")
def threshold(volume: Volume, params: ThresholdParams) -> LabelMap:
    """Keep every voxel whose intensity lies between two limits, both included.

    NaN is never inside. Where no voxel lies between the limits the segment is empty, with the finding SEGMENT_EMPTY.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[10, 20, 30]]], np.int16), Geometry((1, 1, 3), np.eye(4)))
    >>> threshold(scan, ThresholdParams(lower=20)).array.ravel().tolist()
    [0, 1, 1]
    """
    from medseg.kernels import histogram

    lower = -math.inf if params.lower is None else params.lower
    upper = math.inf if params.upper is None else params.upper
    mask = histogram.threshold(volume.array.T, lower, upper)
    findings = () if mask.any() else (_nothing_between(lower, upper),)
    return label_map_on(volume, mask, [Segment(1, params.label, algorithm="threshold")], findings)


class OtsuParams(MethodParams):
    """Parameters of `otsu`."""

    side: Literal["above", "below"] = Field("above", description="Keep what is brighter or what is darker than the threshold")
    lower: Number | None = Field(None, description="Look only at voxels of at least this intensity; empty: all", unit="image")
    upper: Number | None = Field(None, description="Look only at voxels of at most this intensity; empty: all", unit="image")
    mask: LabelMapInput | None = Field(None, description="Look only inside the segments of this label map; empty: everywhere")
    label: str = Field("otsu", description="Name of the segment", min_length=1)

    @pydantic.model_validator(mode="after")
    def _limits(self) -> OtsuParams:
        if self.lower is not None or self.upper is not None:
            check_limits(self.lower, self.upper)
        return self


@method("otsu", stage=Stage.SEGMENT, reference=_OTSU)
def otsu(volume: Volume, params: OtsuParams) -> LabelMap:
    """Split a scan at the threshold that parts its intensities best, and keep one side.

    The threshold has the largest variance between the two sides: exact for integers of up to 16 bits, on 65,536 bins for
    others; of equally good thresholds the lowest is taken. Voxels at the threshold belong below. Voxels outside `lower`,
    `upper` and `mask` do not count and are never kept. The finding OTSU_THRESHOLD tells the threshold. Raises InputError
    where there are fewer than two intensities to part, GeometryMismatchError where the mask lies on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[1, 2, 90, 99]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    >>> otsu(scan, OtsuParams()).array.ravel().tolist()
    [0, 0, 1, 1]
    """
    from medseg.kernels import histogram

    image = volume.array.T
    inside = looked_at(volume, params.lower, params.upper, params.mask, "otsu")
    (value,) = _otsu_thresholds(seen(image, inside), 2, "otsu")
    below, above = around(image.dtype, value)
    kept = histogram.threshold(image, above, math.inf) if params.side == "above" else histogram.threshold(image, -math.inf, below)
    if inside is not None:
        kept &= inside
    return label_map_on(volume, kept, [Segment(1, params.label, algorithm="otsu")], [_found("OTSU_THRESHOLD", [value], volume.unit)])


class MultiOtsuParams(MethodParams):
    """Parameters of `multi-otsu`."""

    classes: int = Field(3, description="Classes that the intensities are parted into; the darkest becomes background", ge=2, le=5)
    label: str = Field("class", description="Segments are called by this, _1 for the darkest kept, _2 for the next", min_length=1)


@method("multi-otsu", stage=Stage.SEGMENT, reference=_OTSU)
def multi_otsu(volume: Volume, params: MultiOtsuParams) -> LabelMap:
    """Part a scan into 2 to 5 classes of intensity; the darkest is background, the others are the segments class_1, class_2, ...

    The thresholds have the largest variance between the classes, found exactly (see `otsu`), so a voxel of segment n is
    brighter than n thresholds. The finding OTSU_THRESHOLD tells them. Raises InputError where there are fewer intensities
    than classes.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 50, 51, 99]]], np.int16), Geometry((1, 1, 5), np.eye(4)))
    >>> multi_otsu(scan, MultiOtsuParams(classes=3)).array.ravel().tolist()
    [0, 0, 1, 1, 2]
    """
    from medseg.kernels import histogram

    image = volume.array.T
    values = _otsu_thresholds(image, params.classes, "multi-otsu")
    labels = histogram.limits_reached(image, [around(image.dtype, value)[1] for value in values])
    segments = [Segment(n, f"{params.label}_{n}", algorithm="multi-otsu") for n in range(1, params.classes)]
    return label_map_on(volume, labels, segments, [_found("OTSU_THRESHOLD", values, volume.unit)])


def _otsu_thresholds(image: npt.NDArray[Any], classes: int, method_name: str) -> list[float]:
    from medseg.kernels import histogram

    values, counts = histogram.histogram(image) if image.size else (np.empty(0), np.empty(0, np.int64))
    refuse_too_few(int(np.count_nonzero(counts)), classes, method_name)
    found = [float(value) for value in histogram.otsu_thresholds(values, counts, classes)]
    if image.dtype.kind in "bui" and image.dtype.itemsize <= 2:
        return found
    # a bin was counted as a whole, so the cut is its upper edge; told is the greatest intensity of the scan below that
    half_bin = float(values[-1] - values[0]) / (len(values) - 1) / 2
    return [float(image[image < np.float64(value + half_bin)].max()) for value in found]


def _found(code: str, values: list[float], unit: str) -> Finding:
    text = " and ".join(f"{value:g}" for value in values)
    return Finding(code, Severity.INFO, f"the intensities part at {text} {unit}".rstrip(), {"thresholds": values})


def _nothing_between(lower: float, upper: float) -> Finding:
    message = f"no voxel has an intensity from {lower:g} to {upper:g}: the segment is empty"
    return Finding("SEGMENT_EMPTY", Severity.WARNING, message, {"lower": lower, "upper": upper})
