"""Exports through the worker: every format is read back by a reader that does not know who wrote it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

import medseg
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.measured import measure_file


@pytest.fixture(scope="module")
def dicom(sample_data: Path) -> Path:
    return sample_data / "torso" / "dicom"


@pytest.fixture(scope="module")
def scan(dicom: Path) -> Volume:
    return medseg.read(dicom)


@pytest.fixture(scope="module")
def organs(scan: Volume) -> LabelMap:
    array = np.zeros(scan.array.shape, np.uint8)
    middle = [size // 2 for size in array.shape]
    array[middle[0] - 6 : middle[0] + 5, middle[1] - 5 : middle[1] + 4, middle[2] - 2 : middle[2] + 3] = 1
    array[4:8, 6:11, 1:3] = 2
    return LabelMap(array, scan.geometry, (Segment(1, "liver"), Segment(2, "kidney_left")))


def test_seg_nrrd_and_nifti(host: Any, scan: Volume, organs: LabelMap, tmp_path: Path) -> None:
    files = host.result(do="export", format="seg.nrrd", labels=host.labels(organs), path=str(tmp_path / "a.seg.nrrd"))["files"]
    read = medseg.read_label_map(files[0])
    assert np.array_equal(read.array, organs.array)
    assert [segment.label for segment in read.segments] == ["liver", "kidney_left"]
    host.result(do="export", format="nii.gz", labels=host.labels(organs), path=str(tmp_path / "a.nii.gz"))
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), organs.array)
    assert np.allclose(image.affine, organs.geometry.affine, atol=1e-4)


def test_dicom_seg_and_report_refer_to_the_series(host: Any, dicom: Path, scan: Volume, organs: LabelMap, tmp_path: Path) -> None:
    """Labels on the scan's grid with its slices in the other order, as a host may hold them, land on the right slices."""
    flipped = LabelMap(organs.array[:, :, ::-1], _flipped(organs), organs.segments)
    job = {"scan": {"path": str(dicom)}, "labels": host.labels(flipped)}
    (path,) = host.result(do="export", format="dicom-seg", path=str(tmp_path / "a.dcm"), **job)["files"]
    header = pydicom.dcmread(path)
    assert header.Modality == "SEG"
    assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == scan.source.series_uid
    read = medseg.read_label_map(path, geometry=scan.geometry)
    assert np.array_equal(read.array, organs.array)
    files = host.result(do="export", format="sr", path=str(tmp_path / "b.sr.dcm"), **job)["files"]
    assert [pydicom.dcmread(file).Modality for file in files] == ["SEG", "SR"]


def _flipped(label_map: LabelMap) -> Any:
    return label_map.geometry.transformed(np.diag([1, 1, -1]), (0, 0, label_map.geometry.shape[2] - 1), label_map.geometry.shape)


def test_csv_holds_what_the_command_measures(host: Any, dicom: Path, organs: LabelMap, tmp_path: Path) -> None:
    medseg.write(organs, tmp_path / "organs.seg.nrrd")
    expected = measure_file(tmp_path / "organs.seg.nrrd", dicom).table
    job = {"scan": {"path": str(dicom)}, "labels": host.labels(organs)}
    host.result(do="export", format="csv", path=str(tmp_path / "t.csv"), **job)
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == ["liver", "kidney_left"]
    assert [float(row["volume_ml"]) for row in rows] == pytest.approx(
        [expected[s, "volume"].value for s in ("liver", "kidney_left")], rel=1e-6
    )
    document = host.result(do="measure", **job)["document"]
    assert [one["voxel_count"] for one in document["segments"]] == [int((organs.array == n).sum()) for n in (1, 2)]


def test_report_is_a_folder_with_pictures(host: Any, scan: Volume, organs: LabelMap, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ref = host.scan(scan)
    before = sorted(path.name for path in host.folder.iterdir())
    files = host.result(do="export", format="report", scan=ref, labels=host.labels(organs), path=str(tmp_path / "report"))["files"]
    assert any(file.endswith("report.html") for file in files)
    assert list((tmp_path / "report" / "pictures").glob("*.png"))
    left = {path.name for path in host.folder.iterdir()} - set(before) - {"given.npy", "scan.npy"}
    assert not left


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"format": "dicom-seg", "path": "x.dcm"}, "InputError", "load the scan from DICOM"),
        ({"format": "seg.nrrd", "path": "x.nrrd"}, "OutputError", "end the name in .seg.nrrd"),
        ({"format": "report", "path": "r"}, "InputError", "choose the scan"),
    ],
)
def test_what_cannot_be_exported_says_why(
    host: Any, organs: LabelMap, tmp_path: Path, change: dict[str, str], kind: str, words: str
) -> None:
    job = {**change, "path": str(tmp_path / change["path"])}
    event = host.error(do="export", labels=host.labels(organs), **job)
    assert event["kind"] == kind
    assert words in event["message"]
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_kept(host: Any, organs: LabelMap, tmp_path: Path) -> None:
    (tmp_path / "a.seg.nrrd").write_bytes(b"mine")
    job = {"do": "export", "format": "seg.nrrd", "labels": host.labels(organs), "path": str(tmp_path / "a.seg.nrrd")}
    assert host.error(**job)["kind"] == "OutputExistsError"
    assert (tmp_path / "a.seg.nrrd").read_bytes() == b"mine"
    host.result(**job, overwrite=True)
    assert medseg.read_label_map(tmp_path / "a.seg.nrrd")["liver"].number == 1


def test_a_dicom_object_never_joins_the_series_it_was_made_from(host: Any, dicom: Path, organs: LabelMap) -> None:
    job = {"format": "dicom-seg", "scan": {"path": str(dicom)}, "labels": host.labels(organs), "path": str(dicom / "seg.dcm")}
    event = host.error(do="export", **job)
    assert "choose another folder" in event["message"]
    assert not (dicom / "seg.dcm").exists()
