"""Which slices of a series belong in one stack: phases, echoes, b-values and localizers are never mixed (PS3.3, C.7.6.2).

What a slice is (object, colour, size, image type, orientation, stack) always splits; acquisition, time, echo and so on split
only where several slices lie at one position (split_positions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from medseg.core.finding import Finding, Severity
from medseg.io.dicom.duplicates import drop_repeated_files
from medseg.io.dicom.fields import natural, shown
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.sort import FloatArray, has_geometry, is_even, position_groups
from medseg.io.dicom.split_positions import SMALL_STACK, one_a_position, overlap
from medseg.io.dicom.stack import Stack, cut

SAME_ORIENTATION_DEGREES = 0.1  # slices whose normals or rows differ by more belong to different stacks
LOCALIZER_DEGREES = 5.0  # a few slices turned by more than this against the scan are a localizer; by less they are a fault of it

_COLOURS = frozenset({"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"})
_LEFTOVER_CODES = {
    "Kind": "OTHER_OBJECTS", "SOPClassUID": "OTHER_OBJECTS", "BurnedInAnnotation": "DERIVED_SLICES", "ImageType": "DERIVED_SLICES",
    "Size": "MIXED_SIZE", "ImageOrientationPatient": "LOCALIZER",
}  # fmt: skip


def is_colour(header: SliceHeader) -> bool:
    """Whether an image is in colour."""
    return header.samples > 1 or header.photometric in _COLOURS


def split(slices: Sequence[SliceHeader]) -> tuple[tuple[Stack, ...], tuple[Finding, ...]]:
    """Split a series into stacks, each with one slice a position where that can be had, and say what was left out.

    Stacks that were left out as no part of the scan (`left_out` says why) come last. Slices without a usable position or
    orientation are not told apart by place: the audit refuses them.
    """
    kept, repeated = drop_repeated_files(slices)
    kept, localizers = _without_localizers(kept)
    stacks = [Stack(tuple(kept))]
    for name, key in _KINDS:
        stacks = [part for stack in stacks for part in cut(stack, name, key)]
    stacks, others = _set_aside(_keep_largest_size(stacks))
    placed = [part for stack in stacks for part in _by_place(stack)]
    placed, leftovers = _set_aside(placed)
    left_out = [*others, *leftovers]
    notes = (*repeated, *localizers, *_mixed_types(placed), *map(_left_out_finding, left_out))
    return (*placed, *left_out), notes


def _without_localizers(slices: Sequence[SliceHeader]) -> tuple[list[SliceHeader], tuple[Finding, ...]]:
    kept = [header for header in slices if not {"LOCALIZER", "PROJECTION IMAGE"} & set(header.image_type)]
    dropped = len(slices) - len(kept)
    if not kept or not dropped:
        return list(slices), ()
    text = f"{dropped} localizer image(s) in the series were left out: they show where the scan was planned and belong to no volume"
    return kept, (Finding("LOCALIZER", Severity.INFO, text, {"count": dropped}),)


def _kind(header: SliceHeader) -> str:
    return "colour" if is_colour(header) else header.modality


def _burned_in(header: SliceHeader) -> str:
    return "YES" if header.texts.get("burned_in", "").upper() == "YES" else ""


def _image_type(header: SliceHeader) -> str:
    return "\\".join(header.image_type[:3])


_KINDS: tuple[tuple[str, Callable[[SliceHeader], str]], ...] = (
    ("Kind", _kind),
    ("SOPClassUID", lambda header: header.sop_class_uid),
    ("Size", lambda header: f"{header.columns}×{header.rows}"),
    ("BurnedInAnnotation", _burned_in),
)


def _by_place(stack: Stack) -> list[Stack]:
    """Split one kind of image by orientation, image type, stack and what else separates slices at one position."""
    stacks = _cut_together(stack, "ImageType", _image_type)
    return [part for one in stacks for oriented in _by_orientation(one) for part in _by_stack_id(oriented)]


def _by_orientation(stack: Stack) -> list[Stack]:
    if not all(has_geometry(header) for header in stack.slices):
        return [stack]
    parts = cut(stack, "ImageOrientationPatient", _orientation_key(stack.slices))
    # slices that all turn one by one are no stacks: the audit says so
    return parts if max(len(part.slices) for part in parts) >= min(SMALL_STACK, len(stack.slices)) or len(parts) <= 3 else [stack]


def _by_stack_id(stack: Stack) -> list[Stack]:
    if not all(has_geometry(header) for header in stack.slices):
        return [stack]
    parts = _cut_together(stack, "StackID", lambda header: header.texts.get("stack_id", ""))
    return [part for one in parts for part in one_a_position(one)]


def _cut_together(stack: Stack, name: str, key: Callable[[SliceHeader], str]) -> list[Stack]:
    """Cut by a field, but not where the parts fill each other's holes or lie end to end in one even stack."""
    parts = cut(stack, name, key)
    if len(parts) > 1 and _belong_together(stack, parts):
        return [replace(stack, mixed=(*stack.mixed, name))]
    return parts


