"""How the samples of a frame lie in its cells: size, bits, sign, and which encodings there are (PS3.5, section 8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom.elements import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from medseg.io.dicom.header import SliceHeader

PixelArray = npt.NDArray[np.integer[Any]]

NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
RLE = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_JPEG = "1.2.840.10008.1.2.4."
ENCAPSULATED = frozenset(
    {RLE, DEFLATED_FRAMES}
    | {_JPEG + number for number in ("50", "51", "57", "70")}  # baseline, extended, lossless, lossless with the first predictor
    | {_JPEG + number for number in ("80", "81", "90", "91")}  # JPEG-LS, JPEG 2000
    | {_JPEG + number for number in ("201", "202", "203")}  # high-throughput JPEG 2000
)
DECODED_HERE = NATIVE | {
    RLE,
    DEFLATED_FRAMES,
    _JPEG + "57",
    _JPEG + "70",
}  # by code that checks every step, so without a process of its own
PIXEL_DATA = 0x7FE00010
_BITS = (8, 16, 32)


def stored_size(header: SliceHeader) -> tuple[int, int]:
    """Return (rows, columns) of the frame that is stored: of a mosaic all of it, not one slice."""
    return header.stored_size or (header.rows, header.columns)


def frame_bytes(header: SliceHeader) -> int:
    """Return the bytes of one stored frame when not compressed."""
    rows, columns = stored_size(header)
    return rows * columns * header.samples * ((header.bits_allocated + 7) // 8)


def stored_type(header: SliceHeader) -> np.dtype[Any]:
    """Return the type of the stored values, in this machine's byte order."""
    return np.dtype(f"{'i' if header.is_signed else 'u'}{header.bits_allocated // 8}")


def check_layout(header: SliceHeader) -> None:
    """Raise UnsupportedFormatError or UnreadableFileError where the header describes no intensities that can be read."""
    if header.pixels.tag != PIXEL_DATA or header.bits_allocated not in _BITS:
        raise UnsupportedFormatError(f"{header.path}: pixels of {header.bits_allocated} bits or of floating point are not read")
    if header.samples != 1:
        raise UnsupportedFormatError(f"{header.path}: a colour image ({header.photometric or 'several samples a pixel'}), not intensities")
    if min(stored_size(header)) < 1 or header.frame_count < 1:
        raise UnreadableFileError(f"{header.path}: an image of {header.rows} rows and {header.columns} columns holds nothing")
    if not 0 < header.bits_stored <= header.high_bit + 1 <= header.bits_allocated:
        raise UnreadableFileError(
            f"{header.path}: bits stored {header.bits_stored}, high bit {header.high_bit} and bits allocated"
            f" {header.bits_allocated} contradict each other"
        )
    if header.tile is not None:
        (first_row, first_column), (rows, columns) = header.tile, stored_size(header)
        if not (0 <= first_row <= rows - header.rows and 0 <= first_column <= columns - header.columns):
            raise UnreadableFileError(f"{header.path}: a slice of the mosaic lies outside its picture")


def clean_bits(values: PixelArray, stored: int, high_bit: int) -> None:
    """Drop, in place, what lies above the high bit and below the stored bits; signed values get their sign from the high bit."""
    allocated = 8 * values.dtype.itemsize
    if stored == allocated:
        return
    if values.dtype.kind == "u" and high_bit == stored - 1:
        np.bitwise_and(values, values.dtype.type((1 << stored) - 1), out=values)
        return
    np.left_shift(values, allocated - 1 - high_bit, out=values)
    np.right_shift(values, allocated - stored, out=values)


def value_range(header: SliceHeader) -> tuple[int, int]:
    """Return the least and the greatest value that the stored bits can hold."""
    bits = header.bits_stored
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if header.is_signed else (0, (1 << bits) - 1)
