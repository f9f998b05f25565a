"""Edges as thin sheets of voxels: Canny's maxima of the gradient, and the zero crossings of Marr and Hildreth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.edges import smoothed, to_voxels
from medseg.segmentation.classical.filled import filled
from medseg.segmentation.classical.result import label_map_on

CANNY = "doi:10.1109/TPAMI.1986.4767851"
UPPER_IN_MEDIANS = 3.0  # noise alone reaches this many of its median slopes in about one voxel of 10,000
CROSSING_IN_MEDIANS = 2.0  # less: nothing follows a crossing down
LOWER_IN_UPPER = 0.4  # Canny advises a ratio of two or three to one


class CannyParams(MethodParams):
    """Parameters of `canny`."""

    sigma_mm: Number = Field(
        1.5, description="Standard deviation of the Gaussian that smooths the scan before; 0: none", unit="mm", ge=0, le=100
    )
    upper: Number | None = Field(
        None, description="Slope that starts an edge; empty: three times the median slope of the scan", unit="image/mm", ge=0
    )
    lower: Number | None = Field(
        None, description="Slope down to which an edge is followed; empty: 0.4 times the upper one", unit="image/mm", ge=0
    )
    label: str = Field("edges", description="Name of the segment", min_length=1)

    @pydantic.model_validator(mode="after")
    def _limits(self) -> CannyParams:
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError(f"lower {self.lower:g} is above upper {self.upper:g}: swap them")
        return self


@method("canny", stage=Stage.SEGMENT, reference=CANNY)
def canny(volume: Volume, params: CannyParams) -> LabelMap:
    """Mark the edges of a scan: voxels where the slope is greatest along the gradient, and steep enough.

    The scan is blurred with a Gaussian in mm; a voxel stays where its slope (intensity per mm) is no less than those on both
    sides along the gradient, interpolated between voxels. Edges at or above `lower` are kept where they are joined, over
    faces, edges or corners of voxels, to one at or above `upper`. The finding EDGE_LIMITS tells both. Unequal spacing,
    oblique, left-handed and sheared grids are honoured. NaN and infinite voxels take the value of their nearest neighbour and are never
    an edge; nor are voxels with a neighbour along the gradient outside the scan. A scan without edges gives an empty
    segment and the finding SEGMENT_EMPTY. Raises InputError where no voxel is finite.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 0, 0, 90, 90, 90]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> canny(scan, CannyParams(sigma_mm=0, upper=20)).array.ravel().tolist()
    [0, 0, 1, 0, 0, 0]
    """
    image, finite = filled(volume.array.T, "canny", volume.geometry.spacing_mm)
    edges, limits, _ = canny_edges(image, volume.geometry, params)
    if finite is not None:
        edges &= finite.view(np.uint8)
    findings = [_limits_found(limits, volume.unit)]
    if not edges.any():
        message = f"no voxel has a slope of {limits[1]:g} {volume.unit}/mm that is the greatest along its gradient: the segment is empty"
        findings.append(Finding("SEGMENT_EMPTY", Severity.WARNING, message, {"lower": limits[0], "upper": limits[1]}))
    return label_map_on(volume, edges, [Segment(1, params.label, algorithm="canny")], findings)


class ZeroCrossingsParams(MethodParams):
    """Parameters of `zero-crossings`."""

    sigma_mm: Number = Field(
        2.0, description="Standard deviation of the Gaussian: smaller structures give no edge", unit="mm", gt=0, le=100
    )
    least_slope: Number | None = Field(
        None,
        description="Slope of the blurred scan that an edge must have; empty: twice the median slope; 0: every crossing counts",
        unit="image/mm",
        ge=0,
    )
    label: str = Field("edges", description="Name of the segment", min_length=1)


@method("zero-crossings", stage=Stage.SEGMENT, reference="doi:10.1098/rspb.1980.0020")
def zero_crossings(volume: Volume, params: ZeroCrossingsParams) -> LabelMap:
    """Mark where the Laplacian of the blurred scan changes its sign (Marr and Hildreth): edges that close by themselves.

    Of two face neighbours of unlike sign the one nearer to zero is marked, if the slope of the blurred scan there is at
    least `least_slope`; the finding EDGE_LIMITS tells it. Unequal spacing, oblique, left-handed and sheared grids are honoured. NaN and
    infinite voxels take the value of their nearest neighbour and are never an edge. A scan without edges gives an empty
    segment and the finding SEGMENT_EMPTY. Raises InputError where no voxel is finite.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 0, 0, 0, 90, 90, 90, 90]]], np.int16), Geometry((1, 1, 8), np.eye(4)))
    >>> zero_crossings(scan, ZeroCrossingsParams(sigma_mm=1, least_slope=10)).array.ravel().tolist()
    [0, 0, 0, 0, 1, 0, 0, 0]
    """
    from medseg.kernels import edges as kernel

    image, finite = filled(volume.array.T, "zero-crossings", volume.geometry.spacing_mm)
    smooth, _ = smoothed(image, volume.geometry, params.sigma_mm)
    inverse = to_voxels(volume.geometry)
    marked = kernel.zero_crossings(kernel.laplacian(smooth, inverse))
    slopes = kernel.magnitude(smooth, inverse)
    least = CROSSING_IN_MEDIANS * _median_slope(slopes) if params.least_slope is None else params.least_slope
    marked &= (slopes >= np.float32(least)).view(np.uint8)
    if finite is not None:
        marked &= finite.view(np.uint8)
    text = f"edges have a slope of at least {least:g} {volume.unit}/mm"
    findings = [Finding("EDGE_LIMITS", Severity.INFO, text, {"least_slope": least})]
    if not marked.any():
        message = f"no sign change of the Laplacian has a slope of {least:g} {volume.unit}/mm: the segment is empty"
        findings.append(Finding("SEGMENT_EMPTY", Severity.WARNING, message, {"least_slope": least}))
    return label_map_on(volume, marked, [Segment(1, params.label, algorithm="zero-crossings")], findings)


def canny_edges(
    image: npt.NDArray[Any], geometry: Geometry, params: CannyParams
) -> tuple[npt.NDArray[np.uint8], tuple[float, float], npt.NDArray[np.float32]]:
    """Return Canny's edges of an array (k,j,i), the lower and upper slope that were used, and the slope everywhere."""
    from medseg.kernels import edges as kernel

    smooth, _ = smoothed(image, geometry, params.sigma_mm)
    maxima, slopes = kernel.gradient_maxima(smooth, to_voxels(geometry))
    limits = _limits_of(slopes, params)
    return hysteresis(maxima, limits), limits, slopes


