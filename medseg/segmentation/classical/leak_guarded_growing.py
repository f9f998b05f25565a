"""Region growing that follows its own intensities and does not leak through narrow passages."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import GeometryError, InputError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number, PointRAS
from medseg.preprocessing.denoise import gaussian_mm
from medseg.segmentation.classical.leak_guard import Leak, Mask, cut_leaks
from medseg.segmentation.classical.result import label_map_on
from medseg.segmentation.classical.seed_voxels import Index, ball_indices, seed_voxels, typical, without_non_finite

_NAME = "leak-guarded-growing"
LEAST_SPREAD = 0.5  # of whole-number intensities: half a step either way is rounding, not tissue


class LeakGuardedGrowingParams(MethodParams):
    """Parameters of `leak-guarded-growing`."""

    seeds: list[PointRAS] = Field([], description="Points inside the structure", unit="mm RAS")
    seed_mask: LabelMapInput | None = Field(None, description="Label map all of whose voxels are seeds, on the grid of the scan")
    lower: Number | None = Field(None, description="Lowest intensity kept; empty: taken from the seeds and the region", unit="image")
    upper: Number | None = Field(None, description="Highest intensity kept; empty: taken from the seeds and the region", unit="image")
    multiplier: Number = Field(1.5, description="Robust standard deviations (before smoothing) around the median that are kept", gt=0)
    tolerance: Number | None = Field(
        None,
        description="Difference from the median that is kept, in place of the multiplier; empty: by the multiplier",
        unit="image",
        ge=0,
    )
    iterations: int = Field(2, description="Times that median and deviation are taken anew from the guarded region", ge=0, le=50)
    seed_radius_mm: Number = Field(6.0, description="Radius around the points that gives the first median", unit="mm", ge=0, le=50)
    sigma_mm: Number = Field(
        2.0, description="Standard deviation of the Gaussian that smooths the scan before it is grown in; 0: none", unit="mm", ge=0, le=50
    )
    neck_mm: Number = Field(10.0, description="Widest passage that counts as a leak; 0: no guard", unit="mm", ge=0, le=200)
    widening: Number = Field(1.5, description="A passage is a leak where the region is this many times as wide on both sides", gt=1, le=20)
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching: faces, also edges, also corners")
    label: str = Field("region", description="Name of the segment", min_length=1)

    @pydantic.model_validator(mode="after")
    def _enough(self) -> LeakGuardedGrowingParams:
        if not self.seeds and self.seed_mask is None:
            raise ValueError("give seeds, or a seed_mask")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError(f"lower ({self.lower:g}) is above upper ({self.upper:g}): swap them")
        return self


@method(_NAME, stage=Stage.SEGMENT, reference="doi:10.3233/978-1-60750-929-5-586; doi:10.1016/0020-0190(78)90030-3; doi:10.1109/34.87344")
def leak_guarded_growing(volume: Volume, params: LeakGuardedGrowingParams) -> LabelMap:
    """Grow a region between limits that follow it, and stop where it widens behind a narrow passage.

    The scan is smoothed; the limits are its median ± `tolerance`, or ± multiplier robust standard deviations of the scan as
    it is, first in the balls around the seeds, then in the region that was found (fixed where `lower` or `upper` is given).
    All voxels of the balls between the limits are seeds, so a point may lie on a noisy voxel. Holes are filled. What is
    reached only through a passage of at most `neck_mm` while the region is at least `widening` times as wide before and
    behind it is cut off at the narrowest place: finding LEAK_STOPPED with place, width and volume of each. The finding
    GROWN_LIMITS tells the last limits. Widths are twice the distance to the border, in mm. Voxels that are not finite are
    outside. Raises GeometryError for a sheared grid, ParameterError for a point outside the scan, InputError where no seed
    lies between the limits or the surroundings of the seeds hold no value, GeometryMismatchError for a mask on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> two = np.zeros((13, 7, 7), np.int16)
    >>> two[1:6, 1:6, 1:6] = two[6, 3, 3] = two[7:12, 1:6, 1:6] = 50
    >>> scan = Volume(two, Geometry((13, 7, 7), np.eye(4)))
    >>> chosen = LeakGuardedGrowingParams(seeds=[(3, 3, 3)], sigma_mm=0, seed_radius_mm=1, neck_mm=2)
    >>> found = leak_guarded_growing(scan, chosen)
    >>> int(found.array[3, 3, 3]), int(found.array[9, 3, 3]), found.findings[-1].code
    (1, 0, 'LEAK_STOPPED')
    """
    grid = volume.geometry
    if grid.is_sheared and params.neck_mm > 0:
        raise GeometryError(
            f"{_NAME}: the grid is sheared by {grid.shear_degrees:.1f} degrees, and widths cannot be measured along its axes; "
            "resample the scan onto an upright grid first, or switch the guard off with neck_mm 0"
        )
    index = seed_voxels(grid, params.seeds, params.seed_mask, _NAME)
    around = index if params.seed_mask is not None else ball_indices(grid, index, params.seed_radius_mm)
    image = _smoothed(volume, params.sigma_mm)
    raw, place = volume.array.T, tuple(around[:, ::-1].T)
    limits = _limits(image[place], raw[place], params)
    mask, leaks = _grow(image, index, around, limits, volume.geometry, params)
    for _ in range(params.iterations if params.lower is None or params.upper is None else 0):
        again = _limits(image[mask.view(bool)], raw[mask.view(bool)], params)
        if again == limits:
            break
        limits = again
        mask, leaks = _grow(image, index, around, limits, volume.geometry, params)
    if raw.dtype.kind == "f":
        mask[~np.isfinite(raw)] = 0  # holes were filled over them, so that they do not count as border
    segment = Segment(1, params.label, algorithm=_NAME)
    return label_map_on(volume, mask, [segment], [_grown(limits, volume.unit), *_stopped(leaks, volume)])


def _smoothed(volume: Volume, sigma_mm: float) -> npt.NDArray[Any]:
    """The scan (k,j,i) after a Gaussian, with NaN where it has no finite value."""
    image = without_non_finite(volume)
    if sigma_mm > 0:
        image = gaussian_mm(image, volume.geometry, sigma_mm)
    if volume.array.dtype.kind != "f":
        return image
    finite = np.isfinite(volume.array.T)
    return image if finite.all() else np.where(finite, image, np.nan).astype(image.dtype)


def _limits(smooth: npt.NDArray[Any], raw: npt.NDArray[Any], params: LeakGuardedGrowingParams) -> tuple[float, float]:
    """Given limits, else the median of the smoothed intensities ± multiplier robust standard deviations of the raw ones.

    The deviation of the smoothed ones would be too small: the blurred rim of the structure lies farther from the median.
    """
    middle, _ = typical(smooth, _NAME)
    if params.tolerance is None:
        _, spread = typical(raw, _NAME)
        reach = params.multiplier * max(spread, LEAST_SPREAD if raw.dtype.kind != "f" else 0.0)
    else:
        reach = params.tolerance
    lower = middle - reach if params.lower is None else params.lower
    upper = middle + reach if params.upper is None else params.upper
    return lower, max(lower, upper)


def _grow(
    image: npt.NDArray[Any], index: Index, around: Index, limits: tuple[float, float], grid: Geometry, params: LeakGuardedGrowingParams
) -> tuple[Mask, list[Leak]]:
    """The guarded region (k,j,i) between limits, worked on in its own box."""
    from medseg.kernels import components, flood

    mask = flood.flood(image, np.ascontiguousarray(around[:, ::-1]), *limits, params.connectivity)
    held = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not len(held[0]):
        raise InputError(
            f"{_NAME}: no seed has an intensity between the limits {limits[0]:g} and {limits[1]:g}; move the seeds or widen the limits"
        )
    start = [max(int(at[0]) - 1, 0) for at in held]
    box = tuple(slice(low, int(at[-1]) + 2) for low, at in zip(start, held, strict=True))
    filled = components.fill_holes(np.ascontiguousarray(mask[box]))
    if params.neck_mm <= 0:
        mask[box] = filled
        return mask, []
    inside = around[mask[tuple(around[:, ::-1].T)] != 0]
    home = inside if params.seed_mask is not None else _nearest(index, inside, grid)
    i, j, k = grid.spacing_mm
    kept, leaks = cut_leaks(filled, home[:, ::-1] - start, (k, j, i), params.neck_mm, params.widening)
    mask[box] = kept
    return mask, [leak._replace(voxel=tuple(n + low for n, low in zip(leak.voxel, start, strict=True))) for leak in leaks]


def _nearest(index: Index, inside: Index, grid: Geometry) -> Index:
    """For each point the nearest of the voxels around the points that lie in the region."""
    return inside[[int(np.linalg.norm((inside - at) @ grid.affine[:3, :3].T, axis=1).argmin()) for at in index]]


def _grown(limits: tuple[float, float], unit: str) -> Finding:
    message = f"the region grew between {limits[0]:g} and {limits[1]:g} {unit}".rstrip()
    return Finding("GROWN_LIMITS", Severity.INFO, message, {"lower": limits[0], "upper": limits[1]})


def _stopped(leaks: list[Leak], volume: Volume) -> list[Finding]:
    if not leaks:
        return []
    told = []
    for leak in leaks:
        place = volume.geometry.index_to_world(leak.voxel[::-1]).tolist()
        told.append({"point_mm": place, "width_mm": leak.width_mm, "volume_ml": leak.voxels * volume.geometry.voxel_volume_mm3 / 1000})
    first = told[0]
    point = ", ".join(f"{coordinate:.1f}" for coordinate in first["point_mm"])
    more = "" if len(told) == 1 else f", and at {len(told) - 1} more"
    message = (
        f"growth was stopped at a passage {first['width_mm']:.1f} mm wide at ({point}) mm RAS, behind which lie "
        f"{first['volume_ml']:.3g} ml of like intensity{more}"
    )
    return [Finding("LEAK_STOPPED", Severity.WARNING, message, {"leaks": told})]
