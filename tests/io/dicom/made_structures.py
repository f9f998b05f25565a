"""RTSTRUCT files made for a test, by pydicom alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

CLOSED = "CLOSED_PLANAR"
Contours = Sequence[tuple[str, np.ndarray]]  # kind and points in DICOM's LPS mm


def circle(radius_mm: float, z: float, centre: tuple[float, float] = (0.0, 0.0), points: int = 360) -> np.ndarray:
    """A regular polygon in an axial plane with the area of a circle."""
    angle = 2 * np.pi * (np.arange(points) + 0.37) / points
    radius = radius_mm * np.sqrt(2 * np.pi / points / np.sin(2 * np.pi / points))
    return np.column_stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle), np.full(points, z)])


def rectangle(low: tuple[float, float], high: tuple[float, float], z: float) -> np.ndarray:
    """A rectangle in an axial plane."""
    return np.array([[low[0], low[1], z], [high[0], low[1], z], [high[0], high[1], z], [low[0], high[1], z]])


def write_structures(
    path: Path,
    rois: Mapping[int, Contours],
    names: Mapping[int, str] | None = None,
    digits: int = 4,
    edit: Any = None,
    explicit: bool = False,
) -> Path:
    """Write contours, by ROI number, as an RTSTRUCT; `edit` may change the dataset before it is saved."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.826.0.1.3680043.8.498.1"
    dataset.PatientName, dataset.PatientID = "ZZCANARY^NAME", "ZZCANARYID"
    dataset.Modality, dataset.SeriesInstanceUID, dataset.StructureSetLabel = "RTSTRUCT", "1.2.826.0.1.3680043.8.498.2", "TEST"
    dataset.StructureSetROISequence, dataset.ROIContourSequence, dataset.RTROIObservationsSequence = [], [], []
    for number, contours in rois.items():
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, (names or {}).get(number, f"roi {number}")
        roi.ReferencedFrameOfReferenceUID, roi.ROIGenerationAlgorithm = "1.2.826.0.1.3680043.8.498.3", "MANUAL"
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(_drawn(number, contours, digits))
    if edit is not None:
        edit(dataset)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def _drawn(number: int, contours: Contours, digits: int) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber, item.ROIDisplayColor = number, [number % 256, 20, 30]
    item.ContourSequence = []
    for kind, points in contours:
        contour = Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
        contour.ContourData = [f"{value:.{digits}f}" for value in np.asarray(points).ravel()]
        item.ContourSequence.append(contour)
    return item
