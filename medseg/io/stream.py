"""Byte streams that are read to their end: plain, gzip, zlib and bzip2, with checksums, and a gzip writer.

A file of which only the first part is looked at can be cut short or hold flipped bytes without anybody noticing: the
checksum of a compressed stream stands at its end. So every reader calls `finish`, which reads on to the end, lets the
decoder check its sums, and refuses what a header did not announce.
"""

from __future__ import annotations

import bz2
import stat
import struct
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from medseg.core.errors import UnreadableFileError

_deflate: ModuleType
try:  # Intel's and Arm's fast deflate; the standard library does the same work in two to five times the time
    _deflate = import_module("isal.isal_zlib")
except ImportError:  # pragma: no cover - one of the two is there
    _deflate = zlib

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20
_INPUT_BYTES = 1 << 17
_MOST_PADDING_BYTES = 1 << 16  # zeros after the voxels that some writers leave to fill a block
_MOST_EXPANSION = 1040  # deflate makes at most 1032 bytes of one
_MOST_BZIP2_EXPANSION = 1 << 26
_LEVEL = 2 if _deflate is not zlib else 4  # measured: the best size for about half a second per 150 MB
_DECODER_ERRORS: tuple[type[Exception], ...] = (zlib.error, _deflate.error, OSError, EOFError, ValueError)


class Stream:
    """The bytes of one file in order; every method raises UnreadableFileError where they end early or are corrupted."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self.name = name

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def _read_some(self, target: memoryview) -> int:
        """Put some bytes into `target`; 0 only at the end."""
        try:
            return self._file.readinto(target) or 0  # type: ignore[attr-defined]
        except OSError as err:
            raise UnreadableFileError(f"{self.name}: reading failed ({err.strerror or err}); check the disk") from err

    def most_bytes_left(self) -> int:
        """At most how many bytes can follow: the exact number for a plain file, an upper limit for a compressed one."""
        return _size_of(self._file) - self._file.tell()

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes."""
        buffer = bytearray(count)
        self.fill(memoryview(buffer))
        return bytes(buffer)

    def read_up_to(self, count: int) -> bytes:
        """Return `count` bytes, fewer only at the end."""
        buffer = bytearray(count)
        return bytes(buffer[: self._fill_up_to(memoryview(buffer))])

    def fill(self, target: memoryview) -> None:
        """Fill all of `target`."""
        filled = self._fill_up_to(target)
        if filled < target.nbytes:
            raise UnreadableFileError(
                f"{self.name} is cut short: {target.nbytes - filled:,} of the {target.nbytes:,} bytes that should follow are missing; "
                "copy or download the file again"
            )

    def skip(self, count: int) -> None:
        """Pass over exactly `count` bytes."""
        buffer = memoryview(bytearray(min(count, CHUNK_BYTES)))
        while count:
            part = buffer[: min(count, CHUNK_BYTES)]
            self.fill(part)
            count -= part.nbytes

    def finish(self) -> int:
        """Read on to the end, where a compressed stream checks its sum; return how many bytes of padding were there."""
        rest = self.read_up_to(_MOST_PADDING_BYTES + 1)
        if not _is_padding(rest) or len(rest) > _MOST_PADDING_BYTES:
            raise UnreadableFileError(
                f"{self.name} holds more bytes than its header declares: its size or voxel type is wrong, or something was appended; "
                "write the file again from its source"
            )
        return len(rest)

    def _fill_up_to(self, target: memoryview) -> int:
        filled = 0
        while filled < target.nbytes:
            count = self._read_some(target[filled : filled + CHUNK_BYTES])
            if count == 0:
                break
            filled += count
        return filled


