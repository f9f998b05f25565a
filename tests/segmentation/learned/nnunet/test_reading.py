"""Arrays against nibabel and SimpleITK themselves, for grids of every kind."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

import medseg
from medseg.core.errors import GeometryMismatchError, IncompatibleModelError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.segmentation.learned.nnunet.reading import check_channels, read_as


@pytest.fixture
def file(right_angled: np.ndarray, tmp_path: Path) -> Path:
    array = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    nibabel.save(nibabel.Nifti1Image(array, right_angled), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.mark.parametrize("reoriented", [False, True])
def test_as_simpleitk_reads(file: Path, reoriented: bool) -> None:
    image = sitk.ReadImage(str(file))
    image = sitk.DICOMOrient(image, "RAS") if reoriented else image
    reading = read_as("SimpleITKIO" + "WithReorient" * reoriented, [medseg.read(file)])
    assert (reading.arrays[0] == sitk.GetArrayFromImage(image)).all()
    np.testing.assert_allclose(reading.spacing_mm, image.GetSpacing()[::-1], rtol=1e-6)


@pytest.mark.parametrize("reoriented", [False, True])
def test_as_nibabel_reads(file: Path, reoriented: bool) -> None:
    image = nibabel.load(file)
    image = nibabel.as_closest_canonical(image) if reoriented else image
    reading = read_as("NibabelIO" + "WithReorient" * reoriented, [medseg.read(file)])
    assert (reading.arrays[0] == np.asanyarray(image.dataobj).T).all()
    assert list(reading.spacing_mm) == [float(mm) for mm in image.header.get_zooms()[::-1]]


@pytest.mark.parametrize("reader", ["SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIOWithReorient"])
def test_labels_find_their_way_back(file: Path, reader: str) -> None:
    scan = medseg.read(file)
    reading = read_as(reader, [scan])
    labels = np.zeros(scan.array.T.shape, np.int16)
    reading.view(labels.T)[...] = reading.arrays[0]
    assert (scan.array == labels.T).all()


def test_grids_must_match() -> None:
    first, other = (Volume(np.zeros((3, 4, 5)), Geometry((3, 4, 5), np.diag([mm, 1.0, 1.0, 1.0]))) for mm in (1.0, 1.01))
    with pytest.raises(GeometryMismatchError, match="channel 1"):
        read_as("SimpleITKIO", [first, other])


def test_rounding_noise_of_a_spacing_is_left_out() -> None:
    turned = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]]) * 0.7
    affine = np.eye(4)
    affine[:3, :3] = turned
    assert read_as("SimpleITKIO", [Volume(np.zeros((3, 4, 5)), Geometry((3, 4, 5), affine))]).spacing_mm == (0.7, 0.7, 0.7)


def test_channels_are_named() -> None:
    scan = Volume(np.zeros((3, 4, 5)), Geometry((3, 4, 5), np.eye(4)))
    with pytest.raises(IncompatibleModelError, match="needs 2 scans on one grid, in this order: T1, T2; 1 was given"):
        check_channels("m", ["T1", "T2"], [scan])
