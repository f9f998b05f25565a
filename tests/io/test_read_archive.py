"""A scan in a .zip or .tar reads as the scan itself."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import medseg
from medseg.core.errors import UnreadableFileError


@pytest.fixture
def series(sample_data: Path) -> Path:
    return sample_data / "torso" / "dicom"


def test_a_zipped_series_reads_as_its_folder(series: Path, tmp_path: Path) -> None:
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in series.iterdir():
            file.write(path, f"study/{path.name}")
    volume, expected = medseg.read(archive), medseg.read(series)
    assert np.array_equal(volume.array, expected.array)
    assert volume.geometry.distance_mm(expected.geometry) == 0
    assert volume.source is not None
    assert (volume.source.path, volume.source.files) == (str(archive), ())
    (report,) = medseg.inspect(archive)
    assert report.path.startswith(str(archive))
    assert report.geometry is not None
    assert report.geometry.shape == expected.geometry.shape


def test_one_nifti_in_a_tar_reads_as_the_file(sample_data: Path, tmp_path: Path) -> None:
    source, archive = sample_data / "torso" / "labels.nii.gz", tmp_path / "labels.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(source, "labels.nii.gz")
    assert np.array_equal(medseg.read(archive).array, medseg.read(source).array)


def test_a_member_that_leads_outside_is_refused(series: Path, tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../evil.dcm", b"x")
    with pytest.raises(UnreadableFileError):
        medseg.read(archive)
    assert not (tmp_path.parent / "evil.dcm").exists()
