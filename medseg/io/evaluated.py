"""The two files of a comparison, read in layers and brought onto one grid without changing a voxel, or resampled where asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.core.errors import MedsegError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.io.dicom_objects import is_contours
from medseg.io.options import ReadOptions
from medseg.io.read import read_layers, read_with
from medseg.preprocessing.resample import MOST_VOXELS, fit_to, resample_label_map, shared_voxels

Layers = tuple[LabelMap, ...]

_MOST_GROWTH = 16  # a grid is not made more than this many times larger for contours that lie beyond it
_MOST_LISTED = 6


@dataclass(frozen=True, eq=False)
class SegmentationPair:
    """A reference and a prediction in layers, on one grid where their files share their voxels, and what was found on the way."""

    reference: Layers
    prediction: Layers
    findings: tuple[Finding, ...] = ()


def read_pair(
    reference: str | Path, prediction: str | Path, *, image: str | Path | None = None, resample: bool = False
) -> SegmentationPair:
    """Read the two segmentations of a comparison, overlapping segments in layers.

    Files whose grids share their voxels (other order of axes, cropped, padded) are put onto the smallest grid that holds
    both, voxel for voxel. Contours (RTSTRUCT) are filled on the grid of the other file, made larger where they reach beyond
    it, or on that of `image`, the scan they were drawn on. Where the voxels are not shared, both keep their grids, which
    `evaluate` refuses, unless `resample` brings the prediction onto the reference's grid (finding PREDICTION_RESAMPLED with
    the volumes before and after). Raises what reading raises.
    """
    ours, theirs = _read_both(Path(reference), Path(prediction), image)
    findings = [finding for layer in (*ours, *theirs) for finding in layer.findings]
    common = _common_grid(ours[0].geometry, theirs[0].geometry)
    if common is not None:
        ours, theirs = (tuple(fit_to(layer, common) for layer in layers) for layers in (ours, theirs))
    elif resample:
        target = ours[0].geometry
        moved = tuple(resample_label_map(layer, target) for layer in theirs)
        findings.append(_resampled(theirs, moved))
        theirs = moved
    for layers, side in ((ours, "reference"), (theirs, "prediction")):
        findings += _remarks(layers, side)
    return SegmentationPair(ours, theirs, _once(findings))


def read_single(path: str | Path, image: str | Path | None = None) -> Layers:
    """Read one segmentation in layers; contours on the grid of `image`, or on one of their own."""
    return read_layers(path, geometry=_scan_grid(image))


def _scan_grid(image: str | Path | None) -> Geometry | None:
    return read_with(image, ReadOptions()).geometry if image is not None else None


def _read_both(reference: Path, prediction: Path, image: str | Path | None) -> tuple[Layers, Layers]:
    scan = _scan_grid(image)
    if scan is not None:
        return read_layers(reference, geometry=scan), read_layers(prediction, geometry=scan)
    if is_contours(reference) and is_contours(prediction):
        grid = _contour_grid(reference, prediction)
        return read_layers(reference, geometry=grid), read_layers(prediction, geometry=grid)
    if is_contours(reference):
        theirs = read_layers(prediction)
        return read_layers(reference, geometry=_with_contours(theirs[0].geometry, reference)), theirs
    ours = read_layers(reference)
    return ours, read_layers(prediction, geometry=_with_contours(ours[0].geometry, prediction) if is_contours(prediction) else None)


def _contour_grid(reference: Path, prediction: Path) -> Geometry | None:
    """A grid in the planes of the reference's contours that holds those of the prediction too; None where none can be made.

    It is a voxel larger than needed on every side, so that it is nobody's own grid and both are filled by one rule.
    """
    from medseg.io.dicom.rtstruct_read import default_geometry, read_structures

    try:
        own = default_geometry(read_structures(reference))
    except MedsegError:
        return None  # reading it on no grid says what is wrong
    return _with_contours(own.cropped((-1, -1, -1), [extent + 2 for extent in own.shape]), prediction)


def _with_contours(grid: Geometry, contours: Path) -> Geometry:
    """Return a grid made larger where contours reach beyond it: what lies outside would else be no error of theirs."""
    from medseg.io.dicom.rtstruct_read import default_geometry, read_structures

    try:
        own = default_geometry(read_structures(contours))
    except MedsegError:
        return grid
    corners = grid.world_to_index(own.corners_mm())
    low = np.minimum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.maximum(np.ceil(corners.max(axis=0)) + 1, grid.shape).astype(int)
    shape = (high - low).tolist()
    if math.prod(shape) > min(_MOST_GROWTH * math.prod(grid.shape), MOST_VOXELS):
        return grid  # so far away that they belong to another place: reading says how much lies outside
    return grid if tuple(shape) == grid.shape else grid.cropped(low.tolist(), shape)


def _common_grid(one: Geometry, other: Geometry) -> Geometry | None:
    """The smallest grid with the voxels of both; None where they share none or the frames of reference differ."""
    if one.matches(other):
        return one
    frames = {one.frame_of_reference_uid, other.frame_of_reference_uid} - {None}
    step = shared_voxels(other, one) if len(frames) < 2 else None
    if step is None:
        return None
    turn, begins = step
    shape = [other.shape[axis] for axis in turn.axes]
    low = np.minimum(begins, 0)
    high = np.maximum(np.add(begins, shape), one.shape)
    extent = [int(n) for n in high - low]
    if math.prod(extent) >= MOST_VOXELS:
        return None
    return one if tuple(extent) == one.shape else one.cropped([int(n) for n in low], extent)


def _volumes_ml(layers: Iterable[LabelMap]) -> dict[int, tuple[str, float]]:
    """Label and volume of every segment by number."""
    from medseg.kernels.statistics import label_statistics

    found: dict[int, tuple[str, float]] = {}
    for layer in layers:
        table = label_statistics(layer.array.T)
        voxels = dict(zip(table.numbers.tolist(), table.voxels.tolist(), strict=True))
        ml = layer.geometry.voxel_volume_mm3 / 1000
        found |= {segment.number: (segment.label, voxels.get(segment.number, 0) * ml) for segment in layer.segments}
    return found


def _resampled(before: Sequence[LabelMap], after: Sequence[LabelMap]) -> Finding:
    old, new = _volumes_ml(before), _volumes_ml(after)
    volumes = [{"label": label, "before_ml": ml, "after_ml": new[number][1]} for number, (label, ml) in old.items()]
    shown = ", ".join(f"{one['label']} {one['before_ml']:.4g} → {one['after_ml']:.4g} ml" for one in volumes[:_MOST_LISTED])
    more = f" and {len(volumes) - _MOST_LISTED:,} more" if len(volumes) > _MOST_LISTED else ""
    text = (
        "the prediction lay on another grid and was brought onto the reference's (each voxel took the label that weighs most around"
        f" it): {shown}{more}. Scores hold for what was resampled"
    )
    return Finding("PREDICTION_RESAMPLED", Severity.WARNING, text, {"volumes": volumes})


def _remarks(layers: Layers, side: str) -> Iterable[Finding]:
    if len(layers) > 1:
        text = f"segments of the {side} share voxels: each was compared on its own, from {len(layers)} layers"
        yield Finding("OVERLAPPING_SEGMENTS", Severity.INFO, text, {"side": side, "layers": len(layers)})
    if not any(layer.segments for layer in layers):
        text = f"the {side} holds no segment: every voxel is background"
        yield Finding("NO_SEGMENTS", Severity.WARNING, text, {"side": side})


def _once(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple({(finding.code, finding.message): finding for finding in findings}.values())
