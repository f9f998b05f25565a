"""Stored values of single slices, and which encodings are read."""

from __future__ import annotations

import numpy as np

from medseg.io.dicom.decoder import DecoderPool
from medseg.io.dicom.frame_file import FrameFile, missing_pixel_bytes
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.layout import ENCAPSULATED, NATIVE, PixelArray

__all__ = ["PixelArray", "cut_tile", "is_known_encoding", "missing_pixel_bytes", "stored_frame"]


def stored_frame(header: SliceHeader, pool: DecoderPool | None = None) -> PixelArray:
    """Return the stored values of a slice, (rows, columns), sign and unused bits put right, not rescaled.

    Raises UnreadableFileError where pixels are missing or damaged, UnsupportedFormatError for colour, float or unknown
    encodings, MissingDependencyError where no decoder is installed.
    """
    if pool is None:
        with DecoderPool() as own:
            return stored_frame(header, own)
    with FrameFile(header, pool) as file:
        return cut_tile(file.frame(header.frame), header)


def cut_tile(frame: PixelArray, header: SliceHeader) -> PixelArray:
    """Return the part of a stored frame that is the slice: all of it, or one tile of a mosaic."""
    if header.tile is None:
        return frame
    row, column = header.tile
    return np.asarray(frame[row : row + header.rows, column : column + header.columns])


def is_known_encoding(transfer_syntax: str) -> bool:
    """Whether a transfer syntax is one that medseg can decode, with or without optional packages."""
    return transfer_syntax in NATIVE or transfer_syntax in ENCAPSULATED
