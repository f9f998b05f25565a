"""Where each frame of a multi-frame image lies and how its values are scaled: functional groups (PS3.3, C.7.6.16).

Each frame gets the values that a file of its own would have had. The order of the frames means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.io.dicom import tags
from medseg.io.dicom.walk import Bytes, Found, HeaderError, Walk, Wanted

SHARED, PER_FRAME, DIMENSIONS = 0x52009229, 0x52009230, 0x00209222
MULTIFRAME_TAGS = frozenset({SHARED, PER_FRAME, DIMENSIONS})

_FRAME_TYPES: dict[int, Any] = {tags.FRAME_TYPE: None, tags.COMPLEX_COMPONENT: None}
# What old single-frame files said and no functional group of today takes up; kept by converters of legacy files
_CONVERTED: dict[int, Any] = dict.fromkeys(
    (
        tags.IMAGE_TYPE,
        tags.ACQUISITION_TIME,
        tags.SLICE_THICKNESS,
        tags.ECHO_TIME,
        tags.ECHO_NUMBERS,
        tags.TRIGGER_TIME,
        tags.NOMINAL_TILT,
        tags.KERNEL,
        tags.B_VALUE,
        tags.ACQUISITION_NUMBER,
        tags.INSTANCE_NUMBER,
        tags.TEMPORAL_POSITION,
        tags.BURNED_IN,
        tags.PET_UNITS,
    )
)  # fmt: skip
# Functional groups by their sequence, those that decide last: position, orientation, spacing, rescale
_GROUPS: dict[int, Any] = {
    0x00209170: _CONVERTED,  # unassigned shared, and per-frame, converted attributes
    0x00209171: _CONVERTED,
    0x00189226: _FRAME_TYPES,  # MR, CT and PET image frame type
    0x00189329: _FRAME_TYPES,
    0x00189751: _FRAME_TYPES,
    0x00189114: {tags.EFFECTIVE_ECHO_TIME: None},  # MR echo: effective echo time
    0x00189117: {tags.B_VALUE: None, 0x00189076: {tags.GRADIENT: None}},  # MR diffusion: b-value, gradient
    0x00189118: {tags.TRIGGER_DELAY: None},  # cardiac synchronisation: nominal trigger delay
    0x00189314: {tags.KERNEL: None},  # CT reconstruction: kernel
    0x00209111: dict.fromkeys(  # frame content
        (tags.FRAME_MOMENT, tags.STACK_ID, tags.TEMPORAL_POSITION_INDEX, tags.FRAME_ACQUISITION_NUMBER, tags.DIMENSION_VALUES)
    ),
    0x00209310: {tags.TIME_OFFSET: None},  # temporal position: time offset
    0x00409096: {tags.MAPPING_SLOPE: None, tags.MAPPING_INTERCEPT: None, 0x004008EA: {tags.MAPPING_UNIT: None}},
    0x00209113: {tags.POSITION: None},
    0x00209116: {tags.ORIENTATION: None},
    0x00289110: dict.fromkeys((tags.PIXEL_SPACING, tags.SLICE_THICKNESS, tags.SPACING_BETWEEN_SLICES)),  # pixel measures
    0x00289145: dict.fromkeys((tags.SLOPE, tags.INTERCEPT, tags.RESCALE_TYPE)),  # pixel value transformation
}

# Dimensions that count places, not images of one place
_SPATIAL = frozenset(
    {tags.STACK_ID, tags.IN_STACK_POSITION, tags.POSITION, tags.ORIENTATION, 0x00209113, 0x00209116, 0x00201041}
    | {0x00209301, 0x00209302, 0x0020930E, 0x0020930F}  # position and orientation in a volume
)


def frame_values(values: Mapping[int, bytes], is_implicit: bool, is_big_endian: bool, count: int) -> list[dict[int, bytes]] | None:
    """Return the values of each of `count` frames by tag, None where the file has no functional groups.

    `values` must hold the raw sequences of MULTIFRAME_TAGS as far as the file has them. Raises HeaderError where the
    sequences are damaged or do not describe as many frames as the file announces.
    """
    if PER_FRAME not in values and SHARED not in values:
        return None
    shared = _items(values.get(SHARED, b""), is_implicit, is_big_endian, _GROUPS)
    frames = _items(values.get(PER_FRAME, b""), is_implicit, is_big_endian, _GROUPS)
    if not frames and count == 1:
        frames = [{}]
    if len(frames) != count:
        raise HeaderError(f"it announces {count} frames but describes {len(frames)}: which frame lies where is unknown")
    common = shared[0] if shared else {}
    return [_flat(common, frame) for frame in frames]


def other_dimensions(values: Mapping[int, bytes], is_implicit: bool, is_big_endian: bool) -> list[int]:
    """Return which of a frame's dimension index values tell images of one place apart: time, echo, b-value and so on."""
    items = _items(values.get(DIMENSIONS, b""), is_implicit, is_big_endian, {tags.DIMENSION_POINTER: None})
    order = "big" if is_big_endian else "little"
    pointers = []
    for item in items:
        raw = item.get(tags.DIMENSION_POINTER, b"")
        pointers.append(int.from_bytes(raw[:2], order) << 16 | int.from_bytes(raw[2:4], order))  # type: ignore[arg-type]
    return [index for index, tag in enumerate(pointers) if tag not in _SPATIAL]


def dimension_text(index_values: str, which: Sequence[int]) -> str:
    """Return the index values of the dimensions that are not places, joined by "/".

    >>> dimension_text("1\\\\17\\\\2", [2])
    '2'
    """
    parts = index_values.split("\\") if index_values else []
    return "/".join(parts[index] for index in which if index < len(parts))


def _items(raw: bytes, is_implicit: bool, is_big_endian: bool, wanted: Wanted) -> list[Found]:
    walk = Walk(Bytes(raw, len(raw)), is_implicit, is_big_endian)
    return list(walk.items(0, len(raw), wanted))


def _flat(shared: Found, frame: Found) -> dict[int, bytes]:
    """Put the groups of a frame into one level; a group of the frame's own takes the place of the shared one."""
    flat: dict[int, bytes] = {}
    for group in _GROUPS:
        own = frame.get(group) or shared.get(group)
        if own:
            _add(own[0], flat)
    if tags.SLOPE in flat or tags.INTERCEPT in flat:
        for tag in (tags.MAPPING_SLOPE, tags.MAPPING_INTERCEPT, tags.MAPPING_UNIT):
            flat.pop(tag, None)
    return flat


def _add(item: Found, flat: dict[int, bytes]) -> None:
    for tag, value in item.items():
        if isinstance(value, bytes):
            flat[tag] = value
        elif value:
            _add(value[0], flat)
