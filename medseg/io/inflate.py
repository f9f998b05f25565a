"""Unpacking: gzip, zlib and bzip2 to their very end, in order or, where a file says where its slabs are, on several threads."""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import BinaryIO, TypeVar

import numpy as np

from medseg.core.errors import UnreadableFileError
from medseg.io.byte_stream import CHUNK_BYTES, GZIP_MAGIC, PIECE_BYTES, Stream, is_padding, same_bytes, size_of
from medseg.io.codec import DECODER_ERRORS, crc32, new_decoder, usable_cores
from medseg.io.slabs import LAST_BLOCK, Slab

_INPUT_BYTES = 1 << 17
_MOST_EXPANSION = 1040  # deflate makes at most 1032 bytes of one
_MOST_BZIP2_EXPANSION = 1 << 26
_Result = TypeVar("_Result")


class CompressedStream(Stream):
    """The decompressed bytes of a gzip (one or more members), zlib or bzip2 file."""

    def __init__(self, file: BinaryIO, name: str, encoding: str) -> None:
        super().__init__(file, name)
        self._encoding = encoding
        self._decoder = new_decoder(encoding)
        self._pending = b""
        self._ended = False

    @property
    def is_compressed(self) -> bool:
        """Whether the bytes come out of a decoder."""
        return True

    def most_bytes_left(self) -> int:
        """An upper limit, from the size of the file."""
        expansion = _MOST_BZIP2_EXPANSION if self._encoding == "bzip2" else _MOST_EXPANSION
        return (size_of(self._file) - self._file.tell() + len(self._pending) + 2 * _INPUT_BYTES) * expansion

    def _read_some(self, target: memoryview) -> int:
        while not self._ended:
            data = self._decode(target.nbytes)
            target[: len(data)] = data
            if data:
                return len(data)
        return 0

    def _fill_up_to(self, target: memoryview) -> int:
        """Fill small targets at once, and large ones while another thread decodes ahead.

        Copying into an array that is new costs as much as a third of the decoding, because its memory must be found first.
        """
        if target.nbytes < 4 * CHUNK_BYTES:
            return super()._fill_up_to(target)
        filled = 0
        with ThreadPoolExecutor(1, thread_name_prefix="medseg-inflate") as pool:
            ahead = pool.submit(self._decode_pieces, min(CHUNK_BYTES, target.nbytes))
            while pieces := ahead.result():
                end = filled + sum(len(piece) for piece in pieces)
                if end < target.nbytes:
                    ahead = pool.submit(self._decode_pieces, min(CHUNK_BYTES, target.nbytes - end))
                for piece in pieces:
                    np.frombuffer(target[filled : filled + len(piece)], np.uint8)[:] = np.frombuffer(piece, np.uint8)
                    filled += len(piece)
                if filled == target.nbytes:
                    break
        return filled

    def _decode_pieces(self, most: int) -> list[bytes]:
        """Decode up to `most` bytes, in pieces that stay in the cache; nothing only at the end."""
        pieces: list[bytes] = []
        while most and not self._ended:
            piece = self._decode(min(most, PIECE_BYTES))
            if piece:
                pieces.append(piece)
                most -= len(piece)
        return pieces

    def _decode(self, most: int) -> bytes:
        if self._decoder.eof and not self._next_member():
            return b""
        waiting = getattr(self._decoder, "needs_input", True)  # bz2 and isal keep their input, zlib gives it back
        source = self._pending or (self._raw() if waiting else b"")
        at_end = waiting and not source
        try:
            data = self._decoder.decompress(source, most)
        except DECODER_ERRORS as err:
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
            self._decoder = new_decoder(self._encoding)
            self._pending = rest
            return True
        while rest:
            if not is_padding(rest):
                raise UnreadableFileError(f"{self.name} has foreign bytes after its {self._encoding} data; copy or download the file again")
            rest = self._raw()
        self._ended = True
        return False

    def _raw(self) -> bytes:
        try:
            return self._file.read(_INPUT_BYTES)
        except OSError as err:
            raise UnreadableFileError(f"{self.name}: reading failed ({err.strerror or err}); check the disk") from err


