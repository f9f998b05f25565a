"""Geometry that stands in private attributes, put into standard ones before the private ones go: Siemens mosaics and b-values."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import MedsegError, UnreadableFileError
from medseg.io.dicom.codecs import stored_frame
from medseg.io.dicom.elements import HeaderError, NotDicomError
from medseg.io.dicom.header import NotAnImageError, SliceHeader, read_headers

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# (private creator, group, element byte) of the b-value and the diffusion direction
_B_VALUES = (("SIEMENS MR HEADER", 0x0019, 0x0C), ("GEMS_PARM_01", 0x0043, 0x39))
_DIRECTIONS = (("SIEMENS MR HEADER", 0x0019, 0x0E),)
_GE_FLAG = 1e9  # GE adds this to b-values that were computed


def slices_of_mosaic(dataset: Dataset, file: Path) -> Sequence[Dataset]:
    """Return the slices of a Siemens mosaic as objects of their own, each with its place in the patient; nothing for others.

    Raises UnreadableFileError where the header does not say how the mosaic is laid out: a copy without private attributes
    would lose its geometry for ever.
    """
    keep_diffusion(dataset)
    if "MOSAIC" not in (dataset.get("ImageType") or ()):
        return ()
    try:
        headers = read_headers(os.fspath(file))
        if any(header.unusable for header in headers):
            raise UnreadableFileError("a mosaic whose layout is not known")
        return tuple(_slice(dataset, header, number) for number, header in enumerate(headers)) if headers[0].tile is not None else ()
    except (NotAnImageError, NotDicomError, HeaderError, OSError, MedsegError):
        raise UnreadableFileError("a mosaic that cannot be split") from None


def keep_diffusion(dataset: Dataset) -> None:
    """Copy b-value and direction from private attributes to the standard's, where those are empty."""
    if dataset.get("DiffusionBValue") is None:
        values = _private_numbers(dataset, _B_VALUES)
        if values:
            dataset.DiffusionBValue = values[0] % _GE_FLAG
    direction = _private_numbers(dataset, _DIRECTIONS)
    if dataset.get("DiffusionGradientOrientation") is None and len(direction) == 3:
        dataset.DiffusionGradientOrientation = direction


def _private_numbers(dataset: Dataset, places: Sequence[tuple[str, int, int]]) -> list[float]:
    """Return the numbers of the first of these private attributes that is there; nothing where it holds none."""
    for creator, group, element in places:
        try:
            value: Any = dataset.private_block(group, creator)[element].value
        except KeyError:
            continue
        parts = value.decode("ascii", "replace").split("\\") if isinstance(value, bytes) else value
        try:
            return [float(part) for part in (parts if isinstance(parts, Sequence) and not isinstance(parts, str) else [parts])]
        except (TypeError, ValueError):
            return []
    return []


def _slice(dataset: Dataset, header: SliceHeader, number: int) -> Dataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    part = copy.deepcopy(dataset)
    pixels = stored_frame(header)
    kind = "<i" if header.is_signed else "<u"
    part.ImageType = [word for word in part.ImageType if word != "MOSAIC"]
    part.Rows, part.Columns = header.rows, header.columns
    part.ImagePositionPatient = [f"{x:.10g}" for x in header.position or ()]
    part.ImageOrientationPatient = [f"{x:.10g}" for x in header.orientation or ()]
    part.PixelSpacing = [f"{x:.10g}" for x in header.pixel_spacing or ()]
    part.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{number + 1}"  # replaced by a pseudonym of its own right after
    part.PixelData = pixels.astype(f"{kind}{header.bits_allocated // 8}").tobytes()
    part["PixelData"].VR = "OW"
    part.BitsStored, part.HighBit = header.bits_stored, header.bits_stored - 1
    part.file_meta = FileMetaDataset()
    part.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return part
