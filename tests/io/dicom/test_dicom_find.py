from __future__ import annotations

import os
from pathlib import Path

import pydicom
import pytest
from made_series import numbered_volume

from medseg.core.errors import UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom.find import find_series, is_dicom


def test_one_series_whatever_its_files_are_called(make_series) -> None:
    folder = make_series()
    for number, file in enumerate(sorted(folder.glob("*"))):
        file.rename(folder / ("IMG 0Ä" + "x" * 200, "a.IMA", "noextension", "1.2.3.4", "b.dcm.bak", "C.DCM")[number])
    (found,) = find_series(folder)
    assert len(found.slices) == 6
    assert found.modality == "CT"
    assert found.sop_class_uids == ("1.2.840.10008.5.1.4.1.1.2",)
    assert found.folder == str(folder)


def test_junk_is_counted_and_not_opened_as_an_image(make_series, tmp_path: Path) -> None:
    folder = make_series()
    (folder / "notes.txt").write_text("nothing")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(200))
    (folder / "Thumbs.db").write_bytes(b"x" * 200)
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (folder / "._slice_0001.dcm").write_bytes(b"x")
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder)
    (found,) = find_series(folder)
    assert len(found.slices) == 6
    assert found.skipped == {"not DICOM": 4, "DICOMDIR": 1, "not a regular file": 1, "symbolic link": 1}
    assert found.unreadable == ()


def test_two_series_in_one_folder_stay_two(make_series) -> None:
    folder = make_series()
    for file in make_series(numbered_volume((4, 4, 3)), name="other", seed="other").glob("*"):
        file.rename(folder / f"b{file.name}")
    assert sorted(len(series.slices) for series in find_series(folder)) == [3, 6]


def test_one_series_in_two_folders_is_one(make_series, tmp_path: Path) -> None:
    folder = make_series()
    (tmp_path / "series" / "more").mkdir()
    (folder / "slice_0006.dcm").rename(folder / "more" / "x")
    (found,) = find_series(folder)
    assert len(found.slices) == 6


def test_a_single_file_is_a_series_of_one(make_series) -> None:
    file = next(make_series().glob("*"))
    (found,) = find_series(file)
    assert found.files == (str(file),)


def test_objects_without_a_volume_are_named(make_series, tmp_path: Path) -> None:
    folder = make_series(edit=lambda dataset, k: setattr(dataset, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.33"))
    with pytest.raises(UnsupportedFormatError, match=r"6 × structured report \(SR\)"):
        find_series(folder)


def test_a_report_beside_images_is_skipped_with_its_kind(make_series) -> None:
    folder = make_series()
    dataset = pydicom.dcmread(folder / "slice_0001.dcm")
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    del dataset.PixelData
    dataset.save_as(folder / "rs.dcm")
    (found,) = find_series(folder)
    assert found.skipped == {"radiotherapy structure set (RTSTRUCT)": 1}


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no DICOM, NIfTI or NRRD file below"):
        find_series(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UnreadableFileError, match="1 × not DICOM"):
        find_series(tmp_path)
    with pytest.raises(UnreadableFileError, match="no such file"):
        find_series(tmp_path / "missing")


def test_is_dicom(make_series, tmp_path: Path) -> None:
    assert is_dicom(next(make_series().glob("*")))
    assert not is_dicom(tmp_path)
    assert not is_dicom(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    assert not is_dicom(tmp_path / "pipe")


def test_broken_files_of_the_folder_count_against_its_series(make_series) -> None:
    folder = make_series()
    (folder / "slice_0003.dcm").write_bytes(b"")
    (folder / "slice_0004.dcm").write_bytes((folder / "slice_0004.dcm").read_bytes()[:900])
    (folder / "empty.log").write_bytes(b"")
    (found,) = find_series(folder)
    assert {Path(one.path).name for one in found.unreadable} == {"slice_0003.dcm", "slice_0004.dcm"}


def test_a_folder_of_broken_files_alone_says_so(make_series) -> None:
    folder = make_series()
    for file in folder.glob("*"):
        file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(UnreadableFileError, match="cut short"):
        find_series(folder)


def test_real_folders(shared_data: Path) -> None:
    found = find_series(shared_data / "tumour_sts_002")
    assert sorted((series.modality, len(series.slices)) for series in found) == [("CT", 48), ("MR", 35), ("PT", 48)]
    assert found[0].skipped["radiotherapy structure set (RTSTRUCT)"] == 3
