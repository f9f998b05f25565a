"""DICOM SEG objects as label maps: BINARY and LABELMAP, of any writer; geometry comes from the frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import (
    GeometryMismatchError,
    InputError,
    MedsegError,
    OverlappingSegmentsError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment
from medseg.core.volume import Source
from medseg.io.dicom.elements import HeaderError, NotDicomError, read_elements
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg_terms import UNSPECIFIED, code_of, rgb_from_lab
from medseg.io.dicom.sort import LPS_TO_RAS, is_sound_orientation, is_sound_position, is_sound_spacing, normal_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEG_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})

OFF_GRID_SHARE = 0.05  # a frame further than this share of the spacing from its place lies on no even grid
_SOP_CLASS = 0x00080016


@dataclass(frozen=True)
class _Frames:
    """The planes of a SEG: pixels (n, rows, columns), the segment number and LPS position of each, and their common grid."""

    pixels: npt.NDArray[Any]
    numbers: tuple[int, ...]
    positions: npt.NDArray[np.float64]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    step_mm: float | None


def is_seg(path: str | os.PathLike[str]) -> bool:
    """Tell from its header whether a file is a DICOM segmentation; False for what cannot be read."""
    try:
        elements = read_elements(os.fspath(path), frozenset({_SOP_CLASS}))
    except (NotDicomError, HeaderError, OSError):
        return False
    sop_class = elements.values.get(_SOP_CLASS, b"").decode("ascii", "replace").strip("\0 ")
    return (sop_class or elements.media_sop_class_uid) in SEG_CLASSES


def read_seg(path: str | os.PathLike[str], geometry: Geometry | None = None) -> LabelMap:
    """Read a DICOM segmentation (BINARY or LABELMAP), or the only one in a folder.

    Without `geometry` the grid reaches from the first frame to the last one stored; with it, frames are placed on that
    grid, which must share their planes (GeometryMismatchError otherwise). Segments keep names, codes, side and colour.
    Raises OverlappingSegmentsError where a voxel belongs to several segments, UnreadableFileError for damaged files,
    UnsupportedFormatError for FRACTIONAL segmentations and for what is none.
    """
    file = _one_file(Path(path))
    with quiet():
        dataset = _dataset(file)
        try:
            segments = _segments(dataset)
            frames = _frames(dataset, file)
            frame_uid, series_uid, instance_uid = (
                _uid(dataset, f"{name}UID") for name in ("FrameOfReference", "SeriesInstance", "SOPInstance")
            )
        except MedsegError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, NotImplementedError, OSError) as err:
            # the text of these errors may quote the patient's header, so it is not passed on
            raise UnreadableFileError(f"{file}: the segmentation lacks attributes it must have ({type(err).__name__})") from None
    grid, planes = _grid(frames, frame_uid or None, file)
    if geometry is not None:
        planes = _planes_on(geometry, grid, planes, file)
        grid = geometry
    labels = _fill(frames, planes, grid, segments, file)
    source = Source(os.fspath(path), "dicom-seg", series_uid or None, (os.fspath(file),), (instance_uid,))
    return LabelMap(labels.T, grid, segments, source)


def _uid(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword, "") or "")


def _one_file(path: Path) -> Path:
    if not path.exists():
        raise UnreadableFileError(f"{path}: no such file or folder")
    if path.is_dir():
        found = sorted(entry for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink() and is_seg(entry))
        if len(found) != 1:
            names = ", ".join(entry.name for entry in found[:5]) or "none"
            raise InputError(f"{path}: one DICOM segmentation is needed, there are {len(found)} ({names}); give the file")
        return found[0]
    if not is_seg(path):
        raise UnsupportedFormatError(f"{path}: not a DICOM segmentation (SEG)")
    return path


def _dataset(file: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        dataset = dcmread(file)
        kind = str(dataset.get("SegmentationType", ""))
    except (
        InvalidDicomError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        NotImplementedError,
        OSError,
        EOFError,
    ) as err:
        raise UnreadableFileError(f"{file}: the segmentation cannot be read ({type(err).__name__}): copy the file again") from None
    if kind not in ("BINARY", "LABELMAP"):
        raise UnsupportedFormatError(f"{file}: a segmentation of type {kind or 'unknown'} is not read, only BINARY and LABELMAP")
    if "PixelData" not in dataset:
        raise UnreadableFileError(f"{file}: the segmentation ends before its pixels: copy the file again")
    return dataset


def _segments(dataset: Dataset) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    taken: set[str] = set()
    for item in dataset.SegmentSequence:
        number = int(item.SegmentNumber)
        if number == 0:  # the background of a LABELMAP
            continue
        label = str(item.get("SegmentLabel", "")).strip() or str(item.get("SegmentDescription", "")).strip() or f"segment_{number}"
        unique, repeat = label, 2
        while unique in taken:
            unique, repeat = f"{label} ({repeat})", repeat + 1
        taken.add(unique)
        segments.append(_segment(item, number, unique))
    return tuple(segments)


def _segment(item: Dataset, number: int, label: str) -> Segment:
    kind = item.SegmentedPropertyTypeCodeSequence[0] if item.get("SegmentedPropertyTypeCodeSequence") else None
    region = item.AnatomicRegionSequence[0] if item.get("AnatomicRegionSequence") else None
    algorithm = str(item.get("SegmentAlgorithmName", "") or "")
    lab = item.get("RecommendedDisplayCIELabValue")
    return Segment(
        number,
        label,
        category=code_of(item, "SegmentedPropertyCategoryCodeSequence"),
        type=code_of(item, "SegmentedPropertyTypeCodeSequence"),
        modifier=code_of(kind, "SegmentedPropertyTypeModifierCodeSequence") if kind is not None else None,
        region=code_of(item, "AnatomicRegionSequence"),
        region_modifier=code_of(region, "AnatomicRegionModifierSequence") if region is not None else None,
        colour=rgb_from_lab(lab) if lab is not None and len(lab) == 3 else None,
        algorithm="" if algorithm == UNSPECIFIED else algorithm,
    )


def _frames(dataset: Dataset, file: Path) -> _Frames:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    count = int(dataset.NumberOfFrames)
    if len(groups) != count:
        raise UnreadableFileError(f"{file}: {count} frames, but {len(groups)} descriptions of frames")
    planes = [_group(frame, shared, "PlanePositionSequence").ImagePositionPatient for frame in groups]
    orientations = {tuple(map(float, _group(frame, shared, "PlaneOrientationSequence").ImageOrientationPatient)) for frame in groups}
    measures = [_group(frame, shared, "PixelMeasuresSequence") for frame in groups]
    spacings = {tuple(map(float, one.PixelSpacing)) for one in measures}
    if len(orientations) != 1 or len(spacings) != 1:
        raise UnsupportedFormatError(f"{file}: its frames have different orientations or pixel spacings, so they share no grid")
    steps = {abs(float(one.get("SpacingBetweenSlices") or one.get("SliceThickness") or 0)) for one in measures}
    is_binary = dataset.SegmentationType == "BINARY"
    numbers = [int(_group(frame, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber) if is_binary else 0 for frame in groups]
    positions = np.asarray(planes, dtype=np.float64)
    orientation, spacing = orientations.pop(), spacings.pop()
    if not (is_sound_orientation(orientation) and is_sound_spacing(spacing) and all(map(is_sound_position, positions.tolist()))):
        raise UnreadableFileError(f"{file}: its frames have no usable position, orientation or pixel spacing")
    step = steps.pop() if len(steps) == 1 else 0.0
    return _Frames(_pixels(dataset, count, file), tuple(numbers), positions, orientation, spacing, step or None)


def _group(frame: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """Return the item of a functional group: the frame's own, or the one all frames share."""
    own = frame.get(keyword)
    item: Dataset = own[0] if own else shared[keyword].value[0]
    return item


