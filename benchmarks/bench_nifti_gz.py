"""Writing and reading .nii.gz: a CT of 512 x 512 x 300 int16, and a label map on its grid.

Our writing includes what the others leave out: every byte is flushed to the disk, read back and compared. Our reading
checks the checksum. SimpleITK has one level of compression; nibabel is run with its default (1) and with level 6.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from inputs import block_labels

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.nifti import read_nifti, write_nifti

AFFINE = np.diag([-0.8, -0.8, 1.25, 1.0])


def folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="bench-nifti-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def size_of(ours: Path, theirs: Path) -> float:
    """Size of their file as a multiple of ours."""
    return theirs.stat().st_size / ours.stat().st_size


def same_voxels(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of equal voxels, both (k, j, i)."""
    return float((ours == theirs).mean())


def nibabel_image(array: np.ndarray) -> nib.Nifti1Image:
    return nib.Nifti1Image(array.T, AFFINE)


def write_by_simpleitk(array: np.ndarray, path: Path) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 0.8, 1.25))
    sitk.WriteImage(image, str(path), True)
    return path


def write_by_nibabel(array: np.ndarray, path: Path, level: int | None = None) -> Path:
    image = nibabel_image(array)
    if level is None:
        nib.save(image, path)
        return path
    with nib.openers.Opener(path, "wb", compresslevel=level) as file:
        image.file_map["image"].fileobj = file
        image.to_file_map()
    return path


def writing(as_labels: bool) -> Callable[[np.ndarray], dict[str, Run]]:
    def build(ct: np.ndarray) -> dict[str, Run]:
        array = block_labels(ct) if as_labels else ct
        volume = Volume(array.T, Geometry(array.T.shape, AFFINE))
        place = folder()
        return {
            "medseg (read back and compared)": lambda: write_nifti(volume, place / "medseg.nii.gz", overwrite=True),
            "SimpleITK": lambda: write_by_simpleitk(array, place / "simpleitk.nii.gz"),
            "nibabel, default level 1": lambda: write_by_nibabel(array, place / "nibabel.nii.gz"),
            "nibabel, level 6": lambda: write_by_nibabel(array, place / "nibabel6.nii.gz", 6),
        }

    return build


def reading(write: Callable[[np.ndarray, Path], Path], as_labels: bool) -> Callable[[np.ndarray], dict[str, Run]]:
    def build(ct: np.ndarray) -> dict[str, Run]:
        path = write(block_labels(ct) if as_labels else ct, folder() / "scan.nii.gz")
        return {
            "medseg (checksum compared)": lambda: read_nifti(path).array.T,
            "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.ReadImage(str(path))),
            "nibabel": lambda: np.asarray(nib.load(path).dataobj).T,
        }

    return build


def write_by_medseg(array: np.ndarray, path: Path) -> Path:
    return write_nifti(Volume(array.T, Geometry(array.T.shape, AFFINE)), path)


CASES = [
    Case("write CT, agreement: size / ours", writing(as_labels=False), size_of),
    Case("write 100 labels, agreement: size / ours", writing(as_labels=True), size_of),
    Case("read CT of SimpleITK", reading(write_by_simpleitk, as_labels=False), same_voxels),
    Case("read CT of medseg", reading(write_by_medseg, as_labels=False), same_voxels),
    Case("read 100 labels of SimpleITK", reading(write_by_simpleitk, as_labels=True), same_voxels),
]

if __name__ == "__main__":
    main(CASES, __file__)
