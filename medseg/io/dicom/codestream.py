"""What a compressed frame says of itself (JPEG, JPEG-LS, JPEG 2000), read before any decoder sees it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

JPEG, JPEG_LOSSLESS, JPEG_LS, JPEG_2000 = "JPEG", "JPEG lossless", "JPEG-LS", "JPEG 2000"

_JPEG_2000_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\x00\x00\x00\x0cjP  "
_END = b"\xff\xd9"  # the same two bytes in all of them
_KINDS = {0xC0: JPEG, 0xC1: JPEG, 0xC2: JPEG, 0xC3: JPEG_LOSSLESS, 0xF7: JPEG_LS}
_OTHER_FRAMES = frozenset({0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})  # hierarchical or arithmetic
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


class CodestreamError(Exception):
    """A compressed frame is damaged or of a kind that no image has; never leaves `medseg.io.dicom`."""


@dataclass(frozen=True)
class Codestream:
    """Size and values of a compressed frame; `precision` is the bits of a sample, `has_end` whether its end marker is there."""

    kind: str
    rows: int
    columns: int
    components: int
    precision: int
    is_signed: bool
    has_end: bool


def read_codestream(stream: bytes | bytearray | memoryview) -> Codestream:
    """Return what a compressed frame says of itself; raises CodestreamError where it is none."""
    start = bytes(stream[:12])
    has_end = _END in bytes(stream[-16:])  # padding may follow the end
    if start[:4] == _JPEG_2000_START:
        return _jpeg_2000(stream, 0, has_end)
    if start[:8] == _JP2_START:
        return _jpeg_2000(stream, _codestream_of_jp2(stream), True)
    if start[:2] == b"\xff\xd8":
        return _jpeg(stream, has_end)
    raise CodestreamError("holds no image in the encoding that its header names")


def _jpeg_2000(stream: bytes | bytearray | memoryview, at: int, has_end: bool) -> Codestream:
    if len(stream) < at + 43:
        raise CodestreamError(f"is cut short after {len(stream)} bytes")
    right, lower, left, upper = struct.unpack_from(">LLLL", stream, at + 8)
    components, depth = struct.unpack_from(">HB", stream, at + 40)
    return Codestream(JPEG_2000, lower - upper, right - left, components, (depth & 127) + 1, bool(depth & 128), has_end)


def _codestream_of_jp2(stream: bytes | bytearray | memoryview) -> int:
    """Some writers wrap the codestream into the boxes of a JP2 file; return where it begins."""
    at = 0
    while at + 16 <= len(stream):
        length, kind = struct.unpack_from(">L4s", stream, at)
        if kind == b"jp2c":
            inner = at + (16 if length == 1 else 8)
            if bytes(stream[inner : inner + 4]) == _JPEG_2000_START:
                return inner
            break
        if length < 8:
            break
        at += length
    raise CodestreamError("is a JP2 file without an image")


def _jpeg(stream: bytes | bytearray | memoryview, has_end: bool) -> Codestream:
    at, end = 2, len(stream)
    while at + 4 <= end:
        if stream[at] != 0xFF:
            break
        marker = stream[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        length = stream[at + 2] << 8 | stream[at + 3]
        if marker in _OTHER_FRAMES:
            raise CodestreamError("is a hierarchical or arithmetic-coded JPEG, which no decoder here reads")
        if marker in _KINDS:
            if at + 10 > end:
                break
            precision, rows, columns, components = struct.unpack_from(">BHHB", stream, at + 4)
            return Codestream(_KINDS[marker], rows, columns, components, precision, False, has_end)
        at += 2 + length
    raise CodestreamError("holds no frame header")