def _belong_together(whole: Stack, parts: Sequence[Stack]) -> bool:
    slices = whole.slices
    if not all(has_geometry(header) for header in slices) or len(set(map(_orientation_key(slices), slices))) > 1:
        return False
    if max(map(len, position_groups(slices))) > 1 or not is_even(slices):
        return False
    largest = max(parts, key=lambda part: len(part.slices))
    if len(largest.slices) < 3 or not is_even(largest.slices):
        return True  # the others fill its holes
    return all(len(part.slices) >= SMALL_STACK for part in parts) and not overlap(parts)


def _mixed_types(stacks: Sequence[Stack]) -> list[Finding]:
    mixed = [stack for stack in stacks if "ImageType" in stack.mixed]
    if not mixed:
        return []
    kinds = sorted({_image_type(header) for stack in mixed for header in stack.slices}, key=natural)
    text = (
        f"slices of {len(kinds)} image types ({', '.join(shown(kind) for kind in kinds[:4])}) form one even stack and were kept"
        " together: check that all of them show the same kind of intensity"
    )
    return [Finding("MIXED_IMAGE_TYPE", Severity.WARNING, text, {"image_types": [shown(kind) for kind in kinds]})]


def _keep_largest_size(stacks: list[Stack]) -> list[Stack]:
    """Set aside all sizes but that of the most slices, where one has the most."""
    counts: dict[str, int] = {}
    for stack in stacks:
        size = dict(stack.differs).get("Size")
        if size is not None and not stack.left_out:
            counts[size] = counts.get(size, 0) + len(stack.slices)
    most = max(counts.values(), default=0)
    if list(counts.values()).count(most) != 1:
        return stacks
    return [replace(one, left_out="MIXED_SIZE") if counts.get(dict(one.differs).get("Size", ""), most) < most else one for one in stacks]


def _set_aside(stacks: Sequence[Stack]) -> tuple[list[Stack], list[Stack]]:
    """Leave out groups too small to be a volume beside one that is, and derived ones; they are named, never mixed in."""
    largest = max(len(stack.slices) for stack in stacks if not stack.left_out)
    marked = [replace(stack, left_out=stack.left_out or _why_left_out(stack, stacks, largest)) for stack in stacks]
    return [one for one in marked if not one.left_out], [one for one in marked if one.left_out]


def _why_left_out(stack: Stack, stacks: Sequence[Stack], largest: int) -> str:
    if not stack.differs or len(stack.slices) * 4 > largest:
        return ""
    field = stack.differs[-1][0]
    if field == "ImageOrientationPatient" and any(_turn(stack, one) < LOCALIZER_DEGREES for one in stacks if len(one.slices) == largest):
        return ""
    is_secondary = all(_is_secondary(header) for header in stack.slices)
    beside_original = any(len(one.slices) == largest and not _is_secondary(one.slices[0]) for one in stacks)
    if len(stack.slices) < SMALL_STACK or (is_secondary and beside_original):
        return "DERIVED_SLICES" if is_secondary and beside_original else _LEFTOVER_CODES.get(field, "SLICES_LEFT_OUT")
    return ""


def _turn(one: Stack, other: Stack) -> float:
    """The angle between the slices of two stacks, degrees; 180 where one has no orientation."""
    first, second = one.slices[0].orientation, other.slices[0].orientation
    if first is None or second is None:
        return 180.0
    cosines = (np.reshape(first, (2, 3)) * np.reshape(second, (2, 3))).sum(axis=1)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())


def _is_secondary(header: SliceHeader) -> bool:
    return header.image_type[:1] == ("DERIVED",) or header.image_type[1:2] == ("SECONDARY",)


def _left_out_finding(stack: Stack) -> Finding:
    text = f"{len(stack.slices)} slice(s) that differ by {stack.description} were left out: they are no part of the stack that is read"
    details = {"count": len(stack.slices), "differs": dict(stack.differs)}
    return Finding(stack.left_out, Severity.WARNING, text, details)


def _orientation_key(slices: Sequence[SliceHeader]) -> Callable[[SliceHeader], str]:
    """Return a key that is equal for slices whose directions agree."""
    kinds: list[FloatArray] = []
    limit = np.cos(np.radians(SAME_ORIENTATION_DEGREES))
    indices: dict[tuple[float, ...], int] = {}
    for header in slices:
        if header.orientation is None or header.orientation in indices:
            continue
        axes = np.asarray(header.orientation).reshape(2, 3)
        index = next((i for i, kind in enumerate(kinds) if bool(((axes * kind).sum(axis=1) >= limit).all())), len(kinds))
        if index == len(kinds):
            kinds.append(axes)
        indices[header.orientation] = index
    names = _plane_names(kinds)
    return lambda header: names[indices[header.orientation]] if header.orientation in indices else ""


def _plane_names(kinds: Sequence[FloatArray]) -> list[str]:
    """Name directions of slices by the patient plane they are nearest to, with a number where several share it."""
    planes = [("sagittal", "coronal", "axial")[int(np.abs(np.cross(axes[0], axes[1])).argmax())] for axes in kinds]
    return [plane if planes.count(plane) == 1 else f"{plane} {planes[: n + 1].count(plane)}" for n, plane in enumerate(planes)]
