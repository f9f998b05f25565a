"""The elements of a DICOM file up to its pixels (PS3.5, section 7), read without trusting any length in it."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

FIRST_BYTES = 1 << 16  # most headers end within the first 64 KiB, so one read is enough
INFLATE_RATIO = 64  # a deflated data set that grows by more than this is refused as a bomb
INFLATE_FLOOR = 1 << 26  # but every data set may grow to 64 MiB: headers alone compress well
INFLATE_LIMIT = 1 << 31  # and none beyond 2 GiB
DEEPEST_SEQUENCE = 32  # sequences nested deeper are refused: no real header comes near

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST"}
    | {b"TM", b"UI", b"UL", b"US"}
)
_TRANSFER_SYNTAX = 0x00020010
_MEDIA_SOP_CLASS = 0x00020002
_MEDIA_SOP_INSTANCE = 0x00020003


class HeaderError(Exception):
    """The file is DICOM, but its header cannot be read; never leaves `medseg.io.dicom`."""


class NotDicomError(Exception):
    """The file is not DICOM; never leaves `medseg.io.dicom`."""


class _MoreBytesNeededError(Exception):
    def __init__(self, upto: int) -> None:
        super().__init__(upto)
        self.upto = upto


@dataclass(frozen=True)
class PixelElement:
    """Where the pixels lie: tag, VR (empty where implicit), first byte, and length (None where undefined)."""

    tag: int
    vr: str
    offset: int
    length: int | None


@dataclass(frozen=True)
class Elements:
    """Raw values of the wanted elements; `size` is the bytes of the file, or of the inflated data set."""

    values: dict[int, bytes]
    transfer_syntax: str
    is_big_endian: bool
    pixels: PixelElement | None
    size: int
    media_sop_class_uid: str = ""
    media_sop_instance_uid: str = ""


def looks_like_dicom(start: bytes) -> bool:
    """Tell whether a file that begins so is DICOM: "DICM" after the preamble, or a sound group 2 or 8 without one."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 16:
        return False
    group, element = struct.unpack_from("<HH", start)
    if (group, element) not in {(2, 0), (2, 1), (8, 0), (8, 1), (8, 5), (8, 8), (8, 0x16), (8, 0x18)}:
        return False
    if start[4:6] in _SHORT_VRS or start[4:6] in _LONG_VRS:
        return True
    return struct.unpack_from("<L", start, 4)[0] <= 512  # implicit: the first values of a header are short


