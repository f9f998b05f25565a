"""A small folder of studies for the tests of `medseg batch`: bright boxes of known volume, and one scan that is cut short."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

AFFINE = np.diag([1.0, 1.5, 2.5, 1.0])
VOXEL_ML = 3.75 / 1000
SIZES = (3, 4, 5, 6)  # of the box along i; along j and k it has 7 and 4 voxels
CANARY = "ZZCANARY"

PIPELINE = """schema: medseg.pipeline/1
name: boxes
title: Bright boxes
segment: {method: threshold, parameters: {lower: %d, label: box}}
"""


def box_ml(size: int) -> float:
    return size * 7 * 4 * VOXEL_ML


def write_scan(path: Path, size: int) -> None:
    array = np.full((20, 16, 12), -1000, np.int16)
    array[5 : 5 + size, 4:11, 3:7] = 60
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


def write_studies(folder: Path) -> Path:
    """Write the scans, one broken file and one that is no image, in folders that name a patient."""
    for number, size in enumerate(SIZES):
        write_scan(folder / f"{CANARY} patient {number}" / "study" / f"{CANARY}_scan.nii.gz", size)
    whole = (folder / f"{CANARY} patient 0" / "study" / f"{CANARY}_scan.nii.gz").read_bytes()
    (folder / f"{CANARY} broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no image\n")
    return folder


def write_pipeline(path: Path, lower: int = 0) -> Path:
    path.write_text(PIPELINE % lower)
    return path
