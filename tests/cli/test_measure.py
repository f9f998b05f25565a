"""Measuring as a user types it: layers, contours, native slices, nothing to measure, poor images."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.cli.main import run as run_program


def measured(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    code = run_program(["measure", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def codes(document: dict) -> set[str]:
    return {finding["code"] for finding in document["findings"]}


def test_overlapping_segments_are_one_table(shared_data, capsys):
    path = shared_data / "nrrd_slicer_ctchest" / "SegmentationOverlapping.seg.nrrd"
    document = measured(capsys, path, "--image", shared_data / "nrrd_slicer_ctchest" / "CTChest4.nrrd")
    assert len(document["segments"]) == 8
    assert [row["number"] for row in document["segments"]] == sorted({row["number"] for row in document["segments"]})
    assert all(math.isfinite(row["mean"]) for row in document["segments"])
    assert "OVERLAPPING_SEGMENTS" in codes(document)


def test_contours_are_filled_on_the_scan(shared_data, capsys):
    case = shared_data / "tumour_sts_025"
    document = measured(capsys, case / "rtstruct" / "CT_RS.dcm", "--image", case / "dicom" / "CT")
    (row,) = document["segments"]
    assert row["volume_ml"] == pytest.approx(30.109, abs=0.01)  # the mask that IBSI made of them
    expected = np.asarray(nibabel.load(case / "reference" / "CT_image.nii.gz").dataobj)
    mask = np.asarray(nibabel.load(case / "reference" / "CT_mask.nii.gz").dataobj) > 0
    assert row["mean"] == pytest.approx(expected[mask].mean(), abs=0.5)


def test_a_native_mask_of_a_stack_with_holes(shared_data, tmp_path, capsys):
    mask = nibabel.load(shared_data / "tumour_sts_025" / "reference" / "CT_mask.nii.gz")
    native = np.delete(np.asarray(mask.dataobj).astype(np.uint8), [10, 11, 30], axis=2)
    nibabel.save(nibabel.Nifti1Image(native, mask.affine), tmp_path / "native.nii.gz")
    scan = shared_data / "dicom_ct_missing_slices" / "dicom"
    assert run_program(["measure", str(tmp_path / "native.nii.gz"), "--image", str(scan)]) == 3
    assert "--allow-gaps" in capsys.readouterr().err
    document = measured(capsys, tmp_path / "native.nii.gz", "--image", scan, "--allow-gaps")
    assert document["segments"][0]["volume_ml"] == pytest.approx(30.197, abs=1e-3)
    assert document["reading"] == {"allow_gaps": True}
    assert {"NATIVE_SLICES", "GAPS_INTERPOLATED"} <= codes(document)


def test_nothing_to_measure_is_said(tmp_path: Path, capsys):
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), tmp_path / "empty.nii.gz")
    document = measured(capsys, tmp_path / "empty.nii.gz")
    assert (document["segments"], codes(document)) == ([], {"NO_SEGMENTS"})


def test_a_named_segment_without_voxels_is_absent_and_has_no_volume(tmp_path: Path, capsys):
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), tmp_path / "empty.nii.gz")
    (tmp_path / "empty.labels.csv").write_text("LabelValue,Name\n3,lesion\n")
    (row,) = measured(capsys, tmp_path / "empty.nii.gz")["segments"]
    assert (row["label"], row["volume_ml"], row["status"]) == ("lesion", None, "absent")
    assert row["reason"]