def _pixels(dataset: Dataset, count: int, file: Path) -> npt.NDArray[Any]:
    """Return the frames (n, rows, columns): 0 and 1 for BINARY, segment numbers for LABELMAP."""
    shape = (count, int(dataset.Rows), int(dataset.Columns))
    size = shape[0] * shape[1] * shape[2]
    syntax = dataset.file_meta.TransferSyntaxUID
    if dataset.BitsAllocated == 1 and not syntax.is_encapsulated:
        stored = np.frombuffer(dataset.PixelData, np.uint8)
        if stored.size * 8 < size:
            raise UnreadableFileError(f"{file}: pixels are cut short, {stored.size} of {(size + 7) // 8} bytes: copy the file again")
        return np.unpackbits(stored, count=size, bitorder="little").reshape(shape)
    try:
        return np.asarray(dataset.pixel_array).reshape(shape)
    except BaseException as err:
        if not isinstance(err, Exception) and type(err).__name__ != "PanicException":
            raise
        raise UnreadableFileError(f"{file}: the frames cannot be decoded ({type(err).__name__}): copy the file again") from None


def _grid(frames: _Frames, frame_uid: str | None, file: Path) -> tuple[Geometry, npt.NDArray[np.intp]]:
    """Return the grid that reaches from the first to the last frame, and the k index of every frame."""
    normal = normal_of(frames.orientation)
    along = frames.positions @ normal
    first, last = int(along.argmin()), int(along.argmax())
    reach = float(along[last] - along[first])
    distances = np.diff(np.unique(np.round(along, 3)))
    steps = distances[distances > 0.01]
    # frames left out as empty leave gaps: the header's spacing decides where it fits, the smallest gap otherwise
    step = (
        frames.step_mm if frames.step_mm and _fits(along, frames.step_mm) else (float(steps.min()) if steps.size else frames.step_mm or 1.0)
    )
    if not _fits(along, step):
        raise UnsupportedFormatError(f"{file}: its frames lie at uneven distances (from {step:g} mm), on no even grid")
    count = round(reach / step) + 1
    planes = np.rint((along - along[first]) / step).astype(np.intp)
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(frames.orientation[:3]) * frames.pixel_spacing[1]
    affine[:3, 1] = np.asarray(frames.orientation[3:]) * frames.pixel_spacing[0]
    affine[:3, 2] = (frames.positions[last] - frames.positions[first]) / (count - 1) if count > 1 else normal * step
    affine[:3, 3] = frames.positions[first]
    shape = (frames.pixels.shape[2], frames.pixels.shape[1], count)
    return Geometry(shape, LPS_TO_RAS @ affine, frame_uid), planes


