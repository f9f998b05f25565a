"""Regions that grow from seeds: between fixed limits, or limits that follow the region's own intensities."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import InputError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number, PointRAS
from medseg.preprocessing.intensity import check_limits
from medseg.segmentation.classical.result import label_map_on
from medseg.segmentation.classical.seed_voxels import seed_voxels
from medseg.segmentation.classical.seeds import Point, seed_indices

_NOT_AIR_HU = -500
_LEAKED_SHARE = 1 / 3
_LEAST_SCAN = 1000  # voxels: in fewer a share tells nothing
_ITK = "doi:10.3233/978-1-60750-929-5-586"


class RegionGrowingParams(MethodParams):
    """Parameters of `region-growing`."""

    seeds: list[PointRAS] = Field([], description="Points inside the structure", unit="mm RAS")
    seed_mask: LabelMapInput | None = Field(None, description="Label map all of whose voxels are seeds, on the grid of the scan")
    lower: Number | None = Field(None, description="Lowest intensity kept; empty: no lower limit", unit="image")
    upper: Number | None = Field(None, description="Highest intensity kept; empty: no upper limit", unit="image")
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching: faces, also edges, also corners")
    label: str = Field("region", description="Name of the segment", min_length=1)

    @pydantic.model_validator(mode="after")
    def _enough(self) -> RegionGrowingParams:
        if not self.seeds and self.seed_mask is None:
            raise ValueError("give seeds, or a seed_mask")
        check_limits(self.lower, self.upper)
        return self


@method("region-growing", stage=Stage.SEGMENT, reference=f"{_ITK} (ConnectedThreshold)")
def region_growing(volume: Volume, params: RegionGrowingParams) -> LabelMap:
    """Keep the voxels between two limits (both included) that are connected to a seed.

    Seeds are the voxels nearest to points, and those of a mask (such as another method's result, eroded). A point whose
    intensity lies outside the limits grows nothing and gives the finding SEED_OUTSIDE_LIMITS, voxels of the mask one finding
    together; NaN is outside. Raises ParameterError for a point outside the scan, and where no seed lies between the limits;
    GeometryMismatchError for a mask on another grid. Voxel for voxel the result of ITK's ConnectedThreshold.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[50, 60, 0, 55]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    >>> region_growing(scan, RegionGrowingParams(seeds=[(0, 0, 1)], lower=40)).array.ravel().tolist()
    [1, 1, 0, 0]
    """
    from medseg.kernels import flood

    lower = -math.inf if params.lower is None else params.lower
    upper = math.inf if params.upper is None else params.upper
    index = seed_voxels(volume.geometry, params.seeds, params.seed_mask, "region-growing")
    findings = _check_seed_values(volume, params.seeds, index, (lower, upper))
    mask = flood.flood(volume.array.T, index[:, ::-1], lower, upper, params.connectivity)
    return label_map_on(volume, mask, [Segment(1, params.label, algorithm="region-growing")], findings)


class ConfidenceConnectedParams(MethodParams):
    """Parameters of `confidence-connected`."""

    seeds: list[PointRAS] = Field(description="Points inside the structure", unit="mm RAS", min_length=1)
    multiplier: Number = Field(2.5, description="Standard deviations around the mean that are kept", gt=0)
    iterations: int = Field(4, description="Times that mean and standard deviation are taken anew from the region", ge=0, le=100)
    initial_radius_voxels: int = Field(
        1, description="Half the edge of the cube around each seed that gives the first mean", unit="voxels", ge=0, le=20
    )
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching: faces, also edges, also corners")
    label: str = Field("region", description="Name of the segment", min_length=1)


@method("confidence-connected", stage=Stage.SEGMENT, reference=f"{_ITK} (ConfidenceConnected)")
def confidence_connected(volume: Volume, params: ConfidenceConnectedParams) -> LabelMap:
    """Grow a region from seeds between limits that follow the region: mean ± multiplier standard deviations.

    The first limits come from the cubes around the seeds, the next ones from the region that they gave. They are always
    widened to hold every seed, and for integer images cut to whole numbers towards zero, as ITK does: with connectivity 6
    the result is voxel for voxel that of ITK's ConfidenceConnected. The finding GROWN_LIMITS tells the last limits,
    REGION_LEAKED a region of more than a third of the scan (in CT: of what is not air, -500 HU or more). Raises
    ParameterError for a point outside the scan, InputError where a seed or its surroundings hold NaN or infinity.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[9, 10, 11, 10, 90]]], np.int16), Geometry((1, 1, 5), np.eye(4)))
    >>> grown = confidence_connected(scan, ConfidenceConnectedParams(seeds=[(0, 0, 1)]))
    >>> grown.array.ravel().tolist()
    [1, 1, 1, 1, 0]
    """
    from medseg.kernels import flood

    image = volume.array.T
    seeds = np.ascontiguousarray(seed_indices(volume.geometry, params.seeds, "confidence-connected")[:, ::-1])
    values = image[tuple(seeds.T)]
    mean, std = flood.seed_mean_std(image, seeds, params.initial_radius_voxels)
    if not np.isfinite(mean):
        raise InputError(
            "confidence-connected: the voxels around the seeds hold NaN or infinity; move the seeds or choose a smaller radius"
        )
    limits = _limits(values, mean, std, params.multiplier)
    region = flood.grow(image, seeds, *limits, params.connectivity)
    for _ in range(params.iterations):
        mean, std = region.mean_std(ddof=1)
        if not std > 0:  # one intensity, or one voxel: nothing to learn from
            break
        again = _limits(values, mean, std, params.multiplier)
        if again == limits:  # so would be every further region
            break
        limits, was_large = again, region.is_large
        del region  # its runs are not needed while the next ones are found
        region = flood.grow(image, seeds, *limits, params.connectivity, expect_large=was_large)
    mask = region.mask()
    message = f"the region grew between {limits[0]:g} and {limits[1]:g} {volume.unit}".rstrip()
    found = Finding("GROWN_LIMITS", Severity.INFO, message, {"lower": limits[0], "upper": limits[1]})
    return label_map_on(volume, mask, [Segment(1, params.label, algorithm="confidence-connected")], [found, *leaked(volume, mask)])


def leaked(volume: Volume, mask: npt.NDArray[np.uint8]) -> list[Finding]:
    """Return the finding REGION_LEAKED where a mask (k,j,i) holds more than a third of a scan of at least 1,000 voxels, else nothing.

    Shares are of the voxels with a finite value, and in HU also of those from -500 HU on: organs are smaller, so a region of
    that size has mostly run into its surroundings. It is a hint: the body itself, or an organ in a close crop, is as large.
    """
    from medseg.kernels.shares import share_counts

    finite, finite_inside, bright, bright_inside = share_counts(volume.array.T, mask, _NOT_AIR_HU)
    parts = {"the voxels with a value": (finite, finite_inside)}
    if volume.unit == "HU":
        parts["the voxels from -500 HU on"] = (bright, bright_inside)
    for name, (of_voxels, inside) in parts.items():
        share = inside / of_voxels if of_voxels else 0.0
        if of_voxels >= _LEAST_SCAN and share > _LEAKED_SHARE:
            message = (
                f"the region holds {100 * share:.0f} % of {name}: it has probably run out of the structure; use leak-guarded-growing "
                "from the same seed, or narrower limits"
            )
            return [Finding("REGION_LEAKED", Severity.WARNING, message, {"share": share, "of_voxels": of_voxels})]
    return []


def _limits(values: npt.NDArray[Any], mean: float, std: float, multiplier: float) -> tuple[float, float]:
    """Mean ± multiplier standard deviations, widened to hold every seed."""
    reach = multiplier * std if std > 0 else 0.0
    lower, upper = min(mean - reach, float(values.min())), max(mean + reach, float(values.max()))
    return (lower, upper) if values.dtype.kind == "f" else (float(math.trunc(lower)), float(math.trunc(upper)))


def _check_seed_values(volume: Volume, seeds: list[Point], index: npt.NDArray[np.int64], limits: tuple[float, float]) -> list[Finding]:
    """One finding for each point outside the limits and one for the mask; raises ParameterError where no seed is inside."""
    values = volume.array[tuple(index.T)]
    # the kernel compares in the precision of the image, so a limit of 0.1 keeps a float32 voxel written as 0.1
    lower, upper = (values.dtype.type(limit) if values.dtype.kind == "f" else limit for limit in limits)
    inside = (values >= lower) & (values <= upper)
    findings = []
    for point, value in zip(np.array(seeds)[~inside[: len(seeds)]], values[: len(seeds)][~inside[: len(seeds)]], strict=True):
        place = ", ".join(f"{coordinate:.1f}" for coordinate in point)
        message = f"the seed ({place}) mm RAS has intensity {value:g}, outside {limits[0]:g} to {limits[1]:g}: it grows nothing"
        details = {"point_mm": point.tolist(), "intensity": float(value), "lower": limits[0], "upper": limits[1]}
        findings.append(Finding("SEED_OUTSIDE_LIMITS", Severity.WARNING, message, details))
    marked, outside = len(index) - len(seeds), int(np.count_nonzero(~inside[len(seeds) :]))
    if outside:
        message = f"{outside} of {marked} voxels of the seed mask lie outside {limits[0]:g} to {limits[1]:g}: they grow nothing"
        details = {"voxels": outside, "of_voxels": marked, "lower": limits[0], "upper": limits[1]}
        findings.append(Finding("SEED_OUTSIDE_LIMITS", Severity.WARNING, message, details))
    if not inside.any():
        raise ParameterError(f"region-growing: no seed has an intensity between the limits: {findings[0].message}")
    return findings
