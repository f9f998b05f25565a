"""Jobs on real scans: labels and volumes are those of medseg in process and of the commands, to the voxel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medseg
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.measured import measure_file


def test_segment_and_measure_a_ct_as_the_commands_do(host: Any, ct: Volume, organs: LabelMap, tmp_path: Path) -> None:
    ref = host.scan(ct)
    parameters = {"lower": 150.0, "label": "bone"}
    expected = medseg.segment(ct, "threshold", **parameters)
    result = host.result(do="segment", method="threshold", parameters=parameters, scan=ref)
    assert np.array_equal(host.array(result["labels"]), expected.array.T)
    medseg.write(organs, tmp_path / "organs.nii.gz")
    medseg.write(ct, tmp_path / "ct.nii.gz")
    theirs = measure_file(tmp_path / "organs.nii.gz", tmp_path / "ct.nii.gz").table.to_dict()["segments"]
    ours = host.result(do="measure", scan=ref, labels=host.labels(organs))["document"]["segments"]
    assert [one["voxel_count"] for one in ours] == [one["voxel_count"] for one in theirs]
    assert [one["volume_ml"] for one in ours] == pytest.approx([one["volume_ml"] for one in theirs], rel=1e-6)
    assert [one["mean"] for one in ours] == pytest.approx([one["mean"] for one in theirs], rel=1e-9)
    assert len(ours) > 10


@pytest.mark.parametrize("name", ["ct_totalseg_dicom", "dicom_ct_gantry_tilt_phantom"])
def test_dicom_read_by_the_worker(host: Any, shared_data: Path, name: str) -> None:
    folder = shared_data / name / "dicom"
    scan = medseg.read(folder)
    expected = medseg.segment(scan, "otsu")
    result = host.result(do="segment", method="otsu", parameters={}, scan={"path": str(folder)})
    assert np.array_equal(host.array(result["labels"]), expected.array.T)
    assert np.allclose(result["labels"]["ijk_to_ras"], scan.geometry.affine)
    document = host.result(do="measure", scan={"path": str(folder)}, labels=result["labels"])["document"]
    assert document["segments"][0]["voxel_count"] == int((expected.array > 0).sum())
    volume_ml = document["segments"][0]["voxel_count"] * abs(np.linalg.det(scan.geometry.affine[:3, :3])) / 1000
    assert document["segments"][0]["volume_ml"] == pytest.approx(volume_ml)


def test_missing_slices_are_said_before_any_number(host: Any, shared_data: Path) -> None:
    folder = shared_data / "dicom_ct_missing_slices" / "dicom"
    audit = host.result(do="audit", scan={"path": str(folder)})
    assert not audit["usable"]
    missing = next(finding for finding in audit["findings"] if finding["code"] == "MISSING_SLICES")
    assert missing["severity"] == "error"
    assert missing["advice"]["action"]
    host.events.clear()
    event = host.error(do="segment", method="otsu", parameters={}, scan={"path": str(folder)})
    assert event["exit_code"] == 3
    assert "MISSING_SLICES" in [one["code"] for one in host.events if one["event"] == "finding"]


def test_no_event_names_a_patient(host: Any, shared_data: Path) -> None:
    import pydicom

    folder = shared_data / "ct_totalseg_dicom" / "dicom"
    header = pydicom.dcmread(next(file for file in sorted(folder.iterdir()) if file.is_file()), stop_before_pixels=True)
    names = {str(header.get(tag, "")) for tag in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber")} - {"", "None"}
    host.result(do="audit", scan={"path": str(folder)})
    said = json.dumps(host.events) + "".join(host.worker.stderr)
    assert not [name for name in names if len(name) > 3 and name in said]


def test_a_click_on_a_tumour(host: Any, shared_data: Path) -> None:
    folder = shared_data / "tumour_pyradiomics_breast1"
    image = next(file for file in sorted(folder.iterdir()) if "image" in file.name and file.suffix in (".nrrd", ".gz"))
    label = next(file for file in sorted(folder.iterdir()) if "label" in file.name and file.suffix in (".nrrd", ".gz"))
    scan, mask = medseg.read(image), medseg.read_label_map(label)
    voxels = np.argwhere(mask.array)
    middle = voxels[np.abs(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()]
    seed = (mask.geometry.affine @ [*middle, 1])[:3].tolist()
    expected = medseg.segment(scan, "click-lesion", seeds=[seed], modality="MR")
    ref = {**host.scan(scan), "modality": "MR"}
    result = host.result(do="segment", method="click-lesion", parameters={"seeds": [seed], "modality": "MR"}, scan=ref)
    assert expected.array.any()
    assert np.array_equal(host.array(result["labels"]), expected.array.T)


def test_export_of_a_gantry_tilted_ct(host: Any, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom_ct_gantry_tilt_phantom" / "dicom"
    scan = medseg.read(folder)
    expected = medseg.segment(scan, "otsu").array
    labels = host.result(do="segment", method="otsu", parameters={}, scan={"path": str(folder)})["labels"]
    job = {"scan": {"path": str(folder)}, "labels": labels}
    (path,) = host.result(do="export", format="dicom-seg", path=str(tmp_path / "phantom.dcm"), **job)["files"]
    assert np.array_equal(medseg.read_label_map(path, geometry=scan.geometry).array, expected)
    (path,) = host.result(do="export", format="seg.nrrd", path=str(tmp_path / "phantom.seg.nrrd"), **job)["files"]
    read = medseg.read_label_map(path)
    assert np.array_equal(read.array, expected)
    assert np.allclose(read.geometry.affine, scan.geometry.affine)


def test_lesions_of_a_real_tumour(host: Any, shared_data: Path) -> None:
    folder = shared_data / "tumour_pyradiomics_brain1"
    scan, mask = medseg.read(folder / "brain1_image.nrrd"), medseg.read_label_map(folder / "brain1_label.nrrd")
    ref, labels = {**host.scan(scan), "modality": "MR"}, host.labels(mask)
    ours = host.result(do="lesions", scan=ref, labels=labels)["document"]["lesions"]
    theirs = medseg.lesions(mask, scan).to_dict()["lesions"]
    assert ours
    for one, other in zip(ours, theirs, strict=True):
        for name in ("id", "volume_ml", "longest_diameter_mm", "perpendicular_diameter_mm"):
            assert one[name] == pytest.approx(other[name]) if not isinstance(one[name], str) else one[name] == other[name]
    document = host.result(do="change", labels=[labels, labels], days=[0, 30])["document"]
    assert {lesion["status"] for lesion in document["lesions"]} == {"stable"}
    assert "NOT_REGISTERED" in [finding["code"] for finding in document["findings"]]
