"""Where the frames of compressed pixel data lie in a file (PS3.5, section A.4)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from medseg.core.errors import UnreadableFileError
from medseg.io.dicom.elements import HeaderError, NotDicomError, read_elements
from medseg.io.dicom.header import SliceHeader

Piece = tuple[int, int]  # first byte in the file, length
ReadAt = Callable[[int, int], bytes]

_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_OFFSETS, _LENGTHS = 0x7FE00001, 0x7FE00002
_MOST_FRAGMENTS = 1_000_000  # no scan has more; a damaged file could keep a reader busy for hours
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0c")


def frame_pieces(header: SliceHeader, read_at: ReadAt) -> list[list[Piece]]:
    """Return the fragments of every frame of a file; `read_at(offset, length)` gives bytes of the file.

    The basic or the extended offset table says which fragments make a frame. Without one, a frame is a fragment, or begins
    where a fragment begins like an image. Raises UnreadableFileError where a table, the number of frames and the fragments
    contradict each other, or the data is cut short.
    """
    table, fragments = _walk(header, read_at)
    frames = header.frame_count
    if len(fragments) < frames:
        raise UnreadableFileError(
            f"{header.path}: the header names {frames} frames, but there are only {len(fragments)} compressed pieces: copy the file again"
        )
    extended = _extended_table(header) if frames > 1 else None
    if extended is not None:
        return _by_extended_table(header, fragments, extended)
    if frames == 1:
        return [_single(header, table, fragments, read_at)]
    if table:
        return _by_table(header, table, fragments)
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    return _by_starts(header, fragments, read_at)


def _walk(header: SliceHeader, read_at: ReadAt) -> tuple[bytes, list[Piece]]:
    """Return the basic offset table and the fragments; one that leads beyond the file is an error."""
    at, size = header.pixels.offset, header.file_size
    pieces: list[Piece] = []
    while True:
        if at + 8 > size:
            there = max(size - header.pixels.offset, 0)
            raise UnreadableFileError(f"{header.path}: compressed pixel data is cut short after {there} bytes: copy the file again")
        group, number, length = struct.unpack("<HHL", read_at(at, 8))
        tag = group << 16 | number
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM:
            raise UnreadableFileError(
                f"{header.path}: compressed pixel data is damaged: no fragment at byte {at - header.pixels.offset}: copy the file again"
            )
        if at + 8 + length > size:
            raise UnreadableFileError(
                f"{header.path}: compressed pixel data is cut short, {size - at - 8} bytes of a fragment there, {length} needed:"
                " copy the file again"
            )
        pieces.append((at + 8, length))
        if len(pieces) > _MOST_FRAGMENTS:
            raise UnreadableFileError(f"{header.path}: compressed pixel data is in more than {_MOST_FRAGMENTS} pieces, it is damaged")
        at += 8 + length
    if len(pieces) < 2:
        raise UnreadableFileError(f"{header.path}: compressed pixel data holds no frame")
    (offset, length), *fragments = pieces
    return read_at(offset, length), fragments


def _single(header: SliceHeader, table: bytes, fragments: list[Piece], read_at: ReadAt) -> list[Piece]:
    """The one frame may be cut into several fragments; several images without a number of frames are not one."""
    begins = len(fragments) > 1 and all(read_at(at, min(4, length)).startswith(_STARTS) for at, length in fragments)
    if begins or len(table) > 4:
        count = len(fragments) if begins else len(table) // 4
        raise UnreadableFileError(f"{header.path}: the header names one frame, the compressed pixel data holds {count}")
    return fragments


def _by_table(header: SliceHeader, table: bytes, fragments: list[Piece]) -> list[list[Piece]]:
    frames = header.frame_count
    if len(table) != 4 * frames:
        raise _bad_table(header, f"the basic offset table holds {len(table) // 4} entries for {frames} frames")
    offsets = struct.unpack(f"<{frames}L", table)
    base = fragments[0][0] - 8  # offsets count from the item that follows the table
    numbers = {at - 8 - base: number for number, (at, _) in enumerate(fragments)}
    if offsets[0] != 0 or any(offset not in numbers for offset in offsets) or list(offsets) != sorted(set(offsets)):
        raise _bad_table(header, "the basic offset table leads to places where no frame begins")
    first = [numbers[offset] for offset in offsets]
    return [fragments[start:end] for start, end in zip(first, [*first[1:], len(fragments)], strict=True)]


def _extended_table(header: SliceHeader) -> tuple[bytes, bytes] | None:
    """Return the extended offset table and its lengths, which stand before the pixels, or None."""
    try:
        values = read_elements(header.path, frozenset({_OFFSETS, _LENGTHS})).values
    except (HeaderError, NotDicomError) as err:
        raise UnreadableFileError(f"{header.path}: the header cannot be read again; did the file change?") from err
    return (values[_OFFSETS], values.get(_LENGTHS, b"")) if _OFFSETS in values else None


def _by_extended_table(header: SliceHeader, fragments: list[Piece], table: tuple[bytes, bytes]) -> list[list[Piece]]:
    frames = header.frame_count
    if len(table[0]) != 8 * frames or len(table[1]) != 8 * frames:
        raise _bad_table(header, f"the extended offset table holds {len(table[0]) // 8} entries for {frames} frames")
    offsets, lengths = struct.unpack(f"<{frames}Q", table[0]), struct.unpack(f"<{frames}Q", table[1])
    base = fragments[0][0] - 8
    by_offset = {at - 8 - base: (at, length) for at, length in fragments}
    pieces = []
    for offset, length in zip(offsets, lengths, strict=True):
        at, there = by_offset.get(offset, (0, -1))
        if not 0 < length <= there or there - length > 1:  # one byte may fill up to an even length
            raise _bad_table(header, "the extended offset table leads to places where no frame lies")
        pieces.append([(at, length)])
    if len(set(offsets)) != frames or len(fragments) != frames:
        raise _bad_table(header, f"the extended offset table names {frames} frames, there are {len(fragments)} compressed pieces")
    return pieces


def _by_starts(header: SliceHeader, fragments: list[Piece], read_at: ReadAt) -> list[list[Piece]]:
    frames: list[list[Piece]] = []
    for at, length in fragments:
        if read_at(at, min(4, length)).startswith(_STARTS):
            frames.append([])
        if not frames:
            break
        frames[-1].append((at, length))
    if len(frames) != header.frame_count:
        raise _bad_table(
            header, f"there is no offset table, and {len(fragments)} compressed pieces cannot be shared among {header.frame_count} frames"
        )
    return frames


def joined(pieces: Sequence[Piece], read_at: ReadAt) -> bytes:
    """Return the bytes of one frame."""
    if len(pieces) == 1:
        return read_at(*pieces[0])
    return b"".join(read_at(at, length) for at, length in pieces)


def _bad_table(header: SliceHeader, what: str) -> UnreadableFileError:
    return UnreadableFileError(f"{header.path}: {what}: ask for the file again, or have it decompressed where it came from")
