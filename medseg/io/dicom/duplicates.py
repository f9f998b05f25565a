"""Slices that are there twice: the same file again, or the same pixels at the same position under a new UID."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from types import TracebackType

import numpy as np

from medseg.core.errors import MedsegError
from medseg.core.finding import Finding
from medseg.io.dicom.codecs import stored_frame
from medseg.io.dicom.decoder import DecoderPool
from medseg.io.dicom.found import files_named, warning
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.sort import position_groups
from medseg.io.dicom.stack import Stack

_Key = tuple[str, int, tuple[int, int] | None]


class PixelComparer:
    """Tells whether slices hold the same intensities, however they are encoded; every frame is decoded once. Use it in `with`."""

    def __init__(self) -> None:
        self._pool = DecoderPool()
        self._digests: dict[tuple[str, int], bytes | None] = {}

    def __enter__(self) -> PixelComparer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.close()

    def is_same(self, one: SliceHeader, other: SliceHeader) -> bool:
        """Whether two slices are equal after rescale; False where either cannot be decoded."""
        looks = [(header.rows, header.columns, header.tile, header.slope, header.intercept) for header in (one, other)]
        if looks[0] != looks[1]:
            return False
        first = self._digest(one)
        return first is not None and first == self._digest(other)

    def _digest(self, header: SliceHeader) -> bytes | None:
        """A fingerprint of the stored frame that a slice is, or is a tile of; None where it cannot be decoded."""
        key = (header.path, header.frame)
        if key not in self._digests:
            rows, columns = header.stored_size or (header.rows, header.columns)
            try:
                with quiet():
                    frame = stored_frame(replace(header, rows=rows, columns=columns, stored_size=None, tile=None), self._pool)
                # as whole numbers of one width: encodings may choose their own type for the same values
                self._digests[key] = blake2b(np.ascontiguousarray(frame, dtype=np.int64).tobytes(), digest_size=16).digest()
            except MedsegError:
                self._digests[key] = None
        return self._digests[key]


def identity(header: SliceHeader) -> _Key:
    """What must be unique in a series: the instance UID, and the frame or tile within it."""
    return header.sop_instance_uid, header.frame, header.tile


def drop_repeated_files(slices: Sequence[SliceHeader]) -> tuple[list[SliceHeader], tuple[Finding, ...]]:
    """Drop slices that repeat the instance UID, the place and the pixels of another; what differs stays, for the audit to refuse."""
    if len({identity(header) for header in slices}) == len(slices):
        return list(slices), ()
    first: dict[_Key, SliceHeader] = {}
    kept: list[SliceHeader] = []
    dropped: list[SliceHeader] = []
    with PixelComparer() as pixels:
        for header in slices:
            known = first.setdefault(identity(header), header)
            is_copy = bool(header.sop_instance_uid) and known is not header and _same_place(known, header) and pixels.is_same(known, header)
            (dropped if is_copy else kept).append(header)
    return kept, (_finding(dropped),) if dropped else ()


def without_copies(stack: Stack) -> Stack:
    """Drop slices that repeat another at the same position bit for bit; what differs stays, for the audit to refuse."""
    kept: list[SliceHeader] = []
    dropped: list[SliceHeader] = []
    with PixelComparer() as pixels:
        for group in position_groups(stack.slices):
            unique: list[SliceHeader] = []
            for header in sorted((stack.slices[i] for i in group), key=lambda header: (header.sop_instance_uid, header.path, header.frame)):
                is_copy = any(pixels.is_same(header, other) for other in unique)
                (dropped if is_copy else unique).append(header)
            kept += unique
    return replace(stack, slices=tuple(kept), findings=(*stack.findings, _finding(dropped))) if dropped else stack


def _same_place(one: SliceHeader, other: SliceHeader) -> bool:
    return (one.position, one.orientation, one.pixel_spacing) == (other.position, other.orientation, other.pixel_spacing)


def _finding(dropped: Sequence[SliceHeader]) -> Finding:
    text = (
        f"{len(dropped)} slice(s) are exact copies of others and were left out ({files_named(dropped)}); stacked, they would"
        " change the volume"
    )
    return warning("DUPLICATE_SLICES", text, count=len(dropped))