def _fits(along: npt.NDArray[np.float64], step: float) -> bool:
    """Whether all positions are whole numbers of steps apart."""
    places = (along - along.min()) / step
    return bool(np.abs(places - np.rint(places)).max() <= OFF_GRID_SHARE * max(1.0, float(places.max()) / 100))


def _planes_on(geometry: Geometry, own: Geometry, planes: npt.NDArray[np.intp], file: Path) -> npt.NDArray[np.intp]:
    """Return the k index of every frame on another grid that holds the same planes."""
    starts = own.index_to_world([[0, 0, k] for k in planes])
    placed = geometry.world_to_index(starts)
    k = np.rint(placed[:, 2]).astype(np.intp)
    same_plane = np.allclose(own.affine[:3, :2], geometry.affine[:3, :2], atol=1e-3) and own.shape[:2] == geometry.shape[:2]
    off = np.abs(placed - np.column_stack([np.zeros((len(k), 2)), k])).max()
    if not same_plane or off > OFF_GRID_SHARE or k.min() < 0 or k.max() >= geometry.shape[2]:
        raise GeometryMismatchError(f"{file}: the segmentation does not lie on the grid of the scan; resample it first", geometry, own)
    return k


def _fill(
    frames: _Frames, planes: npt.NDArray[np.intp], grid: Geometry, segments: Sequence[Segment], file: Path
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return the labels (k,j,i); two segments in one voxel are an error."""
    known = {segment.number: segment.label for segment in segments}
    highest = max([*known, int(frames.pixels.max()) if not any(frames.numbers) else 0, 1])
    labels = np.zeros(grid.shape[::-1], dtype=smallest_unsigned(highest))
    for plane, number, k in zip(frames.pixels, frames.numbers, planes, strict=True):
        target = labels[k]
        values = plane if not number else np.where(plane != 0, labels.dtype.type(number), 0)
        clash = (target != 0) & (values != 0) & (target != values)
        if clash.any():
            one, other = int(target[clash][0]), int(values[clash][0])
            raise OverlappingSegmentsError(
                f"{file}: segments {known.get(one, one)!r} and {known.get(other, other)!r} share voxels, which a label map cannot hold;"
                " export each segment to a file of its own"
            )
        np.maximum(target, values.astype(labels.dtype, copy=False), out=target)
    return labels
