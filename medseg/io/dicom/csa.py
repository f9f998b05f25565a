"""Siemens' private CSA header and the protocol text inside it, read without trusting any length in them.

The layout is documented by NiBabel (https://nipy.org/nibabel/dicom/siemens_csa.html); CSA1 and CSA2 are both read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

MOST_TAGS = 1024  # real headers have about a hundred

_CHECKS = (77, 205)
_TAG = struct.Struct("<64si4siii")
_ITEM = struct.Struct("<4i")
_PROTOCOL = re.compile(rb"### ASCCONV BEGIN[^\n]*\n(.*?)### ASCCONV END ###", re.DOTALL)
_SLICE_POSITION = re.compile(
    rb"^sSliceArray\.asSlice\[(\d{1,5})\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*(-?[\d.]{1,24}(?:e[+-]?\d{1,3})?)\s*$", re.MULTILINE
)
_SLICE_COUNT = re.compile(rb"^sSliceArray\.lSize\s*=\s*(0x[0-9a-fA-F]{1,6}|\d{1,6})\s*$", re.MULTILINE)
_AXES = {b"Sag": 0, b"Cor": 1, b"Tra": 2}


def csa_values(raw: bytes) -> dict[str, tuple[str, ...]]:
    """Return the values of a CSA header by name; empty where the bytes are none, or damaged."""
    try:
        return dict(_tags(raw))
    except (struct.error, _DamageError):
        return {}


class _DamageError(Exception):
    """A count or length in the header cannot be true."""


def _tags(raw: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
    is_new = raw[:4] == b"SV10"
    at = 8 if is_new else 0
    count, check = struct.unpack_from("<II", raw, at)
    if check not in _CHECKS or count > MOST_TAGS:
        raise _DamageError
    at += 8
    first_items: int | None = None
    for _ in range(count):
        name, _, _, _, items, check = _TAG.unpack_from(raw, at)
        at += _TAG.size
        if check not in _CHECKS or not 0 <= items <= len(raw):
            raise _DamageError
        first_items = items if first_items is None else first_items
        values = []
        for _ in range(items):
            lengths = _ITEM.unpack_from(raw, at)
            at += _ITEM.size
            # the old form counts a length from the number of items of the first tag
            length = lengths[1] if is_new else lengths[0] - first_items
            if length < 0 or at + length > len(raw):
                raise _DamageError
            text = _text(raw[at : at + length])
            values += [text] if text else []
            at += (length + 3) // 4 * 4
        yield _text(name), tuple(values)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("ascii", "replace").strip()


def protocol_slice_positions(raw: bytes) -> list[tuple[float, float, float]]:
    """Return the centres of the slices in LPS mm as the protocol text in a CSA series header plans them; empty where unknown."""
    protocol = _PROTOCOL.search(raw)
    size = _SLICE_COUNT.search(protocol[1]) if protocol else None
    if protocol is None or size is None:
        return []
    count = int(size[1], 0)
    points = [[0.0, 0.0, 0.0] for _ in range(min(count, MOST_TAGS))]
    for number, axis, value in _SLICE_POSITION.findall(protocol[1]):
        if int(number) < len(points):
            try:
                points[int(number)][_AXES[axis]] = float(value)
            except ValueError:
                return []
    return [(x, y, z) for x, y, z in points]
