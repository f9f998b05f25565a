"""Logical operations between segments: union, intersection, difference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import GeometryMismatchError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams
from medseg.postprocessing.selection import hull_of, nothing_left
from medseg.preprocessing.crop import Box, segment_boxes

_ADDING = ("union", "xor")


class CombineParams(MethodParams):
    """Parameters of `combine`."""

    operation: Literal["union", "intersection", "subtract", "xor"] = Field(
        description="What is kept: voxels of either, of both, of the segment alone, or of exactly one of the two"
    )
    other: LabelMapInput | None = Field(None, description="Label map to combine with, on the same grid; empty: the segmentation itself")
    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    other_segments: list[str] | None = Field(
        None, description="Segments of the other label map that count, together as one mask; empty: the one of the same name"
    )
    over_others: bool = Field(False, description="Whether voxels are added over other segments too, not only over background")

    @pydantic.model_validator(mode="after")
    def _enough(self) -> CombineParams:
        if self.other is None and not self.other_segments:
            raise ValueError("give another label map, or the segments of this one to combine with (other_segments)")
        if self.operation in _ADDING and self.other_segments and len(self.segments or []) != 1:
            raise ValueError(f"a {self.operation} with other_segments needs one segment that receives them: name it in segments")
        return self


@method("combine", stage=Stage.POSTPROCESS, reference="doi:10.1016/j.mri.2012.05.001 (3D Slicer, logical operators)")
def combine(label_map: LabelMap, params: CombineParams) -> LabelMap:
    """Combine segments with those of another label map, or of the same one: union, intersection, difference, exclusive or.

    Segments meet the one of the same name in the other map, or all of `other_segments` as one mask. A union or exclusive or
    of all segments also takes over segments that only the other map has (under a free number). What is added is taken from
    background, with `over_others` from other segments too; within one map a union takes the voxels of `other_segments`, which
    are thereby merged. Voxels that could not be added because another segment holds them give the finding
    HELD_BY_OTHERS, a segment without a voxel left SEGMENT_EMPTY. Raises GeometryMismatchError where the maps differ in
    their grid, UnknownSegmentError for a name that is not there.

    >>> from medseg.core.geometry import Geometry
    >>> grid = Geometry((1, 1, 4), np.eye(4))
    >>> one = LabelMap(np.array([[[1, 1, 0, 0]]], np.uint8), grid, (Segment(1, "liver"),))
    >>> two = LabelMap(np.array([[[0, 7, 7, 0]]], np.uint8), grid, (Segment(7, "liver"),))
    >>> [combine(one, CombineParams(operation=name, other=two)).array.ravel().tolist() for name in ("union", "subtract", "xor")]
    [[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 1, 0]]
    """
    other = label_map if params.other is None else params.other
    if not other.geometry.matches(label_map.geometry):
        raise GeometryMismatchError(
            "combine: the other label map lies on another grid; restore it onto the grid of the segmentation first",
            label_map.geometry,
            other.geometry,
        )
    pairs = _pairs(label_map, other, params)
    own_boxes, other_boxes = segment_boxes(label_map), segment_boxes(other)
    array: npt.NDArray[Any] = label_map.array.astype(_dtype(label_map, pairs), order="F")
    findings = list(label_map.findings)
    for pair in pairs:
        boxes = [own_boxes.get(pair.segment.number), *(other_boxes.get(number) for number in pair.others)]
        held = [box for box in boxes if box is not None]
        if held:
            findings += _apply(array, label_map, other, pair, hull_of(held), params)
    known = {segment.number for segment in label_map.segments}
    added = [pair.segment for pair in pairs if pair.segment.number not in known]
    return label_map.with_array(array, segments=(*label_map.segments, *added), findings=tuple(findings))


@dataclass(frozen=True)
class _Pair:
    """A segment of the result, and the numbers in the other map that it meets."""

    segment: Segment
    others: tuple[int, ...]


def _pairs(label_map: LabelMap, other: LabelMap, params: CombineParams) -> list[_Pair]:
    chosen = label_map.segments if params.segments is None else [label_map[label] for label in dict.fromkeys(params.segments)]
    if params.other_segments:
        numbers = tuple(other[label].number for label in dict.fromkeys(params.other_segments))
        return [_Pair(segment, numbers) for segment in chosen]
    by_label = {segment.label: segment.number for segment in other.segments}
    pairs = [_Pair(segment, (by_label[segment.label],) if segment.label in by_label else ()) for segment in chosen]
    if params.operation in _ADDING and params.segments is None:
        own = {segment.label for segment in label_map.segments}
        taken = {segment.number for segment in label_map.segments}
        for segment in other.segments:
            if segment.label not in own:
                number = segment.number if segment.number not in taken else max(taken) + 1
                taken.add(number)
                pairs.append(_Pair(replace(segment, number=number), (segment.number,)))
    return pairs


def _dtype(label_map: LabelMap, pairs: list[_Pair]) -> np.dtype[Any]:
    """The dtype of the label map, or a wider one where a number that is taken over needs it."""
    own = label_map.array.dtype
    highest = max((pair.segment.number for pair in pairs), default=0)
    most = 1 if own.kind == "b" else int(np.iinfo(own).max)
    return own if highest <= most else smallest_unsigned(highest)


def _apply(array: npt.NDArray[Any], label_map: LabelMap, other: LabelMap, pair: _Pair, box: Box, params: CombineParams) -> list[Finding]:
    """Write the result for one segment into the array; what it holds is judged by the maps as they were given."""
    part = label_map.array[box.slices]
    own = part == pair.segment.number
    theirs = np.isin(other.array[box.slices], pair.others)
    wanted = {
        "union": own | theirs,
        "intersection": own & theirs,
        "subtract": own & ~theirs,
        "xor": own ^ theirs,
    }[params.operation]
    free = np.ones_like(own) if params.over_others else part == 0
    if params.other is None:
        free |= theirs
    adds = wanted & ~own
    target = array[box.slices]
    target[own & ~wanted & (target == pair.segment.number)] = 0
    target[adds & free] = pair.segment.number
    if own.any() and not wanted.any():
        return [nothing_left(pair.segment)]
    held = int(np.count_nonzero(adds & ~free))
    if not held:
        return []
    volume_ml = held * label_map.geometry.voxel_volume_mm3 / 1000
    message = (
        f"{volume_ml:.3g} ml that belong to {pair.segment.label} in the other label map were not added: other segments hold them; "
        "give over_others if they should change hands"
    )
    return [Finding("HELD_BY_OTHERS", Severity.WARNING, message, {"segment": pair.segment.label, "volume_ml": volume_ml})]
