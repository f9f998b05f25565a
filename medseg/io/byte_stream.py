"""The bytes of a file in order, read to their end.

A file of which only the first part is looked at can be cut short or hold flipped bytes without anybody noticing: the
checksum of a compressed stream stands at its end. So every reader calls `finish`, which reads on to the end, lets the
decoder check its sums, and refuses what a header did not announce.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from medseg.core.errors import UnreadableFileError

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20
PIECE_BYTES = 1 << 17  # small enough that what a decoder returns stays in the cache until it is copied
_MOST_CHECKED_BYTES = 1 << 30
_MOST_PADDING_BYTES = 1 << 16  # zeros after the voxels that some writers leave to fill a block


class Stream:
    """The bytes of one file in order; every method raises UnreadableFileError where they end early or are corrupted."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self.name = name

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def is_compressed(self) -> bool:
        """Whether the bytes come out of a decoder."""
        return False

    def _read_some(self, target: memoryview) -> int:
        """Put some bytes into `target`; 0 only at the end."""
        try:
            return self._file.readinto(target) or 0  # type: ignore[attr-defined]
        except OSError as err:
            raise UnreadableFileError(f"{self.name}: reading failed ({err.strerror or err}); check the disk") from err

    def most_bytes_left(self) -> int:
        """At most how many bytes can follow: the exact number for a plain file, an upper limit for a compressed one."""
        return size_of(self._file) - self._file.tell()

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
        if not is_padding(rest) or len(rest) > _MOST_PADDING_BYTES:
            raise UnreadableFileError(
                f"{self.name} holds more bytes than its header declares: its size or voxel type is wrong, or something was appended; "
                "write the file again from its source"
            )
        return len(rest)

    def check_rest(self) -> None:
        """Read on to the end only to see whether the bytes are sound, before anybody is told that their content makes no sense.

        Raises UnreadableFileError where they are not; of an endless stream, the first GB is looked at.
        """
        if not self.is_compressed:
            return
        for _ in range(_MOST_CHECKED_BYTES // CHUNK_BYTES):
            if not self.read_up_to(CHUNK_BYTES):
                self.finish()
                return

    def holds(self, chunks: Iterable[memoryview]) -> bool:
        """Read as many bytes as `chunks` have and say whether all are equal."""
        buffer = memoryview(bytearray(CHUNK_BYTES))
        for chunk in chunks:
            part = buffer[: chunk.nbytes]
            self.fill(part)
            if not same_bytes(part, chunk):
                return False
        return True

    def _fill_up_to(self, target: memoryview) -> int:
        filled = 0
        while filled < target.nbytes:
            count = self._read_some(target[filled : filled + PIECE_BYTES])
            if count == 0:
                break
            filled += count
        return filled


def same_bytes(first: memoryview | bytes, second: memoryview) -> bool:
    """Whether two pieces of memory are equal; other threads go on meanwhile."""
    if len(first) != len(second):
        return False
    words = len(first) // 8
    one, other = (np.frombuffer(piece, np.uint64, words) for piece in (first, second))  # an eighth of the comparisons, and of their memory
    return np.array_equal(one, other) and bytes(first[8 * words :]) == bytes(second[8 * words :])


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


def is_padding(rest: bytes) -> bool:
    """Whether bytes after the last voxel say nothing: zeros that fill a block, or a line end as MITK writes one."""
    return not rest.strip(b"\0") or rest in (b"\n", b"\r\n")


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file in bytes."""
    position = file.tell()
    size = file.seek(0, 2)
    file.seek(position)
    return size
