"""The short way through an ordinary header: little endian, the bytes at hand.

Every element of every file of a folder passes here, so there are no calls but those of `struct`. What is not ordinary stops
the loop, and the careful walk goes on from there.
"""

from __future__ import annotations

import struct

from medseg.io.dicom.walk import DEEPEST_SEQUENCE, LONG_VRS, SHORT_VRS, UNDEFINED

_HEAD = struct.Struct("<LHH").unpack_from
_IMPLICIT_HEAD = struct.Struct("<LL").unpack_from
_LONG = struct.Struct("<L").unpack_from
_SHORT_CODES = frozenset(int.from_bytes(vr, "little") for vr in SHORT_VRS)
_LONG_CODES = frozenset(int.from_bytes(vr, "little") for vr in LONG_VRS)
_HEAD_BYTES = dict.fromkeys(_SHORT_CODES, 8) | dict.fromkeys(_LONG_CODES, 12)  # before the value
_SQ = int.from_bytes(b"SQ", "little")
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000FFFE, 0xE00DFFFE, 0xE0DDFFFE


def stops_and_wanted(wanted: frozenset[int], stops: frozenset[int]) -> dict[int, int]:
    """Return the table that `skim` goes by: wanted tags under the number that their four bytes read as, 0 where it must stop."""
    table = {(tag & 0xFFFF) << 16 | tag >> 16: tag for tag in wanted}
    return table | {(tag & 0xFFFF) << 16 | tag >> 16: 0 for tag in stops} | dict.fromkeys((_ITEM, _ITEM_END, _SEQUENCE_END), 0)


def skim(data: bytes, at: int, tags: dict[int, int], values: dict[int, bytes]) -> int:
    """Collect the values of wanted explicit elements; return where the first begins that needs care, or beyond the bytes."""
    head, long_at, short, lengthy = _HEAD, _LONG, _SHORT_CODES, _LONG_CODES
    size = len(data)
    last = size - 12
    while at <= last:
        swapped, vr, length = head(data, at)
        if vr in short:
            value = at + 8
        elif vr in lengthy:
            value = at + 12
            length = long_at(data, at + 8)[0]
            if length == UNDEFINED:
                after = _after_sequence(data, value) if vr == _SQ and swapped not in tags else -1
                if after < 0:
                    break
                at = after
                continue
        else:
            break
        if swapped in tags:
            tag, end = tags[swapped], value + length
            if tag == 0 or end > size:
                break
            values[tag] = data[value:end]
            at = end
        else:
            at = value + length
    return at


def skim_implicit(data: bytes, at: int, tags: dict[int, int], values: dict[int, bytes]) -> int:
    """The same for implicit elements."""
    head = _IMPLICIT_HEAD
    size = len(data)
    last = size - 8
    while at <= last:
        swapped, length = head(data, at)
        if swapped in tags:
            tag, end = tags[swapped], at + 8 + length
            if tag == 0 or end > size:
                break
            values[tag] = data[at + 8 : end]
            at = end
        elif length == UNDEFINED:
            break
        else:
            at += 8 + length
    return at


def _after_sequence(data: bytes, at: int) -> int:
    """Return the position after a sequence of undefined length, -1 where it needs care."""
    head, long_at, heads = _HEAD, _LONG, _HEAD_BYTES
    last = len(data) - 12
    sequences, items = 1, 0  # that are open; an element stands in an item, an item in a sequence
    while at <= last:
        swapped, vr, length = head(data, at)
        before = heads.get(vr, 0)
        if swapped == _ITEM and items == sequences - 1:
            length = long_at(data, at + 4)[0]
            items, length = (items + 1, 0) if length == UNDEFINED else (items, length)
            at += 8 + length
        elif swapped == _ITEM_END and items == sequences:
            items, at = items - 1, at + 8
        elif swapped == _SEQUENCE_END and items == sequences - 1:
            sequences, at = sequences - 1, at + 8
            if sequences == 0:
                return at
        elif items != sequences or before == 0:
            return -1
        elif before == 8:
            at += 8 + length
        else:
            length = long_at(data, at + 8)[0]
            if length == UNDEFINED:
                if vr != _SQ or sequences == DEEPEST_SEQUENCE:
                    return -1
                sequences, length = sequences + 1, 0
            at += 12 + length
    return -1
