"""Which files become cases: by what they say, never by how they are called."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from found_cases import found_in, reasons
from made_studies import STUDY, write_object, write_slices

from medseg.batch.cases.find_cases import find_cases
from medseg.batch.records.case import case_id_of
from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.options import ReadOptions
from medseg.io.read import read_files
from medseg.io.write import write


def scan(dtype: str = "int16", shape: tuple[int, int, int] = (6, 5, 7)) -> Volume:
    return Volume(np.arange(np.prod(shape)).reshape(shape).astype(dtype), Geometry(shape, np.diag([1.0, 1.0, 2.0, 1.0])), "CT")


def labels() -> LabelMap:
    array = np.zeros((6, 5, 7), np.uint8)
    array[2:4] = 1
    return LabelMap(array, Geometry(array.shape, np.eye(4)), (Segment(1, "liver"),))


def test_one_series_over_two_folders_is_one_case(tmp_path: Path) -> None:
    write_slices(tmp_path / "a", count=3)
    write_slices(tmp_path / "b", count=3, first=3)
    (case,), left_out, _ = found_in(tmp_path)
    assert case.slices == 6
    assert case.files == tuple(f"{folder}/1_{k:03d}.dcm" for folder, ks in (("a", (1, 2, 3)), ("b", (4, 5, 6))) for k in ks)
    assert (case.kind, case.modality, case.series_uid, left_out) == ("DICOM", "CT", f"{STUDY}.1", [])
    volume = read_files([tmp_path / name for name in case.files], ReadOptions())
    assert volume.geometry.shape == (8, 6, 6)


def test_case_id_is_of_the_images_and_not_of_where_they_lie(tmp_path: Path) -> None:
    write_slices(tmp_path / "one" / "deep", count=4)
    write_slices(tmp_path / "two", count=4, suffix=".ima")
    ((one,), _, _), ((two,), _, _) = found_in(tmp_path / "one"), found_in(tmp_path / "two")
    assert one.case_id == two.case_id == case_id_of(f"{STUDY}.1.{k}" for k in (1, 2, 3, 4))


def test_two_series_in_one_folder_are_two_cases_or_one_of_them_is_chosen(tmp_path: Path) -> None:
    write_slices(tmp_path, f"{STUDY}.1", 4, spacing_mm=5.0)
    write_slices(tmp_path, f"{STUDY}.2", 20, spacing_mm=1.0)
    cases, _, _ = found_in(tmp_path, select=["all"])
    assert sorted(case.slices for case in cases) == [4, 20]
    assert all(name.startswith("2_") for case in cases if case.slices == 20 for name in case.files)
    (case,), left_out, _ = found_in(tmp_path)
    assert case.slices == 20
    assert reasons(left_out) == ["another series of the study was taken"]


def test_objects_without_a_volume_are_left_out(tmp_path: Path) -> None:
    write_slices(tmp_path)
    classes = {"SR": "88.33", "KO": "88.59", "PR": "11.1", "DOC": "104.1", "SEG": "66.4", "RTSTRUCT": "481.3"}
    for number, (modality, sop_class) in enumerate(classes.items(), start=10):
        write_object(tmp_path / modality, f"1.2.840.10008.5.1.4.1.1.{sop_class}", modality, f"{STUDY}.{number}")
    cases, left_out, _ = found_in(tmp_path)
    assert len(cases) == 1
    assert reasons(left_out) == [
        "no image: encapsulated document",
        "no image: key object selection (KO)",
        "no image: presentation state",
        "no image: radiotherapy structure set (RTSTRUCT)",
        "no image: segmentation (SEG)",
        "no image: structured report (SR)",
    ]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer or scout"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PROJECTION IMAGE"]}, "a localizer or scout"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "a projection or rendering, no slices"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "a screenshot or scanned picture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a screenshot or scanned picture"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour images, no intensities"),
        ({"Modality": "MR"}, "modality MR, not CT"),
        ({"Modality": "ZZCANARY"}, "modality unknown, not CT"),
    ],
)
def test_series_that_hold_no_scan_for_the_pipeline(tmp_path: Path, header: dict[str, Any], reason: str) -> None:
    write_slices(tmp_path / "scan", f"{STUDY}.5")
    write_slices(tmp_path / "other", f"{STUDY}.6", 9, **header)
    (case,), left_out, _ = found_in(tmp_path, modality="CT", select=["all"])
    assert case.series_uid == f"{STUDY}.5"
    assert reasons(left_out) == [reason]


def test_a_localizer_inside_the_series_does_not_count_as_a_slice(tmp_path: Path) -> None:
    write_slices(tmp_path, count=3)
    write_slices(tmp_path, count=2, first=10, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    _, left_out, _ = found_in(tmp_path)
    assert reasons(left_out) == ["fewer than 4 slices"]
    write_slices(tmp_path, count=1, first=3)
    (case,), _, _ = found_in(tmp_path)
    assert (case.slices, len(case.files)) == (4, 6)


def test_too_few_slices_unless_a_rule_speaks_of_them(tmp_path: Path) -> None:
    write_slices(tmp_path, count=3)
    assert found_in(tmp_path)[2]["left_out"] == {"fewer than 4 slices": 1}
    assert len(found_in(tmp_path, select=["Slices>=3"])[0]) == 1


def test_several_time_points_at_the_same_places_are_no_more_slices(tmp_path: Path) -> None:
    for number in range(3):
        write_slices(tmp_path / str(number), count=4, TemporalPositionIdentifier=number, SOPInstanceUID=f"1.2.{number + 1}")
    (case,), _, _ = found_in(tmp_path)
    assert case.slices == 4


def test_a_study_copied_into_another_folder_is_one_case(tmp_path: Path) -> None:
    write_slices(tmp_path / "a")
    write_slices(tmp_path / "copy")
    (case,), _, _ = found_in(tmp_path)
    assert (case.slices, len(case.files)) == (5, 10)
    volume = read_files([tmp_path / name for name in case.files], ReadOptions())
    assert volume.geometry.shape[2] == 5


def test_the_same_images_under_another_series_are_left_out(tmp_path: Path) -> None:
    write_slices(tmp_path / "a")
    for file in write_slices(tmp_path / "b"):
        content = file.read_bytes()
        # the UIDs of series and study change, those of the images stay
        instance = content.index(b"\x20\x00\x0e\x00")
        file.write_bytes(content[:instance] + content[instance:].replace(f"{STUDY}.1".encode(), f"{STUDY}.2".encode(), 1))
    cases, left_out, _ = found_in(tmp_path, select=["all"])
    assert len(cases) == 1
    assert reasons(left_out) == ["the same images are found again elsewhere"]


def test_two_patients_under_one_study_are_a_case_each(tmp_path: Path) -> None:
    """A slip of an anonymiser must not make a patient vanish as "another series of the study"; who names nobody is of the only one."""
    write_slices(tmp_path / "a", f"{STUDY}.1", PatientID="A")
    write_slices(tmp_path / "b", f"{STUDY}.2", PatientID="B")
    write_slices(tmp_path / "b", f"{STUDY}.3", PatientID="B", count=6)
    cases, left_out, _ = found_in(tmp_path)
    assert sorted(case.series_uid for case in cases) == [f"{STUDY}.1", f"{STUDY}.3"]
    assert len({case.patient for case in cases}) == 2
    assert reasons(left_out) == ["another series of the study was taken"]
    write_slices(tmp_path / "c", f"{STUDY}.5", PatientID="A", StudyInstanceUID=f"{STUDY}.50")
    write_slices(tmp_path / "c", f"{STUDY}.6", PatientID=None, StudyInstanceUID=f"{STUDY}.50")
    assert len(found_in(tmp_path)[0]) == 3


def test_files_of_two_patients_under_one_series_are_never_one_case(tmp_path: Path) -> None:
    write_slices(tmp_path, count=4)
    write_slices(tmp_path, count=4, first=4, PatientID="somebody else")
    cases, left_out, _ = found_in(tmp_path)
    assert not cases
    assert reasons(left_out) == ["its files name different patients"]


def test_files_without_uids_are_known_by_their_paths(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_slices(tmp_path / folder, count=4, SeriesInstanceUID="", StudyInstanceUID="")
    for folder in ("c", "d"):
        for file in write_slices(tmp_path / folder, count=4, SOPInstanceUID="1.2.3.4.5.6.7", SeriesInstanceUID=f"1.2.{ord(folder)}"):
            file.write_bytes(file.read_bytes().replace(b"1.2.3.4.5.6.7", b"../../../evil"))
    cases, left_out, _ = found_in(tmp_path, select=["all"])
    # c and d are two series whose images have no names; a and b the same images twice
    assert sorted({name.split("/")[0] for case in cases for name in case.files}) == ["a", "c", "d"]
    assert reasons(left_out) == ["the same images are found again elsewhere"]
    assert case_id_of(f"c/1_{k:03d}.dcm" for k in (1, 2, 3, 4)) in {case.case_id for case in cases}


def test_image_files_of_other_formats_are_a_case_each(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "deep/a.nii", "b.nrrd", "c.mha"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(scan(), tmp_path / name)
    (tmp_path / "b.nrrd").rename(tmp_path / "no suffix at all")
    cases, left_out, _ = found_in(tmp_path, modality="CT")
    assert sorted((case.kind, *case.files) for case in cases) == [
        ("MetaImage", "c.mha"), ("NIfTI", "a.nii.gz"), ("NIfTI", "deep/a.nii"), ("NRRD", "no suffix at all"),
    ]  # fmt: skip
    assert {case.slices for case in cases} == {7}
    assert {case.case_id for case in cases} == {case_id_of(case.files) for case in cases}
    assert not left_out


def test_label_maps_are_no_scans(tmp_path: Path) -> None:
    write(labels(), tmp_path / "named.nii.gz")
    write(labels(), tmp_path / "slicer.seg.nrrd")
    write(scan("uint8"), tmp_path / "mask.nii.gz")
    write(scan("uint8"), tmp_path / "mask.mha")
    write(scan("uint8"), tmp_path / "mask.nrrd")
    write(scan("int16", (6, 5, 3)), tmp_path / "thin.nii")
    cases, _, counts = found_in(tmp_path, modality="CT")
    assert not cases
    assert counts["left_out"] == {"a label map or mask, no scan": 5, "fewer than 4 slices": 1}
    assert counts["passed_over"] == {"no image": 1}  # the table of names beside the first
    cases, _, _ = found_in(tmp_path, modality="MR")  # MR of one byte is not unusual
    assert sorted(case.files[0] for case in cases) == ["mask.mha", "mask.nii.gz", "mask.nrrd"]


def test_voxels_in_a_file_of_their_own_belong_to_the_case(tmp_path: Path) -> None:
    values = np.arange(6 * 5 * 7, dtype="<i2")
    (tmp_path / "sub").mkdir()
    for name, target in (("x.mhd", "x.raw"), ("y.mhd", "sub/voxels.raw")):
        (tmp_path / target).write_bytes(values.tobytes())
        fields = ("ObjectType = Image", "NDims = 3", "DimSize = 6 5 7", "ElementType = MET_SHORT", "ElementSpacing = 1 1 2")
        (tmp_path / name).write_text("\n".join((*fields, f"ElementDataFile = {target}\n")))
    (tmp_path / "lonely.raw").write_bytes(b"12")
    cases, _, counts = found_in(tmp_path)
    assert sorted(case.files for case in cases) == [("x.mhd", "x.raw"), ("y.mhd", "sub/voxels.raw")]
    assert counts["passed_over"] == {"data of another file": 1}
    for case in cases:
        volume = read_files([tmp_path / name for name in case.files], ReadOptions())
        assert volume.array.T.reshape(-1).tolist() == values.tolist()


def test_broken_slices_go_to_the_case_beside_them_and_refuse_it(tmp_path: Path) -> None:
    files = write_slices(tmp_path, count=8)
    files[2].write_bytes(files[2].read_bytes()[:300])
    files[4].write_bytes(b"")
    files[6].write_bytes(b"garbage" * 100)
    (case,), left_out, _ = found_in(tmp_path)
    assert sorted(case.files) == [file.name for file in files]
    assert case.slices == 5
    assert not left_out
    whole = [file for k, file in enumerate(files) if k not in (2, 4, 6)]
    for broken in (2, 4, 6):
        with pytest.raises(InputError, match=files[broken].name):
            read_files([*whole, files[broken]], ReadOptions())


def test_a_series_cut_down_by_broken_files_is_not_taken_for_a_thin_one(tmp_path: Path) -> None:
    files = write_slices(tmp_path, count=6)
    for file in files[2:]:
        file.write_bytes(file.read_bytes()[:300])
    (case,), left_out, _ = found_in(tmp_path)
    assert len(case.files) == 6
    assert not left_out


def test_broken_files_alone_are_a_case_that_fails(tmp_path: Path) -> None:
    files = write_slices(tmp_path / "dicom", count=3)
    for file in files:
        file.write_bytes(file.read_bytes()[:300])
    (tmp_path / "empty.nii").write_bytes(b"")
    write(scan(), tmp_path / "whole.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "whole.nii.gz").read_bytes()[:60])
    (tmp_path / "garbage.nrrd").write_bytes(b"x" * 2000)
    (tmp_path / "bad.zip").write_bytes(b"no archive at all")
    (tmp_path / "packed.dcm.gz").write_bytes(gzip.compress(bytes(128) + b"DICM" + bytes(100)))
    (tmp_path / "whole.nii.gz").unlink()
    cases, left_out, _ = found_in(tmp_path, modality="CT")
    assert sorted((case.kind, case.files[0], len(case.files)) for case in cases) == [
        ("DICOM", "dicom/1_001.dcm", 3), ("DICOM", "packed.dcm.gz", 1), ("NIfTI", "cut.nii.gz", 1), ("NIfTI", "empty.nii", 1),
        ("NRRD", "garbage.nrrd", 1), ("archive", "bad.zip", 1),
    ]  # fmt: skip
    for case in cases:
        with pytest.raises(InputError):
            read_files([tmp_path / name for name in case.files], ReadOptions())
    assert not left_out


def test_an_empty_file_without_a_telling_name_belongs_to_files_named_alike(tmp_path: Path) -> None:
    write_slices(tmp_path / "a", suffix="")
    (tmp_path / "a" / "1_000").write_bytes(b"")
    write_slices(tmp_path / "b", f"{STUDY}.2", StudyInstanceUID="1.2.3")
    (tmp_path / "b" / "README").write_bytes(b"")
    cases, _, counts = found_in(tmp_path)
    assert sorted(len(case.files) for case in cases) == [5, 6]
    assert counts["passed_over"] == {"empty file": 1}


def test_a_broken_file_beside_series_of_another_modality_is_left_out(tmp_path: Path) -> None:
    files = write_slices(tmp_path, Modality="MR")
    files[0].write_bytes(files[0].read_bytes()[:300])
    cases, left_out, _ = found_in(tmp_path, modality="CT")
    assert not cases
    assert reasons(left_out) == ["a broken file beside series that were left out", "modality MR, not CT"]


def test_pseudonyms_depend_on_the_salt_and_hide_the_patient(tmp_path: Path) -> None:
    write_slices(tmp_path, PatientID="M\u00fcller", SpecificCharacterSet="ISO_IR 192")
    with find_cases(tmp_path, salt=b"one") as one, find_cases(tmp_path, salt=b"two") as two:
        (first,), (second,) = one.cases(), two.cases()
    assert first.case_id == second.case_id
    assert first.patient != second.patient
    assert first.study != second.study
    assert "ller" not in first.patient + first.study


def test_the_search_stays_light() -> None:
    code = (
        "import sys, medseg.batch.cases.find_cases, medseg.batch.cases.case_files\n"
        "print([name for name in ('numba', 'torch', 'SimpleITK', 'scipy', 'pydicom', 'nibabel') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_salt_the_same_scans_have_the_same_pseudonyms_wherever_they_lie(tmp_path: Path) -> None:
    for name, patient in (("one", "A"), ("two", "A"), ("other", "B")):
        write_slices(tmp_path / name, count=4, PatientID=patient)
    with find_cases(tmp_path / "one") as one, find_cases(tmp_path / "two") as two, find_cases(tmp_path / "other") as other:
        (first,), (same,), (third,) = one.cases(), two.cases(), other.cases()
    assert (first.study, first.patient) == (same.study, same.patient)
    assert first.study != third.study  # another patient, another salt: the pseudonym of the same study says nothing
