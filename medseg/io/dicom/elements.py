"""The elements of a DICOM file up to its pixels (PS3.5, section 7), read without trusting any length in it.

Only the beginning of a file is read, and what lies between long values that nobody asked for. Ordinary headers take a
short loop; whatever that loop does not know goes through the careful walk of `medseg.io.dicom.walk`.
"""

from __future__ import annotations

import functools
import os
import stat
import struct
import zlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from medseg.io.dicom.skim import skim, skim_implicit, stops_and_wanted
from medseg.io.dicom.walk import (
    ITEM_GROUP,
    PIXEL_TAGS,
    UNDEFINED,
    Bytes,
    HeaderError,
    StructureError,
    Walk,
    is_vr,
)

__all__ = [
    "DEFLATED", "EXPLICIT_BIG", "EXPLICIT_LITTLE", "IMPLICIT_LITTLE", "Elements", "HeaderError", "NotDicomError", "PixelElement",
    "looks_like_dicom", "read_dataset_bytes", "read_elements",
]  # fmt: skip

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

FIRST_BYTES = 1 << 13  # most headers end within the first 8 KiB
INFLATE_RATIO = 64  # a deflated data set that grows by more than this is refused as a bomb
INFLATE_FLOOR = 1 << 26  # but every data set may grow to 64 MiB: headers alone compress well
INFLATE_LIMIT = 1 << 31  # and none beyond 2 GiB

