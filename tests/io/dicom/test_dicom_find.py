from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import pydicom
import pytest
from made_multiframe import make_enhanced
from made_series import numbered_volume

from medseg.core.errors import UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom.find import find_series, is_dicom
from medseg.io.dicom.quiet import quiet


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


EVIL = "../../../tmp/evil"


def test_uids_that_are_none_become_harmless_ones(make_series) -> None:
    """A UID ends up in names of files and in references: what is no UID is replaced by one made of its hash."""

    def edit(dataset: pydicom.Dataset, k: int) -> None:
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = EVIL, "\x1b[31mred\nline"
        dataset.SOPInstanceUID = "1.2.3..4" if k else "1." * 40 + "1"

    with quiet():
        folder = make_series(edit=edit)
    (found,) = find_series(folder)
    assert len(found.slices) == 6
    first, *others = sorted(found.slices, key=lambda one: one.path)
    uids = {found.series_uid, first.study_uid, first.sop_instance_uid, others[0].sop_instance_uid}
    assert len(uids) == 4
    for uid in uids:
        assert pydicom.uid.UID(uid).is_valid
        assert uid.startswith("2.25.")
    assert first.texts["invalid_uids"] == "SOPInstanceUID, StudyInstanceUID, SeriesInstanceUID"
    assert [one.series_uid for one in find_series(folder)] == [found.series_uid]  # the same every time


def test_texts_cannot_carry_control_characters(make_series) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.ConvolutionKernel, dataset.Modality = "\x1b[2J\nB30\x07", "CT"

    (found,) = find_series(make_series(edit=edit))
    assert found.slices[0].texts["kernel"] == "?[2J?B30?"


def _dicomdir(folder: Path, *references: list[str]) -> Path:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    records = []
    for names in references:
        record = pydicom.Dataset()
        with quiet():
            record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", names
        records.append(record)
    dataset.DirectoryRecordSequence = pydicom.Sequence(records)
    dataset.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


def test_a_dicomdir_stands_for_its_folder_and_leads_nowhere_else(make_series) -> None:
    inside = make_series(name="disc")
    outside = make_series(name="secret", seed="other")
    (found,) = find_series(_dicomdir(inside, ["..", "secret", "slice_0001.dcm"], ["slice_0001.dcm"]))
    assert len(found.slices) == 6
    assert not any(path.startswith(str(outside)) for path in found.files)


def test_a_pipe_in_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableFileError, match="not a regular file"):
        find_series(tmp_path / "pipe")


def test_a_closed_folder_counts_against_the_series_around_it(make_series, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_series()
    (folder / "closed").mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (found,) = find_series(folder)
    assert found.skipped["folder that cannot be opened"] == 1
    assert [(Path(one.path).name, "cannot be opened" in one.reason) for one in found.unreadable] == [("closed", True)]


def test_a_closed_file_and_one_that_vanishes_are_named(make_series, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_series()
    open_file = os.open

    def refuse(path: str, *rest: int) -> int:
        if path.endswith("0002.dcm"):
            raise PermissionError(13, "Permission denied", path)
        if path.endswith("0003.dcm"):
            raise FileNotFoundError(2, "No such file or directory", path)
        return open_file(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    (found,) = find_series(folder)
    assert [one.reason for one in found.unreadable] == ["Permission denied", "No such file or directory"]
    assert len(found.slices) == 4


@pytest.mark.parametrize("name", ["DÉCOUPE.DCM", "De\u0301coupe", "a b  c", "x" * 250, "\udcff\udcfe", "1.2.840.113619"])
def test_any_name_of_a_file_works(make_series, name: str) -> None:
    folder = make_series()
    os.rename(folder / "slice_0001.dcm", os.path.join(folder, name))
    (found,) = find_series(folder)
    assert len(found.slices) == 6
    assert os.path.join(folder, name) in found.files


def test_a_multiframe_file_is_one_file_of_many_slices(tmp_path: Path) -> None:
    path = make_enhanced(tmp_path / "x.dcm", [{"ImagePositionPatient": [0, 0, k]} for k in (2, 0, 1)])
    (found,) = find_series(tmp_path)
    assert found.files == (str(path),)
    assert [one.position for one in found.slices] == [(0, 0, 2), (0, 0, 0), (0, 0, 1)]


def test_a_bomb_in_place_of_a_slice_is_refused_and_named(make_series) -> None:
    folder = make_series()
    file = folder / "slice_0001.dcm"
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(file)
    whole = file.read_bytes()
    start = 144 + struct.unpack_from("<L", whole, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    chunk = bytes(1 << 20)
    packed = b"".join(packer.compress(chunk) for _ in range(200)) + packer.flush()
    file.write_bytes(whole[:start] + packed)  # 0.2 MB that grow to 200 MB
    tracemalloc.start()
    try:
        (found,) = find_series(folder)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()
    assert len(found.slices) == 5
    (broken,) = found.unreadable
    assert broken.path == str(file)
    assert "grows beyond" in broken.reason
