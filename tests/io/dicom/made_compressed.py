"""Files with compressed frames made piece by piece: every table, fragment and field as the test wants it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.pixels
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, generate_uid

RLE = "1.2.840.10008.1.2.5"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


def items(fragments: Sequence[bytes], table: bytes = b"") -> bytes:
    """Return encapsulated pixel data: the basic offset table, the fragments, the delimiter."""
    parts = [struct.pack("<HHL", 0xFFFE, 0xE000, len(part)) + part for part in (table, *fragments)]
    return b"".join(parts) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def even(stream: bytes) -> bytes:
    """Return a stream filled up to an even length."""
    return bytes(stream) + b"\0" * (len(stream) % 2)


def table_of(fragments: Sequence[bytes]) -> bytes:
    """Return the basic offset table of frames of one fragment each."""
    starts = np.cumsum([0, *(8 + len(fragment) for fragment in fragments[:-1])])
    return starts.astype("<u4").tobytes()


def rle(values: np.ndarray) -> bytes:
    """Return a frame in RLE, from pydicom's encoder."""
    rows, columns = values.shape
    bits = 8 * values.dtype.itemsize
    encoder = pydicom.pixels.get_encoder(RLE)
    stream = encoder.encode(
        values.astype(values.dtype.newbyteorder("<")),
        encoding_plugin="pydicom",
        rows=rows,
        columns=columns,
        samples_per_pixel=1,
        bits_allocated=bits,
        bits_stored=bits,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )
    return even(stream)


def make_file(path: Path, syntax: str, data: bytes, values: np.ndarray, **changes: Any) -> Path:
    """Write a CT of one file whose header describes `values` (frames, rows, columns) or (rows, columns)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "1.2.3"
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = values.shape[-2:]
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    bits = 8 * values.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing = [0, 0, 0], [1, 0, 0, 0, 1, 0], [1, 1]
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = data
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = syntax not in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
    pydicom.dcmwrite(path, dataset, enforce_file_format=True, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=True)
    return path
