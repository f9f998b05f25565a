"""Which slices of a series belong in one stack: phases, echoes, b-values and localizers are never mixed (PS3.3, C.7.6.2)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medseg.core.finding import Finding, Severity
from medseg.io.dicom.audit import has_geometry, is_supported
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.pixels import same_pixels
from medseg.io.dicom.sort import FloatArray, measure_stack, normal_of, position_groups

SAME_ORIENTATION_DEGREES = 0.1  # slices whose normals or rows differ by more belong to different stacks
SMALL_STACK = 4  # fewer slices than this beside a larger stack are a localizer or leftovers, not a volume
EVEN_TOLERANCE = 0.01  # gaps within this share of the median make an interleaved stack whole by itself

SOFT_KEYS = ("acquisition_number", "temporal_position", "echo_time", "echo_numbers", "b_value", "trigger_time", "kernel")
_LAST_KEYS = ("frame_of_reference_uid",)

Partition = dict[str, list[SliceHeader]]


@dataclass(frozen=True)
class Stack:
    """Slices that form one volume, not yet sorted; `differs` says by which header fields it was told apart."""

    slices: tuple[SliceHeader, ...]
    differs: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def description(self) -> str:
        """What tells this stack from the others of its series, such as "echo_time 4.92"."""
        return ", ".join(f"{name} {value or 'none'}" for name, value in self.differs)


def split(slices: Sequence[SliceHeader]) -> tuple[tuple[Stack, ...], tuple[Finding, ...]]:
    """Split a series into stacks, each with one slice a position where that can be had, and say what was left out.

    Slices without a usable position or orientation, and files of a kind that is not read, are not split: the audit
    refuses them.
    """
    kept, findings = _without_localizers(slices)
    if not all(has_geometry(header) for header in kept) or not is_supported(kept):
        return (Stack(tuple(kept)),), findings
    stacks = [Stack(tuple(kept))]
    for name, key in (
        ("sop_class", lambda header: header.sop_class_uid),
        ("size", lambda header: f"{header.columns}×{header.rows}"),
        ("orientation", _orientation_key(kept)),
        ("image_type", lambda header: "\\".join(header.image_type[:3])),
    ):
        stacks = [part for stack in stacks for part in _cut(stack, name, key)]
    stacks = [part for stack in stacks for part in _one_a_position(stack)]
    return _without_leftovers(stacks, findings)


def _without_localizers(slices: Sequence[SliceHeader]) -> tuple[list[SliceHeader], tuple[Finding, ...]]:
    kept = [header for header in slices if not {"LOCALIZER", "PROJECTION IMAGE"} & set(header.image_type)]
    dropped = len(slices) - len(kept)
    if not kept or not dropped:
        return list(slices), ()
    text = f"{dropped} localizer image(s) in the series were left out"
    return kept, (Finding("LOCALIZER", Severity.INFO, text, {"count": dropped}),)


def _cut(stack: Stack, name: str, key: Callable[[SliceHeader], str]) -> list[Stack]:
    parts = _partition(stack.slices, key)
    if len(parts) == 1:
        return [stack]
    return [replace(stack, slices=tuple(parts[value]), differs=(*stack.differs, (name, value))) for value in sorted(parts, key=_natural)]


def _one_a_position(stack: Stack) -> list[Stack]:
    """Split by acquisition, time, echo, b-value and so on until no two slices lie at one position."""
    most = max(len(group) for group in position_groups(stack.slices))
    if most == 1:
        return _combs(stack)
    for name in (*SOFT_KEYS, *_LAST_KEYS):
        parts = _cut(stack, name, _text_key(name))
        # a field that takes more values than there are slices at a position numbers the slices, not the stacks
        if 1 < len(parts) <= most:
            return [part for cut in parts for part in _one_a_position(cut)]
    by_time = _by_instance_blocks(stack, most)
    return by_time if by_time else [_without_copies(stack)]


def _combs(stack: Stack) -> list[Stack]:
    """Split two interleaved acquisitions: uneven together, each even by itself."""
    if len(stack.slices) < 2 * SMALL_STACK or _is_even(stack.slices):
        return [stack]
    for name in SOFT_KEYS:
        parts = _cut(stack, name, _text_key(name))
        if 1 < len(parts) <= 4 and all(len(part.slices) >= SMALL_STACK and _is_even(part.slices) for part in parts) and _overlap(parts):
            return parts
    return [stack]


def _is_even(slices: Sequence[SliceHeader]) -> bool:
    stack = measure_stack(slices)
    return bool(np.abs(stack.gaps_mm - stack.usual_gap_mm).max() <= max(0.01, EVEN_TOLERANCE * stack.usual_gap_mm))


def _overlap(parts: Sequence[Stack]) -> bool:
    normal = normal_of(parts[0].slices[0].orientation or ())
    reach = [np.asarray([header.position for header in part.slices]) @ normal for part in parts]
    return all(a.min() < b.max() and b.min() < a.max() for i, a in enumerate(reach) for b in reach[i + 1 :])


def _by_instance_blocks(stack: Stack, count: int) -> list[Stack]:
    """Split time points that only the instance number tells apart.

    Done only where the header announces that many time points, every position has one slice for each, and the instance
    numbers of the time points follow one another without mixing. Positions still decide the order within a stack.
    """
    groups = position_groups(stack.slices)
    announced = {header.numbers["temporal_position_count"] for header in stack.slices}
    numbers = [header.instance_number for header in stack.slices]
    if announced != {float(count)} or any(len(group) != count for group in groups) or None in numbers or len(set(numbers)) < len(numbers):
        return []
    times = [[sorted(group, key=lambda i: numbers[i] or 0)[t] for group in groups] for t in range(count)]
    spans = [(min(numbers[i] or 0 for i in one), max(numbers[i] or 0 for i in one)) for one in times]
    if any(earlier[1] >= later[0] for earlier, later in itertools.pairwise(spans)):
        return []
    text = f"{count} time points were told apart by their instance numbers, as no other field differs"
    finding = Finding("SPLIT_BY_INSTANCE_NUMBER", Severity.WARNING, text, {"time_points": count})
    return [
        Stack(tuple(stack.slices[i] for i in one), (*stack.differs, ("time_point", str(t + 1))), (*stack.findings, finding))
        for t, one in enumerate(times)
    ]


def _without_copies(stack: Stack) -> Stack:
    """Drop slices that repeat another at the same position bit for bit; what differs stays, for the audit to refuse."""
    kept: list[SliceHeader] = []
    for group in position_groups(stack.slices):
        unique: list[SliceHeader] = []
        for header in sorted((stack.slices[i] for i in group), key=lambda header: (header.sop_instance_uid, header.path)):
            if not any(same_pixels(header, other) for other in unique):
                unique.append(header)
        kept += unique
    dropped = len(stack.slices) - len(kept)
    if not dropped:
        return stack
    text = f"{dropped} slice(s) are exact copies of others and were left out"
    finding = Finding("DUPLICATE_SLICES", Severity.WARNING, text, {"count": dropped})
    return replace(stack, slices=tuple(kept), findings=(*stack.findings, finding))


def _without_leftovers(stacks: list[Stack], findings: tuple[Finding, ...]) -> tuple[tuple[Stack, ...], tuple[Finding, ...]]:
    """Leave out groups too small to be a volume beside one that is; they are named, never mixed in."""
    largest = max(len(stack.slices) for stack in stacks)
    small = [stack for stack in stacks if len(stack.slices) < SMALL_STACK and len(stack.slices) * 4 <= largest]
    notes = [
        Finding(
            _LEFTOVER_CODES.get(stack.differs[-1][0], "SLICES_LEFT_OUT"),
            Severity.WARNING,
            f"{len(stack.slices)} slice(s) that differ by {stack.description} are no volume and were left out",
            {"count": len(stack.slices), "differs": dict(stack.differs)},
        )
        for stack in small
    ]
    return tuple(stack for stack in stacks if stack not in small), (*findings, *notes)


_LEFTOVER_CODES = {"orientation": "LOCALIZER", "size": "MIXED_SIZE", "image_type": "DERIVED_SLICES", "sop_class": "OTHER_OBJECTS"}


def _orientation_key(slices: Sequence[SliceHeader]) -> Callable[[SliceHeader], str]:
    """Return a key that is equal for slices whose directions agree."""
    kinds: list[FloatArray] = []
    limit = np.cos(np.radians(SAME_ORIENTATION_DEGREES))
    names: dict[tuple[float, ...], str] = {}
    for header in slices:
        if header.orientation is None or header.orientation in names:
            continue
        axes = np.asarray(header.orientation).reshape(2, 3)
        index = next((i for i, kind in enumerate(kinds) if bool(((axes * kind).sum(axis=1) >= limit).all())), len(kinds))
        if index == len(kinds):
            kinds.append(axes)
        names[header.orientation] = str(index + 1)
    return lambda header: names.get(header.orientation or (), "")


def _text_key(name: str) -> Callable[[SliceHeader], str]:
    return lambda header: header.texts[name]


def _partition(slices: Sequence[SliceHeader], key: Callable[[SliceHeader], str]) -> Partition:
    parts: Partition = {}
    for header in slices:
        parts.setdefault(key(header), []).append(header)
    return parts


def _natural(text: str) -> list[tuple[float, str]]:
    """Order "2" before "10"."""
    return [(float(part), "") if part.replace(".", "", 1).isdigit() else (float("inf"), part) for part in re.split(r"(\d+\.?\d*)", text)]
