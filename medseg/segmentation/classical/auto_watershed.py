"""Watershed without markers: every basin that is deep enough becomes a region."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.preprocessing.distances import depth_mm
from medseg.preprocessing.intensity import check_limits
from medseg.segmentation.classical.regions import by_size
from medseg.segmentation.classical.result import label_map_on
from medseg.segmentation.classical.watershed import flooded, relief_of

SHARE = 0.2  # of the relief's interquartile range that a basin must be deep where no depth is given: organs of a CT come out whole


class AutoWatershedParams(MethodParams):
    """Parameters of `auto-watershed`."""

    relief: Literal["gradient", "intensity", "distance"] = Field(
        "gradient",
        description="What is flooded: the edges of the scan, the scan itself, or the distance to the border of what lies between "
        "the limits, which parts touching objects",
    )
    sigma_mm: Number = Field(
        1.0, description="Standard deviation of the Gaussian that smooths the scan; 0: none; not used for distance", unit="mm", ge=0, le=100
    )
    depth: Number | None = Field(
        None,
        description="How deep below its lowest pass a basin must be, for gradient per mm; empty: a fifth of the interquartile range",
        unit="relief",
        ge=0,
    )
    depth_mm: Number = Field(
        1.0, description="For distance: how much thicker than the neck between them both of two objects must be", unit="mm", ge=0, le=1000
    )
    lower: Number | None = Field(None, description="Flood only voxels of at least this intensity; empty: no lower limit", unit="image")
    upper: Number | None = Field(None, description="Flood only voxels of at most this intensity; empty: no upper limit", unit="image")
    mask: LabelMapInput | None = Field(None, description="Flood only inside the segments of this label map; empty: everywhere")
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching: faces, also edges, also corners")
    lines: bool = Field(False, description="Leave a line of background, one voxel wide, where two basins meet")
    compactness: Number = Field(
        0, description="Height that each mm from the bottom of its basin adds to a voxel; 0: none", unit="relief/mm", ge=0
    )
    label: str = Field("region", description="Regions are called by this, _1 for the largest, _2 for the next", min_length=1)

    @pydantic.model_validator(mode="after")
    def _enough(self) -> AutoWatershedParams:
        if self.lower is not None or self.upper is not None:
            check_limits(self.lower, self.upper)
        elif self.relief == "distance" and self.mask is None:
            raise ValueError("relief distance needs objects: give lower, upper or a mask")
        return self


@method("auto-watershed", stage=Stage.SEGMENT, reference="doi:10.1109/83.217222")
def auto_watershed(volume: Volume, params: AutoWatershedParams) -> LabelMap:
    """Part a scan into the basins of its edges, or touching objects at their necks, without any marker.

    The markers are the minima of the relief that are left after those not deeper than `depth` are filled (h-minima by
    morphological reconstruction); they are flooded as in `watershed`. With relief distance the relief is the distance in
    mm to the border of what lies between the limits and inside the mask, upside down, so each lobe becomes a region where
    the neck is narrower than both lobes by `depth_mm`. Unequal spacing and shear are honoured; the end of the scan is no
    border. Voxels outside the limits and the mask, and those without a value, are background. Regions are numbered by
    volume, the largest first; the finding WATERSHED_BASINS tells their number and the depth. Raises InputError where no
    voxel is left to flood, GeometryMismatchError where the mask lies on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 3, 9, 2, 1, 2]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> auto_watershed(scan, AutoWatershedParams(relief="intensity", sigma_mm=0, depth=2)).array.ravel().tolist()
    [2, 2, 1, 1, 1, 1]
    """
    from medseg.kernels.reconstruction import fill_shallow, minima

    relief, inside = _relief_and_mask(volume, params)
    depth = params.depth_mm if params.relief == "distance" else params.depth
    if depth is None:
        depth = SHARE * _range(relief, inside)
    markers, count = minima(fill_shallow(_walled(relief, inside), depth, params.connectivity), params.connectivity, inside)
    labels = flooded(relief, markers, volume.geometry, inside, params)
    labels, segments = by_size(labels, params.label, "auto-watershed", "raise depth or sigma_mm, or flood less of the scan")
    unit = "mm" if params.relief == "distance" else ""
    message = f"{count} basins are deeper than {depth:.4g} {unit}".rstrip()
    found = Finding("WATERSHED_BASINS", Severity.INFO, message, {"basins": count, "depth": float(depth)})
    return label_map_on(volume, labels, segments, [found])


def _relief_and_mask(volume: Volume, params: AutoWatershedParams) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None]:
    """What is flooded (k,j,i) and where (None: everywhere)."""
    from medseg.kernels import histogram

    image = volume.array.T
    inside: npt.NDArray[np.uint8] | None = None
    if params.lower is not None or params.upper is not None:
        lower = -math.inf if params.lower is None else params.lower
        inside = histogram.threshold(image, lower, math.inf if params.upper is None else params.upper)
    if params.mask is not None:
        if not params.mask.geometry.matches(volume.geometry):
            raise GeometryMismatchError(
                "auto-watershed: mask lies on another grid than the scan; restore it onto the scan's grid first",
                volume.geometry,
                params.mask.geometry,
            )
        within = np.asarray(params.mask.array.T != 0).view(np.uint8)
        inside = within if inside is None else inside & within
    if params.relief == "distance":
        if image.dtype.kind == "f":
            inside = np.asarray(inside) & np.isfinite(image)
        relief: npt.NDArray[Any] = depth_mm(np.asarray(inside), volume.geometry)
        relief[~np.isfinite(relief)] = 0  # everything is inside: there is no border
        np.subtract(relief.max(), relief, out=relief)
    else:
        relief, finite = relief_of(image, volume.geometry, params.relief, params.sigma_mm)
        if finite is not None:
            inside = finite if inside is None else inside & finite
        if relief.dtype.kind == "f" and np.isnan(relief.max()):  # beyond the range of float32: flooded last
            relief = np.nan_to_num(relief, nan=np.inf, posinf=np.inf)
    if inside is not None and not inside.any():
        raise InputError("auto-watershed: no voxel with a value lies between the limits and inside the mask; widen them")
    return relief, inside


def _walled(relief: npt.NDArray[Any], inside: npt.NDArray[np.uint8] | None) -> npt.NDArray[Any]:
    """The relief as high as its dtype goes where it is not flooded, so that no pass leads through there."""
    if inside is None:
        return relief
    highest = np.inf if relief.dtype.kind == "f" else np.iinfo(relief.dtype).max if relief.dtype.kind in "iu" else True
    return np.where(inside.view(np.bool_), relief, relief.dtype.type(highest))


def _range(relief: npt.NDArray[Any], inside: npt.NDArray[np.uint8] | None) -> float:
    """From the 25th to the 75th percentile of the relief that is flooded."""
    from medseg.kernels import histogram

    values, counts = histogram.histogram(relief if inside is None else relief[inside.view(np.bool_)].reshape(1, 1, -1))
    if len(values) == 0:
        return 0.0
    reached = np.cumsum(counts) / counts.sum()
    low, high = values[np.searchsorted(reached, (0.25, 0.75))]
    return float(high - low)
