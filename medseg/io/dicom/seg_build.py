"""A DICOM SEG as a data set: its frames, where each lies and of which image it was made (PS3.3, A.51 and C.7.6.16)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.codes import Code
from medseg.core.errors import OutputError
from medseg.core.geometry import Geometry
from medseg.io.dicom.seg_source import SourceImage, SourceSeries
from medseg.io.dicom.seg_terms import code_item
from medseg.io.dicom.sort import LPS_TO_RAS, normal_of

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

BINARY_CLASS, LABELMAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
LARGEST_FRACTION = 255

_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_LONGEST_DECIMAL = 16  # characters of a DS
_MOST_BYTES = (1 << 32) - 2  # of pixel data (PS3.5, 7.1.1)
_FRAMES_TOGETHER = 8  # so many frames of one bit a pixel always end on a whole byte
_SEGMENTATION = Code("DCM", "113076", "Segmentation")
_SOURCE_IMAGE = Code("DCM", "121322", "Source image for image processing operation")

Plane = npt.NDArray[Any]


@dataclass(frozen=True)
class FrameSpec:
    """A frame: the segment's new number from 1 (0: all segments of a LABELMAP), its plane, and how to get its pixels (j,i)."""

    number: int
    k: int
    pixels: Callable[[], Plane]


def add_frames(made: Dataset, frames: Sequence[FrameSpec], geometry: Geometry, kind: str, path: Path) -> None:
    """Add the pixels and the description of every frame; `kind` is BINARY, FRACTIONAL or LABELMAP.

    Raises OutputError where the pixels take more bytes than a DICOM file holds.
    """
    columns, rows, _ = geometry.shape
    made.NumberOfFrames = len(frames)
    made.Rows, made.Columns = rows, columns
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelRepresentation = 0
    made.SegmentationType = kind
    bits = 1 if kind == "BINARY" else 8
    if kind == "LABELMAP" and max(int(item.SegmentNumber) for item in made.SegmentSequence) > 255:
        bits = 16
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = bits - 1
    size = -(-len(frames) * rows * columns * bits // 8)
    if size > _MOST_BYTES:
        raise OutputError(
            f"{path}: {size / 1e9:.1f} GB of frames are more than a DICOM file holds; write .seg.nrrd, or fewer segments a file"
        )
    made.PixelData = _packed(frames, rows, columns, size) if bits == 1 else _stored(frames, rows, columns, bits)
    made["PixelData"].VR = "OB" if bits <= 8 else "OW"


def _packed(frames: Sequence[FrameSpec], rows: int, columns: int, size: int) -> bytes:
    """Return frames of one bit a pixel, one after the other without a gap, first pixel in the lowest bit (PS3.5, 8.1.1)."""
    data = np.zeros(size + size % 2, dtype=np.uint8)
    block = np.zeros((_FRAMES_TOGETHER, rows, columns), dtype=np.bool_)
    step = rows * columns  # bytes of eight frames
    for start in range(0, len(frames), _FRAMES_TOGETHER):
        group = frames[start : start + _FRAMES_TOGETHER]
        for place, frame in enumerate(group):
            np.not_equal(frame.pixels(), 0, out=block[place])
        bits = np.packbits(block[: len(group)].reshape(-1), bitorder="little")
        first = start // _FRAMES_TOGETHER * step
        data[first : first + len(bits)] = bits
    return data.tobytes()


def _stored(frames: Sequence[FrameSpec], rows: int, columns: int, bits: int) -> bytes:
    data = np.zeros(len(frames) * rows * columns + (bits == 8 and len(frames) * rows * columns % 2), dtype=f"<u{bits // 8}")
    planes = data[: len(frames) * rows * columns].reshape(len(frames), rows, columns)
    for place, frame in enumerate(frames):
        planes[place] = frame.pixels()
    return data.tobytes()


def describe_frames(made: Dataset, frames: Sequence[FrameSpec], geometry: Geometry, source: SourceSeries) -> None:
    """Add functional groups, dimensions and the references to the scan."""
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    has_segments = made.SegmentationType != "LABELMAP"
    affine = LPS_TO_RAS @ geometry.affine
    made.SharedFunctionalGroupsSequence = [_shared_groups(affine)]
    made.ReferencedSeriesSequence = [_referenced_series(source)]
    _add_dimensions(made, has_segments)
    ranks = {k: rank for rank, k in enumerate(sorted({frame.k for frame in frames}), start=1)}
    planes = {k: _plane_elements(affine, k, source.planes.get(k)) for k in ranks}
    segments: dict[int, DataElement] = {}
    items = []
    for frame in frames:
        item = Dataset()
        content = Dataset()
        content.DimensionIndexValues = [frame.number, ranks[frame.k]] if has_segments else [ranks[frame.k]]
        item.FrameContentSequence = [content]
        for element in planes[frame.k]:
            item[element.tag] = element
        if has_segments:
            if frame.number not in segments:
                identification = Dataset()
                identification.ReferencedSegmentNumber = frame.number
                holder = Dataset()
                holder.SegmentIdentificationSequence = [identification]
                segments[frame.number] = holder["SegmentIdentificationSequence"]
            item[Tag("SegmentIdentificationSequence")] = segments[frame.number]
        items.append(item)
    made.PerFrameFunctionalGroupsSequence = items


def _shared_groups(affine: npt.NDArray[np.float64]) -> Dataset:
    from pydicom.dataset import Dataset

    row, column, stack = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    orientation = [*(row / np.linalg.norm(row)), *(column / np.linalg.norm(column))]
    step = abs(float(stack @ normal_of(orientation)))
    measures, plane, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = _decimals([float(np.linalg.norm(column)), float(np.linalg.norm(row))])
    measures.SliceThickness = measures.SpacingBetweenSlices = _decimals([step])[0]  # what each voxel of the mask stands for
    plane.ImageOrientationPatient = _decimals(orientation)
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    return shared


def _decimals(values: Iterable[float]) -> list[str]:
    return [_decimal(float(value) + 0.0) for value in values]


def _decimal(value: float) -> str:
    """Return a number in the 16 characters of a DS, with as many digits as fit."""
    text = repr(value)
    digits = 15
    while len(text) > _LONGEST_DECIMAL:
        text = f"{value:.{digits}g}"
        digits -= 1
    return text


def _plane_elements(affine: npt.NDArray[np.float64], k: int, image: SourceImage | None) -> list[DataElement]:
    """Return position and source of a plane; made once, they stand in the frames of all segments there."""
    from pydicom.dataset import Dataset

    holder, position = Dataset(), Dataset()
    position.ImagePositionPatient = _decimals(affine[:3, 3] + k * affine[:3, 2])
    holder.PlanePositionSequence = [position]
    holder.DerivationImageSequence = []  # empty where no image of the scan lies on the plane
    if image is not None:
        origin = Dataset()
        origin.ReferencedSOPClassUID, origin.ReferencedSOPInstanceUID = image.sop_class_uid, image.sop_instance_uid
        if image.frame is not None:
            origin.ReferencedFrameNumber = image.frame
        origin.PurposeOfReferenceCodeSequence = [code_item(_SOURCE_IMAGE)]
        origin.SpatialLocationsPreserved = "YES"
        derivation = Dataset()
        derivation.SourceImageSequence = [origin]
        derivation.DerivationCodeSequence = [code_item(_SEGMENTATION)]
        holder.DerivationImageSequence = [derivation]
    return list(holder)


def _referenced_series(source: SourceSeries) -> Dataset:
    from pydicom.dataset import Dataset

    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = [_reference(*instance) for instance in source.instances]
    return series


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item


def _add_dimensions(made: Dataset, has_segments: bool) -> None:
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    organisation = Dataset()
    organisation.DimensionOrganizationUID = generate_uid(prefix=None)
    made.DimensionOrganizationSequence = [organisation]
    indices = [(0x0062000B, 0x0062000A, "Referenced Segment Number")] if has_segments else []
    indices.append((0x00200032, 0x00209113, "Image Position Patient"))
    items = []
    for pointer, group, label in indices:
        item = Dataset()
        item.DimensionOrganizationUID = organisation.DimensionOrganizationUID
        item.DimensionIndexPointer = pointer
        item.FunctionalGroupPointer = group
        item.DimensionDescriptionLabel = label
        items.append(item)
    made.DimensionIndexSequence = items


def new_dataset(kind: str) -> Dataset:
    """Return an empty SEG with its file meta information."""
    from pydicom.dataset import Dataset, FileMetaDataset

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = _EXPLICIT_LITTLE
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = LABELMAP_CLASS if kind == "LABELMAP" else BINARY_CLASS
    return made


def filled_planes(array: npt.NDArray[np.unsignedinteger[Any]]) -> Iterator[tuple[int, list[int]]]:
    """Yield the planes of a label array (k,j,i) that hold anything, with the numbers there."""
    for k, plane in enumerate(array):
        if array.dtype.itemsize <= 2:
            counts = np.bincount(plane.reshape(-1))
            numbers = [int(number) for number in np.flatnonzero(counts) if number]
        else:
            numbers = [int(number) for number in np.unique(plane) if number]
        if numbers:
            yield k, numbers