class _Decoder(Protocol):
    """What decompressors of zlib, isal and bz2 have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _CompressedStream(Stream):
    """The decompressed bytes of a gzip (one or more members), zlib or bzip2 file."""

    def __init__(self, file: BinaryIO, name: str, encoding: str) -> None:
        super().__init__(file, name)
        self._encoding = encoding
        self._decoder = self._new_decoder()
        self._pending = b""
        self._ended = False

    def _new_decoder(self) -> _Decoder:
        if self._encoding == "bzip2":
            return bz2.BZ2Decompressor()
        decoder: _Decoder = _deflate.decompressobj(wbits=31 if self._encoding == "gzip" else 15)
        return decoder

    def most_bytes_left(self) -> int:
        expansion = _MOST_BZIP2_EXPANSION if self._encoding == "bzip2" else _MOST_EXPANSION
        return (_size_of(self._file) - self._file.tell() + len(self._pending) + _INPUT_BYTES) * expansion

    def _read_some(self, target: memoryview) -> int:
        while not self._ended:
            data = self._decode(target.nbytes)
            target[: len(data)] = data
            if data:
                return len(data)
        return 0

    def _decode(self, most: int) -> bytes:
        if self._decoder.eof and not self._next_member():
            return b""
        waiting = getattr(self._decoder, "needs_input", True)  # bz2 keeps its input, zlib gives it back
        source = self._pending or (self._raw() if waiting else b"")
        at_end = waiting and not source
        try:
            data = self._decoder.decompress(source, most)
        except _DECODER_ERRORS as err:
            raise UnreadableFileError(
                f"{self.name} is corrupted: its {self._encoding} data or checksum is wrong ({err}); copy or download the file again"
            ) from err
        self._pending = getattr(self._decoder, "unconsumed_tail", b"")
        if at_end and not data and not self._decoder.eof:
            raise UnreadableFileError(f"{self.name} is cut short: its {self._encoding} data ends early; copy or download the file again")
        return data

    def _next_member(self) -> bool:
        """Begin the next part of a gzip file, or check that nothing but zeros follows the last one."""
        rest = self._decoder.unused_data or self._raw()
        if self._encoding == "gzip" and rest[:1] == GZIP_MAGIC[:1]:
            self._decoder = self._new_decoder()
            self._pending = rest
            return True
        while rest:
            if not _is_padding(rest):
                raise UnreadableFileError(f"{self.name} has foreign bytes after its {self._encoding} data; copy or download the file again")
            rest = self._raw()
        self._ended = True
        return False

    def _raw(self) -> bytes:
        try:
            return self._file.read(_INPUT_BYTES)
        except OSError as err:
            raise UnreadableFileError(f"{self.name}: reading failed ({err.strerror or err}); check the disk") from err


def open_stream(path: str | Path, encoding: str | None = None, offset: int = 0) -> Stream:
    """Open a file for reading from byte `offset`: "raw", "gzip", "zlib" or "bzip2", or whichever of raw and gzip it is.

    Raises UnreadableFileError where there is no such ordinary file.
    """
    path = Path(path)
    file = open_file(path)
    file.seek(offset)
    if encoding is None:
        encoding = "gzip" if file.read(2) == GZIP_MAGIC else "raw"
        file.seek(offset)
    return Stream(file, path.name) if encoding == "raw" else _CompressedStream(file, path.name, encoding)


def open_file(path: str | Path) -> BinaryIO:
    """Open an ordinary file for reading bytes; pipes, devices and folders are refused before they can block."""
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableFileError(f"{path} is not an ordinary file; give the path of an image file or of a DICOM folder")
        return path.open("rb")
    except FileNotFoundError as err:
        raise UnreadableFileError(f"{path} is not there; check the path") from err
    except (OSError, ValueError) as err:
        raise UnreadableFileError(f"{path} cannot be opened ({getattr(err, 'strerror', None) or err}); check its permissions") from err


def _is_padding(rest: bytes) -> bool:
    """Whether bytes after the last voxel say nothing: zeros that fill a block, or a line end as MITK writes one."""
    return not rest.strip(b"\0") or rest in (b"\n", b"\r\n")


def _size_of(file: BinaryIO) -> int:
    position = file.tell()
    size = file.seek(0, 2)
    file.seek(position)
    return size


class GzipWriter:
    """Writes one gzip member, the same bytes for the same content: no time and no file name in it (RFC 1952)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = 0
        self._size = 0
        self._compressor = _deflate.compressobj(_LEVEL, zlib.DEFLATED, -15)
        file.write(GZIP_MAGIC + b"\x08\0\0\0\0\0\0\xff")

    def write(self, data: bytes | memoryview) -> None:
        """Compress some bytes."""
        self._sum = _deflate.crc32(data, self._sum)
        self._size += memoryview(data).nbytes
        self._file.write(self._compressor.compress(data))

    def close(self) -> None:
        """Write what is left and the checksum; the file stays open."""
        self._file.write(self._compressor.flush())
        self._file.write(struct.pack("<II", self._sum, self._size & 0xFFFFFFFF))


class ZlibWriter:
    """Writes one zlib stream (RFC 1950), as MetaImage has it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._compressor = _deflate.compressobj(_LEVEL, zlib.DEFLATED, 15)

    def write(self, data: bytes | memoryview) -> None:
        """Compress some bytes."""
        self._file.write(self._compressor.compress(data))

    def close(self) -> None:
        """Write what is left and the checksum; the file stays open."""
        self._file.write(self._compressor.flush())


def chunks_of(array: npt.NDArray[Any]) -> Iterator[memoryview]:
    """Yield the bytes of an (i,j,k) array in file order (i fastest, little endian) without copying a native array."""
    flat = array.T.reshape(-1)
    per_chunk = CHUNK_BYTES // array.itemsize
    for start in range(0, flat.size, per_chunk):
        part = flat[start : start + per_chunk]
        yield memoryview(np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<")).view(np.uint8))  # type: ignore[arg-type]


def differs_from(stream: Stream, array: npt.NDArray[Any]) -> bool:
    """Read as many bytes as `array` has and say whether one of them differs."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for chunk in chunks_of(array):
        part = buffer[: chunk.nbytes]
        stream.fill(part)
        if not np.array_equal(np.frombuffer(part, np.uint8), np.frombuffer(chunk, np.uint8)):
            return True
    return False
