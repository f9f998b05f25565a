"""Segmentation by a threshold that follows the surroundings of each voxel."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.segmentation.classical.intensities import looked_at
from medseg.segmentation.classical.result import label_map_on

_SLACK = 1e-9  # of the range of intensities: rounding must not part a flat region from its own mean
_SIGMAS = 6.0  # a Gaussian window is as long as this many standard deviations, as in scikit-image


class LocalThresholdParams(MethodParams):
    """Parameters of `local-threshold`."""

    rule: Literal["sauvola", "mean", "gaussian"] = Field(
        "mean", description="What a voxel is compared with: Sauvola's limit, the mean of its window, or its Gaussian mean"
    )
    window_mm: Number = Field(30.0, description="Edge of the window around each voxel, centred on it", unit="mm", gt=0)
    side: Literal["above", "below"] = Field("above", description="Whether structures are brighter or darker than their surroundings")
    offset: Number = Field(0.0, description="How much a voxel must differ from the mean (rules mean and gaussian)", unit="image", ge=0)
    weight: Number = Field(0.2, description="How far flat surroundings move the limit away (rule sauvola; k in the paper)", gt=0, le=1)
    largest_std: Number | None = Field(
        None,
        description="Standard deviation of a window full of contrast (rule sauvola; R in the paper); empty: half the range of the scan",
        unit="image",
        gt=0,
    )
    scale_from: Number | None = Field(
        None,
        description="Intensity that Sauvola's scale starts at; empty: the lowest of the scan (structures below), or the highest (above)",
        unit="image",
    )
    mask: LabelMapInput | None = Field(None, description="Keep only voxels inside the segments of this label map; empty: everywhere")
    label: str = Field("threshold", description="Name of the segment", min_length=1)


@method(
    "local-threshold",
    stage=Stage.SEGMENT,
    reference="doi:10.1016/S0031-3203(99)00055-2 (Sauvola); doi:10.1007/978-3-642-24785-9_38 (Gaussian by running means)",
)
def local_threshold(volume: Volume, params: LocalThresholdParams) -> LabelMap:
    """Keep the voxels that are brighter (or darker) than their surroundings within a window in mm.

    Finds structures where intensities drift across the scan, such as an MR with a bias field. The window is a box along the
    axes of the grid with edges of window_mm, voxels at its end counting by their share (on a sheared grid the box leans with
    it); for the Gaussian the standard deviation is a sixth of it. Outside the scan, and where a voxel is NaN or infinite,
    nothing counts. The rule sauvola keeps what lies beyond z + (m - z)(1 + k(s/R - 1)), with mean m and standard deviation s
    of the window; for bright structures the scale runs down from the highest intensity, so that flat surroundings stay out.
    The time does not depend on the window. NaN is never inside. Raises InputError where no voxel is finite or one goes beyond float32.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 9, 0, 50, 59, 50]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> local_threshold(scan, LocalThresholdParams(window_mm=3, offset=5)).array.ravel().tolist()
    [0, 1, 0, 1, 1, 0]
    """
    inside = looked_at(volume, None, None, params.mask, "local-threshold")
    low, high = _finite_range(volume.array)
    mask = _beyond(volume, params, low, high)
    if inside is not None:
        mask &= inside
    findings = []
    if not mask.any():
        message = f"no voxel is far enough {params.side} its surroundings within {params.window_mm:g} mm: the segment is empty"
        findings.append(Finding("SEGMENT_EMPTY", Severity.WARNING, message, {"window_mm": params.window_mm, "rule": params.rule}))
    return label_map_on(volume, mask, [Segment(1, params.label, algorithm="local-threshold")], findings)


def _beyond(volume: Volume, params: LocalThresholdParams, low: float, high: float) -> npt.NDArray[np.uint8]:
    from medseg.kernels import running

    image, slack = volume.array.T, _SLACK * (high - low) + 1e-12 * max(abs(low), abs(high))
    side = 1 if params.side == "above" else -1
    lengths = [params.window_mm / spacing for spacing in volume.geometry.spacing_mm[::-1]]
    if params.rule == "gaussian":
        slack = 4 * float(np.finfo(np.float32).eps) * max(high - low, abs(high), abs(low))  # its means are float32
        return _beyond_gaussian(image, [length / _SIGMAS for length in lengths], side, params.offset + slack)
    half = [max(length - 1, 0) / 2 for length in lengths]
    if params.rule == "mean":
        return running.beyond_window_mean(image, half, side, params.offset, slack)
    spread = params.largest_std or (high - low) / 2 or 1.0
    scale_from = (high if side > 0 else low) if params.scale_from is None else params.scale_from
    return running.beyond_sauvola(image, half, side, params.weight, spread, scale_from, slack)


def _beyond_gaussian(image: npt.NDArray[Any], sigmas: list[float], side: int, least: float) -> npt.NDArray[np.uint8]:
    from medseg.kernels.running_gaussian import gaussian_mean

    mask = np.empty(image.shape, np.uint8)
    for plane, mean, out in zip(image, gaussian_mean(image, sigmas), mask, strict=True):
        out[:] = side * (plane.astype(np.float32) - mean) > least
    return mask


def _finite_range(array: npt.NDArray[Any]) -> tuple[float, float]:
    """The lowest and the highest finite intensity."""
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = array[np.isfinite(array)]
        if not finite.size:
            raise InputError("local-threshold: no voxel of the scan is finite; look at the scan")
        low, high = float(finite.min()), float(finite.max())
    if max(-low, high) > float(np.finfo(np.float32).max):
        raise InputError("local-threshold: intensities go beyond the range of float32 (3.4e38); clip the scan first")
    return low, high
