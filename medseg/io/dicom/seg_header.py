"""What a DICOM SEG says before its pixels: its segments, and of which segment and plane each frame is (PS3.3, A.51 and C.8.20)."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, InputError, MedsegError, UnreadableFileError, UnsupportedFormatError
from medseg.core.segment import Colour, Segment
from medseg.io.dicom.elements import DEFLATED, HeaderError, NotDicomError, read_dataset_bytes, read_elements
from medseg.io.dicom.foreign import FOREIGN_ERRORS
from medseg.io.dicom.seg_terms import UNSPECIFIED, code_of, rgb_from_lab
from medseg.io.dicom.sort import is_sound_orientation, is_sound_position, is_sound_spacing

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEG_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")

SAME_DIRECTION = 2e-3  # directions of two frames may differ by this (0.1 degree): headers carry few digits
SAME_SPACING_SHARE = 1e-3  # and pixel spacings by this share
_SOP_CLASS = 0x00080016

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SegHeader:
    """A SEG without its pixels; of its n frames, `numbers` (n,) are the segments' (0 in a LABELMAP), `positions` (n,3) LPS mm.

    `spacing_tag_mm` and `thickness_tag_mm` are what the header says of the distance of slices, None where it says nothing;
    `stack_numbers` (n,) are the frames' places in the stack where the file counts them.
    """

    file: Path
    dataset: Dataset
    kind: str
    rows: int
    columns: int
    segments: tuple[Segment, ...]
    numbers: npt.NDArray[np.intp]
    positions: FloatArray
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, float]
    spacing_tag_mm: float | None
    thickness_tag_mm: float | None
    stack_numbers: npt.NDArray[np.intp] | None

    @property
    def frame_count(self) -> int:
        """How many frames there are."""
        return len(self.numbers)

    def text(self, keyword: str) -> str:
        """Return an attribute of the data set as text, "" where it is missing."""
        return str(self.dataset.get(keyword, "") or "").strip("\0 ")


def is_seg(path: str | os.PathLike[str]) -> bool:
    """Tell from its header whether a file is a DICOM segmentation; False for what cannot be read."""
    try:
        elements = read_elements(os.fspath(path), frozenset({_SOP_CLASS}))
    except (NotDicomError, HeaderError, OSError):
        return False
    sop_class = elements.values.get(_SOP_CLASS, b"").decode("ascii", "replace").strip("\0 ")
    return (sop_class or elements.media_sop_class_uid) in SEG_CLASSES


def one_file(path: Path) -> Path:
    """Return the SEG at a path: the file itself, or the only one below a folder."""
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


def read_seg_header(file: Path) -> SegHeader:
    """Read everything but the pixels; call inside `quiet()`.

    Raises UnreadableFileError for damaged files, UnsupportedFormatError for whole-slide images and frames that share no
    plane geometry, GeometryError where frames have no position.
    """
    try:
        dataset = _dataset(file)
        return _header(dataset, file)
    except MedsegError:
        raise
    except FOREIGN_ERRORS as err:
        # the text of these errors may quote the patient's header, so it is not passed on
        raise UnreadableFileError(f"{file}: the segmentation lacks attributes it must have ({type(err).__name__})") from None


def _dataset(file: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        elements = read_elements(os.fspath(file), frozenset())
        if elements.transfer_syntax == DEFLATED:
            read_dataset_bytes(os.fspath(file), DEFLATED)  # refuses what inflates beyond measure before pydicom inflates it
        return dcmread(file, stop_before_pixels=True)
    except HeaderError as err:
        raise UnreadableFileError(f"{file}: {err}: copy the file again") from None
    except (InvalidDicomError, NotDicomError, *FOREIGN_ERRORS) as err:
        raise UnreadableFileError(f"{file}: the segmentation cannot be read ({type(err).__name__}): copy the file again") from None


def _header(dataset: Dataset, file: Path) -> SegHeader:
    kind = str(dataset.get("SegmentationType", "")).strip()
    if kind not in KINDS:
        raise UnsupportedFormatError(f"{file}: a segmentation of type {kind or 'unknown'} is not read, only {', '.join(KINDS)}")
    _refuse_whole_slide(dataset, file)
    groups = list(dataset.PerFrameFunctionalGroupsSequence) if dataset.get("PerFrameFunctionalGroupsSequence") else []
    count = int(dataset.NumberOfFrames)
    if len(groups) != count or count < 1:
        raise UnreadableFileError(f"{file}: {count} frames, but {len(groups)} descriptions of frames: copy the file again")
    shared = dataset.SharedFunctionalGroupsSequence[0] if dataset.get("SharedFunctionalGroupsSequence") else None
    frames = [_Frame(frame, shared) for frame in groups]
    positions, orientation, spacing = _planes(frames, file)
    return SegHeader(
        file=file,
        dataset=dataset,
        kind=kind,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        segments=_segments(dataset),
        numbers=np.array([frame.segment_number() if kind != "LABELMAP" else 0 for frame in frames], dtype=np.intp),
        positions=positions,
        orientation=orientation,
        pixel_spacing=spacing,
        spacing_tag_mm=_one_length(frames, "SpacingBetweenSlices"),
        thickness_tag_mm=_one_length(frames, "SliceThickness"),
        stack_numbers=_stack_numbers(frames),
    )


def _refuse_whole_slide(dataset: Dataset, file: Path) -> None:
    organisation = str(dataset.get("DimensionOrganizationType", ""))
    if organisation.startswith("TILED") or "TotalPixelMatrixColumns" in dataset or "ImageOrientationSlide" in dataset:
        raise UnsupportedFormatError(
            f"{file}: a segmentation of a whole-slide microscopy image ({organisation or 'tiled'}): its frames are tiles of one plane,"
            " not slices of a patient; open it with a pathology viewer such as QuPath"
        )


class _Frame:
    """The functional groups of a frame: its own, else those that all frames share."""

    def __init__(self, own: Dataset, shared: Dataset | None) -> None:
        self._own, self._shared = own, shared

    def group(self, keyword: str) -> Dataset | None:
        for groups in (self._own, self._shared):
            found = groups.get(keyword) if groups is not None else None
            if found:
                item: Dataset = found[0]
                return item
        return None

    def vector(self, sequence: str, keyword: str) -> tuple[float, ...] | None:
        group = self.group(sequence)
        values = group.get(keyword) if group is not None else None
        return None if values is None or isinstance(values, str) else tuple(float(value) for value in values)

    def segment_number(self) -> int:
        group = self.group("SegmentIdentificationSequence")
        if group is None:
            raise AttributeError("SegmentIdentificationSequence")
        return int(group.ReferencedSegmentNumber)


def _planes(frames: list[_Frame], file: Path) -> tuple[FloatArray, tuple[float, ...], tuple[float, float]]:
    """Return the position of each frame, and the orientation and pixel spacing that all share."""
    positions = [frame.vector("PlanePositionSequence", "ImagePositionPatient") for frame in frames]
    if not all(map(is_sound_position, positions)):
        missing = sum(not is_sound_position(position) for position in positions)
        raise GeometryError(
            f"{file}: {missing} of {len(frames)} frames have no position in the patient, so no volume can be measured;"
            " write the segmentation again with a program that stores Plane Position (dcmqi, highdicom, 3D Slicer)"
        )
    orientations = [frame.vector("PlaneOrientationSequence", "ImageOrientationPatient") for frame in frames]
    spacings = [frame.vector("PixelMeasuresSequence", "PixelSpacing") for frame in frames]
    for what, sound in (("orientation", map(is_sound_orientation, orientations)), ("pixel spacing", map(is_sound_spacing, spacings))):
        if not all(sound):
            raise GeometryError(f"{file}: its frames have no usable {what}; write the segmentation again with a sound header")
    directions, sizes = np.asarray(orientations, dtype=np.float64), np.asarray(spacings, dtype=np.float64)
    if np.abs(directions - directions[0]).max() > SAME_DIRECTION:
        raise UnsupportedFormatError(f"{file}: its frames have different orientations, so they form no volume; export one stack a file")
    if (np.abs(sizes - sizes[0]) > SAME_SPACING_SHARE * sizes[0]).any():
        raise UnsupportedFormatError(f"{file}: its frames have different pixel spacings, so they form no volume; export one stack a file")
    return np.asarray(positions, dtype=np.float64), tuple(directions[0].tolist()), (float(sizes[0, 0]), float(sizes[0, 1]))


def _one_length(frames: list[_Frame], keyword: str) -> float | None:
    """Return the length that all frames agree on, None where there is none."""
    lengths: set[float] = set()
    for frame in frames:
        group = frame.group("PixelMeasuresSequence")
        value = group.get(keyword) if group is not None else None
        lengths.add(abs(float(value)) if value is not None and str(value).strip() else 0.0)
    length = lengths.pop() if len(lengths) == 1 else 0.0
    return length if length > 0 and math.isfinite(length) else None


def _stack_numbers(frames: list[_Frame]) -> npt.NDArray[np.intp] | None:
    contents = [frame.group("FrameContentSequence") for frame in frames]
    numbers = [content.get("InStackPositionNumber") if content is not None else None for content in contents]
    if any(number is None for number in numbers):
        return None
    stacks = {str(content.get("StackID", "")) for content in contents if content is not None}
    return np.array([int(number) for number in numbers if number is not None], dtype=np.intp) if len(stacks) == 1 else None


def _segments(dataset: Dataset) -> tuple[Segment, ...]:
    palette = _palette(dataset)
    segments: list[Segment] = []
    taken: set[str] = set()
    numbers: set[int] = set()
    for item in dataset.get("SegmentSequence") or ():
        number = int(item.SegmentNumber)
        if number == 0 or number in numbers:  # the background of a LABELMAP; a second description of one number
            continue
        label = (
            str(item.get("SegmentLabel", "")).strip("\0 ") or str(item.get("SegmentDescription", "")).strip("\0 ") or f"segment_{number}"
        )
        unique, repeat = label, 2
        while unique in taken:
            unique, repeat = f"{label} ({repeat})", repeat + 1
        taken.add(unique)
        numbers.add(number)
        segment = _segment(item, number, unique)
        has_colour = item.get("RecommendedDisplayCIELabValue") is not None
        segments.append(segment if has_colour or number not in palette else replace(segment, colour=palette[number]))
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
        colour=rgb_from_lab(lab) if hasattr(lab, "__len__") and len(lab) == 3 else None,
        algorithm="" if algorithm == UNSPECIFIED else algorithm,
        tracking_id=str(item.get("TrackingID", "") or ""),
        tracking_uid=str(item.get("TrackingUID", "") or ""),
    )


def _palette(dataset: Dataset) -> dict[int, Colour]:
    """Return the colour of each number of a LABELMAP with a palette; empty where there is none that can be read."""
    if str(dataset.get("PhotometricInterpretation", "")) != "PALETTE COLOR":
        return {}
    try:
        count, first, bits = (int(value) for value in dataset.RedPaletteColorLookupTableDescriptor)
        tables = [
            np.frombuffer(dataset[f"{name}PaletteColorLookupTableData"].value, dtype="<u2" if bits == 16 else np.uint8)
            for name in ("Red", "Green", "Blue")
        ]
    except FOREIGN_ERRORS:
        return {}
    shift = 8 if bits == 16 else 0
    rows = zip(*(table[: count or 1 << 16].tolist() for table in tables), strict=False)
    return {first + row: (red >> shift, green >> shift, blue >> shift) for row, (red, green, blue) in enumerate(rows)}
