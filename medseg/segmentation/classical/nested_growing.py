"""Every region that a seed grows as one limit widens, found in a single pass: the slider of a viewer needs no recomputation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number, PointRAS
from medseg.segmentation.classical.result import label_map_on
from medseg.segmentation.classical.seed_voxels import ball_indices, seed_voxels, typical

CURVE_POINTS = 64  # of the curve of volumes that goes into a finding

Vary = Literal["tolerance", "lower", "upper"]


@dataclass(frozen=True, eq=False)
class NestedRegions:
    """The nested regions around seeds: for every voxel the limit at which it joins.

    `levels` (k,j,i) holds that limit, NaN for voxels that never join; `vary` says what the limit is: the greatest
    difference from `centre` ("tolerance": regions grow with it), the highest intensity ("upper": likewise) or the lowest
    one ("lower": regions grow as it falls). `region` and `volume_ml` then answer for any limit.

    >>> scan = Volume(np.array([[[50, 52, 60, 50]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    >>> nested = nested_regions(scan, np.array([[0, 0, 0]]), centre=50)
    >>> nested.region(2).ravel().tolist(), [round(1000 * nested.volume_ml(limit)) for limit in (0, 2, 9, 10)]
    ([True, True, False, False], [1, 2, 2, 4])
    """

    levels: npt.NDArray[Any]
    geometry: Geometry
    vary: Vary
    centre: float

    def region(self, limit: float) -> npt.NDArray[np.bool_]:
        """Return the region at a limit (both limits of a range included) as a mask (i,j,k)."""
        bound = self.levels.dtype.type(limit)
        inside = self.levels >= bound if self.vary == "lower" else self.levels <= bound
        return np.asarray(inside.T)

    def volume_ml(self, limit: float) -> float:
        """Return the volume of the region at a limit, looked up on the curve."""
        limits, volumes = self.curve
        bound = float(self.levels.dtype.type(limit))
        place = np.searchsorted(-limits, -bound, "right") if self.vary == "lower" else np.searchsorted(limits, bound, "right")
        return float(volumes[place - 1]) if place else 0.0

    @cached_property
    def curve(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The limits at which voxels join, in the order in which the region grows, and its volume in ml at each."""
        found, counts = np.unique(self.levels[np.isfinite(self.levels)], return_counts=True)
        if self.vary == "lower":
            found, counts = found[::-1], counts[::-1]
        volumes = np.cumsum(counts, dtype=np.float64) * (self.geometry.voxel_volume_mm3 / 1000)
        return found.astype(np.float64), np.asarray(volumes, np.float64)

    def before_greatest_leap(self, at_least_ml: float) -> float | None:
        """Return the last limit before the region grows by the greatest factor at once, from at least a volume.

        That is where it breaks into its surroundings. None where fewer than two limits are left.
        """
        limits, volumes = self.curve
        start = int(np.searchsorted(volumes, at_least_ml))
        if len(volumes) - start < 2:
            return None
        return float(limits[start + int(np.argmax(volumes[start + 1 :] / volumes[start:-1]))])


def nested_regions(
    volume: Volume,
    seeds: npt.NDArray[np.int64],
    *,
    vary: Vary = "tolerance",
    centre: float = 0.0,
    within: tuple[float, float] = (-np.inf, np.inf),
    connectivity: Literal[6, 18, 26] = 6,
) -> NestedRegions:
    """Return all regions around seed voxels (i,j,k; N x 3) as one limit varies, in one pass over the scan.

    `within` are limits that hold always. The regions are those of `region-growing` between the limits, voxel for voxel.
    Takes 17 bytes a voxel (29 for float64 and integers above 16 bits), and the levels 4 (8) of these afterwards.
    """
    from medseg.kernels import levels

    image = volume.array.T
    cost = _cost(image, vary, centre)
    if np.isfinite(within).any():
        with np.errstate(over="ignore"):  # a limit beyond the dtype is none
            low, high = (image.dtype.type(limit) if image.dtype.kind == "f" else limit for limit in within)
        cost = np.where((image >= low) & (image <= high), cost, cost.dtype.type(np.nan))
    is_whole = image.dtype.kind != "f" and float(centre).is_integer()
    found = levels.join_levels(cost, np.asarray(seeds)[:, ::-1], connectivity, is_whole=is_whole)
    return NestedRegions(-found if vary == "lower" else found, volume.geometry, vary, centre)


def _cost(image: npt.NDArray[Any], vary: Vary, centre: float) -> npt.NDArray[Any]:
    """What a voxel costs to join, float32 where that is exact."""
    is_narrow = image.dtype.kind != "f" and image.dtype.itemsize <= 2
    grey = image.astype(np.float32 if is_narrow or image.dtype in (np.float16, np.float32) else np.float64)
    if vary == "upper":
        return grey
    if vary == "lower":
        return np.negative(grey, out=grey)
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(grey, grey.dtype.type(centre), out=grey)
    return np.abs(grey, out=grey)


class NestedGrowingParams(MethodParams):
    """Parameters of `nested-growing`."""

    seeds: list[PointRAS] = Field([], description="Points inside the structure", unit="mm RAS")
    seed_mask: LabelMapInput | None = Field(None, description="Label map all of whose voxels are seeds, on the grid of the scan")
    vary: Literal["tolerance", "lower", "upper"] = Field(
        "tolerance", description="The limit that varies: the difference from the seeds' median, the lowest or the highest intensity"
    )
    limits: list[Number] = Field(
        [], description="Limits whose nested regions are wanted; empty: the one before the greatest leap", unit="image"
    )
    lower: Number | None = Field(None, description="Lowest intensity kept at any limit; empty: none", unit="image")
    upper: Number | None = Field(None, description="Highest intensity kept at any limit; empty: none", unit="image")
    seed_radius_mm: Number = Field(3.0, description="Radius around the points in which the median is taken", unit="mm", ge=0, le=50)
    at_least_ml: Number = Field(1.0, description="Volume from which on a leap is looked for", unit="ml", ge=0)
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching: faces, also edges, also corners")
    label: str = Field("region", description="Name of the segment; with several limits region_1 (innermost), region_2, ...", min_length=1)

    @pydantic.model_validator(mode="after")
    def _enough(self) -> NestedGrowingParams:
        if not self.seeds and self.seed_mask is None:
            raise ValueError("give seeds, or a seed_mask")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError(f"lower ({self.lower:g}) is above upper ({self.upper:g}): swap them")
        return self


@method("nested-growing", stage=Stage.SEGMENT, reference="doi:10.1016/j.imavis.2004.02.006; doi:10.1109/83.663500")
def nested_growing(volume: Volume, params: NestedGrowingParams) -> LabelMap:
    """Grow all nested regions of one widening limit at once, and keep those of chosen limits or the one before a leak.

    Each voxel is given the least limit at which `region-growing` would reach it from the seeds. With one of `limits` the
    result is that region; with several the innermost region is the first segment and each further one what the next limit
    adds. Without, the limit is chosen at which the volume is about to grow by the greatest factor at once, which is where a
    region breaks out. The finding NESTED_REGIONS tells the limits, their volumes and the curve. Voxels that are not finite
    never join. Sheared grids change volumes only. From Python, `nested_regions` gives every region. Raises ParameterError
    for a point outside the scan, InputError where no seed can grow, GeometryMismatchError for a mask on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[50, 53, 50, 90, 90, 90, 90]]], np.int16), Geometry((1, 1, 7), np.eye(4)))
    >>> chosen = NestedGrowingParams(seeds=[(0, 0, 0)], seed_radius_mm=0, at_least_ml=0.002)
    >>> nested_growing(scan, chosen).array.ravel().tolist()
    [1, 1, 1, 0, 0, 0, 0]
    """
    nested = nested_regions_of(volume, params)
    limits = nested.curve[0]
    if not len(limits):
        raise InputError("nested-growing: no seed lies on a voxel with a finite value between the limits; move the seeds or widen them")
    chosen = sorted(set(params.limits), reverse=params.vary == "lower")
    if not chosen:
        leap = nested.before_greatest_leap(params.at_least_ml)
        chosen = [limits[-1] if leap is None else leap]
    labels = np.zeros(nested.levels.shape, smallest_unsigned(len(chosen)))
    for number in range(len(chosen), 0, -1):
        labels[nested.region(chosen[number - 1]).T] = number
    names = [params.label] if len(chosen) == 1 else [f"{params.label}_{n + 1}" for n in range(len(chosen))]
    segments = [Segment(n + 1, name, algorithm="nested-growing") for n, name in enumerate(names)]
    return label_map_on(volume, labels, segments, [regions_told(nested, [float(limit) for limit in chosen], volume.unit)])


def nested_regions_of(volume: Volume, params: NestedGrowingParams) -> NestedRegions:
    """Return all regions of the widening limit around the seeds of these parameters."""
    index = seed_voxels(volume.geometry, params.seeds, params.seed_mask, "nested-growing")
    around = index if params.seed_mask is not None else ball_indices(volume.geometry, index, params.seed_radius_mm)
    centre, _ = typical(volume.array[tuple(around.T)], "nested-growing")
    if volume.array.dtype.kind != "f":
        centre = float(round(centre))  # differences of whole numbers stay whole: one pass without sorting
    lower = -np.inf if params.lower is None else params.lower
    upper = np.inf if params.upper is None else params.upper
    return nested_regions(volume, index, vary=params.vary, centre=centre, within=(lower, upper), connectivity=params.connectivity)


def regions_told(nested: NestedRegions, chosen: list[float], unit: str) -> Finding:
    """Return the finding NESTED_REGIONS: the volumes at the chosen limits, and the whole curve."""
    limits, volumes = nested.curve
    at = np.unique(np.linspace(0, len(limits) - 1, min(CURVE_POINTS, len(limits))).astype(int))
    given = [nested.volume_ml(limit) for limit in chosen]
    what = {"tolerance": f"within a difference from {nested.centre:g} of", "lower": "at or above", "upper": "at or below"}[nested.vary]
    each = "; ".join(f"{limit:g} {unit}".rstrip() + f": {volume:.4g} ml" for limit, volume in zip(chosen, given, strict=True))
    details = {
        "vary": nested.vary,
        "centre": nested.centre,
        "limits": chosen,
        "volumes_ml": given,
        "curve_limits": limits[at].tolist(),
        "curve_volumes_ml": volumes[at].tolist(),
    }
    return Finding("NESTED_REGIONS", Severity.INFO, f"the regions {what} {each}", details)
