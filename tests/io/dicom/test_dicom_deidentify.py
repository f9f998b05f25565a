"""De-identified copies: what names the patient is gone, what measures the patient is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_series import edit_files, numbered_volume
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medseg.core.errors import InputError, OutputExistsError, UnreadableFileError
from medseg.io.dicom.deidentification.dataset import Pseudonyms, walk
from medseg.io.dicom.deidentification.deidentify import deidentify, read_key
from medseg.io.dicom.deidentification.profile import Action, DeidOptions, action_for
from medseg.io.dicom.volume import read_series

KEY = b"a secret of thirty-two bytes ..."
CANARIES = ("zzcanary", "qqgiven", "zz-id-77", "zzacc-99", "zzother-5")


def _name_patient(dataset: Dataset, k: int) -> None:
    dataset.PatientName = "ZZCANARY^QQGIVEN"
    dataset.PatientID = "ZZ-ID-77"
    dataset.PatientBirthDate = "19431231"
    dataset.AccessionNumber = "ZZACC-99"
    dataset.OtherPatientIDs = ["ZZOTHER-5", "x"]
    dataset.StudyDate, dataset.StudyTime = "20200229", "101112"
    dataset.InstitutionName, dataset.StationName = "ZZCANARY Hospital", "STATION1"
    dataset.PatientAge, dataset.PatientWeight = "077Y", "71.5"
    dataset.ImageComments = "Mr ZZCANARY moved"
    dataset.ProtocolName = "head zz-id-77"
    dataset.DerivationDescription = "seen by QQGiven"  # outside the table's usual places: the search has to find it
    dataset.KVP = "120"
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x77, "LO", "ZZCANARY")
    item = Dataset()
    item.PatientID = "ZZ-ID-77"
    item.ReferencedSOPInstanceUID = "1.2.3.4.5"
    item.CodeMeaning = "kept"
    dataset.RequestAttributesSequence = Sequence([item])
    dataset.ReferencedImageSequence = Sequence([item])
    dataset.add_new(0x60003000, "OW", b"\0\0")
    dataset.preamble = b"ZZCANARY" + b"\0" * 120


@pytest.fixture
def named(make_series) -> Path:
    return make_series(numbered_volume(modality="MR"), edit=_name_patient)


def _copies(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(file) for file in sorted(folder.rglob("*.dcm"))]


def test_no_byte_of_a_copy_holds_an_identifier(named: Path, tmp_path: Path) -> None:
    deidentify(named, tmp_path / "out", key=KEY)
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            content = file.read_bytes().lower()
            assert not [word for word in (*CANARIES, "19431231", "20200229") if word.encode() in content]


def test_copies_are_the_same_volume(named: Path, tmp_path: Path) -> None:
    deidentify(named, tmp_path / "out", key=KEY)
    before, after = read_series(named), read_series(tmp_path / "out")
    assert np.array_equal(before.array, after.array)
    assert before.geometry.distance_mm(after.geometry) < 1e-9


def test_what_was_done_stands_in_the_copy(named: Path, tmp_path: Path) -> None:
    deidentify(named, tmp_path / "out", DeidOptions(dates="shifted", retain_device=True), key=KEY)
    copy = _copies(tmp_path / "out")[0]
    assert copy.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in copy.DeidentificationMethodCodeSequence] == ["113100", "113107", "113109"]
    assert copy.LongitudinalTemporalInformationModified == "MODIFIED"
    assert copy.StationName == "STATION1"


def test_uids_are_new_consistent_and_follow_the_key(named: Path, tmp_path: Path) -> None:
    for name, key in (("one", KEY), ("two", KEY), ("three", b"another secret of many bytes")):
        deidentify(named, tmp_path / name, key=key)
    one, two, three = (_copies(tmp_path / name) for name in ("one", "two", "three"))
    old = pydicom.dcmread(next(named.iterdir()))
    assert [copy.SOPInstanceUID for copy in one] == [copy.SOPInstanceUID for copy in two]
    assert one[0].SOPInstanceUID != three[0].SOPInstanceUID
    assert len({copy.SOPInstanceUID for copy in one}) == len(one)
    assert {copy.SeriesInstanceUID for copy in one}.isdisjoint({old.SeriesInstanceUID})
    assert all(copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID for copy in one)
    assert one[0].SOPClassUID == old.SOPClassUID
    assert one[0].PatientID == two[0].PatientID != three[0].PatientID
    assert one[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID == Pseudonyms(KEY).uid("1.2.3.4.5")


def test_dates_move_together_by_whole_days(make_series, tmp_path: Path) -> None:
    folder = make_series(edit=_name_patient)
    deidentify(folder, tmp_path / "shifted", DeidOptions(dates="shifted"), key=KEY)
    deidentify(folder, tmp_path / "full", DeidOptions(dates="full"), key=KEY)
    deidentify(folder, tmp_path / "removed", key=KEY)
    shifted, full, removed = (_copies(tmp_path / name)[0] for name in ("shifted", "full", "removed"))
    days = Pseudonyms(KEY).shift_days("ZZ-ID-77")
    expected = (np.datetime64("2020-02-29") - np.timedelta64(days, "D")).astype(str).replace("-", "")
    assert shifted.StudyDate == expected
    assert shifted.StudyTime == "101112"
    assert full.StudyDate == "20200229"
    assert not removed.get("StudyDate")
    assert not any(copy.get("PatientBirthDate") for copy in (shifted, full, removed))


@pytest.mark.parametrize(
    ("option", "keyword", "value"),
    [
        ("retain_patient_characteristics", "PatientAge", "077Y"),
        ("retain_patient_characteristics", "PatientWeight", 71.5),
        ("retain_device", "StationName", "STATION1"),
        ("retain_uids", "FrameOfReferenceUID", None),
    ],
)
def test_an_option_keeps_what_it_names_and_nothing_is_kept_without(named: Path, tmp_path: Path, option: str, keyword: str, value) -> None:
    original = pydicom.dcmread(next(named.iterdir()))[keyword].value
    deidentify(named, tmp_path / "with", DeidOptions(**{option: True}), key=KEY)
    deidentify(named, tmp_path / "without", key=KEY)
    assert _copies(tmp_path / "with")[0][keyword].value == (original if value is None else value)
    assert _copies(tmp_path / "without")[0].get(keyword) != original


def test_an_identifier_is_gone_even_where_an_option_keeps_the_attribute(named: Path, tmp_path: Path) -> None:
    deidentify(named, tmp_path / "out", DeidOptions(retain_institution=True), key=KEY)
    assert not _copies(tmp_path / "out")[0].get("InstitutionName")  # it names the patient


def test_private_attributes_go_except_safe_ones(named: Path, tmp_path: Path) -> None:
    deidentify(named, tmp_path / "with", DeidOptions(retain_safe_private=True), key=KEY)
    deidentify(named, tmp_path / "without", key=KEY)
    kept = [element for element in walk(_copies(tmp_path / "with")[0]) if element.tag.is_private]
    assert [(element.tag.element & 0xFF, str(element.value)) for element in kept] == [(0x10, "SIEMENS MR HEADER"), (0x0C, "1000")]
    assert not [element for element in walk(_copies(tmp_path / "without")[0]) if element.tag.is_private]


def test_a_private_b_value_moves_to_the_standard_attribute(named: Path, tmp_path: Path) -> None:
    deidentify(named, tmp_path / "out", key=KEY)
    assert _copies(tmp_path / "out")[0].DiffusionBValue == 1000


def test_overlays_and_their_text_are_gone(named: Path, tmp_path: Path) -> None:
    deidentify(named, tmp_path / "out", key=KEY)
    assert not [element for element in _copies(tmp_path / "out")[0] if element.tag.group & 0xFF00 == 0x6000]


def test_burned_in_text_is_left_out_unless_asked_for(make_series, tmp_path: Path) -> None:
    def burn(dataset: Dataset, k: int) -> None:
        dataset.BurnedInAnnotation = "YES" if k == 0 else "NO"

    folder = make_series(edit=burn)
    report = deidentify(folder, tmp_path / "out", key=KEY)
    assert (len(report.files), sum(report.left_out.values())) == (5, 1)
    assert len(deidentify(folder, tmp_path / "all", key=KEY, include_burned_in=True).files) == 6


def test_a_mosaic_keeps_its_geometry_as_slices(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom_mr_prone"
    deidentify(folder / "dicom", tmp_path / "out", key=KEY)
    before, after = read_series(folder / "dicom"), read_series(tmp_path / "out")
    assert before.geometry.distance_mm(after.geometry) < 1e-3
    assert np.array_equal(before.array, after.array)


@pytest.mark.parametrize(
    "case", ["ct_totalseg_dicom", "dicom_enhanced_legacy_ct", "dicom_mr_oblique_headers/siemens", "tumour_sts_019/dicom/PET"]
)
def test_real_scans_measure_the_same_after(shared_data: Path, tmp_path: Path, case: str) -> None:
    deidentify(shared_data / case, tmp_path / "out", key=KEY)
    before, after = read_series(shared_data / case), read_series(tmp_path / "out")
    assert before.geometry.distance_mm(after.geometry) < 1e-6
    assert np.array_equal(before.array, after.array)


def test_reports_and_strangers_are_left_out(make_series, tmp_path: Path) -> None:
    folder = make_series(edit=_name_patient)
    (folder / "ZZCANARY.txt").write_text("a letter")

    def as_report(dataset: Dataset, k: int) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"

    edit_files([folder / "slice_0001.dcm"], as_report)
    report = deidentify(folder, tmp_path / "out", key=KEY)
    assert len(report.files) == 5
    assert set(report.left_out.values()) == {1}
    assert "ZZCANARY" not in " ".join(report.left_out)


def test_damaged_files_are_counted_and_the_others_go_on(make_series, tmp_path: Path) -> None:
    folder = make_series(edit=_name_patient)
    file = folder / "slice_0002.dcm"
    file.write_bytes(file.read_bytes()[:200])
    report = deidentify(folder, tmp_path / "out", key=KEY)
    assert len(report.files) == 5
    assert sum(report.left_out.values()) + sum(report.failed.values()) == 1


def test_errors_name_what_to_do(named: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="16 or more"):
        deidentify(named, tmp_path / "out", key=b"short")
    with pytest.raises(OutputExistsError, match="not an empty folder"):
        deidentify(named, named)
    with pytest.raises(UnreadableFileError, match="no such file"):
        deidentify(tmp_path / "nowhere", tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no DICOM image"):
        deidentify(empty, tmp_path / "out2")
    with pytest.raises(InputError, match="cannot be read"):
        read_key(tmp_path / "nokey")


def test_every_attribute_that_names_somebody_has_an_action() -> None:
    dictionary = pydicom.datadict.DicomDictionary
    names = [tag for tag, entry in dictionary.items() if entry[0] == "PN"]
    assert len(names) > 20
    assert all(action_for(tag, "PN", DeidOptions()) is not Action.KEEP for tag in names)