def hysteresis(maxima: npt.NDArray[np.float32], limits: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Return 1 in voxels above 0 at or above the lower limit that are joined (26 neighbours) to one at or above the upper one.

    >>> hysteresis(np.array([[[1, 2, 5, 0, 2]]], np.float32), (2, 4)).tolist()
    [[[0, 1, 1, 0, 0]]]
    """
    from medseg.kernels import components

    lower, upper = (np.float32(limit) for limit in limits)
    followed = (maxima > 0) & (maxima >= lower)
    pieces, sizes = components.label_components(followed, 26)
    is_kept = np.zeros(len(sizes), np.uint8)
    is_kept[pieces[followed & (maxima >= upper)]] = 1
    return np.asarray(is_kept[pieces])


def _limits_of(slopes: npt.NDArray[np.float32], params: CannyParams) -> tuple[float, float]:
    """The slopes down to which an edge is followed, and that starts one."""
    upper = params.upper
    if upper is None:
        upper = UPPER_IN_MEDIANS * _median_slope(slopes)
        if params.lower is not None:
            upper = max(upper, params.lower)
    lower = LOWER_IN_UPPER * upper if params.lower is None else params.lower
    return float(lower), float(upper)


def _median_slope(slopes: npt.NDArray[np.float32]) -> float:
    """Median slope where there is any: most of a scan is tissue or air with noise, so this is the slope of the noise."""
    sloped = slopes[slopes > 0]
    return float(np.median(sloped)) if sloped.size else 0.0


def _limits_found(limits: tuple[float, float], unit: str) -> Finding:
    message = f"edges start at a slope of {limits[1]:g} and are followed down to {limits[0]:g} {unit}/mm"
    return Finding("EDGE_LIMITS", Severity.INFO, message, {"lower": limits[0], "upper": limits[1]})