_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe in place of a file must not hang
_FIRST_ELEMENTS = frozenset({(2, 0), (2, 1), (8, 0), (8, 1), (8, 5), (8, 8), (8, 0x12), (8, 0x14), (8, 0x16), (8, 0x18)})
_NOT_PLAIN = frozenset({IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
_TRANSFER_SYNTAX, _MEDIA_SOP_CLASS, _MEDIA_SOP_INSTANCE = 0x00020010, 0x00020002, 0x00020003


class NotDicomError(Exception):
    """The file is not DICOM; never leaves `medseg.io.dicom`."""


@dataclass(frozen=True)
class PixelElement:
    """Where the pixels lie: tag, VR (empty where implicit), first byte, and length (None where undefined)."""

    tag: int
    vr: str
    offset: int
    length: int | None


@dataclass(frozen=True)
class Elements:
    """Raw values of the wanted elements; `size` is the bytes of the file, or of the inflated data set.

    The value of a sequence is all its items; `is_implicit` and `is_big_endian` say how they are encoded. `modified_ns` is when
    the file was changed last.
    """

    values: Mapping[int, bytes]
    transfer_syntax: str
    is_big_endian: bool
    pixels: PixelElement | None
    size: int
    media_sop_class_uid: str = ""
    media_sop_instance_uid: str = ""
    is_implicit: bool = False
    modified_ns: int = 0


def looks_like_dicom(start: bytes) -> bool:
    """Tell whether a file that begins so is DICOM: "DICM" after the preamble, or a sound group 2 or 8 without one."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 16 or struct.unpack_from("<HH", start) not in _FIRST_ELEMENTS:
        return False
    # implicit: the first values of a header are short
    return is_vr(start[4:6]) or int(struct.unpack_from("<L", start, 4)[0]) <= 512


def read_elements(path: str, wanted: AbstractSet[int]) -> Elements:
    """Read the wanted elements before the pixels; raises NotDicomError, HeaderError or OSError."""
    file = os.open(path, _OPEN)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise NotDicomError("not a regular file")
        size = status.st_size
        first = os.read(file, FIRST_BYTES)
        if not looks_like_dicom(first):
            raise NotDicomError("not DICOM" if size else "empty file")
        try:
            return _read(Bytes(first, size, file, status.st_mtime_ns), frozenset(wanted))
        except StructureError as unusual:
            found = _by_pydicom(path, frozenset(wanted), status)
            if found is None:
                raise HeaderError(str(unusual)) from None
            return found
    finally:
        os.close(file)


def read_dataset_bytes(path: str, transfer_syntax: str) -> bytes:
    """Return the bytes that `PixelElement.offset` counts in: the file's own, or those of the inflated data set."""
    with open(path, "rb") as stream:
        data = stream.read()
    if transfer_syntax != DEFLATED:
        return data
    start, _ = _read_meta(Bytes(data, len(data)))
    return _inflate(data[start:], len(data))


def _read(source: Bytes, wanted: frozenset[int]) -> Elements:
    return _read_plain(source, wanted) or _read_any(source, wanted)


def _read_plain(source: Bytes, wanted: frozenset[int]) -> Elements | None:
    """Read a file in one go, taken as explicit little endian from its first element on; None where it is not."""
    values: dict[int, bytes] = {}
    start = _start(source)
    try:
        pixels = _collect(Walk(source, is_implicit=False, is_big=False), start, _with_meta(wanted), values)
    except HeaderError:
        return None  # or broken: the careful reading will say
    syntax, sop_class, instance = (_text(values.pop(tag, b"")) for tag in (_TRANSFER_SYNTAX, _MEDIA_SOP_CLASS, _MEDIA_SOP_INSTANCE))
    if syntax in _NOT_PLAIN:
        return None
    return Elements(values, syntax or EXPLICIT_LITTLE, False, pixels, source.size, sop_class, instance, modified_ns=source.modified_ns)


def _read_any(source: Bytes, wanted: frozenset[int]) -> Elements:
    start, meta = _read_meta(source)
    syntax = _text(meta.get(_TRANSFER_SYNTAX, b""))
    if syntax == DEFLATED:
        data = _inflate(source.take(start, source.size), source.size)
        start, source = 0, Bytes(data, len(data), modified_ns=source.modified_ns)
    is_big = syntax == EXPLICIT_BIG
    is_implicit = False
    if not is_big and source.size >= start + 8:
        # some writers name one encoding and use the other; no implicit header begins with a value as long as two letters read
        is_implicit = not is_vr(source.take(start, start + 8)[4:6])
    values: dict[int, bytes] = {}
    pixels = _collect(Walk(source, is_implicit, is_big), start, wanted, values)
    return Elements(
        values,
        syntax or (IMPLICIT_LITTLE if is_implicit else EXPLICIT_LITTLE),
        is_big,
        pixels,
        source.size,
        _text(meta.get(_MEDIA_SOP_CLASS, b"")),
        _text(meta.get(_MEDIA_SOP_INSTANCE, b"")),
        is_implicit,
        source.modified_ns,
    )


def _start(source: Bytes) -> int:
    """Where the first element is: behind the preamble, where there is one."""
    return 132 if source.take(0, min(132, source.size))[128:] == b"DICM" else 0


def _read_meta(source: Bytes) -> tuple[int, dict[int, bytes]]:
    """Return where the data set begins and the elements of group 2, which are always explicit little endian."""
    start = _start(source)
    walk = Walk(source, is_implicit=False, is_big=False)
    meta: dict[int, bytes] = {}
    while start + 8 <= source.size:
        source.need(start, start + 8)
        if source.data[start - source.base : start - source.base + 2] != b"\x02\x00":
            break
        tag, _, value_at, length = walk.element(start)
        start = value_at + length
        meta[tag] = source.take(value_at, start)
    return start, meta


def _collect(walk: Walk, at: int, wanted: frozenset[int], values: dict[int, bytes]) -> PixelElement | None:
    """Fill in the wanted values; return the pixels, None where the data set ends before any."""
    source = walk.source
    step = None if walk.is_big else skim_implicit if walk.is_implicit else skim
    tags = _table(wanted)
    while at != source.size:
        if step is not None:
            at = step(source.data, at - source.base, tags, values) + source.base
        if at > source.size:
            raise HeaderError(f"the header is cut short: {source.size} bytes, {at} needed")
        if source.size - at < 8 and not source.take(at, source.size).strip(b"\0"):
            break  # the end, or zero bytes after the last element
        tag, vr, value_at, length = walk.element(at)
        if tag in PIXEL_TAGS:
            return PixelElement(tag, vr.decode("ascii"), value_at, None if length == UNDEFINED else length)
        if tag >> 16 == ITEM_GROUP:
            raise StructureError(f"a delimiter of a sequence stands outside any sequence, at byte {at}")
        at = walk.after_sequence(value_at, vr) if length == UNDEFINED else value_at + length
        if tag in wanted:
            values[tag] = source.take(value_at, at)
    return None


@functools.lru_cache(maxsize=16)
def _with_meta(wanted: frozenset[int]) -> frozenset[int]:
    return wanted | {_TRANSFER_SYNTAX, _MEDIA_SOP_CLASS, _MEDIA_SOP_INSTANCE}


@functools.lru_cache(maxsize=16)
def _table(wanted: frozenset[int]) -> dict[int, int]:
    return stops_and_wanted(wanted, PIXEL_TAGS)


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


def _by_pydicom(path: str, wanted: frozenset[int], status: os.stat_result) -> Elements | None:
    """Read a header whose structure the walk does not know, as pydicom understands it; None where it fails too."""
    from medseg.io.dicom.lenient import lenient_elements

    found = lenient_elements(path, wanted)
    if found is None:
        return None
    values, syntax, is_implicit, is_big, at = found
    with open(path, "rb") as stream:
        stream.seek(at)
        head = stream.read(12)
    tag, vr, value_at, length = Walk(Bytes(head, len(head)), is_implicit, is_big).element(0)
    if tag not in PIXEL_TAGS:
        return None
    pixels = PixelElement(tag, vr.decode("ascii"), at + value_at, None if length == UNDEFINED else length)
    syntax = syntax or (IMPLICIT_LITTLE if is_implicit else EXPLICIT_LITTLE)
    return Elements(values, syntax, is_big, pixels, status.st_size, is_implicit=is_implicit, modified_ns=status.st_mtime_ns)


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip("\0 ")
