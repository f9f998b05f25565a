"""Small DICOM studies as an archive exports them: a few files with the header fields that a search looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

STUDY = "1.2.826.0.1.77"


def write_slices(
    folder: Path,
    series: str = f"{STUDY}.1",
    count: int = 5,
    *,
    spacing_mm: float = 2.0,
    first: int = 0,
    suffix: str = ".dcm",
    **header: Any,
) -> list[Path]:
    """Write axial CT slices of one series, numbered from `first`; `header` replaces fields, None leaves one away."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for k in range(first, first + count):
        data = Dataset()
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"{series}.{k + 1}"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = STUDY, series, f"{STUDY}.99"
        data.PatientID, data.PatientName, data.Modality = "ZZCANARY-17", "ZZCANARY^NAME", "CT"
        data.ImageType, data.SeriesNumber, data.SliceThickness = ["ORIGINAL", "PRIMARY", "AXIAL"], 1, spacing_mm
        data.ImageOrientationPatient, data.PixelSpacing = [1, 0, 0, 0, 1, 0], [1.0, 1.0]
        data.ImagePositionPatient, data.InstanceNumber, data.PatientPosition = [0.0, 0.0, k * spacing_mm], k + 1, "HFS"
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.SamplesPerPixel, data.PhotometricInterpretation, data.Rows, data.Columns = 1, "MONOCHROME2", 6, 8
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelData = np.full((6, 8), 1024 + 10 * k, np.uint16).tobytes()
        for keyword, value in header.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)
        files.append(_saved(data, folder / f"{series.rsplit('.', 1)[-1]}_{k + 1:03d}{suffix}"))
    return files


def write_object(path: Path, sop_class_uid: str, modality: str, series: str = f"{STUDY}.9", **header: Any) -> Path:
    """Write an object that is no image, such as a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = sop_class_uid, f"{series}.1", modality
    data.StudyInstanceUID, data.SeriesInstanceUID, data.PatientID = STUDY, series, "ZZCANARY-17"
    for keyword, value in header.items():
        setattr(data, keyword, value)
    return _saved(data, path)


def _saved(data: Dataset, path: Path) -> Path:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", "1.2.3")
    data.save_as(path, enforce_file_format=True)
    return path