class SlabStream(Stream):
    """The bytes of a gzip file that says where its slabs are, unpacked on several threads.

    Every slab must unpack to exactly its size and end where the next one begins, and the checksum at the end of the file
    must be that of all of them: so the bytes are those that any other decoder finds.
    """

    def __init__(self, file: BinaryIO, name: str, slabs: tuple[Slab, ...]) -> None:
        super().__init__(file, name)
        self._lock = threading.Lock()
        self._slabs = deque(slabs)
        self._end = slabs[-1].start + slabs[-1].size
        self._total = sum(slab.unpacked for slab in slabs)
        self._rest = memoryview(b"")
        self._check = 0

    @property
    def is_compressed(self) -> bool:
        """Whether the bytes come out of a decoder."""
        return True

    def most_bytes_left(self) -> int:
        """An upper limit: what the slabs claim, as far as deflate can pack it."""
        return len(self._rest) + sum(min(slab.unpacked, slab.size * _MOST_EXPANSION) for slab in self._slabs)

    def finish(self) -> int:
        """Read on to the end and compare checksum and size."""
        padding = super().finish()
        if self._at(self._end, 10) != LAST_BLOCK + struct.pack("<II", self._check, self._total & 0xFFFFFFFF):
            raise self._corrupted("checksum is wrong")
        return padding

    def holds(self, chunks: Iterable[memoryview]) -> bool:
        """Read as many bytes as `chunks` have and say whether all are equal; chunks that are slabs are compared at once."""
        if self._rest or any(slab.unpacked != CHUNK_BYTES for slab in list(self._slabs)[:-1]):
            return super().holds(chunks)
        return all(self._in_order(self._pool.submit(self._is_same, *pair) for pair in self._pairs(chunks)))

    def _pairs(self, chunks: Iterable[memoryview]) -> Iterator[tuple[Slab, memoryview]]:
        for chunk in chunks:
            if not self._slabs:
                raise self._corrupted("data end early")
            self._check = crc32(chunk, self._check)  # equal bytes have equal sums, and others end the comparison
            yield self._slabs.popleft(), chunk

    def _is_same(self, slab: Slab, chunk: memoryview) -> bool:
        return same_bytes(self._unpacked(slab), chunk)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(usable_cores(), thread_name_prefix="medseg-inflate")

    def close(self) -> None:
        """Let go of the file and of the threads."""
        if "_pool" in self.__dict__:
            self._pool.shutdown(cancel_futures=True)
        super().close()

    def _in_order(self, tasks: Iterable[Future[_Result]]) -> Iterator[_Result]:
        """Yield results in the order of the tasks, with a few tasks ahead."""
        waiting: deque[Future[_Result]] = deque()
        for task in tasks:
            waiting.append(task)
            if len(waiting) > 2 * usable_cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _fill_up_to(self, target: memoryview) -> int:
        filled = self._from_rest(target)
        whole: list[tuple[Slab, memoryview]] = []
        while self._slabs and filled + self._slabs[0].unpacked <= target.nbytes:
            slab = self._slabs.popleft()
            whole.append((slab, target[filled : filled + slab.unpacked]))
            filled += slab.unpacked
        if len(whole) == 1:
            self._check = crc32(self._copy(*whole[0]), self._check)
        elif whole:
            for part in self._in_order(self._pool.submit(self._copy, *pair) for pair in whole):
                self._check = crc32(part, self._check)
        if filled < target.nbytes and self._slabs:
            self._rest = memoryview(self._unpacked(self._slabs.popleft()))
            self._check = crc32(self._rest, self._check)
            filled += self._from_rest(target[filled:])
        return filled

    def _from_rest(self, target: memoryview) -> int:
        count = min(len(self._rest), target.nbytes)
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _copy(self, slab: Slab, target: memoryview) -> memoryview:
        np.frombuffer(target, np.uint8)[:] = np.frombuffer(self._unpacked(slab), np.uint8)
        return target

    def _unpacked(self, slab: Slab) -> bytes:
        """Unpack a slab with an end put behind it: the decoder must reach that end, neither more nor less."""
        decoder = new_decoder("raw deflate")
        try:
            data = decoder.decompress(self._at(slab.start, slab.size), slab.unpacked + 1)
            more = decoder.decompress(LAST_BLOCK, 1)
        except DECODER_ERRORS as err:
            raise self._corrupted(f"data are wrong ({err})") from err
        if len(data) != slab.unpacked or more or not decoder.eof or decoder.unused_data:
            raise self._corrupted("data are wrong")
        return data

    def _at(self, start: int, size: int) -> bytes:
        try:
            with self._lock:
                self._file.seek(start)
                data = self._file.read(size)
        except OSError as err:
            raise UnreadableFileError(f"{self.name}: reading failed ({err.strerror or err}); check the disk") from err
        if len(data) < size:
            raise UnreadableFileError(f"{self.name} is cut short: its gzip data ends early; copy or download the file again")
        return data

    def _corrupted(self, what: str) -> UnreadableFileError:
        return UnreadableFileError(f"{self.name} is corrupted: its gzip {what}; copy or download the file again")
