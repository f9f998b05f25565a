"""The deflate library: Intel's isal where it is installed, else the standard library, behind the same few calls.

Measured on one core (seconds packing, unpacking; size), 157 MB of CT: isal level 3 0.54, 0.30, 61 %; zlib-ng level 2 1.7,
0.47, 60 %; libdeflate level 1 1.0, 0.34, 59 %; the standard library level 1 2.3, 0.7, 60 %. 79 MB of organ labels: isal level
2 0.01, 1.6 MB; zlib-ng level 6 0.12, 0.8 MB; libdeflate level 6 0.19, 1.2 MB; the standard library level 1 0.25, 2.3 MB.
isal is under the licence of the Python Software Foundation, its C library under BSD-3-Clause.
"""

from __future__ import annotations

import bz2
import os
import zlib
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

_isal: ModuleType | None
try:
    _isal = import_module("isal.isal_zlib")
    _igzip: ModuleType | None = import_module("isal.igzip_lib")
except ImportError:  # pragma: no cover - one of the two is there
    _isal = _igzip = None

_ISAL_LEVEL = 3  # for scans: its best size, and what it packs unpacks fastest; levels 1 and 2 save no time
_ISAL_REPEATS_LEVEL = 2  # for label maps, whose bytes repeat: ten times as fast as level 3 there, and often smaller
_ZLIB_LEVEL = 4
_SAMPLE_BYTES = 1 << 14
_REPEATS = 0.1  # a sample that packs to less than this share is of the kind of label maps
_MOST_THREADS = 16
_PIECE_BYTES = 1 << 17  # what goes in at once: larger pieces make the library's output buffer grow by copying
_WINDOW_BITS = {"gzip": 31, "zlib": 15, "raw deflate": -15}
DECODER_ERRORS: tuple[type[Exception], ...] = (
    zlib.error,
    *((_isal.error, _igzip.error) if _isal is not None and _igzip is not None else ()),
    OSError,
    EOFError,
    ValueError,
)


class Decoder(Protocol):
    """What the decompressors of zlib, isal and bz2 have in common."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""

    @property
    def unused_data(self) -> bytes:
        """What was given beyond the end."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return at most `max_length` bytes."""


def new_decoder(encoding: str) -> Decoder:
    """Return a decompressor of one "gzip" member, "zlib", "raw deflate" or "bzip2" stream; it checks the stream's sum."""
    if encoding == "bzip2":
        return bz2.BZ2Decompressor()
    decoder: Decoder
    if _igzip is not None:
        flags = {"gzip": _igzip.DECOMP_GZIP, "zlib": _igzip.DECOMP_ZLIB, "raw deflate": _igzip.DECOMP_DEFLATE}
        decoder = _igzip.IgzipDecompressor(flag=flags[encoding])
    else:
        decoder = zlib.decompressobj(wbits=_WINDOW_BITS[encoding])
    return decoder


def deflated(data: memoryview) -> list[bytes]:
    """Return raw deflate blocks of some bytes in pieces, ended at a byte, that refer to nothing before them and may go on."""
    packer = _library().compressobj(_level_for(data), zlib.DEFLATED, -15)
    pieces = [packer.compress(data[start : start + _PIECE_BYTES]) for start in range(0, data.nbytes, _PIECE_BYTES)]
    return [*pieces, packer.flush(zlib.Z_FULL_FLUSH)]


def _level_for(data: memoryview) -> int:
    if _isal is None:
        return _ZLIB_LEVEL
    middle = max(0, (data.nbytes - _SAMPLE_BYTES) // 2)
    sample = data[middle : middle + _SAMPLE_BYTES]
    repeats = len(_isal.compress(sample, 1)) < _REPEATS * len(sample)
    return _ISAL_REPEATS_LEVEL if repeats else _ISAL_LEVEL


def crc32(data: Any, start: int = 0) -> int:
    """Return the sum that ends a gzip member."""
    return int(_library().crc32(data, start))


def adler32(data: Any, start: int = 1) -> int:
    """Return the sum that ends a zlib stream."""
    return int(_library().adler32(data, start))


def _library() -> Any:
    return zlib if _isal is None else _isal


def usable_cores() -> int:
    """How many threads are worth starting in this process."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        cores = os.cpu_count() or 1
    return min(cores, _MOST_THREADS)
