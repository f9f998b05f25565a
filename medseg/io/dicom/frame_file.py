"""The stored frames of one file, opened once."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import BinaryIO

import numpy as np

from medseg.core.errors import UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom.compressed import decode_frame
from medseg.io.dicom.decoder import DecoderPool
from medseg.io.dicom.elements import DEFLATED, HeaderError, read_dataset_bytes
from medseg.io.dicom.encapsulated import frame_pieces, joined
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.layout import NATIVE, PixelArray, check_layout, clean_bits, frame_bytes, stored_size, stored_type

_SMALL_BYTES = 1 << 24


class FrameFile:
    """Gives the stored frames of a file one by one; safe to use from several threads. Close it, or use it in `with`.

    Raises UnreadableFileError where pixels are missing, damaged or contradict the header, UnsupportedFormatError for colour,
    float or unknown encodings, MissingDependencyError where no decoder is installed.
    """

    def __init__(self, header: SliceHeader, pool: DecoderPool) -> None:
        check_layout(header)
        self._header = header
        self._pool = pool
        self._lock = threading.Lock()
        self._stream: BinaryIO | None = None
        self._bytes, self._base = b"", 0  # what is in memory already, and where in the file it begins
        try:
            if header.transfer_syntax == DEFLATED:
                self._bytes = read_dataset_bytes(header.path, DEFLATED)
            else:
                self._stream = open(header.path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
                status = os.fstat(self._stream.fileno())
                if status.st_size != header.file_size or header.modified_ns not in (0, status.st_mtime_ns):
                    raise UnreadableFileError(f"{header.path}: the file changed while it was read: read it again when it is complete")
            if header.transfer_syntax in NATIVE:
                self._check_length()
            else:
                self._load_small()
                self._pieces = frame_pieces(header, self._read_at)
        except OSError as err:
            self.close()
            raise _unreadable(header, err) from err
        except HeaderError as err:
            raise UnreadableFileError(f"{header.path}: {err}") from err
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FrameFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
        self._bytes = b""

    def frame(self, number: int, target: PixelArray | None = None) -> PixelArray:
        """Return the stored values of a frame (from 0), (rows, columns), sign and unused bits put right, not rescaled.

        They are put into `target`, an array of the same size and bytes a value, where it is given.
        """
        header = self._header
        if not 0 <= number < header.frame_count:
            raise UnreadableFileError(f"{header.path}: there is no frame {number + 1}, the file holds {header.frame_count}")
        try:
            if header.transfer_syntax in NATIVE:
                return self._native(number, target)
            return decode_frame(joined(self._pieces[number], self._read_at), header, self._pool, target)
        except OSError as err:
            raise _unreadable(header, err) from err

    def _native(self, number: int, target: PixelArray | None) -> PixelArray:
        header = self._header
        values = np.empty(stored_size(header), stored_type(header)) if target is None else target.view(stored_type(header))
        size = frame_bytes(header)
        offset = header.pixels.offset + number * size
        into = memoryview(values.reshape(-1).view(np.uint8).data)
        self._read_into(offset, into)
        if header.is_big_endian:
            self._turn_bytes(values)
        elif not np.little_endian:  # pragma: no cover - other machine
            values.byteswap(inplace=True)
        clean_bits(values, header.bits_stored, header.high_bit)
        return values

    def _turn_bytes(self, values: PixelArray) -> None:
        """Put big-endian words right; 8-bit pixels written as such words lie in swapped pairs."""
        header = self._header
        if header.bits_allocated > 8:
            if np.little_endian:
                values.byteswap(inplace=True)
        elif header.pixels.vr == "OW":
            if values.size % 2:
                raise UnsupportedFormatError(f"{header.path}: an odd number of 8-bit pixels in big-endian words")
            values.reshape(-1).view(np.uint16).byteswap(inplace=True)

    def _check_length(self) -> None:
        lack = missing_pixel_bytes(self._header)
        if lack:
            raise UnreadableFileError(
                f"{self._header.path}: pixel data is cut short, {lack[0]} bytes there, {lack[1]} needed: copy the file again"
            )
        length, need = self._header.pixels.length, frame_bytes(self._header) * self._header.frame_count
        row = frame_bytes(self._header) // stored_size(self._header)[0]
        if length is not None and length - need >= max(row, 2):
            rows, columns = stored_size(self._header)
            raise UnreadableFileError(
                f"{self._header.path}: {length} bytes of pixels, but {rows} rows, {columns} columns and {self._header.frame_count} frame(s)"
                f" need {need}: the header does not belong to these pixels"
            )

    def _load_small(self) -> None:
        """Read the compressed pixels of a small file at once: one call of the system in place of one for each piece."""
        size = self._header.file_size - self._header.pixels.offset
        if 0 < size <= _SMALL_BYTES:
            self._bytes, self._base = self._read_at(self._header.pixels.offset, size), self._header.pixels.offset

    def _read_at(self, offset: int, length: int) -> bytes:
        if self._bytes:
            return self._bytes[offset - self._base : offset - self._base + length]
        data = bytearray(length)
        self._read_into(offset, memoryview(data))
        return bytes(data)

    def _read_into(self, offset: int, view: memoryview) -> None:
        if self._bytes:
            view[:] = self._bytes[offset - self._base : offset - self._base + len(view)]
            return
        assert self._stream is not None
        with self._lock:
            self._stream.seek(offset)
            while len(view):
                count = self._stream.readinto(view)  # type: ignore[attr-defined]
                if not count:
                    raise UnreadableFileError(f"{self._header.path}: the file became shorter while it was read")
                view = view[count:]


def missing_pixel_bytes(header: SliceHeader) -> tuple[int, int] | None:
    """Return (bytes there, bytes needed) where the file is too short for its uncompressed pixels, else None."""
    if header.transfer_syntax not in NATIVE:
        return None
    need = frame_bytes(header) * header.frame_count
    there = max(header.file_size - header.pixels.offset, 0)
    if header.pixels.length is not None:
        there = min(there, header.pixels.length)
    return (there, need) if there < need else None


def _unreadable(header: SliceHeader, err: OSError) -> UnreadableFileError:
    return UnreadableFileError(f"{header.path}: {err.strerror or 'cannot be read'}")
