"""One segment for each lesion, and maps of things and stuff."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.postprocessing.parts import Parts, find_parts, part_names
from medseg.postprocessing.selection import nothing_to_change

_WATERSHED = "doi:10.1109/34.87344; dynamics: doi:10.1117/12.60650"


class InstancesParams(MethodParams):
    """Parameters of `instances`."""

    segments: list[str] | None = Field(None, description="Labels of the segments that are split into their instances; empty: all")
    least_waist_mm: Number | None = Field(
        2.0,
        description="Touching lumps are split where the way between them is narrower in radius by this than the smaller lump; "
        "empty: only connected pieces",
        unit="mm",
        gt=0,
        le=100,
    )
    keep_at_least_mm3: Number = Field(0.0, description="Instances smaller than this become background", unit="mm3", ge=0)
    connectivity: Literal[6, 18, 26] = Field(26, description="Neighbours that count as touching: faces, also edges, also corners")


@method("instances", stage=Stage.POSTPROCESS, reference=_WATERSHED)
def instances(label_map: LabelMap, params: InstancesParams) -> LabelMap:
    """Give every connected piece of a segment a segment of its own, and split pieces that only touch.

    Instances are called "tumour-1", "tumour-2", ..., the largest first (equal ones from head to feet, front to back, right to
    left), and keep the codes of their segment; how the scan is stored does not matter. Touching lumps are split by a watershed on the
    exact distance to the outside in mm, on unequal, oblique and sheared grids; `least_waist_mm` is its h. Segments that
    are not selected keep their numbers; instances are numbered after them. Findings: INSTANCES_SPLIT,
    SMALL_PARTS_LEFT_OUT.

    >>> from medseg.core.geometry import Geometry
    >>> row = np.array([[[2, 0, 2, 2, 0, 2]]], np.uint8)
    >>> found = instances(LabelMap(row, Geometry((1, 1, 6), np.eye(4)), (Segment(2, "tumour"),)), InstancesParams())
    >>> found.array.ravel().tolist(), [segment.label for segment in found.segments]
    ([3, 0, 1, 1, 0, 2], ['tumour-1', 'tumour-2', 'tumour-3'])
    """
    chosen = {label_map[label].label for label in params.segments} if params.segments is not None else {s.label for s in label_map.segments}
    rest = [segment for segment in label_map.segments if segment.label not in chosen]
    found = find_parts(
        label_map,
        None if params.segments is None else sorted(chosen),
        least_waist_mm=params.least_waist_mm,
        connectivity=params.connectivity,
        keep_at_least_mm3=params.keep_at_least_mm3,
    )
    if found is None:
        return nothing_to_change(label_map)
    before = max((segment.number for segment in rest), default=0)
    numbers = np.arange(before + 1, before + 1 + len(found.parts))
    made = _named(found, numbers.tolist(), rest)
    return _painted(label_map, found, numbers, (*rest, *made), params.keep_at_least_mm3)


class PanopticParams(MethodParams):
    """Parameters of `panoptic`."""

    things: list[str] = Field(description="Labels of the segments that are counted, such as lesions; the others are stuff", min_length=1)
    things_map: LabelMapInput | None = Field(
        None, description="Label map with the things, on the same grid, laid over this one; empty: the segmentation itself"
    )
    divisor: int = Field(1000, description="Numbers are the segment's number times this, plus the instance of a thing", ge=2, le=100_000)
    least_waist_mm: Number | None = Field(
        2.0, description="Where touching things are split, as in `instances`; empty: only connected pieces", unit="mm", gt=0, le=100
    )
    keep_at_least_mm3: Number = Field(0.0, description="Things smaller than this become background", unit="mm3", ge=0)
    connectivity: Literal[6, 18, 26] = Field(26, description="Neighbours that count as touching: faces, also edges, also corners")


@method("panoptic", stage=Stage.POSTPROCESS, reference="doi:10.1109/CVPR.2019.00963")
def panoptic(label_map: LabelMap, params: PanopticParams) -> LabelMap:
    """Make a panoptic map: each thing (a lesion) is a segment of its own, each stuff (an organ) stays one.

    The number of a voxel is segment number x `divisor`, plus 1, 2, ... for the instances of a thing, the largest first: its
    segment is what a division gives, its instance the rest. Things are split as by `instances`. Things from another map lie
    over stuff; where that map numbers them otherwise they get the number of the segment of the same name here, or a free
    one. Raises ParameterError where a segment has as many instances as the divisor, GeometryMismatchError.

    >>> from medseg.core.geometry import Geometry
    >>> row = np.array([[[1, 1, 2, 0, 2, 2]]], np.uint8)
    >>> both = LabelMap(row, Geometry((1, 1, 6), np.eye(4)), (Segment(1, "liver"), Segment(2, "tumour")))
    >>> panoptic(both, PanopticParams(things=["tumour"])).array.ravel().tolist()
    [1000, 1000, 2002, 0, 2001, 2001]
    """
    source = label_map if params.things_map is None else params.things_map
    if not source.geometry.matches(label_map.geometry):
        raise GeometryMismatchError(
            "panoptic: the map of things lies on another grid; restore it onto the grid of the segmentation first",
            label_map.geometry,
            source.geometry,
        )
    things = [source[label] for label in dict.fromkeys(params.things)]
    classes = _classes(label_map, things)
    names = {segment.label for segment in things}
    stuff = [replace(s, number=s.number * params.divisor) for s in label_map.segments if s.label not in names]
    array = _stuff(label_map, names, params.divisor, max([*classes.values(), 0]))
    base = label_map.with_array(array, segments=tuple(stuff))
    found = find_parts(
        source,
        [segment.label for segment in things],
        least_waist_mm=params.least_waist_mm,
        connectivity=params.connectivity,
        keep_at_least_mm3=params.keep_at_least_mm3,
    )
    if found is None:
        return base
    crowded = next((part for part in found.parts if part.rank >= params.divisor), None)
    if crowded is not None:
        raise ParameterError(
            f"panoptic: {crowded.segment.label} has {params.divisor} instances or more, which the divisor {params.divisor} cannot "
            "number: give a larger divisor, or keep_at_least_mm3 to leave out specks"
        )
    numbers = np.array([classes[part.segment.label] * params.divisor + part.rank for part in found.parts], np.int64)
    made = _named(found, numbers.tolist(), stuff)
    return _painted(base, found, numbers, (*stuff, *made), params.keep_at_least_mm3, clear=False)


def _classes(label_map: LabelMap, things: list[Segment]) -> dict[str, int]:
    """The number of the class of each thing: that of its name in the map, else its own where free, else a new one."""
    known = {segment.label: segment.number for segment in label_map.segments}
    taken = set(known.values())
    classes = {}
    for thing in things:
        number = known.get(thing.label, thing.number if thing.number not in taken else max(taken) + 1)
        taken.add(number)
        classes[thing.label] = number
    return classes


def _stuff(label_map: LabelMap, things: set[str], divisor: int, highest_class: int) -> npt.NDArray[Any]:
    """The map without things, its numbers times the divisor."""
    highest = max([segment.number for segment in label_map.segments] + [highest_class])
    if highest * divisor + divisor > np.iinfo(np.uint32).max:
        raise ParameterError(f"panoptic: segment number {highest} times {divisor} does not fit 32 bits: give a smaller divisor")
    dtype = smallest_unsigned(highest * divisor + divisor)
    gone = [segment.number for segment in label_map.segments if segment.label in things]
    array: npt.NDArray[Any] = label_map.array.astype(dtype, order="F")
    if gone:
        array[np.isin(label_map.array, gone)] = 0
    array *= dtype.type(divisor)
    return array


def _named(found: Parts, numbers: list[int], rest: list[Segment]) -> list[Segment]:
    """The segments of the instances; an only one keeps the tracking UID of its segment."""
    counts: dict[int, int] = {}
    for part in found.parts:
        counts[part.segment.number] = counts.get(part.segment.number, 0) + 1
    names = part_names(found.parts, [segment.label for segment in rest])
    return [
        replace(
            part.segment,
            number=number,
            label=name,
            colour=None,
            tracking_id=name,
            tracking_uid=part.segment.tracking_uid if counts[part.segment.number] == 1 else "",
        )
        for part, number, name in zip(found.parts, numbers, names, strict=True)
    ]


def _painted(
    label_map: LabelMap, found: Parts, numbers: npt.NDArray[np.int64], segments: tuple[Segment, ...], keep_mm3: float, clear: bool = True
) -> LabelMap:
    """The label map with every part under its number; `clear` takes what is in no part (and was selected) away."""
    highest = max((segment.number for segment in segments), default=1)
    dtype = np.promote_types(smallest_unsigned(highest), np.uint8)
    array: npt.NDArray[Any] = label_map.array.astype(np.promote_types(dtype, label_map.array.dtype), order="F")
    if clear:
        before = {id(segment) for segment in label_map.segments}  # compared one by one, thousands of instances would take hours
        kept = [segment.number for segment in segments if id(segment) in before]
        array[~np.isin(label_map.array, kept)] = 0
    table = np.concatenate([[0], numbers]).astype(array.dtype)
    target = array[found.box.slices]
    np.copyto(target, table[found.array], where=found.array > 0)
    findings = list(label_map.findings)
    if found.splits:
        pieces = (
            "1 connected piece was split where it is narrow"
            if found.splits == 1
            else f"{found.splits} connected pieces were split where narrow"
        )
        message = f"{pieces}: look whether the lumps are lesions of their own"
        findings.append(Finding("INSTANCES_SPLIT", Severity.INFO, message, {"split": found.splits, "instances": len(found.parts)}))
    if found.left_out:
        message = f"{found.left_out} {'part was' if found.left_out == 1 else 'parts were'} left out: smaller than {keep_mm3:g} mm³"
        findings.append(Finding("SMALL_PARTS_LEFT_OUT", Severity.INFO, message, {"count": found.left_out, "keep_at_least_mm3": keep_mm3}))
    return label_map.with_array(array.astype(dtype, copy=False), segments=segments, findings=tuple(findings))
