"""Where the slabs of a gzip file lie that was packed in slabs, so that they can be unpacked on several threads.

Such a file is one ordinary gzip member: every slab refers to nothing before it and ends at a whole byte. A list of the
slabs' sizes stands in the member's "extra field" (RFC 1952, 2.3.1.1), which every gzip reader passes over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

from medseg.io.byte_stream import CHUNK_BYTES, GZIP_MAGIC

_SUBFIELD = b"MS"
_PLAIN_HEADER = GZIP_MAGIC + b"\x08\0\0\0\0\0\0\xff"  # neither time nor file name
_EXTRA_HEADER = GZIP_MAGIC + b"\x08\x04\0\0\0\0\0\xff"
_NUMBERS = struct.Struct("<QII")  # bytes in all, in the first slab, in each other
_MOST_SLABS = 16_000  # the extra field holds 64 KB
_MOST_SLAB_BYTES = 1 << 28
_END_BYTES = len(b"\x03\0") + 8  # an empty last block, checksum, size
LAST_BLOCK = b"\x03\0"


@dataclass(frozen=True)
class SlabIndex:
    """`first` bytes lie in the first slab, `each` in every other but the last, `total` in all."""

    total: int
    first: int
    each: int

    @classmethod
    def of(cls, head: int, voxels: int) -> SlabIndex:
        """Choose slabs for a header of `head` bytes, which may be 0, and `voxels` bytes behind it."""
        each = CHUNK_BYTES
        while voxels > each * (_MOST_SLABS - 1):
            each *= 2
        return cls(head + voxels, head or min(each, voxels), each)

    @property
    def unpacked(self) -> list[int]:
        """Size of each slab before packing."""
        rest = self.total - self.first
        return [self.first, *(min(self.each, rest - start) for start in range(0, rest, self.each))]

    def header(self, packed: list[int]) -> bytes:
        """Return the gzip header that lists the sizes of the packed slabs; plain where there is nothing to share out."""
        if len(self.unpacked) <= 2:
            return _PLAIN_HEADER
        numbers = _NUMBERS.pack(self.total, self.first, self.each) + struct.pack(f"<{len(packed)}I", *packed)
        field = _SUBFIELD + struct.pack("<H", len(numbers)) + numbers
        return _EXTRA_HEADER + struct.pack("<H", len(field)) + field


@dataclass(frozen=True)
class Slab:
    """A slab: where it begins in the file, how long it is there, how long unpacked."""

    start: int
    size: int
    unpacked: int


def find_slabs(file: BinaryIO, offset: int, file_size: int) -> tuple[Slab, ...]:
    """Return the slabs of the gzip member that begins at `offset`; nothing where it has none or anything does not fit.

    What does not fit is left to the ordinary decoder, which has the last word on any gzip file.
    """
    file.seek(offset)
    start = file.read(len(_EXTRA_HEADER) + 2)
    if len(start) < len(_EXTRA_HEADER) + 2 or not start.startswith(_EXTRA_HEADER):
        return ()
    field = file.read(struct.unpack_from("<H", start, len(_EXTRA_HEADER))[0])
    if len(field) < 4 + _NUMBERS.size or field[:2] != _SUBFIELD or struct.unpack_from("<H", field, 2)[0] != len(field) - 4:
        return ()
    index = SlabIndex(*_NUMBERS.unpack_from(field, 4))
    sizes = field[4 + _NUMBERS.size :]
    if not 0 < index.each <= _MOST_SLAB_BYTES or not 0 < index.first <= min(index.total, _MOST_SLAB_BYTES) or len(sizes) % 4:
        return ()
    packed = struct.unpack(f"<{len(sizes) // 4}I", sizes)
    if -(-(index.total - index.first) // index.each) + 1 != len(packed):
        return ()
    begins = list(accumulate(packed, initial=offset + len(start) + len(field)))
    if begins[-1] + _END_BYTES != file_size:
        return ()
    return tuple(Slab(begin, size, unpacked) for begin, size, unpacked in zip(begins, packed, index.unpacked, strict=False))
