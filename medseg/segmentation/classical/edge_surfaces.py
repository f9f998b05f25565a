"""Regions that edges enclose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number, PointRAS
from medseg.preprocessing.distances import grown
from medseg.segmentation.classical.edges import CANNY, CannyParams, canny_edges
from medseg.segmentation.classical.filled import filled
from medseg.segmentation.classical.result import label_map_on
from medseg.segmentation.classical.seeds import seed_indices

MOST_REGIONS = 65535


class EdgeSurfacesParams(MethodParams):
    """Parameters of `edge-surfaces`."""

    seeds: list[PointRAS] = Field(
        [], description="Points inside structures: each gives a segment; none: every enclosed region", unit="mm RAS"
    )
    sigma_mm: Number = Field(
        1.5, description="Standard deviation of the Gaussian that smooths the scan before; 0: none", unit="mm", ge=0, le=100
    )
    upper: Number | None = Field(
        None, description="Slope that starts an edge; empty: three times the median slope of the scan", unit="image/mm", ge=0
    )
    lower: Number | None = Field(
        None, description="Slope down to which an edge is followed; empty: 0.4 times the upper one", unit="image/mm", ge=0
    )
    gap_mm: Number = Field(3.0, description="Gaps in the edges up to this width are closed", unit="mm", ge=0, le=100)
    least_volume_mm3: Number = Field(
        100.0, description="Without seeds: smaller regions are left out, measured without the width of their edges", unit="mm3", ge=0
    )
    separate: bool = Field(False, description="Without seeds: give each region a segment of its own, the largest first")
    touching_border: bool = Field(False, description="Keep also regions that reach the border of the scan, as organs that it cuts off do")
    label: str = Field("region", description="Name of the segment; with several region_1, region_2, ...", min_length=1)

    @pydantic.model_validator(mode="after")
    def _limits(self) -> EdgeSurfacesParams:
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError(f"lower {self.lower:g} is above upper {self.upper:g}: swap them")
        if self.touching_border and not self.seeds:
            raise ValueError("touching_border needs seeds: without them the air around the patient would be kept too")
        return self


@method("edge-surfaces", stage=Stage.SEGMENT, reference=f"{CANNY} (edges); doi:10.1016/0165-1684(94)90060-4 (growth back to them)")
def edge_surfaces(volume: Volume, params: EdgeSurfacesParams) -> LabelMap:
    """Segment what edges enclose: the regions around seeds, or all of them.

    The edges are those of `canny`, widened by half of `gap_mm` on both sides so that gaps up to that width are closed. What
    is then joined over faces of voxels is one region. Each region grows back to its edge: a voxel of the widened edges goes
    to the region that reaches it over the lowest slope, so borders lie on the ridge of the slope (as in `watershed`). A
    region that reaches the border of the scan is open, and left out unless `touching_border`; a seed in one gives the
    finding EDGE_LEAK, a second seed in a region SEEDS_IN_ONE_REGION. With `separate` REGIONS_DROPPED tells of more than
    65,535 regions. Unequal spacing, oblique, left-handed and sheared grids are honoured; an axis of one voxel has no
    border. Raises ParameterError for a point outside the scan, InputError where no seed lies in a closed region, or no
    voxel is finite.

    >>> from medseg.core.geometry import Geometry
    >>> square = np.zeros((9, 9, 1), np.int16)
    >>> square[2:7, 2:7] = 90
    >>> scan = Volume(square, Geometry((9, 9, 1), np.eye(4)))
    >>> chosen = EdgeSurfacesParams(seeds=[(4, 4, 0)], sigma_mm=0, upper=20, gap_mm=1)
    >>> edge_surfaces(scan, chosen).array[:, 4, 0].tolist()
    [0, 0, 1, 1, 1, 1, 1, 0, 0]
    """
    geometry = volume.geometry
    index = seed_indices(geometry, params.seeds, "edge-surfaces")
    image, finite = filled(volume.array.T, "edge-surfaces", geometry.spacing_mm)
    chosen = CannyParams(sigma_mm=params.sigma_mm, lower=params.lower, upper=params.upper)
    edges, limits, slopes = canny_edges(image, geometry, chosen)
    free = grown(edges, geometry, params.gap_mm / 2) == 0
    regions, sizes = _regions(free, slopes)
    open_regions = np.zeros(len(sizes), dtype=bool) if params.touching_border else _reaching_border(regions, free)
    findings = [Finding("EDGE_LIMITS", Severity.INFO, _limits_text(limits, volume.unit), {"lower": limits[0], "upper": limits[1]})]
    if params.seeds:
        table, count, leaks = _seeded(regions[tuple(index[:, ::-1].T)], open_regions, params)
        findings += leaks
    else:
        least = params.least_volume_mm3 / geometry.voxel_volume_mm3
        table, count, dropped = _every(sizes, open_regions, least, params.separate)
        findings += dropped
        if not table.any():
            message = "the edges enclose no region: lower the slopes, widen gap_mm, or allow regions that touch the border"
            findings.append(Finding("SEGMENT_EMPTY", Severity.WARNING, message))
    labels = table[regions]
    if finite is not None:
        labels[~finite] = 0
    names = [params.label] if count == 1 else [f"{params.label}_{n}" for n in range(1, count + 1)]
    segments = [Segment(n, name, algorithm="edge-surfaces") for n, name in enumerate(names, 1)]
    return label_map_on(volume, labels, segments, findings)


def _regions(free: npt.NDArray[np.bool_], slopes: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return every voxel's region, numbered from 1 with the largest first, and the voxels that a region had before it grew back."""
    from medseg.kernels import components, watershed

    regions, sizes = components.label_components(free, 6)
    if len(sizes) == 1:
        raise InputError("edge-surfaces: the widened edges fill the scan; raise the slopes (upper, lower) or narrow gap_mm")
    markers = regions.astype(smallest_unsigned(len(sizes)))
    return watershed.watershed(slopes, markers, 6), sizes


