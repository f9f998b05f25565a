"""The bytes of image files: opening them, whatever they are packed in, and the bytes of an array."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from medseg.io.byte_stream import CHUNK_BYTES, GZIP_MAGIC, Stream, open_file, size_of
from medseg.io.deflate import write_gzip, write_zlib
from medseg.io.inflate import CompressedStream, SlabStream
from medseg.io.slabs import SlabIndex, find_slabs

__all__ = [
    "CHUNK_BYTES",
    "GZIP_MAGIC",
    "Stream",
    "chunks_of",
    "differs_from",
    "open_file",
    "open_stream",
    "write_gzipped",
    "write_zlibbed",
]


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
    if encoding == "raw":
        return Stream(file, path.name)
    if encoding == "gzip":
        slabs = find_slabs(file, offset, size_of(file))
        if slabs:
            return SlabStream(file, path.name, slabs)
        file.seek(offset)
    return CompressedStream(file, path.name, encoding)


def chunks_of(array: npt.NDArray[Any]) -> Iterator[memoryview]:
    """Yield the bytes of an (i,j,k) array in file order (i fastest, little endian) without copying a native array."""
    yield from _pieces(array, CHUNK_BYTES)


def _pieces(array: npt.NDArray[Any], size: int) -> Iterator[memoryview]:
    flat = array.T.reshape(-1)
    per_piece = size // array.itemsize
    for start in range(0, flat.size, per_piece):
        part = flat[start : start + per_piece]
        yield memoryview(np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<")).view(np.uint8))  # type: ignore[arg-type]


def differs_from(stream: Stream, array: npt.NDArray[Any]) -> bool:
    """Read as many bytes as `array` has and say whether one of them differs."""
    return not stream.holds(chunks_of(array))


def write_gzipped(file: BinaryIO, head: bytes, array: npt.NDArray[Any]) -> None:
    """Write `head` and the bytes of an array as gzip."""
    index = SlabIndex.of(len(head), array.nbytes)
    write_gzip(file, head, _pieces(array, index.each), index)


def write_zlibbed(file: BinaryIO, array: npt.NDArray[Any]) -> None:
    """Write the bytes of an array as zlib."""
    write_zlib(file, chunks_of(array))
