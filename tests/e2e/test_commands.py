"""Each command as a user types it, with its JSON document as a program reads it."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest

AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1]])


@pytest.fixture
def scan(tmp_path):
    """A NIfTI scan: a bright box of 6×8×4 voxels in noise-free air, and a single bright voxel."""
    array = np.full((20, 24, 12), -1000, np.int16)
    array[5:11, 6:14, 3:7] = 60
    array[15, 20, 10] = 60
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


BOX_ML = 6 * 8 * 4 * 3.75 / 1000


def world(i, j, k):
    return ",".join(f"{v:.6f}" for v in (AFFINE @ [i, j, k, 1])[:3])


def test_region_growing_measure_evaluate_and_convert_agree(medseg, scan, tmp_path):
    done = medseg("segment", "region-growing", scan, "-o", "box.nii.gz", "--seed", world(7, 8, 4), "--lower", 0, "--label", "box", "--json")
    assert done.code == 0, done.err
    assert done.document["segments"][0]["volume_ml"] == pytest.approx(BOX_ML)
    assert done.document["segments"][0]["label"] == "box"

    rows = medseg("measure", "box.nii.gz", "--image", scan, "--json", "--percentile", 50).document["segments"]
    assert [row["label"] for row in rows] == ["box"]
    assert rows[0]["volume_ml"] == pytest.approx(BOX_ML)
    assert (rows[0]["mean"], rows[0]["median"], rows[0]["status"]) == (60, 60, "measured")
    np.testing.assert_allclose(rows[0]["centroid_ras_mm"], (AFFINE @ [7.5, 9.5, 4.5, 1])[:3], atol=1e-4)

    for name in ("box.seg.nrrd", "box.nrrd", "box2.nii"):
        assert medseg("convert", "box.nii.gz", name, "--label-map").code == 0
        scores = medseg("evaluate", "box.nii.gz", name, "--json").document
        assert scores["segments"][0]["dice"] == 1
    assert medseg("measure", "box.seg.nrrd", "-o", "t.csv").code == 0
    with open(tmp_path / "t.csv", newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert row["label"] == "box"
    assert float(row["volume_ml"]) == pytest.approx(BOX_ML, rel=1e-6)


def test_a_pipeline_from_a_file_leaves_the_whole_folder(medseg, scan, tmp_path):
    (tmp_path / "p.yaml").write_text(
        "schema: medseg.pipeline/1\nname: p\nsegment: {method: threshold, parameters: {lower: 0, label: bright}}\n"
        "postprocess: [{method: keep-largest}]\n"
    )
    done = medseg("run", "p.yaml", scan, "-o", "out", "--json")
    assert done.code == 0, done.err
    assert done.document["segments"][0]["volume_ml"] == pytest.approx(BOX_ML)
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    expected = {
        "segmentation.nii.gz",
        "measurements.csv",
        "measurements.json",
        "report.html",
        "provenance.json",
        "pictures/three_planes.png",
    }
    assert expected <= names
    assert not [name for name in names if "tmp" in name]
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["steps"][0]["method"] == "threshold"
    assert len(provenance["inputs"][0]["sha256"]) == 64
    again = medseg("run", "p.yaml", scan, "-o", "out")
    assert again.code == 5
    assert "overwrite" in again.err
    assert medseg("run", "p.yaml", scan, "-o", "out", "--overwrite", "--quiet").out == ""


def test_inspect_says_where_the_voxels_lie(medseg, scan):
    (volume,) = medseg("inspect", scan, "--json").document["volumes"]
    assert volume["shape"] == [20, 24, 12]
    assert volume["orientation"] == "LAS"
    np.testing.assert_allclose(volume["affine"], AFFINE)
    np.testing.assert_allclose(volume["spacing_mm"], (1, 1.5, 2.5))
    assert volume["voxel_volume_mm3"] == pytest.approx(3.75)
    assert {"path", "format", "modality", "series_uid", "findings"} <= set(volume)
    assert "LAS" in medseg("inspect", scan).out


def test_preprocess_then_segment(medseg, scan, tmp_path):
    assert medseg("preprocess", "resample", scan, "-o", "iso.nii.gz", "--spacing-mm", 1, "--json").code == 0
    np.testing.assert_allclose(nibabel.load(tmp_path / "iso.nii.gz").header.get_zooms(), (1, 1, 1), atol=0.05)
    done = medseg("segment", "otsu", "iso.nii.gz", "-o", "o.seg.nrrd", "--json")
    assert done.code == 0, done.err
    assert done.document["segments"][0]["volume_ml"] == pytest.approx(BOX_ML, rel=0.15)


def test_methods_lists_and_describes(medseg):
    listed = medseg("methods", "--json").document["methods"]
    assert {"region-growing", "watershed", "model", "gaussian", "smooth"} <= {entry["name"] for entry in listed}
    (entry,) = medseg("methods", "region-growing", "--json").document["methods"]
    assert {"name", "kind", "description", "unit", "default"} <= set(entry["parameters"][0])
    assert "Source" in medseg("methods", "otsu").out


def test_help_is_there_for_every_command(medseg):
    out = medseg("--help").out
    for name in ("demo", "inspect", "convert", "segment", "run", "measure", "evaluate", "methods", "phantom"):
        assert name in out
    assert "not a medical device" in medseg("--version").out
    help_text = medseg("segment", "region-growing", "--help").out
    assert "--seed" in help_text
    assert "mm RAS" in help_text


def test_phantom_writes_a_study_with_its_truth(medseg, tmp_path):
    done = medseg("phantom", "sphere", "-o", "ball", "--seed", 4, "--json")
    assert done.code == 0, done.err
    truth = json.loads((tmp_path / "ball" / "truth.json").read_text())
    rows = {row["label"]: row for row in medseg("measure", "ball/labels.nii.gz", "--json").document["segments"]}
    assert truth["segments"]
    for entry in truth["segments"]:
        assert rows[entry["label"]]["volume_ml"] == pytest.approx(entry["volume_ml"], rel=0.02)
    inspected = medseg("inspect", "ball/dicom", "--json").document["volumes"]
    assert [volume["modality"] for volume in inspected] == ["CT"]


def test_one_volume_of_a_4d_file_is_chosen(medseg, tmp_path):
    array = np.stack([np.full((6, 7, 8), 10 * t, np.int16) for t in range(3)], axis=3)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / "bold.nii.gz")
    assert medseg("convert", "bold.nii.gz", "one.nii.gz").code == 3
    assert medseg("convert", "bold.nii.gz", "one.nii.gz", "--volume", 2).code == 0
    assert np.unique(nibabel.load(tmp_path / "one.nii.gz").dataobj).tolist() == [20]
    done = medseg("convert", "bold.nii.gz", "other.nii.gz", "--volume", 3)
    assert (done.code, "0 to 2" in done.err) == (3, True)


def test_measure_brings_a_mask_onto_the_scan_only_when_asked(medseg, tmp_path, sample_data):
    """Row L2: another grid is refused; --resample-mask goes on and says both volumes."""
    series, labels = sample_data / "torso" / "dicom", sample_data / "torso" / "labels.nii.gz"
    assert medseg("preprocess", "resample", series, "-o", tmp_path / "coarse.nii.gz", "--spacing-mm", "6").code == 0
    assert medseg("convert", labels, tmp_path / "mask.seg.nrrd", "--like", tmp_path / "coarse.nii.gz", "--label-map").code == 0
    refused = medseg("measure", tmp_path / "mask.seg.nrrd", "--image", series)
    assert refused.code == 3
    done = medseg("measure", tmp_path / "mask.seg.nrrd", "--image", series, "--resample-mask", "--json").document
    (finding,) = [finding for finding in done["findings"] if finding["code"] == "MASK_RESAMPLED"]
    after = {row["label"]: row["volume_ml"] for row in done["segments"]}
    for one in finding["details"]["volumes"]:
        assert one["after_ml"] == after[one["label"]]
        if one["label"] == "liver":  # large and compact: a border half a voxel away changes little
            assert abs(one["after_ml"] - one["before_ml"]) < 0.02 * one["before_ml"]


def test_measure_writes_a_dicom_report(medseg, tmp_path, sample_data):
    """SEG and report of the sample study; without a SEG there is nothing to point to."""
    series, labels = sample_data / "torso" / "dicom", sample_data / "torso" / "labels.nii.gz"
    assert medseg("convert", labels, tmp_path / "seg.dcm", "--label-map", "--source", series).code == 0
    done = medseg("measure", tmp_path / "seg.dcm", "--image", series, "-o", tmp_path / "t.sr.dcm")
    assert done.code == 0, done.err
    assert medseg("inspect", tmp_path / "t.sr.dcm").code in (0, 3)
    refused = medseg("measure", labels, "--image", series, "-o", tmp_path / "u.sr.dcm")
    assert (refused.code, (tmp_path / "u.sr.dcm").exists()) == (3, False)
