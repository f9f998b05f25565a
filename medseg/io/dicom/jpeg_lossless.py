"""Lossless JPEG frames, the usual encoding of compressed CT, decoded here: foreign decoders take damaged ones without a word."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.io.dicom.codestream import Codestream, CodestreamError

_FRAME, _TABLES, _SCAN, _RESTART, _END = 0xC3, 0xC4, 0xDA, 0xDD, 0xD9
_SKIPPED = frozenset({*range(0xE0, 0xF0), 0xFE, 0xDB})  # application data, comments, tables that lossless frames do not use
_WRONG = {1: "has a code that means nothing", 2: "ends before its last pixel", 3: "goes on after its last pixel"}


class UnusualJpegError(Exception):
    """A sound frame of a kind that is left to the decoder process; never leaves `medseg.io.dicom`."""


@dataclass
class _Scan:
    """What the markers before the coded samples say."""

    tables: dict[int, npt.NDArray[np.uint16]] = field(default_factory=dict)
    restart_interval: int = 0
    table: int = 0
    predictor: int = 0
    shift: int = 0
    start: int = 0


def decode_jpeg_lossless(stream: bytes, frame: Codestream, target: npt.NDArray[Any] | None = None) -> npt.NDArray[np.uint16]:
    """Return the samples of a lossless JPEG frame of one component, (rows, columns), in `target` where its items are as wide.

    Raises CodestreamError where it is damaged (every bit of the scan must be needed), UnusualJpegError for rare kinds.
    """
    from medseg.kernels import jpeg_lossless as kernel  # compiled code: only where it is needed

    scan = _read_markers(stream)
    if frame.components != 1 or scan.table not in scan.tables or not 1 <= scan.predictor <= 7 or scan.shift >= frame.precision:
        raise UnusualJpegError
    fits = target is not None and target.dtype.itemsize == 2
    samples = target.view(np.uint16) if target is not None and fits else np.empty((frame.rows, frame.columns), np.uint16)
    first = 1 << (frame.precision - scan.shift - 1)
    table, coded = scan.tables[scan.table], np.frombuffer(stream, np.uint8)
    for span, rows in _intervals(stream, scan, frame):
        status = kernel.decode_lossless(coded, span, table, scan.predictor, first, samples[rows[0] : rows[1]])
        if status != kernel.COMPLETE:
            raise CodestreamError(f"{_WRONG[status]}, it is damaged: copy the file again")
    if scan.shift:
        np.left_shift(samples, scan.shift, out=samples)
    return samples


def _read_markers(stream: bytes) -> _Scan:
    scan, at = _Scan(), 2
    while at + 4 <= len(stream):
        if stream[at] != 0xFF:
            break
        marker = stream[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", stream, at + 2)
        body = stream[at + 4 : at + 2 + length]
        if length < 2 or len(body) < length - 2:
            break
        if marker == _TABLES:
            _read_tables(body, scan.tables)
        elif marker == _RESTART and len(body) == 2:
            (scan.restart_interval,) = struct.unpack(">H", body)
        elif marker == _SCAN:
            if len(body) != 6 or body[0] != 1:
                raise UnusualJpegError
            scan.table, scan.predictor, scan.shift, scan.start = body[2] >> 4, body[3], body[5] & 15, at + 2 + length
            return scan
        elif marker != _FRAME and marker not in _SKIPPED:
            raise UnusualJpegError
        at += 2 + length
    raise CodestreamError("is damaged before its first pixel: copy the file again")


def _read_tables(body: bytes, tables: dict[int, npt.NDArray[np.uint16]]) -> None:
    from medseg.kernels.jpeg_lossless import huffman_table

    at = 0
    while at + 17 <= len(body):
        counts = np.frombuffer(body, np.uint8, 16, at + 1)
        symbols = np.frombuffer(body[at + 17 : at + 17 + int(counts.sum())], np.uint8)
        table = huffman_table(counts, symbols)
        if table is None:
            raise CodestreamError("has a code table that makes no sense, it is damaged: copy the file again")
        tables[body[at]] = table
        at += 17 + symbols.size


def _intervals(stream: bytes, scan: _Scan, frame: Codestream) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the bytes and rows of each part of the scan that is decoded by itself: all of it, or its restart intervals."""
    coded = np.frombuffer(stream, np.uint8)
    marked = scan.start + np.flatnonzero(coded[scan.start : -1] == 0xFF)
    after = coded[marked + 1]
    ends = marked[(after != 0) & (after != 0xFF)].tolist()
    if not ends:
        raise CodestreamError("has no end, it is cut short: copy the file again")
    rows_each, rest = divmod(scan.restart_interval, frame.columns)
    if rest or (not scan.restart_interval and 0xD0 <= stream[ends[0] + 1] <= 0xD7):
        raise UnusualJpegError
    count = -(-frame.rows // rows_each) if rows_each else 1
    expected = [*(0xD0 + number % 8 for number in range(count - 1)), _END]
    if [stream[at + 1] for at in ends[:count]] != expected:
        raise CodestreamError("has marks at the wrong places, it is damaged: copy the file again")
    starts = [scan.start, *(at + 2 for at in ends)][:count]
    ends = [_without_fill(stream, at) for at in ends]
    rows = [(number * rows_each, min((number + 1) * rows_each, frame.rows)) for number in range(count)] if rows_each else [(0, frame.rows)]
    return list(zip(zip(starts, ends[:count], strict=True), rows, strict=True))


def _without_fill(stream: bytes, end: int) -> int:
    """Bytes of 255 may stand before a marker."""
    while stream[end - 1] == 0xFF:
        end -= 1
    return end
