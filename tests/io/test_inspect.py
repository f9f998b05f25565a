from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import UnreadableFileError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.inspect import inspect
from medseg.io.report import VolumeReport
from medseg.io.write import write

KEYS = {
    "path", "format", "modality", "series_uid", "shape", "spacing_mm", "affine", "orientation", "voxel_volume_mm3", "findings",
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "name"), [(".nii", "NIfTI-1"), (".nii.gz", "NIfTI-1"), (".nrrd", "NRRD"), (".mha", "MetaImage")])
def test_a_scan(scan: Volume, tmp_path: Path, suffix: str, name: str) -> None:
    path = write(scan, tmp_path / f"x{suffix}")
    (report,) = inspect(path)
    assert (report.path, report.format, report.dtype, report.slice_count) == (str(path), name, "int16", 7)
    assert report.is_readable
    assert report.label_numbers is None
    entry = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(entry) >= KEYS
    assert entry["shape"] == [9, 8, 7]
    assert entry["orientation"] == "LAS"
    np.testing.assert_allclose(entry["spacing_mm"], (0.8, 1.1, 2.5), rtol=1e-6)
    np.testing.assert_allclose(entry["affine"], scan.geometry.affine, atol=1e-5)
    assert entry["voxel_volume_mm3"] == pytest.approx(2.2)
    assert entry["findings"] == []
    assert (entry["readable"], entry["error"], entry["series_uid"]) == (True, None, None)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".seg.nrrd"])
def test_a_label_map(organs: LabelMap, tmp_path: Path, suffix: str) -> None:
    (report,) = inspect(write(organs, tmp_path / f"x{suffix}"))
    assert report.label_numbers == (1, 7, 9)
    assert report.dtype == "uint8"


def test_truncation_and_checksums_show(scan: Volume, tmp_path: Path) -> None:
    data = write(scan, tmp_path / "x.nii.gz").read_bytes()
    for name, broken in (("cut.nii.gz", data[:-20]), ("sum.nii.gz", data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])):
        (tmp_path / name).write_bytes(broken)
        (report,) = inspect(tmp_path / name)
        assert not report.is_readable
        assert [(finding.code, finding.severity) for finding in report.findings] == [("UNREADABLE_FILE", Severity.ERROR)]
        entry = report.to_dict()
        assert entry["shape"] is entry["affine"] is entry["voxel_volume_mm3"] is None
        assert entry["error"]


def test_every_volume_below_a_folder_good_and_bad(scan: Volume, organs: LabelMap, tmp_path: Path) -> None:
    write(scan, tmp_path / "a.nii.gz")
    write(organs, tmp_path / "below" / "b.seg.nrrd")
    write(scan, tmp_path / "below" / "c.mha")
    (tmp_path / "below" / "d.nii").write_bytes(b"broken")
    (tmp_path / "below" / "e.nii.gz").write_bytes(b"")
    for name in ("notes.txt", "._a.nii", "table.csv"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    reports = {Path(report.path).name: report for report in inspect(tmp_path)}
    assert {name: report.is_readable for name, report in reports.items()} == {
        "a.nii.gz": True,
        "b.seg.nrrd": True,
        "c.mha": True,
        "d.nii": False,
        "e.nii.gz": False,
    }


def test_nothing_at_all_raises(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no image found"):
        inspect(tmp_path)


@pytest.mark.parametrize("name", ["missing.nii", "text.txt", "folder.nii/x"])
def test_a_path_that_was_asked_for_always_gets_an_entry(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("words")
    (report,) = inspect(tmp_path / name)
    assert not report.is_readable
    assert name in (report.error or "")


def test_a_table_that_does_not_fit_is_an_error(scan: Volume, tmp_path: Path) -> None:
    path = write(scan, tmp_path / "x.nii.gz")
    (tmp_path / "x.labels.csv").write_text("LabelValue,Name\n1,liver\n")
    (report,) = inspect(path)
    assert [finding.code for finding in report.findings] == ["SEGMENT"]
    assert report.geometry is not None


def test_overlapping_segments_are_named(shared_data: Path) -> None:
    reports = {Path(report.path).name: report for report in inspect(shared_data / "nrrd_slicer_ctchest")}
    assert [name for name, report in reports.items() if report.is_readable] == ["CTChest4.nrrd", "Segmentation.seg.nrrd"]
    assert reports["SegmentationOverlapping.seg.nrrd"].findings[0].code == "OVERLAPPING_SEGMENTS"


def test_dicom_series_and_label_maps_side_by_side(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "ct_totalseg_dicom", tmp_path / "case")
    (tmp_path / "case" / "expected.json").unlink()
    reports = inspect(tmp_path / "case")
    assert sorted(report.format for report in reports) == ["DICOM", "NIfTI-1"]
    series = next(report for report in reports if report.format == "DICOM")
    assert (series.modality, series.slice_count) == ("CT", 20)
    assert series.geometry is not None


def test_an_error_without_a_finding_gets_one() -> None:
    report = VolumeReport("x", error="broken")
    assert [finding.code for finding in report.findings] == ["UNREADABLE"]
    told = VolumeReport("x", error="broken", findings=(Finding("OTHER", Severity.ERROR, "broken"),))
    assert [finding.code for finding in told.findings] == ["OTHER"]


def test_a_file_of_several_volumes_shows_the_grid_they_share(tmp_path):
    affine = np.diag([2.0, 3, 4, 1])
    nib.save(nib.Nifti1Image(np.zeros((5, 6, 7, 3), np.int16), affine), tmp_path / "bold.nii")
    (report,) = inspect(tmp_path / "bold.nii")
    assert report.geometry is not None
    np.testing.assert_allclose(report.geometry.affine, affine)
    assert [(finding.code, finding.details["count"]) for finding in report.findings if finding.severity == "error"] == [
        ("SEVERAL_VOLUMES", 3)
    ]
