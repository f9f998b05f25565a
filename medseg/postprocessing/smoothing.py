"""Smooth surfaces at the same volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.postprocessing.selection import selected
from medseg.preprocessing.crop import Box
from medseg.preprocessing.denoise import gaussian_mm, gaussian_reach_voxels

MOST_ROUNDS = 20  # neighbours take turns until every volume holds; a handful is enough in practice
VOLUME_TOLERANCE = 0.01  # a segment further than this from its volume is reported

FloatArray = npt.NDArray[np.float32]


class SmoothParams(MethodParams):
    """Parameters of `smooth`."""

    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    sigma_mm: Number = Field(
        1.5, description="Standard deviation of the Gaussian: dents and bumps smaller than this go", unit="mm", gt=0, le=100
    )


@method("smooth", stage=Stage.POSTPROCESS, reference="doi:10.1016/j.jcp.2017.10.036")
def smooth(label_map: LabelMap, params: SmoothParams) -> LabelMap:
    """Smooth the surface of each segment and keep its volume.

    Each segment's mask and the background are blurred with a Gaussian in mm, and a voxel goes to the greatest of them plus a
    weight a segment. The weights are chosen such that every segment keeps its number of voxels (up to voxels of equal
    value); touching segments stay in touch. Segments that are not selected keep every voxel. Parts thinner than about
    2 sigma are lost to thicker ones. A segment whose volume could not be held gives the finding VOLUME_CHANGED.

    >>> from medseg.core.segment import Segment
    >>> cube = np.zeros((15, 15, 15), np.uint8)
    >>> cube[3:12, 3:12, 3:12] = 1
    >>> organs = LabelMap(cube, Geometry((15, 15, 15), np.eye(4)), (Segment(1, "liver"),))
    >>> rounder = smooth(organs, SmoothParams(sigma_mm=2))
    >>> int(rounder.array[3, 3, 3]), bool(abs(int(rounder.mask("liver").sum()) - 729) <= 7)
    (0, True)
    """
    chosen = selected(label_map, params.segments)
    if not chosen:
        return label_map
    grid = label_map.geometry
    reach = gaussian_reach_voxels(grid, params.sigma_mm)
    boxes = [_reached(box, reach, grid) for _, box in chosen]
    region = _hull(boxes)
    labels = label_map.array[region.slices]
    contest = _contest_with_background(labels, [segment.number for segment, _ in chosen], grid, params.sigma_mm)
    places = [_inside(box, region) for box in boxes]
    for (segment, _), place in zip(chosen, places, strict=True):
        mask = np.asarray(labels[place] == segment.number, dtype=np.float32, order="F")
        contest.enter(segment.number, place, gaussian_mm(mask.T, grid, params.sigma_mm).T)
    contest.protect(labels, [segment.number for segment, _ in chosen])
    voxels = [int(np.count_nonzero(labels[place] == segment.number)) for (segment, _), place in zip(chosen, places, strict=True)]
    for _ in range(MOST_ROUNDS):
        moved = [contest.balance(s.number, place, n) for (s, _), place, n in zip(chosen, places, voxels, strict=True)]
        if not any(moved):
            break
    array: npt.NDArray[Any] = label_map.array.copy(order="F")
    array[region.slices] = contest.first
    findings = [
        finding
        for (segment, _), place, before in zip(chosen, places, voxels, strict=True)
        for finding in _volume_check(segment, before, int(np.count_nonzero(contest.first[place] == segment.number)))
    ]
    return label_map.with_array(array, findings=(*label_map.findings, *findings))


@dataclass
class _Contest:
    """The two greatest of the weighted fields in every voxel, and the numbers they belong to."""

    best: FloatArray
    second: FloatArray
    first: npt.NDArray[Any]
    runner: npt.NDArray[Any]

    def enter(self, number: int, place: tuple[slice, ...], field: FloatArray) -> None:
        """Let one more field take part inside a box."""
        best, second, first, runner = self.best[place], self.second[place], self.first[place], self.runner[place]
        wins = field > best
        next_ = (field > second) & ~wins
        np.copyto(second, best, where=wins)
        np.copyto(runner, first, where=wins)
        np.copyto(best, field, where=wins)
        np.copyto(second, field, where=next_)
        first[wins] = number
        runner[next_] = number

    def protect(self, labels: npt.NDArray[Any], numbers: list[int]) -> None:
        """Give the voxels of segments that do not take part to them for good."""
        fixed = (labels != 0) & ~np.isin(labels, numbers)
        self.first[fixed] = labels[fixed]
        self.runner[fixed] = labels[fixed]

    def balance(self, number: int, place: tuple[slice, ...], voxels: int) -> bool:
        """Change the weight of one field until it holds as many voxels as asked; whether anything had to change."""
        best, second, first, runner = self.best[place], self.second[place], self.first[place], self.runner[place]
        holds, follows = first == number, runner == number
        if int(np.count_nonzero(holds)) == voxels:
            return False
        lead = best - second
        leads = np.concatenate([lead[holds], -lead[follows]])
        if len(leads) <= voxels:
            return False
        shift = _shift_for(leads, voxels)
        np.add(best, shift, out=best, where=holds)
        np.add(second, shift, out=second, where=follows)
        swap = second > best
        best[swap], second[swap] = second[swap], best[swap]
        first[swap], runner[swap] = runner[swap], first[swap]
        return bool(swap.any())


def _shift_for(leads: FloatArray, voxels: int) -> np.float32:
    """What to add to all leads so that as many as asked are positive, or as near to it as equal leads allow."""
    ordered = np.partition(leads, [len(leads) - voxels - 1, len(leads) - voxels])
    last_in, first_out = ordered[len(leads) - voxels], ordered[len(leads) - voxels - 1]
    if last_in > first_out:
        return np.float32(-(last_in / 2 + first_out / 2))
    above, equal = int(np.count_nonzero(leads > last_in)), int(np.count_nonzero(leads == last_in))
    if above + equal - voxels < voxels - above:  # nearer with the equal ones
        lower = leads[leads < last_in]
        return np.float32(-(last_in / 2 + lower.max() / 2)) if len(lower) else np.float32(1 - last_in)
    higher = leads[leads > last_in]
    return np.float32(-(last_in / 2 + higher.min() / 2)) if len(higher) else np.float32(-last_in)


def _contest_with_background(labels: npt.NDArray[Any], numbers: list[int], grid: Geometry, sigma_mm: float) -> _Contest:
    background = np.asarray(labels == 0, dtype=np.float32, order="F")
    best = np.array(gaussian_mm(background.T, grid, sigma_mm).T, dtype=np.float32, order="F")
    second = np.full(labels.shape, -np.inf, np.float32, order="F")
    first, runner = (np.zeros(labels.shape, labels.dtype, order="F") for _ in range(2))
    return _Contest(best, second, first, runner)


def _reached(box: Box, reach: tuple[int, int, int], grid: Geometry) -> Box:
    start = np.asarray(box.start) - reach
    stop = np.asarray(box.stop) + reach
    return Box(tuple(start.tolist()), tuple(stop.tolist())).within(grid.shape)


def _hull(boxes: list[Box]) -> Box:
    start = np.min([box.start for box in boxes], axis=0)
    stop = np.max([box.stop for box in boxes], axis=0)
    return Box(tuple(start.tolist()), tuple(stop.tolist()))


def _inside(box: Box, region: Box) -> tuple[slice, ...]:
    return tuple(slice(a - r, b - r) for a, b, r in zip(box.start, box.stop, region.start, strict=True))


def _volume_check(segment: Segment, before: int, after: int) -> list[Finding]:
    if abs(after - before) <= max(1.0, VOLUME_TOLERANCE * before):
        return []
    message = f"smoothing changed {segment.label} from {before} to {after} voxels: choose a smaller sigma_mm"
    return [Finding("VOLUME_CHANGED", Severity.WARNING, message, {"segment": segment.label, "before": before, "after": after})]
