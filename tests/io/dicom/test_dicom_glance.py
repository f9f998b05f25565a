"""One look at a DICOM header: what it says is what pydicom and the full reader say, on real files of every kind."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_studies import STUDY, write_object, write_slices

from medseg.io.dicom.find import find_series
from medseg.io.dicom.glance import BrokenDicomError, glance
from medseg.io.dicom.header import NotAnImageError, read_headers
from medseg.io.dicom.walk import HeaderError


def test_a_classic_slice(tmp_path: Path) -> None:
    file = write_slices(tmp_path, count=1, first=3, ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImagePositionPatient=[7.5, -3, 4])[0]
    found = glance(str(file))
    assert found is not None
    assert (found.sop_uid, found.slices) == (f"{STUDY}.1.4", 1)
    assert found.low_mm == found.high_mm == pytest.approx(-7.5)  # the normal of a sagittal image points to the right, -x
    assert found.fields.normal == pytest.approx((-1, 0, 0))
    assert (found.fields.series_uid, found.fields.study_uid) == (f"{STUDY}.1", STUDY)
    assert found.fields.patient_id == "ZZCANARY-17"
    assert (found.fields.modality, found.fields.rows, found.fields.columns) == ("CT", 6, 8)
    assert found.fields.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert found.fields.texts["SliceThickness"] == "2.0"


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    absent = dict.fromkeys(("PatientID", "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient"))
    found = glance(str(write_slices(tmp_path, count=1, **absent)[0]))
    assert found is not None
    assert math.isnan(found.low_mm)
    assert (found.fields.patient_id, found.fields.series_uid, found.fields.normal) == ("", "", None)


def test_patient_ids_that_are_no_ascii_stay_different(tmp_path: Path) -> None:
    ids = []
    for text in ("Müller", "Möller"):
        for charset in ("ISO_IR 192", "ISO_IR 100"):
            file = write_slices(tmp_path / (text + charset), count=1, PatientID=text, SpecificCharacterSet=charset)[0]
            found = glance(str(file))
            assert found is not None
            ids.append(found.fields.patient_id)
    assert len(set(ids)) == 4  # bytes are kept; what they mean depends on the character set
    assert ids[0] == "Müller"


def test_other_objects_and_other_files(tmp_path: Path) -> None:
    found = glance(str(write_object(tmp_path / "sr", "1.2.840.10008.5.1.4.1.1.88.33", "SR")))
    assert found is not None
    assert found.fields.object_kind == "structured report (SR)"
    for content in (b"", b"text", bytes(2000)):
        (tmp_path / "other").write_bytes(content)
        assert glance(str(tmp_path / "other")) is None
    with pytest.raises(OSError, match="nothing"):
        glance(str(tmp_path / "nothing"))


def test_a_header_that_ends_early_is_broken(tmp_path: Path) -> None:
    file = write_slices(tmp_path, count=1)[0]
    whole = file.read_bytes()
    for size in range(132, whole.index(b"\xe0\x7f\x10\x00")):  # at every byte, so also where an element just ended
        file.write_bytes(whole[:size])
        with pytest.raises(BrokenDicomError):
            glance(str(file))
        with pytest.raises(HeaderError):
            read_headers(str(file))


def test_real_files_say_what_pydicom_reads_from_them(shared_data: Path) -> None:
    checked = 0
    for path in sorted(shared_data.glob("*dicom*/**/*")) + sorted(shared_data.glob("tumour_sts*/**/*")):
        found = glance(str(path)) if path.is_file() else None
        if found is None:
            continue
        data = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        own = (found.fields.series_uid, found.fields.study_uid, found.fields.patient_id, found.fields.modality)
        names = ("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Modality")
        assert own == tuple(str(data.get(name, "") or "").strip() for name in names), path
        meta = getattr(data, "file_meta", {})
        assert found.sop_uid == (data.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID", "")), path
        for name in ("SeriesDescription", "ConvolutionKernel", "ProtocolName", "SeriesNumber"):
            value = data.get(name, "")
            text = "\\".join(map(str, value)) if isinstance(value, pydicom.multival.MultiValue) else str("" if value is None else value)
            assert found.fields.texts[name].strip() == text.strip(), (path, name)
        checked += 1
    assert checked > 400


def test_real_files_have_as_many_slices_as_the_reader_finds(shared_data: Path) -> None:
    """Positions of every slice along the normal, worked out by the full reader's headers."""
    frames = 0
    for folder in sorted(shared_data.glob("dicom_*")):
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            found = glance(str(path))
            try:
                headers = read_headers(str(path)) if found is not None and not found.fields.object_kind else ()
            except NotAnImageError:  # pragma: no cover
                headers = ()
            if found is None or not headers:
                continue
            placed = [header for header in headers if header.position is not None and header.orientation is not None]
            normals = [np.cross(header.orientation[:3], header.orientation[3:]) for header in placed]
            places = [
                float(np.dot(normal / np.linalg.norm(normal), header.position)) for normal, header in zip(normals, placed, strict=True)
            ]
            if places:
                assert (found.low_mm, found.high_mm) == pytest.approx((min(places), max(places)), abs=0.011), path
                assert found.slices == len(set(np.round(places, 2))), path
            frames += len(headers)
    assert frames > 1000


def test_real_series_are_grouped_as_the_reader_groups_them(shared_data: Path) -> None:
    folder = shared_data / "dicom_bad_series"
    groups: dict[str, set[str]] = {}
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        found = glance(str(path))
        if found is not None and not found.fields.object_kind:
            groups.setdefault(found.fields.series_uid, set()).add(str(path))
    assert groups == {series.series_uid: set(series.files) for series in find_series(folder)}
