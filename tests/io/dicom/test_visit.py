"""When and of whom a scan is: read from headers, told apart, and kept out of what is printed."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.volume import Source, Volume
from medseg.io.dicom.visit import Visit, day_of, days_between, visit_of


def header(path: Path, **fields: str) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[path.name])
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    for name, value in fields.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def scan(path: Path) -> Volume:
    return Volume(np.zeros((2, 2, 2), np.int16), Geometry((2, 2, 2), np.eye(4)), "CT", "HU", Source(str(path), "DICOM", files=(str(path),)))


def test_the_day_a_scan_was_acquired_comes_before_that_of_its_study(tmp_path):
    one = header(tmp_path / "1.dcm", AcquisitionDate="20240105", StudyDate="20240101", PatientID="A")
    two = header(tmp_path / "2.dcm", StudyDate="20240301", PatientID="A")
    first, second = visit_of(scan(one), "x"), visit_of(scan(two), "x")
    assert days_between([first.day, second.day]) == [0.0, 56.0]
    assert first.patient == second.patient


def test_patients_are_told_apart_without_showing_who(tmp_path):
    visits = [visit_of(scan(header(tmp_path / f"{n}.dcm", PatientID=n, PatientName="Somebody^Real")), "x") for n in ("A", "B")]
    assert visits[0].patient != visits[1].patient
    assert "Real" not in repr(visits)
    assert visit_of(scan(header(tmp_path / "none.dcm")), "x") == Visit()


def test_the_day_a_segmentation_was_drawn_is_not_that_of_the_scan(tmp_path):
    drawn = header(tmp_path / "seg.dcm", StudyDate="20240101", ContentDate="20250808")
    assert visit_of(None, drawn).day == datetime.date(2024, 1, 1)


def test_what_is_no_dicom_or_holds_no_date_has_no_day(tmp_path):
    text = tmp_path / "mask.nii.gz"
    text.write_bytes(b"nothing of the kind")
    assert visit_of(None, text) == Visit()
    with pytest.warns(UserWarning, match="Invalid value"):
        bad = header(tmp_path / "bad.dcm", StudyDate="soon")
    assert visit_of(scan(bad), "x").day is None  # reading it does not warn


@pytest.mark.parametrize("text", ["", "tomorrow", "2024-13-01", "20241301", "1.1.2024"])
def test_a_day_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="2024-03-01"):
        day_of(text)
