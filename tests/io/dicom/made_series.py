"""Volumes for small DICOM series, and ways to spoil their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume

Edit = Callable[[Dataset, int], None]


def numbered_volume(shape: tuple[int, int, int] = (7, 5, 6), affine: np.ndarray | None = None, modality: str = "CT") -> Volume:
    """A volume in which every voxel has its own value, so that a swapped or flipped axis cannot go unseen."""
    i, j, k = np.indices(shape)
    grid = np.diag([-0.7, -0.9, 2.5, 1.0]) if affine is None else affine
    return Volume((i + 10 * j + 100 * k - 200).astype(np.int16), Geometry(shape, grid), modality=modality)


def edit_files(files: list[Path], edit: Edit) -> None:
    """Change every file; `edit` gets the dataset and the number of the slice from 0."""
    for k, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        edit(dataset, k)
        dataset.save_as(file)


def add_file(source: Path, target: Path, edit: Callable[[Dataset], None] | None = None) -> Path:
    """Copy a file under a new SOP instance UID, changed by `edit`."""
    dataset = pydicom.dcmread(source)
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if edit is not None:
        edit(dataset)
    dataset.save_as(target)
    return target


def place_and_paint(places: list[tuple[float, float, float]], value: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """An edit that puts the first pixel of slice k at `places[k]` (LPS mm) and gives each pixel `value` of its own place.

    `value` maps points (..., 3) in RAS mm to intensities, which are rounded to whole numbers.
    """

    def edit(dataset: Dataset, k: int) -> None:
        dataset.ImagePositionPatient = [float(x) for x in places[k]]
        row, column = np.asarray(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
        j_mm, i_mm = map(float, dataset.PixelSpacing)
        i = np.arange(dataset.Columns)[None, :, None] * i_mm * row
        j = np.arange(dataset.Rows)[:, None, None] * j_mm * column
        points = (np.asarray(places[k]) + i + j) * (-1, -1, 1)
        stored = np.rint(value(points)) - float(getattr(dataset, "RescaleIntercept", 0))
        dataset.PixelData = stored.astype(np.int16 if dataset.PixelRepresentation else np.uint16).tobytes()

    return edit
