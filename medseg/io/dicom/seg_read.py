"""DICOM SEG objects as label maps: BINARY, FRACTIONAL and LABELMAP, of any writer; geometry comes from the frames (PS3.3, A.51)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medseg.core.errors import MedsegError, UnknownSegmentError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, present_numbers
from medseg.core.native_slices import NativeSlices
from medseg.core.segment import Segment
from medseg.core.volume import Source
from medseg.io.dicom.foreign import FOREIGN_ERRORS
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg_grid import Placement, distinct_planes, own_placement, placement_on, scan_planes
from medseg.io.dicom.seg_header import SEG_CLASSES, SegHeader, is_seg, one_file, read_seg_header
from medseg.io.dicom.seg_paint import Painted, frames_of, largest_fraction, numbers_in_frames, paint
from medseg.io.dicom.seg_pixels import Frames, open_frames

__all__ = ["SEG_CLASSES", "is_seg", "read_fractions", "read_native_slices", "read_seg", "read_seg_layers"]

PathLike = str | os.PathLike[str]


def read_seg(path: PathLike, geometry: Geometry | None = None, *, segment: str | int | None = None) -> LabelMap:
    """Read a DICOM SEG file, or the only one in a folder, as a label map; `segment` chooses one by label or number.

    Without `geometry` (the scan's grid) the grid reaches from the first frame to the last one stored; with it, frames are
    placed on that grid, whose axes may run in other directions. Segments keep numbers, names, codes, side and colour.
    FRACTIONAL frames become labels at half of the largest value, the larger one where they overlap; a finding says what that
    changes. Raises OverlappingSegmentsError where segments of a BINARY file share a voxel, GeometryMismatchError where the
    frames lie beside `geometry`, GeometryError where they have no position, UnsupportedFormatError for uneven, turned or
    whole-slide frames, UnreadableFileError for damaged files, UnknownSegmentError where `segment` is not in the file.
    """
    opened = _open(path, geometry, segment)
    painted = opened.paint(single=True)
    return opened.label_maps(painted)[0]


def read_seg_layers(path: PathLike, geometry: Geometry | None = None) -> tuple[LabelMap, ...]:
    """Read a DICOM SEG whose segments may share voxels: each segment in the first layer that has room for it.

    One layer where nothing overlaps; numbers and labels are unique over all layers. FRACTIONAL segments are thresholded at
    half of the largest value, each for itself. Raises what `read_seg` raises, except OverlappingSegmentsError.
    """
    opened = _open(path, geometry, None)
    painted = opened.paint(single=False)
    return opened.label_maps(painted)


def read_fractions(path: PathLike, *, segment: str | int | None = None) -> list[tuple[Segment, npt.NDArray[np.float32], Geometry]]:
    """Read the segments of a FRACTIONAL (or BINARY) DICOM SEG as fractions from 0 to 1: segment, array (k,j,i) float32, its grid.

    All have the grid that `read_seg` gives them; the volume of a segment is the sum of its fractions × the voxel volume.
    Raises what `read_seg` raises, UnsupportedFormatError for a LABELMAP.
    """
    opened = _open(path, None, segment)
    header = opened.header
    if header.kind == "LABELMAP":
        raise UnsupportedFormatError(f"{header.file}: a LABELMAP segmentation holds numbers of segments, not fractions; read it as labels")
    largest = np.float32(largest_fraction(header) if header.kind == "FRACTIONAL" else 1)
    found = []
    with _damage_named(header.file):
        for number, frames in frames_of(header, [one.number for one in opened.segments]).items():
            array = np.zeros(opened.placement.geometry.shape[::-1], dtype=np.float32)
            for frame in frames:
                part = opened.frames.part(frame)
                if part is not None:
                    row, pixels = part
                    stored = (pixels != 0) if header.kind == "BINARY" else pixels
                    array[opened.placement.planes[frame], row : row + len(pixels)] = stored / largest
            one = next(one for one in opened.segments if one.number == number)
            found.append((one, array, opened.placement.geometry))
    return found


def read_native_slices(path: PathLike, positions_mm: Sequence[float] | None = None) -> NativeSlices:
    """Read a DICOM SEG slice by slice, as needed where the scan's slices lie at uneven distances.

    `positions_mm` are the places of all slices of the scan along their normal (LPS mm, rising); without them the frames'
    own positions count, which is right where no frame was left out as empty. Raises what `read_seg` raises,
    GeometryMismatchError where frames lie between the given slices.
    """
    file = one_file(Path(path))
    with quiet(), _damage_named(file):
        header = read_seg_header(file)
        frames = open_frames(header)
        positions, planes = distinct_planes(header)
        if positions_mm is not None:
            positions, planes = np.asarray(positions_mm, dtype=np.float64), scan_planes(header, positions_mm)
        if len(positions) < 2:
            raise UnsupportedFormatError(f"{file}: one slice only, so its width is unknown; give the positions of the scan's slices")
        segments, _ = _chosen(header, frames, None)
        area = header.pixel_spacing[0] * header.pixel_spacing[1]
        grid = Geometry((header.columns, header.rows, len(positions)), np.diag([*header.pixel_spacing[::-1], 1.0, 1.0]))
        painted = paint(header, frames, Placement(grid, planes), segments, grid.shape[::-1], single=True)
    return NativeSlices(painted.layers[0], segments, tuple(positions.tolist()), area)


@dataclass(frozen=True, eq=False)
class _Opened:
    header: SegHeader
    frames: Frames
    placement: Placement
    segments: tuple[Segment, ...]
    findings: tuple[Finding, ...]
    source: Source

    def paint(self, single: bool) -> Painted:
        with quiet(), _damage_named(self.header.file):
            return paint(self.header, self.frames, self.placement, self.segments, self.placement.geometry.shape[::-1], single)

    def label_maps(self, painted: Painted) -> tuple[LabelMap, ...]:
        findings = (*self.placement.findings, *self.findings, *painted.findings)
        maps: list[LabelMap] = []
        placed: set[int] = set()
        for layer in painted.layers[1:]:
            here = set(present_numbers(layer.T))
            placed |= here
            members = tuple(segment for segment in self.segments if segment.number in here)
            maps.append(LabelMap(layer.T, self.placement.geometry, members, self.source, findings))
        first = tuple(segment for segment in self.segments if segment.number not in placed)
        return (LabelMap(painted.layers[0].T, self.placement.geometry, first, self.source, findings), *maps)


def _open(path: PathLike, geometry: Geometry | None, segment: str | int | None) -> _Opened:
    file = one_file(Path(path))
    with quiet(), _damage_named(file):
        header = read_seg_header(file)
        frame_uid = header.text("FrameOfReferenceUID") or None
        placement = own_placement(header, frame_uid) if geometry is None else placement_on(geometry, header, frame_uid)
        frames = open_frames(header)
        segments, findings = _chosen(header, frames, segment)
        uids = header.text("SeriesInstanceUID") or None, (os.fspath(file),), (header.text("SOPInstanceUID"),)
    return _Opened(header, frames, placement, segments, findings, Source(os.fspath(path), "dicom-seg", *uids))


def _chosen(header: SegHeader, frames: Frames, wanted: str | int | None) -> tuple[tuple[Segment, ...], tuple[Finding, ...]]:
    """Return the segments to read: those described, and those that frames name without a description."""
    described = {segment.number for segment in header.segments}
    unknown = sorted(numbers_in_frames(header, frames) - described)
    if 0 in unknown or any(number < 0 for number in unknown):
        raise UnreadableFileError(f"{header.file}: frames refer to segment {unknown[0]}, segments begin at 1: write the file again")
    labels = {segment.label for segment in header.segments}
    unnamed = tuple(Segment(number, f"segment_{number}" + "_" * (f"segment_{number}" in labels)) for number in unknown)
    segments = tuple(sorted((*header.segments, *unnamed), key=lambda segment: segment.number))
    findings: tuple[Finding, ...] = ()
    if unnamed and header.kind != "LABELMAP":
        text = f"frames refer to segments {unknown[:10]}, which the file does not describe; they are named after their number"
        findings = (Finding("UNDESCRIBED_SEGMENTS", Severity.WARNING, text, {"numbers": unknown}),)
    if wanted is None:
        return segments, findings
    one = next((segment for segment in segments if wanted in (segment.label, segment.number)), None)
    if one is None:
        known = ", ".join(f"{segment.number} {segment.label}" for segment in segments[:20]) or "none"
        raise UnknownSegmentError(f"{header.file}: no segment {wanted!r}; it has: {known}")
    return (one,), findings


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    """Turn what pydicom raises on damaged files into UnreadableFileError; its text may quote the patient's header."""
    try:
        yield
    except MedsegError:
        raise
    except FOREIGN_ERRORS as err:
        raise UnreadableFileError(f"{file}: the segmentation is damaged ({type(err).__name__}): copy the file again") from None
