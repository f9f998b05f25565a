"""The main job, end to end, on the sample study and on real scans."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pydicom
import pytest

from medseg.io.read import read_label_map


def test_the_demo_ends_with_every_volume_within_one_percent(medseg, tmp_path):
    done = medseg("demo", "-o", "out", "--device", "cpu", "--json")
    assert done.code == 0, done.out + done.err
    document = done.document
    assert document["within_limits"]
    assert {row["label"] for row in document["truth"]} == {
        "liver", "spleen", "kidney_right", "kidney_left", "lung_right", "lung_left", "tumour",
    }  # fmt: skip
    assert all(abs(row["error_percent"]) <= 1 for row in document["truth"])
    out = tmp_path / "out"
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "not a medical device" in report
    assert "data:image/png;base64," in report
    assert json.loads((out / "provenance.json").read_text())["model"]["name"] == "ct-phantom"
    for path in out.rglob("*"):
        if path.suffix in (".json", ".csv", ".html"):
            assert str(tmp_path) not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.slow
def test_the_three_forms_of_the_demo_hold_the_same_segments(medseg, tmp_path):
    assert medseg("demo", "-o", "out", "--device", "cpu", "--quiet").code == 0
    nifti, nrrd, dicom = (read_label_map(tmp_path / "out" / f"segmentation.{suffix}") for suffix in ("nii.gz", "seg.nrrd", "dcm"))
    for other in (nrrd, dicom):
        for segment in nifti.segments:
            found = other[segment.label]
            assert (found.type, found.modifier) == (segment.type, segment.modifier)
            assert other.mask(segment.label).sum() == nifti.mask(segment.label).sum()
    dataset = pydicom.dcmread(tmp_path / "out" / "segmentation.dcm")
    laterality = {
        item.SegmentLabel: item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning
        for item in dataset.SegmentSequence
        if "kidney" in item.SegmentLabel
    }
    assert laterality == {"kidney_right": "Right", "kidney_left": "Left"}


@pytest.mark.slow
@pytest.mark.parametrize(("label", "least"), [("subcutaneous_fat", 0.88), ("torso_fat", 0.80), ("skeletal_muscle", 0.65)])
def test_body_composition_of_a_real_scan(medseg, shared_data, tmp_path, label, least):
    scan = shared_data / "ct_totalseg_organs" / "image.nii.gz"
    assert medseg("run", "ct-body-composition", scan, "-o", "out", "--quiet").code == 0
    found = read_label_map(tmp_path / "out" / "segmentation.nii.gz").mask(label)
    reference = np.asarray(nibabel.load(shared_data / "ct_totalseg_body_composition" / f"{label}.nii.gz").dataobj) > 0
    assert 2 * (found & reference).sum() / (found.sum() + reference.sum()) >= least


def test_organ_volumes_of_a_real_label_map(medseg, shared_data):
    case = shared_data / "ct_totalseg_organs"
    expected = json.loads((case / "expected.json").read_text())["labels_fast"]["labels"]
    document = medseg("measure", case / "labels_fast.nii.gz", "--image", case / "image.nii.gz", "--json").document
    rows = {str(row["number"]): row for row in document["segments"]}
    assert set(expected) <= set(rows)
    for number, entry in expected.items():
        assert rows[number]["volume_ml"] == pytest.approx(entry["volume_ml"], rel=1e-3)


def test_a_real_dicom_series_becomes_nifti_with_its_intensities_where_they_were(medseg, shared_data, tmp_path):
    case = shared_data / "ct_totalseg_dicom"
    expected = json.loads((case / "expected.json").read_text())["dicom"][0]
    assert medseg("convert", case / "dicom", "ct.nii.gz").code == 0
    image = nibabel.load(tmp_path / "ct.nii.gz")
    array = np.asarray(image.dataobj)
    assert array.mean() == pytest.approx(expected["intensity_after_rescale"]["mean"], abs=1e-3)
    for probe in expected["probes"]:
        index = np.rint(np.linalg.inv(image.affine) @ [*probe["ras_mm"], 1])[:3].astype(int)
        assert array[tuple(index)] == probe["value"]


@pytest.mark.slow
def test_no_patient_attribute_reaches_an_output(medseg, sample_data, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    canaries = {"PatientName": "ZZCANARY^NAME", "PatientID": "ZZCANARYID", "PatientBirthDate": "19010203", "AccessionNumber": "ZZCANARYACC"}
    for path in sorted((sample_data / "torso" / "dicom").iterdir()):
        dataset = pydicom.dcmread(path)
        for name, value in canaries.items():
            setattr(dataset, name, value)
        dataset.save_as(folder / path.name)
    done = medseg("run", "ct-body-composition", folder, "-o", "out", "--json")
    assert done.code == 0, done.err
    texts = [done.out, done.err, *(str(path) for path in (tmp_path / "out").rglob("*"))]
    data = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for value in canaries.values():
        assert not any(value in text for text in texts)
        assert not any(value.encode() in content for content in data)