def read_elements(path: str, wanted: AbstractSet[int]) -> Elements:
    """Read the wanted elements before the pixels; raises NotDicomError, HeaderError or OSError."""
    with open(path, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NotDicomError("not a regular file")
        data = stream.read(FIRST_BYTES)
        if not looks_like_dicom(data):
            raise NotDicomError("empty file" if not status.st_size else "not DICOM")
        while True:
            try:
                return _parse(data, status.st_size, wanted)
            except _MoreBytesNeededError as need:
                more = stream.read(max(need.upto - len(data), len(data)))
                if not more:
                    raise HeaderError(f"the header is cut short: {status.st_size} bytes, {need.upto} or more needed") from None
                data += more


def read_dataset_bytes(path: str, transfer_syntax: str) -> bytes:
    """Return the bytes that `PixelElement.offset` counts in: the file's own, or those of the inflated data set."""
    with open(path, "rb") as stream:
        data = stream.read()
    if transfer_syntax != DEFLATED:
        return data
    start, _ = _read_meta(data, len(data))
    return _inflate(data[start:], len(data))


def _parse(data: bytes, size: int, wanted: AbstractSet[int]) -> Elements:
    start, meta = _read_meta(data, size)
    syntax = _text(meta.get(_TRANSFER_SYNTAX, b""))
    if syntax == DEFLATED:
        if len(data) < size:
            raise _MoreBytesNeededError(size)
        data = _inflate(data[start:], size)
        start, size = 0, len(data)
    is_big = syntax == EXPLICIT_BIG
    is_implicit = syntax == IMPLICIT_LITTLE
    if not is_implicit and len(data) >= start + 6 and not _is_vr(data[start + 4 : start + 6]):
        is_implicit = True  # says explicit, or says nothing, but holds no VR: some writers do that
    walk = _Walk(data, size, is_implicit, is_big)
    values, pixels = walk.collect(start, wanted)
    return Elements(
        values,
        syntax or (IMPLICIT_LITTLE if is_implicit else EXPLICIT_LITTLE),
        is_big,
        pixels,
        size,
        _text(meta.get(_MEDIA_SOP_CLASS, b"")),
        _text(meta.get(_MEDIA_SOP_INSTANCE, b"")),
    )


def _read_meta(data: bytes, size: int) -> tuple[int, dict[int, bytes]]:
    """Return where the data set begins and the elements of group 2."""
    start = 132 if data[128:132] == b"DICM" else 0
    walk = _Walk(data, size, is_implicit=False, is_big=False)
    meta: dict[int, bytes] = {}
    while start < size:
        walk.need(start + 8)
        if data[start : start + 2] != b"\x02\x00":
            break
        tag, _, value_at, length = walk.element(start)
        walk.need(value_at + length)
        meta[tag] = data[value_at : value_at + length]
        start = value_at + length
    return start, meta


def _inflate(data: bytes, file_size: int) -> bytes:
    limit = min(max(INFLATE_RATIO * file_size, INFLATE_FLOOR), INFLATE_LIMIT)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        whole = inflater.decompress(data, limit)
    except zlib.error:
        raise HeaderError("the deflated data set is corrupt") from None
    if inflater.unconsumed_tail:
        raise HeaderError(f"the deflated data set grows beyond {limit} bytes: refused")
    if not inflater.eof:
        raise HeaderError("the deflated data set is cut short")
    return whole


def _is_vr(two: bytes) -> bool:
    return two in _SHORT_VRS or two in _LONG_VRS


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip("\0 ")


class _Walk:
    """Steps over elements; a length that leads outside the file is an error, one outside the bytes at hand asks for more."""

    def __init__(self, data: bytes, size: int, is_implicit: bool, is_big: bool) -> None:
        self.data, self.size, self.is_implicit = data, size, is_implicit
        order = ">" if is_big else "<"
        self._tag = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "L").unpack_from

    def need(self, upto: int) -> None:
        if upto > self.size:
            raise HeaderError(f"the header is cut short: {self.size} bytes, {upto} needed")
        if upto > len(self.data):
            raise _MoreBytesNeededError(upto)

    def element(self, at: int) -> tuple[int, bytes, int, int]:
        """Return tag, VR, where the value begins, and its length, of the element at a position."""
        self.need(at + 8)
        group, number = self._tag(self.data, at)
        tag = group << 16 | number
        if group == 0xFFFE or self.is_implicit:
            return tag, b"", at + 8, self._long(self.data, at + 4)[0]
        vr = self.data[at + 4 : at + 6]
        if vr in _LONG_VRS:
            self.need(at + 12)
            return tag, vr, at + 12, self._long(self.data, at + 8)[0]
        if vr not in _SHORT_VRS:
            raise HeaderError(f"element ({group:04X},{number:04X}) has no known value representation")
        return tag, vr, at + 8, self._short(self.data, at + 6)[0]

    def collect(self, at: int, wanted: AbstractSet[int]) -> tuple[dict[int, bytes], PixelElement | None]:
        values: dict[int, bytes] = {}
        while at < self.size:
            if self.size - at < 8 and not self.data[at:].strip(b"\0"):
                break  # zero bytes after the last element
            tag, vr, value_at, length = self.element(at)
            if tag in _PIXEL_TAGS:
                return values, PixelElement(tag, vr.decode("ascii"), value_at, None if length == _UNDEFINED else length)
            if length == _UNDEFINED:
                at = self._after_sequence(value_at, vr, 1)
                continue
            if tag in wanted:
                self.need(value_at + length)
                values[tag] = self.data[value_at : value_at + length]
            at = value_at + length
            if at > self.size:
                raise HeaderError(f"the header is cut short: {self.size} bytes, {at} needed")
        return values, None

    def _after_sequence(self, at: int, vr: bytes, depth: int) -> int:
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
                    raise HeaderError("a sequence holds something that is not an item")
                at = at + length if length != _UNDEFINED else self._after_item(at, depth)
        finally:
            self.is_implicit = outer

    def _after_item(self, at: int, depth: int) -> int:
        while True:
            tag, vr, at, length = self.element(at)
            if tag == _ITEM_END:
                return at
            at = at + length if length != _UNDEFINED else self._after_sequence(at, vr, depth + 1)
