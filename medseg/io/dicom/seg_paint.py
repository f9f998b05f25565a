"""Frames of a DICOM SEG into label arrays: layers where segments share voxels, thresholds where frames hold fractions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import OverlappingSegmentsError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import smallest_unsigned
from medseg.core.segment import Segment
from medseg.io.dicom.seg_grid import Placement
from medseg.io.dicom.seg_header import SegHeader
from medseg.io.dicom.seg_pixels import Frames

Labels = npt.NDArray[np.unsignedinteger[Any]]
Piece = tuple[int, int, npt.NDArray[Any]]  # plane, first row, pixels or mask

NOTABLE_SHARE = 0.01  # a threshold that changes a volume by more than this deserves a warning


@dataclass(frozen=True, eq=False)
class Painted:
    """Layers (k,j,i) without overlaps, the numbers that occur in them, and what was noticed."""

    layers: list[Labels]
    findings: tuple[Finding, ...] = ()


def frames_of(header: SegHeader, numbers: Sequence[int]) -> dict[int, list[int]]:
    """Return the frames of each segment, in file order."""
    frames: dict[int, list[int]] = {number: [] for number in numbers}
    for frame, number in enumerate(header.numbers.tolist()):
        if number in frames:
            frames[number].append(frame)
    return frames


def paint(
    header: SegHeader, frames: Frames, placement: Placement, segments: Sequence[Segment], shape: tuple[int, int, int], single: bool
) -> Painted:
    """Paint the wanted segments into arrays of `shape` (k,j,i).

    `single` asks for one layer: OverlappingSegmentsError where two segments share a voxel, except in FRACTIONAL files, where
    the larger fraction wins. Raises UnsupportedFormatError where a segment has two different frames on one plane.
    """
    painter = _Painter(header, frames, placement, segments, shape, single)
    if header.kind == "LABELMAP":
        return painter.label_frames()
    if header.kind == "FRACTIONAL" and single:
        return painter.largest_fractions()
    return painter.segment_by_segment()


class _Painter:
    def __init__(
        self,
        header: SegHeader,
        frames: Frames,
        placement: Placement,
        segments: Sequence[Segment],
        shape: tuple[int, int, int],
        single: bool,
    ) -> None:
        self._header, self._frames, self._placement = header, frames, placement
        self._segments, self._shape, self._single = segments, shape, single
        self._names = {segment.number: segment.label for segment in segments}
        self._dtype = smallest_unsigned(max([*self._names, 1]))
        self._layers: list[Labels] = []
        self._views: list[Labels] = []

    def _new_layer(self) -> Labels:
        layer = np.zeros(self._shape, dtype=self._dtype)
        self._layers.append(layer)
        self._views.append(self._placement.stack_of(layer, self._header.rows, self._header.columns))
        return self._views[-1]

    def pieces(self, frames: Sequence[int], name: str) -> Iterator[Piece]:
        """Yield (plane, first row, pixels) of frames that hold anything; a plane that comes twice must be the same twice."""
        seen: dict[int, Piece] = {}
        for frame in frames:
            part = self._frames.part(frame)
            if part is None:
                continue
            piece = (int(self._placement.planes[frame]), *part)
            earlier = seen.setdefault(piece[0], piece)
            if earlier is piece:
                yield piece
            elif earlier[1] != piece[1] or not np.array_equal(earlier[2], piece[2]):
                raise UnsupportedFormatError(
                    f"{self._header.file}: segment {name!r} has two different frames at one position (time points, or two stacks in one"
                    " file): export each to a file of its own"
                )

    # -- one segment a frame

    def segment_by_segment(self) -> Painted:
        """Put each segment into the first layer that has room for all of it."""
        self._new_layer()
        threshold = half_of(self._header) if self._header.kind == "FRACTIONAL" else 1
        sums: dict[int, tuple[int, int]] = {}
        for number, frames in frames_of(self._header, list(self._names)).items():
            pieces: list[Piece] = []
            stored = kept = 0
            for plane, row, pixels in self.pieces(frames, self._names[number]):
                mask = pixels >= threshold
                pieces.append((plane, row, mask))
                if threshold > 1:
                    stored += int(pixels.sum(dtype=np.int64))
                    kept += int(np.count_nonzero(mask))
            sums[number] = (stored, kept)
            self._place(number, pieces)
        return Painted(self._layers, self._thresholded(sums) if self._header.kind == "FRACTIONAL" else ())

    def _place(self, number: int, pieces: list[Piece]) -> None:
        for view in self._views:
            if not any((view[plane, row : row + len(mask)][mask]).any() for plane, row, mask in pieces):
                break
            if self._single:
                self._refuse(number, pieces, view)
        else:
            view = self._new_layer()
        for plane, row, mask in pieces:
            view[plane, row : row + len(mask)][mask] = number

    def _refuse(self, number: int, pieces: list[Piece], view: Labels) -> None:
        others: dict[int, int] = {}
        for plane, row, mask in pieces:
            values, counts = np.unique(view[plane, row : row + len(mask)][mask], return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                others[value] = others.get(value, 0) + count
        others.pop(0, None)
        names = ", ".join(repr(self._names.get(other, other)) for other in sorted(others)[:5])
        raise OverlappingSegmentsError(
            f"{self._header.file}: {self._names[number]!r} overlaps {names} in {sum(others.values()):,} voxels, too much for a label map:"
            " read one segment alone, or all of them in layers (read_layers)"
        )

    # -- fractions

    def largest_fractions(self) -> Painted:
        """Give each voxel the segment with the largest fraction, if that is half or more; the earlier segment where they are equal."""
        view = self._new_layer()
        best_layer = np.zeros(self._shape, dtype=np.uint16)
        best = self._placement.stack_of(best_layer, self._header.rows, self._header.columns)
        threshold = half_of(self._header)
        stored: dict[int, int] = {}
        for number, frames in frames_of(self._header, list(self._names)).items():
            stored[number] = 0
            for plane, row, pixels in self.pieces(frames, self._names[number]):
                stored[number] += int(pixels.sum(dtype=np.int64))
                rows = slice(row, row + len(pixels))
                wins = (pixels >= threshold) & (pixels > best[plane, rows])
                best[plane, rows][wins] = pixels[wins]
                view[plane, rows][wins] = number
        counts = np.bincount(self._layers[0].reshape(-1), minlength=max(self._names, default=0) + 1)
        return Painted(self._layers, self._thresholded({number: (total, int(counts[number])) for number, total in stored.items()}))

    def _thresholded(self, sums: dict[int, tuple[int, int]]) -> tuple[Finding, ...]:
        largest = largest_fraction(self._header)
        ml = self._placement.geometry.voxel_volume_mm3 / 1000
        kind = self._header.text("SegmentationFractionalType") or "unknown"
        rows = [
            {
                "number": number,
                "label": self._names[number],
                "ml_by_fractions": stored / largest * ml,
                "ml_at_half": kept * ml,
            }
            for number, (stored, kept) in sums.items()
        ]
        told = ", ".join(f"{row['label']} {row['ml_at_half']:.4g} ml ({row['ml_by_fractions']:.4g} ml by fractions)" for row in rows[:5])
        text = (
            f"fractions ({kind}) became labels where they are half or more, the largest where segments share a voxel: {told};"
            " read the fractions themselves where the border matters"
        )
        off = any(abs(stored / largest - kept) > NOTABLE_SHARE * stored / largest for stored, kept in sums.values())
        details = {"fractional_type": kind, "segments": rows}
        return (Finding("FRACTIONAL_THRESHOLDED", Severity.WARNING if off else Severity.INFO, text, details),)

    # -- all segments in one frame

    def label_frames(self) -> Painted:
        """Copy the numbers of LABELMAP frames; the padding value and numbers that were not asked for are background."""
        view = self._new_layer()
        wanted = np.zeros(1 << 16, dtype=self._dtype)
        wanted[list(self._names)] = list(self._names)
        unnamed = 0
        background = background_of(self._header)
        described = {segment.number for segment in self._header.segments} | {0, *background}
        for plane, row, pixels in self.pieces(range(self._header.frame_count), "of the label map"):
            values = np.unique(pixels).tolist()
            unnamed += sum(int(np.count_nonzero(pixels == value)) for value in values if value not in described)
            view[plane, row : row + len(pixels)] = wanted[pixels]
        if not unnamed:
            return Painted(self._layers)
        text = f"{unnamed:,} voxels hold numbers that no segment describes; they are named after their number"
        return Painted(self._layers, (Finding("UNDESCRIBED_SEGMENTS", Severity.WARNING, text, {"voxels": unnamed}),))


def background_of(header: SegHeader) -> set[int]:
    """Return the padding value of a LABELMAP where no segment is described by it (PS3.3, C.8.20.2)."""
    padding = header.dataset.get("PixelPaddingValue")
    described = {segment.number for segment in header.segments}
    return {int(padding)} - described if isinstance(padding, int) else set()


def largest_fraction(header: SegHeader) -> int:
    """Return the stored number that stands for 1."""
    value = header.dataset.get("MaximumFractionalValue")
    if isinstance(value, int) and value > 0:
        return value
    return int((1 << int(header.dataset.get("BitsStored", 8))) - 1)


def half_of(header: SegHeader) -> int:
    """Return the smallest stored number that is half or more."""
    return (largest_fraction(header) + 1) // 2


def numbers_in_frames(header: SegHeader, frames: Frames) -> set[int]:
    """Return the segment numbers that frames or LABELMAP pixels name, described or not."""
    if header.kind != "LABELMAP":
        return {int(number) for number in np.unique(header.numbers)}
    found: set[int] = set()
    for frame in range(header.frame_count):
        part = frames.part(frame)
        if part is not None:
            found.update(np.unique(part[1]).tolist())
    return found - {0} - background_of(header)
