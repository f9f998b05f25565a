"""Smooth surfaces at the same volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.postprocessing.contest import Contest, contest_with_background, contest_without_background
from medseg.postprocessing.selection import hull_of, inside_of, nothing_to_change, selected
from medseg.preprocessing.crop import Box
from medseg.preprocessing.denoise import gaussian_mm, gaussian_reach_voxels

VOLUME_TOLERANCE = 0.01  # a segment further than this from its volume is reported
FINEST_IN_SPACINGS = 0.6  # below that hardly a voxel of a flat face changes hands
_AUCTION = "doi:10.1016/j.jcp.2017.10.036"


class SmoothParams(MethodParams):
    """Parameters of `smooth`."""

    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    sigma_mm: Number = Field(
        1.5, description="Standard deviation of the Gaussian: dents and bumps smaller than this go", unit="mm", gt=0, le=100
    )


@method("smooth", stage=Stage.POSTPROCESS, reference=_AUCTION)
def smooth(label_map: LabelMap, params: SmoothParams) -> LabelMap:
    """Smooth the surface of each segment and keep its volume.

    Each segment's mask and the background are blurred with a Gaussian in mm, and a voxel goes to the greatest of them plus a
    weight a segment. The weights are chosen such that every segment keeps its number of voxels (up to voxels of equal
    value); touching segments stay in touch. Segments that are not selected keep every voxel. Parts thinner than about
    2 sigma are lost to thicker ones. The finding SMOOTHED says how much moved and by how much volumes changed; a segment
    whose volume could not be held gives VOLUME_CHANGED, a sigma that is small beside the spacing SMOOTHING_TOO_FINE.

    >>> from medseg.core.segment import Segment
    >>> cube = np.zeros((15, 15, 15), np.uint8)
    >>> cube[3:12, 3:12, 3:12] = 1
    >>> organs = LabelMap(cube, Geometry((15, 15, 15), np.eye(4)), (Segment(1, "liver"),))
    >>> rounder = smooth(organs, SmoothParams(sigma_mm=2))
    >>> int(rounder.array[3, 3, 3]), bool(abs(int(rounder.mask("liver").sum()) - 729) <= 7)
    (0, True)
    """
    part = _part(label_map, params.segments, params.sigma_mm)
    if part is None:
        return nothing_to_change(label_map)
    contest = contest_with_background(part.labels, label_map.geometry, params.sigma_mm)
    part.enter(contest, label_map.geometry, params.sigma_mm)
    contest.protect(part.labels, (part.labels != 0) & ~part.taking_part)
    contest.keep_volumes(part.numbers, part.places, part.voxels)
    return _with_smoothed(label_map, part, contest.first, params.sigma_mm)


class JointSmoothParams(MethodParams):
    """Parameters of `joint-smooth`."""

    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    sigma_mm: Number = Field(
        1.5, description="Standard deviation of the Gaussian: dents and bumps smaller than this go", unit="mm", gt=0, le=100
    )
    outline: Literal["smoothed", "kept"] = Field(
        "smoothed", description="Whether the outer surface of all segments together is smoothed too, or stays voxel for voxel"
    )
    keep_volumes: bool = Field(True, description="Whether every segment keeps its volume; without, the greatest blurred mask takes a voxel")


@method("joint-smooth", stage=Stage.POSTPROCESS, reference=_AUCTION)
def joint_smooth(label_map: LabelMap, params: JointSmoothParams) -> LabelMap:
    """Smooth the surfaces between segments together, so that neighbours share one surface: no gap, no overlap.

    All blurred masks compete for a voxel, as in `smooth`. With the outline kept the background does not take part: the
    segments (of a liver, a brain, a spine) share out exactly the voxels that they hold together, and only the borders between them
    become smooth. With the outline smoothed background takes part, but never gains a voxel that it could not reach
    from outside: no hole opens inside or between segments. Segments that are not selected keep every voxel. The findings
    are those of `smooth`.

    >>> from medseg.core.segment import Segment
    >>> halves = np.ones((9, 9, 9), np.uint8)
    >>> halves[5:] = 2
    >>> halves[5, 4, 4] = 1
    >>> organs = LabelMap(halves, Geometry((9, 9, 9), np.eye(4)), (Segment(1, "left"), Segment(2, "right")))
    >>> flat = joint_smooth(organs, JointSmoothParams(outline="kept", keep_volumes=False))
    >>> int(flat.array[5, 4, 4]), int((flat.array == 0).sum())
    (2, 0)
    """
    part = _part(label_map, params.segments, params.sigma_mm)
    if part is None:
        return nothing_to_change(label_map)
    grid, labels = label_map.geometry, part.labels
    if params.outline == "kept":
        contest = contest_without_background(labels)
        fixed = ~part.taking_part
    else:
        contest = contest_with_background(labels, grid, params.sigma_mm)
        fixed = (labels != 0) & ~part.taking_part
    part.enter(contest, grid, params.sigma_mm)
    contest.protect(labels, fixed)
    if params.keep_volumes:
        contest.keep_volumes(part.numbers, part.places, part.voxels)
    smoothed = contest.first
    if params.outline == "kept":
        nobody = part.taking_part & (smoothed == 0)
        smoothed[nobody] = labels[nobody]
    else:
        _close_gaps(smoothed, labels)
    return _with_smoothed(label_map, part, smoothed, params.sigma_mm)


def _close_gaps(smoothed: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
    """Give background that opened where no background was reached before back to the segments that had it."""
    from medseg.kernels.components import fill_holes, label_components

    opened = (smoothed == 0) & (labels != 0)
    if not opened.any():
        return
    # holes of the whole that were not there before; a hole that was there may change its shape
    filled = fill_holes(np.asarray(smoothed != 0, order="F").T).T != 0
    pieces = label_components(np.asarray(filled & (smoothed == 0), order="F").T, 6)[0].T
    was_there = np.zeros(int(pieces.max()) + 1, bool)
    was_there[np.unique(pieces[labels == 0])] = True
    back = (pieces > 0) & ~was_there[pieces]
    smoothed[back] = labels[back]


@dataclass(frozen=True)
class _Part:
    """The box that smoothing can change, its labels, and where in it the segments that take part may grow to."""

    region: Box
    labels: npt.NDArray[Any]
    segments: tuple[Segment, ...]
    places: tuple[tuple[slice, ...], ...]
    voxels: tuple[int, ...]

    @property
    def numbers(self) -> list[int]:
        return [segment.number for segment in self.segments]

    @property
    def taking_part(self) -> npt.NDArray[np.bool_]:
        return np.isin(self.labels, self.numbers)

    def enter(self, contest: Contest, grid: Geometry, sigma_mm: float) -> None:
        """Let the blurred mask of each segment compete."""
        for number, place in zip(self.numbers, self.places, strict=True):
            mask = np.asarray(self.labels[place] == number, dtype=np.float32, order="F")
            contest.enter(number, place, gaussian_mm(mask.T, grid, sigma_mm).T)


def _part(label_map: LabelMap, names: Sequence[str] | None, sigma_mm: float) -> _Part | None:
    chosen = selected(label_map, names)
    if not chosen:
        return None
    reach = gaussian_reach_voxels(label_map.geometry, sigma_mm)
    boxes = [_reached(box, reach, label_map.geometry) for _, box in chosen]
    region = hull_of(boxes)
    labels = label_map.array[region.slices]
    places = tuple(inside_of(box, region) for box in boxes)
    segments = tuple(segment for segment, _ in chosen)
    voxels = tuple(int(np.count_nonzero(labels[place] == s.number)) for s, place in zip(segments, places, strict=True))
    return _Part(region, labels, segments, places, voxels)


def _reached(box: Box, reach: tuple[int, int, int], grid: Geometry) -> Box:
    start = np.asarray(box.start) - reach
    stop = np.asarray(box.stop) + reach
    return Box(tuple(start.tolist()), tuple(stop.tolist())).within(grid.shape)


def _with_smoothed(label_map: LabelMap, part: _Part, smoothed: npt.NDArray[Any], sigma_mm: float) -> LabelMap:
    """The label map with the smoothed part, and what that did to the volumes."""
    array: npt.NDArray[Any] = label_map.array.copy(order="F")
    array[part.region.slices] = smoothed
    after = [int(np.count_nonzero(smoothed[place] == s.number)) for s, place in zip(part.segments, part.places, strict=True)]
    findings = [f for s, n, m in zip(part.segments, part.voxels, after, strict=True) for f in _volume_check(s, n, m)]
    moved = int(np.count_nonzero(smoothed != part.labels))
    told = _report(part, after, moved, label_map.geometry.voxel_volume_mm3)
    return label_map.with_array(array, findings=(*label_map.findings, told, *findings, *_too_fine(label_map.geometry, sigma_mm)))


def _too_fine(grid: Geometry, sigma_mm: float) -> list[Finding]:
    """Whether the Gaussian is narrower than the steps of the coarsest axis."""
    coarsest = max((step for step, length in zip(grid.spacing_mm, grid.shape, strict=True) if length > 1), default=0.0)
    if sigma_mm >= FINEST_IN_SPACINGS * coarsest:
        return []
    message = (
        f"a sigma_mm of {sigma_mm:g} is too small for a spacing of {coarsest:g} mm: along that axis hardly anything can move; "
        f"try --sigma-mm {coarsest:.2g}"
    )
    return [Finding("SMOOTHING_TOO_FINE", Severity.WARNING, message, {"sigma_mm": sigma_mm, "spacing_mm": coarsest})]


def _report(part: _Part, after: Sequence[int], moved: int, voxel_mm3: float) -> Finding:
    """How many voxels changed hands, and what that did to each volume."""
    changes = [(m - n) / n for n, m in zip(part.voxels, after, strict=True)]
    worst = int(np.abs(changes).argmax())
    share = moved / sum(part.voxels)
    message = (
        f"smoothing gave {100 * share:.2g} % of the voxels to another segment or to background; volumes changed by at most "
        f"{100 * abs(changes[worst]):.2g} % ({part.segments[worst].label}: {part.voxels[worst] * voxel_mm3 / 1000:.4g} to "
        f"{after[worst] * voxel_mm3 / 1000:.4g} ml)"
    )
    volumes = {s.label: [n * voxel_mm3 / 1000, m * voxel_mm3 / 1000] for s, n, m in zip(part.segments, part.voxels, after, strict=True)}
    return Finding("SMOOTHED", Severity.INFO, message, {"moved_ml": moved * voxel_mm3 / 1000, "volumes_ml": volumes})


def _volume_check(segment: Segment, before: int, after: int) -> list[Finding]:
    if abs(after - before) <= max(1.0, VOLUME_TOLERANCE * before):
        return []
    message = f"smoothing changed {segment.label} from {before} to {after} voxels: choose a smaller sigma_mm"
    return [Finding("VOLUME_CHANGED", Severity.WARNING, message, {"segment": segment.label, "before": before, "after": after})]
