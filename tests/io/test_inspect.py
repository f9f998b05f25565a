from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medseg.core.errors import InputError, UnreadableFileError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.inspect import inspect
from medseg.io.options import ReadOptions
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


def test_overlapping_segments_are_read_in_layers(shared_data: Path) -> None:
    reports = {Path(report.path).name: report for report in inspect(shared_data / "nrrd_slicer_ctchest")}
    assert all(report.is_readable and report.is_reportable for report in reports.values())
    overlapping = reports["SegmentationOverlapping.seg.nrrd"]
    (finding,) = [one for one in overlapping.findings if one.code == "OVERLAPPING_SEGMENTS"]
    assert (finding.severity, finding.details["layers"], overlapping.layers) == (Severity.INFO, 2, 2)
    assert len(overlapping.label_numbers or ()) == 8
    assert reports["Segmentation.seg.nrrd"].layers == 1


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


def test_every_finding_comes_with_advice(shared_data: Path) -> None:
    (report,) = inspect(shared_data / "dicom_ct_missing_slices" / "dicom")
    (entry,) = [one for one in report.to_dict()["findings"] if one["code"] == "MISSING_SLICES"]
    assert "--allow-gaps" in entry["advice"]["action"]
    assert entry["advice"]["effect"]


def test_the_audit_of_a_series_with_slices_missing(shared_data: Path) -> None:
    entry = inspect(shared_data / "dicom_ct_missing_slices" / "dicom")[0].to_dict()
    assert (entry["slices_found"], entry["slices_expected"], entry["reportable"]) == (44, 47, False)
    assert [(round(gap["after_mm"], 2), round(gap["gap_mm"], 2), gap["missing"]) for gap in entry["gaps"]] == [
        (394.28, 9.81, 2),
        (459.68, 6.54, 1),
    ]
    assert entry["prices"] is None


def test_prices_belong_to_the_series_the_segmentation_was_drawn_on(shared_data: Path) -> None:
    mask = shared_data / "tumour_sts_025" / "reference" / "CT_mask.nii.gz"
    reports = inspect(shared_data / "tumour_sts_025" / "dicom", segmentation=mask)
    priced = {report.modality: report.prices for report in reports}
    (price,) = priced["CT"] or ()
    assert price.true_ml == pytest.approx(30.109, abs=1e-3)
    assert price.error_percent == pytest.approx(0, abs=1e-3)
    assert (priced["MR"], priced["PT"]) == (None, None)
    assert not any(finding.code == "NOT_PRICED" for report in reports for finding in report.findings)


def test_a_segmentation_of_another_scan_is_said_and_one_that_cannot_be_read_raises(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom_ct_missing_slices" / "dicom"
    (report,) = inspect(folder, segmentation=shared_data / "tumour_sts_025" / "reference" / "PET_mask.nii.gz")
    (finding,) = [one for one in report.findings if one.code == "NOT_PRICED"]
    assert "37" in finding.message
    with pytest.raises(UnreadableFileError):
        inspect(folder, segmentation=tmp_path / "nothing.nii.gz")


def test_a_file_on_a_leaning_grid_is_priced(scan: Volume, tmp_path: Path) -> None:
    affine = np.diag([1.0, 1, 2, 1])
    affine[1, 2] = 1
    leaning = Volume(scan.array, Geometry(scan.array.shape, affine))
    labels = LabelMap((scan.array > 0).astype(np.uint8), leaning.geometry, (Segment(1, "bright"),))
    (report,) = inspect(write(leaning, tmp_path / "x.nii.gz"), segmentation=write(labels, tmp_path / "m.nii.gz"))
    (price,) = report.prices or ()
    assert price.error_percent == pytest.approx(100 * (np.sqrt(5) / 2 - 1), rel=1e-4)
    assert price.true_ml == pytest.approx((scan.array > 0).sum() * 2 / 1000)


def test_objects_that_are_no_images_are_named_and_no_error(shared_data: Path, tmp_path: Path) -> None:
    (structures,) = inspect(shared_data / "rtstruct_breast_tps" / "rtss.dcm")
    assert structures.is_readable
    rows = {row.label: row for row in structures.structures or ()}
    assert rows["Heart"].volume_ml == pytest.approx(439.7, rel=0.01)
    assert (rows["Areola"].volume_ml, bool(rows["Areola"].reason)) == (None, True)
    dataset = pydicom.dcmread(shared_data / "rtstruct_breast_tps" / "rtss.dcm")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    dataset.save_as(tmp_path / "report.dcm")
    (report,) = inspect(tmp_path)
    assert (report.format, report.is_reportable, report.geometry) == ("DICOM structured report (SR)", True, None)
    assert [finding.code for finding in report.findings] == ["NO_VOLUME"]


def test_options_hold_for_the_series_they_name(shared_data: Path) -> None:
    folder = shared_data / "dicom_mr_ge_epi_4d" / "dicom"
    (asked,) = inspect(folder)
    assert not asked.is_reportable
    (chosen,) = inspect(folder, ReadOptions(volume_index=3))
    assert chosen.is_reportable
    assert chosen.audit is not None
    assert chosen.audit.options_used
    uid = asked.series_uid or ""
    (by_number,) = inspect(folder, ReadOptions(series=f"{uid}#4"))
    assert by_number.is_reportable
    with pytest.raises(InputError, match="no DICOM series"):
        inspect(folder, ReadOptions(series="9.9"))


def test_an_image_without_contrast_is_said(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((4, 5, 6), 40, np.int16), np.diag([2.0, 3, 4, 1])), tmp_path / "flat.nii")
    (report,) = inspect(tmp_path / "flat.nii")
    assert [finding.code for finding in report.findings] == ["CONSTANT_INTENSITY"]
    assert report.is_reportable
