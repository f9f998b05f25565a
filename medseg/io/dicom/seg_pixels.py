"""The frames of a DICOM SEG, one at a time and only the rows that hold anything: most frames of a body are almost empty."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medseg.core.errors import UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom.decoder import DecoderPool
from medseg.io.dicom.elements import DEFLATED, Elements, PixelElement, read_dataset_bytes, read_elements
from medseg.io.dicom.encapsulated import frame_pieces, joined
from medseg.io.dicom.frame_file import FrameFile
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.layout import DEFLATED_FRAMES, NATIVE
from medseg.io.dicom.seg_header import SegHeader
from medseg.io.voxels import MOST_VOXELS

Plane = npt.NDArray[np.unsignedinteger[Any]]
Part = tuple[int, Plane]

_PIXEL_DATA = 0x7FE00010


class Frames(Protocol):
    """Stored frames of a SEG."""

    def part(self, frame: int) -> Part | None:
        """Return the first row that holds anything and the rows from there to the last such one, None for an empty frame."""


def open_frames(header: SegHeader) -> Frames:
    """Return the frames of a SEG; call inside `quiet()`.

    Raises UnreadableFileError where pixels are missing or cut short, UnsupportedFormatError for encodings that are not read.
    """
    dataset, file = header.dataset, header.file
    bits = int(dataset.get("BitsAllocated", 0))
    if bits not in (1, 8, 16) or int(dataset.get("SamplesPerPixel", 1)) != 1 or (bits == 1 and header.kind != "BINARY"):
        raise UnsupportedFormatError(
            f"{file}: a {header.kind} segmentation with {bits} bits and {dataset.get('SamplesPerPixel', 1)} sample(s) a pixel is not read"
        )
    size = header.rows * header.columns * header.frame_count
    if header.rows < 1 or header.columns < 1 or size > MOST_VOXELS:
        raise UnreadableFileError(
            f"{file}: {header.frame_count} frames of {header.columns} × {header.rows} pixels cannot be; copy it again"
        )
    elements = read_elements(os.fspath(file), frozenset())
    pixels = elements.pixels
    if pixels is None or pixels.tag != _PIXEL_DATA:
        raise UnreadableFileError(f"{file}: the segmentation ends before its pixels: copy the file again")
    if elements.transfer_syntax in NATIVE or not elements.transfer_syntax:
        data = _native_bytes(header, elements, pixels, -(-size * bits // 8))
        return _BitFrames(data, header) if bits == 1 else _ByteFrames(_numbers(data, bits, elements.is_big_endian, size), header)
    return _DecodedFrames(_decoded(header, elements, pixels, bits))


def _native_bytes(header: SegHeader, elements: Elements, pixels: PixelElement, needed: int) -> npt.NDArray[np.uint8]:
    """Return the bytes of uncompressed frames; pairs of bytes that were written as big-endian words are put right."""
    there = elements.size - pixels.offset if pixels.length is None else min(pixels.length, elements.size - pixels.offset)
    if there < needed:
        raise UnreadableFileError(f"{header.file}: pixels are cut short, {there} of {needed} bytes: copy the file again")
    count = min(needed + needed % 2, there)
    if elements.transfer_syntax == DEFLATED:
        data = np.frombuffer(read_dataset_bytes(os.fspath(header.file), DEFLATED), np.uint8, count, pixels.offset)
    else:
        data = np.fromfile(header.file, np.uint8, count, offset=pixels.offset)
    if len(data) < needed:
        raise UnreadableFileError(f"{header.file}: the file changed while it was read: read it again when it is complete")
    if elements.is_big_endian and pixels.vr == "OW" and int(header.dataset.BitsAllocated) < 16 and len(data) % 2 == 0:
        data = data.reshape(-1, 2)[:, ::-1].reshape(-1)
    return data[:needed]


def _numbers(data: npt.NDArray[np.uint8], bits: int, is_big_endian: bool, size: int) -> Plane:
    dtype = np.dtype(f"{'>' if is_big_endian else '<'}u{bits // 8}")
    return data.view(dtype)[:size].astype(dtype.newbyteorder("="), copy=False)


class _BitFrames:
    """Frames of one bit a pixel, packed without a gap: a frame may begin within a byte (PS3.5, 8.1.1)."""

    def __init__(self, data: npt.NDArray[np.uint8], header: SegHeader) -> None:
        self._data, self._rows, self._columns = data, header.rows, header.columns

    def part(self, frame: int) -> Part | None:
        size = self._rows * self._columns
        start = frame * size
        first_byte = start >> 3
        chunk = self._data[first_byte : (start + size + 7) >> 3]
        filled = np.flatnonzero(chunk)
        if not filled.size:
            return None
        # bits of this frame, counted from its own first pixel; those at the ends may belong to its neighbours
        low = max(int(filled[0]) * 8 - (start & 7), 0) // self._columns
        high = min((int(filled[-1]) + 1) * 8 - (start & 7), size)
        high = -(-high // self._columns)
        if low >= high:
            return None
        begin, end = start + low * self._columns, start + high * self._columns
        bits = np.unpackbits(self._data[begin >> 3 : (end + 7) >> 3], bitorder="little")
        plane = bits[begin & 7 : (begin & 7) + end - begin].reshape(high - low, self._columns)
        return _cropped(plane, low)


class _ByteFrames:
    """Frames of 8 or 16 bits a pixel."""

    def __init__(self, values: Plane, header: SegHeader) -> None:
        self._values = values.reshape(header.frame_count, header.rows, header.columns)

    def part(self, frame: int) -> Part | None:
        return _cropped(self._values[frame], 0)


def _cropped(plane: Plane, first_row: int) -> Part | None:
    filled = np.flatnonzero(plane.any(axis=1))
    if not filled.size:
        return None
    low, high = int(filled[0]), int(filled[-1]) + 1
    if high - low < len(plane) and plane.base is None:
        return first_row + low, plane[low:high].copy()  # the rest of a decoded frame need not stay in memory
    return first_row + low, plane[low:high]


class _DecodedFrames:
    """Compressed frames, decoded once; of each only the rows that hold anything are kept."""

    def __init__(self, planes: Iterable[Plane]) -> None:
        self._parts = [_cropped(plane, 0) for plane in planes]

    def part(self, frame: int) -> Part | None:
        return self._parts[frame]


def _decoded(header: SegHeader, elements: Elements, pixels: PixelElement, bits: int) -> Iterator[Plane]:
    """Yield the frames of a file with compressed pixels; codecs that are not our own run in a process of their own."""
    like = _slice_header(header, elements, pixels, bits)
    if bits == 1:
        if like.transfer_syntax != DEFLATED_FRAMES:
            raise UnsupportedFormatError(f"{header.file}: frames of one bit in transfer syntax {like.transfer_syntax} are not read")
        yield from _inflated(like)
        return
    with DecoderPool() as pool, FrameFile(like, pool) as file:
        for frame in range(header.frame_count):
            yield np.asarray(file.frame(frame)).view(f"u{bits // 8}")


def _slice_header(header: SegHeader, elements: Elements, pixels: PixelElement, bits: int) -> SliceHeader:
    """Describe the frames as those of an image, for the decoders; indices of a palette are wanted, not its colours."""
    dataset = header.dataset
    return SliceHeader(
        path=os.fspath(header.file),
        file_size=elements.size,
        transfer_syntax=elements.transfer_syntax,
        is_big_endian=elements.is_big_endian,
        pixels=pixels,
        sop_class_uid=header.text("SOPClassUID"),
        sop_instance_uid=header.text("SOPInstanceUID"),
        study_uid="",
        series_uid="",
        modality="SEG",
        rows=header.rows,
        columns=header.columns,
        samples=1,
        frame_count=header.frame_count,
        photometric="MONOCHROME2",
        bits_allocated=bits,
        bits_stored=int(dataset.get("BitsStored") or bits),
        high_bit=int(dataset.get("HighBit", bits - 1)),
        is_signed=False,
        position=None,
        orientation=None,
        pixel_spacing=None,
        slope=None,
        intercept=None,
        padding=None,
        image_type=(),
        texts={"frame_of_reference_uid": ""},
        numbers={"instance_number": None},
        modified_ns=elements.modified_ns,
    )


def _inflated(header: SliceHeader) -> Iterator[Plane]:
    """Yield one-bit frames that are deflated each for itself."""
    size = header.rows * header.columns
    needed = -(-size // 8)
    with open(header.path, "rb") as stream:

        def read_at(offset: int, length: int) -> bytes:
            stream.seek(offset)
            return stream.read(length)

        for pieces in frame_pieces(header, read_at):
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(joined(pieces, read_at), needed + 2)
            except zlib.error:
                raise UnreadableFileError(f"{header.path}: a deflated frame is damaged: copy the file again") from None
            if not needed <= len(data) <= needed + needed % 2:
                raise UnreadableFileError(f"{header.path}: a deflated frame does not hold the {needed} bytes of its header")
            yield np.unpackbits(np.frombuffer(data, np.uint8), count=size, bitorder="little").reshape(header.rows, header.columns)
