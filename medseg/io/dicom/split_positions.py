"""Telling apart slices that lie at one position: by acquisition, time, echo, b-value and so on, until no two coincide.

Nothing is split by a field that does not separate slices at one position, and the search stops as soon as all positions
are unique. InstanceNumber decides only where the header announces as many time points as there are slices a position.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from medseg.core.finding import Finding, Severity
from medseg.io.dicom.duplicates import without_copies
from medseg.io.dicom.fields import field, number, values_of
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.sort import is_even, normal_of, position_groups
from medseg.io.dicom.stack import Stack, cut

SMALL_STACK = 4  # fewer slices than this beside a larger stack are a localizer or leftovers, not a volume
MOST_COMBS = 4  # interleaved stacks that are told apart by a field; more are a numbering of the slices

# In the order of the catalogue; the last ones are there because some vendors write nothing else
SOFT_KEYS = (
    "acquisition_number", "temporal_position", "dimension", "echo_time", "echo_numbers", "b_value", "gradient", "image_type",
    "trigger_time", "kernel", "frame_of_reference_uid", "slice_thickness", "acquisition_time",
)  # fmt: skip
_RANKED_KEYS = ("temporal_position", "trigger_time", "acquisition_time", "acquisition_number")

Key = Callable[[SliceHeader], str]
Groups = list[list[int]]


def one_a_position(stack: Stack) -> list[Stack]:
    """Split a stack until no two slices lie at one position; a stack that cannot be split comes back as it is."""
    groups = position_groups(stack.slices)
    most = max(map(len, groups))
    if most == 1:
        return _combs(stack)
    names = [name for name in SOFT_KEYS if _separates(stack.slices, groups, name)]
    for chosen in [*((name,) for name in names), *itertools.combinations(names, 2)]:
        parts = _cut_by(stack, chosen)
        if _is_accepted(parts, most) and all(_is_unique(part) for part in parts):
            return [comb for part in _described(parts) for comb in _combs(part)]
    for name in names:
        parts = _cut_by(stack, (name,))
        if _is_accepted(parts, most):
            return [part for one in parts for part in one_a_position(one)]
    by_time = _by_rank(stack, groups, most) or _by_instance_blocks(stack, groups, most)
    if by_time:
        return by_time
    unique = without_copies(stack)
    return one_a_position(unique) if len(unique.slices) < len(stack.slices) else _by_file(stack)


def overlap(parts: Sequence[Stack]) -> bool:
    """Whether all stacks reach into each other along their normal."""
    normal = normal_of(parts[0].slices[0].orientation or ())
    reach = [np.asarray([header.position for header in part.slices]) @ normal for part in parts]
    return all(a.min() < b.max() and b.min() < a.max() for i, a in enumerate(reach) for b in reach[i + 1 :])


def _separates(slices: Sequence[SliceHeader], groups: Groups, name: str) -> bool:
    value = field(name).value
    return any(len({value(slices[i]) for i in group}) > 1 for group in groups if len(group) > 1)


def _cut_by(stack: Stack, names: tuple[str, ...]) -> list[Stack]:
    parts = [stack]
    for name in names:
        parts = [part for one in parts for part in cut(one, field(name).keyword, field(name).value)]
    if set(names) & {"gradient", "acquisition_time"}:  # directions have no order of their own, times are not to be shown
        parts = sorted(parts, key=lambda part: _first_number(part.slices))
    return [_without_times(part, n) for n, part in enumerate(parts, start=1)]


def _first_number(slices: Sequence[SliceHeader]) -> tuple[int, int]:
    return min((header.instance_number or 0, header.frame) for header in slices)


def _without_times(part: Stack, n: int) -> Stack:
    """Name stacks that a time of day tells apart by their number."""
    return replace(
        part, differs=tuple(("TimePoint", str(n)) if name == "AcquisitionTime" else (name, value) for name, value in part.differs)
    )


def _is_accepted(parts: Sequence[Stack], most: int) -> bool:
    """A field with more values than slices lie at a position numbers the slices, unless every value is a stack of its own."""
    if len(parts) < 2:
        return False
    return len(parts) <= most or all(len(part.slices) >= SMALL_STACK and _is_unique(part) and is_even(part.slices) for part in parts)


def _is_unique(stack: Stack) -> bool:
    return max(map(len, position_groups(stack.slices))) == 1


def _described(parts: Sequence[Stack]) -> list[Stack]:
    """Add what else tells the stacks apart, such as the echo time of stacks that were cut by their dimension index."""
    result = list(parts)
    for name in ("echo_time", "b_value", "temporal_position", "trigger_time", "kernel"):
        keyword = field(name).keyword
        values = [values_of(part.slices, name) for part in parts]
        if all(len(value) == 1 for value in values) and len({value[0] for value in values}) > 1:
            result = [
                part if keyword in dict(part.differs) else replace(part, differs=(*part.differs, (keyword, value[0])))
                for part, value in zip(result, values, strict=True)
            ]
    return result


def _combs(stack: Stack) -> list[Stack]:
    """Split interleaved acquisitions, each even by itself: uneven together, or of CT even but by different acquisitions."""
    if len(stack.slices) < 2 * SMALL_STACK:
        return [stack]
    whole_is_even = is_even(stack.slices)
    keys = SOFT_KEYS if not whole_is_even else ("acquisition_number", "kernel") if stack.slices[0].modality == "CT" else ()
    for name in keys:
        parts = _cut_by(stack, (name,))
        is_comb = 1 < len(parts) <= MOST_COMBS and all(len(part.slices) >= SMALL_STACK and is_even(part.slices) for part in parts)
        if is_comb and overlap(parts):
            return _described(parts)
    return [stack]


def _by_rank(stack: Stack, groups: Groups, count: int) -> list[Stack]:
    """Split time points by the order of a time at each position, where every position has as many slices.

    Cardiac phases have other trigger times at each slice, as hearts do not beat evenly.
    """
    if len(groups) < 2 or any(len(group) != count for group in groups):
        return []
    for name in _RANKED_KEYS:
        value = field(name).value
        numbers = [number(value(header)) for header in stack.slices]
        if any(len({numbers[i] for i in group} - {None}) < count for group in groups):
            continue
        times = [[sorted(group, key=lambda i: numbers[i] or 0)[t] for group in groups] for t in range(count)]
        text = (
            f"{count} time points were told apart by the order of {field(name).keyword} at each position, as no field has one value"
            " for each; look whether the volumes show what you expect"
        )
        finding = Finding("SPLIT_BY_ORDER", Severity.WARNING, text, {"time_points": count, "keyword": field(name).keyword})
        return _time_points(stack, times, finding)
    return []


def _by_instance_blocks(stack: Stack, groups: Groups, count: int) -> list[Stack]:
    """Split time points that only the instance number tells apart.

    Done only where the header announces that many time points, every position has one slice for each, and the instance
    numbers of the time points follow one another without mixing. Positions still decide the order within a stack.
    """
    announced = {header.numbers["temporal_position_count"] for header in stack.slices}
    numbers = [header.instance_number for header in stack.slices]
    if announced != {float(count)} or any(len(group) != count for group in groups) or None in numbers or len(set(numbers)) < len(numbers):
        return []
    times = [[sorted(group, key=lambda i: numbers[i] or 0)[t] for group in groups] for t in range(count)]
    spans = [(min(numbers[i] or 0 for i in one), max(numbers[i] or 0 for i in one)) for one in times]
    if any(earlier[1] >= later[0] for earlier, later in itertools.pairwise(spans)):
        return []
    text = f"{count} time points were told apart by their instance numbers, as no other field differs; look whether they follow one another"
    finding = Finding("SPLIT_BY_INSTANCE_NUMBER", Severity.WARNING, text, {"time_points": count})
    return _time_points(stack, times, finding)


def _by_file(stack: Stack) -> list[Stack]:
    """Split multi-frame files and mosaics that hold one volume each, where nothing else tells them apart."""
    if any(header.frame_count == 1 and header.tile is None for header in stack.slices):
        return [stack]
    parts = sorted(cut(stack, "File", lambda header: header.path), key=lambda part: _first_number(part.slices))
    uids = {part.slices[0].sop_instance_uid for part in parts}
    if len(parts) < 2 or len(uids) < len(parts) or not all(_is_unique(part) for part in parts):
        return [stack]
    return [replace(part, differs=(*stack.differs, ("File", str(n)))) for n, part in enumerate(parts, start=1)]


def _time_points(stack: Stack, times: Sequence[Sequence[int]], finding: Finding) -> list[Stack]:
    return [
        replace(
            stack,
            slices=tuple(stack.slices[i] for i in one),
            differs=(*stack.differs, ("TimePoint", str(t))),
            findings=(*stack.findings, finding),
        )
        for t, one in enumerate(times, start=1)
    ]