def _reaching_border(regions: npt.NDArray[Any], free: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which regions had a voxel in the outermost layer before they grew back."""
    reaches = np.zeros(int(regions.max()) + 1, dtype=bool)
    for axis, length in enumerate(regions.shape):
        if length == 1:
            continue
        for end in (0, -1):
            layer, kept = np.take(regions, end, axis), np.take(free, end, axis)
            reaches[np.unique(layer[kept])] = True
    return reaches


def _seeded(
    found: npt.NDArray[Any], open_regions: npt.NDArray[np.bool_], params: EdgeSurfacesParams
) -> tuple[npt.NDArray[Any], int, list[Finding]]:
    """Region → number of the first seed in it, the number of segments, and a finding for each seed in an open or a taken region."""
    table, findings = np.zeros(len(open_regions), smallest_unsigned(len(params.seeds))), []
    for number, (point, region) in enumerate(zip(params.seeds, found, strict=True), 1):
        place = ", ".join(f"{coordinate:.1f}" for coordinate in point)
        if not open_regions[region]:
            if table[region]:
                first = int(table[region])
                message = (
                    f"no edge parts seed {number}, ({place}) mm RAS, from seed {first}: the region is segment {first}, segment {number} "
                    "is empty"
                )
                details = {"point_mm": list(point), "segment": number, "held_by": first}
                findings.append(Finding("SEEDS_IN_ONE_REGION", Severity.WARNING, message, details))
            table[region] = table[region] or number
            continue
        message = f"the edges around the seed ({place}) mm RAS have a gap wider than {params.gap_mm:g} mm, or reach the border of the scan"
        findings.append(Finding("EDGE_LEAK", Severity.WARNING, message, {"point_mm": list(point), "gap_mm": params.gap_mm}))
    if not table.any():
        raise InputError(f"edge-surfaces: {findings[0].message}; lower the slopes, widen gap_mm, or set touching_border")
    return table, len(params.seeds), findings


def _every(
    sizes: npt.NDArray[np.int64], open_regions: npt.NDArray[np.bool_], least: float, separate: bool
) -> tuple[npt.NDArray[Any], int, list[Finding]]:
    """Region → number of every closed region that is large enough, the number of segments, and a finding where not all fit."""
    wanted = ~open_regions & (sizes >= least)
    wanted[0] = False
    count = min(int(wanted.sum()), MOST_REGIONS) if separate else 1
    table = np.zeros(len(sizes), smallest_unsigned(max(count, 1)))
    table[wanted] = 1
    if separate and count:
        table[wanted] = 0
        table[np.flatnonzero(wanted)[:count]] = np.arange(1, count + 1)  # components come largest first
    findings = []
    dropped = int(wanted.sum()) - count if separate else 0
    if dropped:
        message = f"{count + dropped} regions are enclosed, {MOST_REGIONS} segments are possible: the smallest {dropped} are left out"
        findings.append(Finding("REGIONS_DROPPED", Severity.WARNING, message, {"regions": count + dropped, "dropped": dropped}))
    return table, max(count, 1), findings


def _limits_text(limits: tuple[float, float], unit: str) -> str:
    return f"edges start at a slope of {limits[1]:g} and are followed down to {limits[0]:g} {unit}/mm"
