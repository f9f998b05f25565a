"""Steps over the elements and items of a data set of any encoding (PS3.5, section 7), within the bytes that there are."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any

DEEPEST_SEQUENCE = 32  # sequences nested deeper are refused: no real header comes near
WINDOW_BYTES = 1 << 16  # read at once where the header goes on beyond its first bytes

UNDEFINED = 0xFFFFFFFF
ITEM_GROUP = 0xFFFE
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST"}
    | {b"TM", b"UI", b"UL", b"US"}
)

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

Wanted = Mapping[int, Any]
"""Tag → None for a value, or the wanted tags of the items of a sequence."""

Found = dict[int, Any]
"""Tag → bytes of a value, or the list of what was found in each item of a sequence."""


class HeaderError(Exception):
    """The file is DICOM, but its header cannot be read; never leaves `medseg.io.dicom`."""


class StructureError(HeaderError):
    """The header is not built as the standard says; another reader may still understand it."""


def is_vr(two: bytes) -> bool:
    """Whether two bytes are a value representation."""
    return two in SHORT_VRS or two in LONG_VRS


class Bytes:
    """The bytes of a file, at hand in a window that moves; nothing beyond its end is ever asked for."""

    def __init__(self, data: bytes, size: int, file: int | None = None, modified_ns: int = 0) -> None:
        self.data, self.size, self.base = data, size, 0
        self.modified_ns = modified_ns
        self._file = file

    def need(self, start: int, end: int) -> None:
        """Bring bytes into the window; raises HeaderError where the file ends before."""
        if end > self.size:
            raise HeaderError(f"the header is cut short: {self.size} bytes, {end} needed")
        if start >= self.base and end <= self.base + len(self.data):
            return
        if self._file is None:
            raise HeaderError(f"the header is cut short: {len(self.data)} bytes, {end} needed")
        os.lseek(self._file, start, os.SEEK_SET)
        count = max(end - start, min(WINDOW_BYTES, self.size - start))
        pieces = []
        while count:
            piece = os.read(self._file, count)
            if not piece:
                break
            pieces.append(piece)
            count -= len(piece)
        self.data, self.base = b"".join(pieces), start
        if end > start + len(self.data):
            raise HeaderError(f"the header is cut short: {start + len(self.data)} bytes, {end} needed")

    def take(self, start: int, end: int) -> bytes:
        """Return bytes of the file."""
        self.need(start, end)
        return self.data[start - self.base : end - self.base]


class Walk:
    """Steps over elements; a length that leads outside the file is an error."""

    def __init__(self, source: Bytes, is_implicit: bool, is_big: bool) -> None:
        self.source, self.is_implicit, self.is_big = source, is_implicit, is_big
        order = ">" if is_big else "<"
        self._tag = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "L").unpack_from

    def element(self, at: int) -> tuple[int, bytes, int, int]:
        """Return tag, VR, where the value begins, and its length, of the element at a position."""
        source = self.source
        source.need(at, at + 8)
        data, offset = source.data, at - source.base
        group, number = self._tag(data, offset)
        tag = group << 16 | number
        if group == ITEM_GROUP or self.is_implicit:
            return tag, b"", at + 8, self._long(data, offset + 4)[0]
        vr = data[offset + 4 : offset + 6]
        if vr in SHORT_VRS:
            return tag, vr, at + 8, self._short(data, offset + 6)[0]
        if vr not in LONG_VRS:
            raise StructureError(f"element ({group:04X},{number:04X}) has no known value representation")
        source.need(at, at + 12)
        return tag, vr, at + 12, self._long(source.data, at - source.base + 8)[0]

    def after_sequence(self, at: int, vr: bytes, depth: int = 1) -> int:
        """Return the position after a sequence of undefined length whose first item is at a position."""
        if depth > DEEPEST_SEQUENCE:
            raise HeaderError(f"sequences are nested deeper than {DEEPEST_SEQUENCE}")
        outer, self.is_implicit = self.is_implicit, self.is_implicit or vr == b"UN"  # UN of undefined length: implicit inside
        try:
            while True:
                tag, _, at, length = self.element(at)
                if tag == _SEQUENCE_END:
                    return at
                if tag != _ITEM:
                    raise StructureError("a sequence holds something that is not an item")
                at = at + length if length != UNDEFINED else self._after_item(at, depth)
        finally:
            self.is_implicit = outer

    def _after_item(self, at: int, depth: int) -> int:
        while True:
            tag, vr, at, length = self.element(at)
            if tag == _ITEM_END:
                return at
            at = at + length if length != UNDEFINED else self.after_sequence(at, vr, depth + 1)

    def items(self, at: int, end: int, wanted: Wanted) -> Iterator[Found]:
        """Yield what is wanted of each item of a sequence that lies between two positions."""
        while at + 8 <= end:
            tag, _, at, length = self.element(at)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise StructureError("a sequence holds something that is not an item")
            stop = end if length == UNDEFINED else at + length
            if stop > end:
                raise HeaderError("an item reaches beyond its sequence")
            found, at = self._item(at, stop, wanted)
            yield found

    def _item(self, at: int, end: int, wanted: Wanted) -> tuple[Found, int]:
        """Return what is wanted of one item, and where it ends."""
        found: Found = {}
        while at < end:
            tag, vr, value_at, length = self.element(at)
            if tag == _ITEM_END:
                return found, value_at
            at = self.after_sequence(value_at, vr) if length == UNDEFINED else value_at + length
            if at > end:
                raise HeaderError("an element reaches beyond its item")
            if tag not in wanted or tag in found:
                continue
            if wanted[tag] is None:
                found[tag] = self.source.take(value_at, at)
            else:
                found[tag] = self._nested(value_at, at, vr, wanted[tag])
        return found, at

    def _nested(self, at: int, end: int, vr: bytes, wanted: Wanted) -> list[Found]:
        outer, self.is_implicit = self.is_implicit, self.is_implicit or vr == b"UN"
        try:
            return list(self.items(at, end, wanted))
        finally:
            self.is_implicit = outer
