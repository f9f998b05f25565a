"""Packing: voxels as gzip or zlib, in slabs on several threads; the same bytes for the same content, whatever the threads."""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from medseg.io.codec import adler32, crc32, deflated, usable_cores
from medseg.io.slabs import LAST_BLOCK, SlabIndex

_ZLIB_HEADER = b"\x78\x9c"
_FEW_CHUNKS = 3  # a header and one slab
_SMALL_BYTES = 1 << 17


def write_gzip(file: BinaryIO, head: bytes, chunks: Iterable[memoryview], index: SlabIndex) -> None:
    """Write one gzip member of `head` and `chunks`, which are the slabs that `index` describes: no time, no file name."""
    start = file.tell()
    file.write(index.header([0] * len(index.unpacked)))
    sizes: list[int] = []
    check = 0
    total = 0
    for chunk, packed in _packed(_with_head(head, chunks)):
        check = crc32(chunk, check)
        total += chunk.nbytes
        sizes.append(sum(len(piece) for piece in packed))
        file.writelines(packed)
    file.write(LAST_BLOCK + struct.pack("<II", check, total & 0xFFFFFFFF))
    end = file.tell()
    file.seek(start)
    file.write(index.header(sizes))
    file.seek(end)


def write_zlib(file: BinaryIO, chunks: Iterable[memoryview]) -> None:
    """Write one zlib stream (RFC 1950), as MetaImage has it."""
    file.write(_ZLIB_HEADER)
    check = 1
    for chunk, packed in _packed(chunks):
        check = adler32(chunk, check)
        file.writelines(packed)
    file.write(LAST_BLOCK + struct.pack(">I", check))


def _with_head(head: bytes, chunks: Iterable[memoryview]) -> Iterator[memoryview]:
    if head:
        yield memoryview(head)
    yield from chunks


def _packed(chunks: Iterable[memoryview]) -> Iterator[tuple[memoryview, list[bytes]]]:
    """Yield every chunk and its deflate blocks in order; a few are worked on ahead, so that memory stays bounded."""
    chunks = iter(chunks)
    first = list(itertools.islice(chunks, _FEW_CHUNKS))
    if len(first) < _FEW_CHUNKS and sum(chunk.nbytes for chunk in first) <= _SMALL_BYTES:
        yield from ((chunk, deflated(chunk)) for chunk in first)  # threads take longer to start than this takes
        return
    yield from _packed_ahead(itertools.chain(first, chunks))


def _packed_ahead(chunks: Iterable[memoryview]) -> Iterator[tuple[memoryview, list[bytes]]]:
    threads = usable_cores()
    with ThreadPoolExecutor(threads, thread_name_prefix="medseg-deflate") as pool:
        waiting: deque[tuple[memoryview, Future[list[bytes]]]] = deque()
        try:
            for chunk in chunks:
                waiting.append((chunk, pool.submit(deflated, chunk)))
                if len(waiting) > 2 * threads:
                    done, packed = waiting.popleft()
                    yield done, packed.result()
            while waiting:
                done, packed = waiting.popleft()
                yield done, packed.result()
        finally:
            for _, task in waiting:
                task.cancel()
