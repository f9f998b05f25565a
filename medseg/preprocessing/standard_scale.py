"""Intensities of different scans brought to one scale by their histograms: matching to a reference, and Nyúl's standard scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import InputError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number

NYUL_PERCENTILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
STANDARD_SCALE = (0.0, 100.0)
_PLANES_AT_ONCE = 16  # the map is applied in parts: in double precision the whole scan would take 8 bytes a voxel
_ABOVE = "Take only voxels above this intensity into account, such as 0 for an MR scan with air at 0; empty: all"


class HistogramMatchingParams(MethodParams):
    """Parameters of `histogram-matching`."""

    reference_quantiles: list[Number] = Field(
        description="Intensities of the reference at evenly spaced quantiles from 0 to 1 (from learn_quantiles); at least two, rising",
        unit="image",
        min_length=2,
    )
    above: Number | None = Field(None, description=_ABOVE, unit="image")

    @pydantic.model_validator(mode="after")
    def _rising(self) -> HistogramMatchingParams:
        if any(later < earlier for earlier, later in zip(self.reference_quantiles, self.reference_quantiles[1:], strict=False)):
            raise ValueError("reference_quantiles must not fall: give them from quantile 0 to quantile 1")
        return self


@method("histogram-matching", stage=Stage.PREPROCESS, reference="doi:10.1109/42.836373")
def histogram_matching(volume: Volume, params: HistogramMatchingParams) -> Volume:
    """Map the intensities of a scan so that its histogram becomes that of a reference scan.

    The quantiles of the scan are moved to those of the reference, linearly in between; the order of intensities stays.
    With `above`, voxels at or below it do not count and are left as they are. The result is float32; NaN stays. Raises
    InputError where no finite voxel is left to take quantiles from.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 2, 3, 4]]], np.int16), Geometry((1, 1, 5), np.eye(4)))
    >>> params = HistogramMatchingParams(reference_quantiles=[0, 10, 100])
    >>> histogram_matching(scan, params).array.ravel().tolist()
    [0.0, 5.0, 10.0, 55.0, 100.0]
    """
    target = np.asarray(params.reference_quantiles, np.float64)
    own = _percentiles(volume, np.linspace(0, 100, len(target)), params.above, "histogram-matching")
    image = volume.array.T
    mapped = _mapped(image, own, target, extend=False)
    if params.above is not None:
        kept = image <= params.above
        mapped[kept] = image[kept]
    return volume.with_array(mapped.T)


def learn_quantiles(reference: Volume, count: int = 101, above: float | None = None) -> list[float]:
    """Return the intensities of a reference scan at evenly spaced quantiles, for `histogram-matching`.

    >>> from medseg.core.geometry import Geometry
    >>> learn_quantiles(Volume(np.arange(5.0).reshape(1, 1, 5), Geometry((1, 1, 5), np.eye(4))), count=3)
    [0.0, 2.0, 4.0]
    """
    if count < 2:
        raise ParameterError(f"count is {count}: give at least 2 quantiles")
    found: list[float] = _percentiles(reference, np.linspace(0, 100, count), above, "learn_quantiles").tolist()
    return found


class NyulParams(MethodParams):
    """Parameters of `nyul`."""

    landmarks: list[Number] = Field(
        description="Standard scale: intensities for the percentiles 1, 10, 20, ..., 90, 99, as learn_landmarks gives them; 11, rising",
        min_length=len(NYUL_PERCENTILES),
        max_length=len(NYUL_PERCENTILES),
    )
    above: Number | None = Field(None, description=_ABOVE, unit="image")

    @pydantic.model_validator(mode="after")
    def _rising(self) -> NyulParams:
        if any(later <= earlier for earlier, later in zip(self.landmarks, self.landmarks[1:], strict=False)):
            raise ValueError("landmarks must rise: learn them again (learn_landmarks) from scans that are not constant")
        return self


@method("nyul", stage=Stage.PREPROCESS, reference="doi:10.1109/42.836373")
def nyul(volume: Volume, params: NyulParams) -> Volume:
    """Bring an MR scan to a standard scale on which tissues have similar numbers in all scans of one kind (Nyúl and Udupa).

    The percentiles 1, 10, 20, ..., 90 and 99 of the scan go to the landmarks, linearly in between, and beyond the ends as
    in the outermost parts. The result is float32 without unit; NaN stays. A scan with one intensity becomes the middle
    landmark, with the finding CONSTANT_INTENSITY. Raises InputError where no finite voxel is left to take percentiles from.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.arange(101.0).reshape(1, 1, 101), Geometry((1, 1, 101), np.eye(4)))
    >>> landmarks = learn_landmarks([scan])
    >>> nyul(scan, NyulParams(landmarks=landmarks)).array.ravel()[[1, 50, 99]].round(3).tolist()
    [0.0, 50.0, 100.0]
    """
    landmarks = np.asarray(params.landmarks, np.float64)
    own = _percentiles(volume, NYUL_PERCENTILES, params.above, "nyul")
    findings = volume.findings
    if own[0] == own[-1]:
        message = "the scan has one intensity only: on the standard scale it is the middle landmark everywhere"
        findings = (*findings, Finding("CONSTANT_INTENSITY", Severity.WARNING, message, {"intensity": float(own[0])}))
    return volume.with_array(_mapped(volume.array.T, own, landmarks, extend=True).T, unit="", findings=findings)


def learn_landmarks(volumes: Iterable[Volume], above: float | None = None, scale: tuple[float, float] = STANDARD_SCALE) -> list[float]:
    """Learn the standard scale of `nyul` from several scans of one kind (same sequence, same part of the body).

    Each scan is brought to `scale` by its percentiles 1 and 99; the landmarks are the means of the percentiles in between.
    Scans with one intensity only are refused. Raises InputError for those and where there is no scan, ParameterError
    for a scale that does not rise.

    >>> from medseg.core.geometry import Geometry
    >>> one = Volume(np.arange(101.0).reshape(1, 1, 101), Geometry((1, 1, 101), np.eye(4)))
    >>> [round(value, 1) for value in learn_landmarks([one, one.with_array(3 * one.array + 7)])]
    [0.0, 9.2, 19.4, 29.6, 39.8, 50.0, 60.2, 70.4, 80.6, 90.8, 100.0]
    """
    low, high = scale
    if not low < high:
        raise ParameterError(f"learn_landmarks: the scale from {low:g} to {high:g} does not rise")
    rows = []
    for number, volume in enumerate(volumes, 1):
        own = _percentiles(volume, NYUL_PERCENTILES, above, "learn_landmarks")
        if own[0] == own[-1]:
            raise InputError(f"learn_landmarks: scan {number} has one intensity only; leave it out")
        rows.append(low + (own - own[0]) / (own[-1] - own[0]) * (high - low))
    if not rows:
        raise InputError("learn_landmarks: no scan was given; give several of one kind")
    found: list[float] = np.mean(rows, axis=0).tolist()
    return found


def _percentiles(
    volume: Volume, percentiles: Sequence[float] | npt.NDArray[np.float64], above: float | None, method_name: str
) -> npt.NDArray[np.float64]:
    from medseg.kernels.statistics import label_percentiles

    array = volume.array
    if array.dtype == np.float64 and np.abs(array, where=np.isfinite(array), out=np.zeros_like(array)).max() > np.finfo(np.float32).max:
        raise InputError(f"{method_name}: intensities go beyond the range of float32 (3.4e38); clip the scan first")
    inside = np.isfinite(array) if array.dtype.kind == "f" else np.ones(array.shape, np.bool_, order="F")
    if above is not None:
        inside &= array > above
    if not inside.any():
        where = "" if above is None else f" above {above:g}"
        raise InputError(f"{method_name}: the scan has no finite intensity{where}; check the scan, or give another limit `above`")
    return np.asarray(label_percentiles(inside.T.view(np.uint8), array.T, list(percentiles))[0])


def _mapped(
    image: npt.NDArray[Any], own: npt.NDArray[np.float64], target: npt.NDArray[np.float64], extend: bool
) -> npt.NDArray[np.float32]:
    """The image (k,j,i) with `own` moved to `target`, linearly in between; beyond the ends as there, or with the outermost slopes."""
    places, which = np.unique(own, return_inverse=True)
    # several quantiles at one intensity: that intensity goes to the middle of their targets
    values = np.bincount(which, target) / np.bincount(which)
    out = np.empty(image.shape, np.float32)
    for begin in range(0, image.shape[0], _PLANES_AT_ONCE):
        part = np.asarray(image[begin : begin + _PLANES_AT_ONCE], np.float64)
        mapped = np.interp(part, places, values)
        if extend and len(places) > 1:
            for end, slope_of in ((0, slice(0, 2)), (-1, slice(-2, None))):
                slope = np.diff(values[slope_of])[0] / np.diff(places[slope_of])[0]
                beyond = part < places[0] if end == 0 else part > places[-1]
                mapped[beyond] = values[end] + slope * (part[beyond] - places[end])
        mapped[np.isnan(part)] = np.nan
        out[begin : begin + _PLANES_AT_ONCE] = mapped
    return out
