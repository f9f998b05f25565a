"""Intensities cut to a range or brought to a common scale."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number

_LARGEST = 1e38
_NNUNET = "doi:10.1038/s41592-020-01008-z"


class ClipParams(MethodParams):
    """Parameters of `clip`."""

    lower: Number | None = Field(None, description="Intensity that everything below is raised to; empty: no lower limit", unit="image")
    upper: Number | None = Field(None, description="Intensity that everything above is lowered to; empty: no upper limit", unit="image")

    @pydantic.model_validator(mode="after")
    def _limits(self) -> ClipParams:
        check_limits(self.lower, self.upper)
        return self


@method("clip", stage=Stage.PREPROCESS, reference=_NNUNET)
def clip(volume: Volume, params: ClipParams) -> Volume:
    """Cut intensities to a range, for example -1000 to 1000 HU.

    The dtype stays where it can hold the limits, else the result is a float. NaN stays NaN.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[-2000, 40, 3000]]], np.int16), Geometry((1, 1, 3), np.eye(4)))
    >>> clip(scan, ClipParams(lower=-1000, upper=1000)).array.ravel().tolist()
    [-1000, 40, 1000]
    """
    array = volume.array
    lower = -math.inf if params.lower is None else params.lower
    upper = math.inf if params.upper is None else params.upper
    if array.dtype.kind == "f":
        low: Any = None if params.lower is None else array.dtype.type(lower)
        high: Any = None if params.upper is None else array.dtype.type(upper)
        return volume.with_array(np.clip(array, low, high))
    info = np.iinfo(array.dtype)
    whole = all(math.isinf(limit) or limit.is_integer() for limit in (lower, upper))
    if not whole or lower > info.max or upper < info.min:
        return volume.with_array(np.clip(array.astype(np.result_type(array.dtype, np.float32)), lower, upper))
    return volume.with_array(np.clip(array, array.dtype.type(max(lower, info.min)), array.dtype.type(min(upper, info.max))))


class NormaliseParams(MethodParams):
    """Parameters of `normalise`."""

    kind: Literal["z-score", "minmax", "percentile"] = Field(
        "z-score",
        description="What the scale is: z-score has mean 0 and standard deviation 1, minmax lowest value 0 and highest value 1, "
        "percentile 0 and 1 at the two percentiles",
    )
    above: Number | None = Field(
        None, description="Take the statistics only from voxels above this intensity, such as 0 for an MR scan with air at 0", unit="image"
    )
    lower_percentile: Number = Field(0.5, description="Percentile that becomes 0, for kind percentile", unit="%", ge=0, lt=100)
    upper_percentile: Number = Field(99.5, description="Percentile that becomes 1, for kind percentile", unit="%", gt=0, le=100)

    @pydantic.model_validator(mode="after")
    def _percentiles(self) -> NormaliseParams:
        if self.lower_percentile >= self.upper_percentile:
            raise ValueError(f"lower_percentile ({self.lower_percentile:g}) is not below upper_percentile ({self.upper_percentile:g})")
        return self


@method("normalise", stage=Stage.PREPROCESS, reference="doi:10.1117/12.2513089")
def normalise(volume: Volume, params: NormaliseParams) -> Volume:
    """Bring the intensities of a scan to a common scale, float32 without unit.

    The statistics come from all finite voxels, or from those above a limit; every voxel is scaled with them. The standard
    deviation divides by the number of voxels; between two voxels a percentile is interpolated linearly. Nothing is cut: what
    lies beyond the percentiles is below 0 or above 1 (`clip` cuts it). A constant scan becomes 0 everywhere, with the finding
    CONSTANT_INTENSITY.
    NaN stays NaN. Raises InputError where no finite voxel is left to take statistics from, or float32 cannot hold the intensities.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 10, 30]]], np.int16), Geometry((1, 1, 3), np.eye(4)))
    >>> normalise(scan, NormaliseParams(kind="minmax", above=5)).array.ravel().tolist()
    [-0.5, 0.0, 1.0]
    """
    array = volume.array
    centre, scale = _centre_and_scale(array, params)
    findings = volume.findings
    if scale > 0:
        # float32 holds 16-bit integers exactly; others are shifted and scaled at their own precision first
        work = np.float32 if array.dtype.itemsize <= 2 or array.dtype == np.float32 else np.float64
        scaled: npt.NDArray[np.floating[Any]] = array.astype(work)
        scaled -= work(centre)
        scaled /= work(scale)
        scaled = scaled.astype(np.float32, copy=False)
    else:
        scaled = np.where(np.isfinite(array), np.float32(0), np.float32(np.nan))
        message = "the intensities that the scale is made from are all one: the normalised intensities are all 0"
        findings = (*findings, Finding("CONSTANT_INTENSITY", Severity.WARNING, message, {"intensity": centre}))
    return volume.with_array(scaled, unit="", findings=findings)


def _centre_and_scale(array: npt.NDArray[Any], params: NormaliseParams) -> tuple[float, float]:
    from medseg.kernels.statistics import label_percentiles, label_statistics

    if array.dtype.kind == "f" and float(np.abs(array, where=np.isfinite(array), out=np.zeros_like(array)).max()) > _LARGEST:
        raise InputError(
            f"normalise: intensities go beyond {_LARGEST:g}, where float32 (to 3.4e38) cannot hold differences; clip the scan first"
        )
    inside = np.ones(array.shape, np.uint8, order="F") if params.above is None else np.asarray(array > params.above).view(np.uint8)
    found = label_statistics(inside.T, array.T)
    if len(found.numbers) == 0 or not np.isfinite(found.mean[0]):
        where = "" if params.above is None else f" above {params.above:g}"
        raise InputError(f"normalise: the scan has no finite intensity{where}; check the scan, or give another limit `above`")
    if params.kind == "z-score":
        return float(found.mean[0]), float(found.std[0])
    if params.kind == "percentile":
        ends = [params.lower_percentile, params.upper_percentile]
        low, high = label_percentiles(inside.T, array.T, ends, found)[0].tolist()
        return float(low), float(high) - float(low)
    return float(found.minimum[0]), float(found.maximum[0]) - float(found.minimum[0])


def check_limits(lower: float | None, upper: float | None) -> None:
    """Raise ValueError unless at least one limit is given and they are in order."""
    if lower is None and upper is None:
        raise ValueError("give lower, upper or both")
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"lower ({lower:g}) is above upper ({upper:g}): swap them")
