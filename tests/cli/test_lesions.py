"""`medseg lesions` as a user types it: real tumours, phantoms, nothing to find, other grids, overlaps."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click
import nibabel
import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

from medseg.cli.lesions import lesions
from medseg.core.errors import GeometryMismatchError, OutputExistsError, UnknownSegmentError
from medseg.io.read import read_label_map
from medseg.io.write import write
from medseg.measurement.measure import measure
from medseg.phantom import make_torso


def found(*arguments: object) -> dict:
    result = CliRunner().invoke(lesions, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def codes(document: dict) -> set[str]:
    return {finding["code"] for finding in document["findings"]}


@pytest.fixture(scope="module")
def torso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torso")
    made = make_torso(5, preset="coarse")
    write(made.volume, folder / "scan.nii.gz")
    write(made.label_map, folder / "labels.nii.gz")
    (folder / "truth.json").write_text(json.dumps(made.truth))
    return folder


@pytest.mark.parametrize(("modality", "measurable"), [("CT", True), ("MR_T1", True), ("PET", False)])
def test_a_sarcoma_as_contours(shared_data: Path, tmp_path: Path, modality: str, measurable: bool) -> None:
    case = shared_data / "tumour_sts_002"
    scan = case / "dicom" / modality
    document = found(case / "rtstruct" / f"{modality}_RS.dcm", "--image", scan, "-o", tmp_path)
    (row,) = document["lesions"]
    values = json.loads((case / "expected.json").read_text())[modality]["measurements"]["pyradiomics"]["values"]
    if modality != "PET":  # IBSI filled the contours of the PET otherwise: another voxel or two
        assert row["longest_diameter_mesh_mm"] == pytest.approx(values["shape_Maximum2DDiameterSlice"], abs=2e-4)
        assert row["diameter_3d_mesh_mm"] == pytest.approx(values["shape_Maximum3DDiameter"], abs=2e-4)
    assert row["measurable"] is measurable
    heights = {str(header.SOPInstanceUID): header.ImagePositionPatient[2] for header in map(pydicom.dcmread, scan.glob("*.dcm"))}
    for end in (*row["longest_diameter_ends_ras_mm"], *row["perpendicular_diameter_ends_ras_mm"]):
        assert end[2] == pytest.approx(float(heights[row["sop_instance_uid"]]), abs=1e-3)
    assert (tmp_path / "pictures" / f"{row['id']}.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "lesions.json").read_text())["lesions"] == document["lesions"]
    masks = read_label_map(tmp_path / "lesions.nii.gz")
    assert measure(masks)[row["id"], "volume"].value == pytest.approx(row["volume_ml"], rel=1e-5)


def test_a_phantom_tumour_has_its_known_diameters(torso: Path) -> None:
    document = found(torso / "labels.nii.gz", "--image", torso / "scan.nii.gz")
    (row,) = document["lesions"]
    truth = next(entry for entry in json.loads((torso / "truth.json").read_text())["segments"] if entry["label"] == "tumour")
    half_pixel, half_voxel = 0.5 * np.sqrt(2) * 3.0, 0.5 * np.sqrt(3) * 3.0
    assert row["longest_diameter_mm"] == pytest.approx(truth["in_plane"]["longest_diameter_mm"], abs=half_pixel)
    assert row["perpendicular_diameter_mm"] == pytest.approx(truth["in_plane"]["perpendicular_diameter_mm"], abs=2 * half_pixel)
    assert row["diameter_3d_mm"] == pytest.approx(truth["maximum_diameter_mm"], abs=half_voxel)
    assert (row["organ"], row["organ_relation"]) == ("liver", "surrounded")
    assert "LESION_SEGMENTS_CHOSEN" in codes(document)


def test_a_scan_of_another_voxel_order_gives_the_same_ids_and_lengths(torso: Path, tmp_path: Path) -> None:
    plain = found(torso / "labels.nii.gz", "--plane", "axial")
    image = nibabel.load(torso / "labels.nii.gz")
    nibabel.save(nibabel.as_closest_canonical(image), tmp_path / "labels.nii.gz")
    (tmp_path / "labels.labels.csv").write_bytes((torso / "labels.labels.csv").read_bytes())
    turned = found(tmp_path / "labels.nii.gz", "--plane", "axial")
    for one, other in zip(plain["lesions"], turned["lesions"], strict=True):
        assert one["id"] == other["id"]
        for key in ("longest_diameter_mm", "diameter_3d_mm", "volume_ml"):
            assert one[key] == pytest.approx(other[key], rel=1e-6)


def test_nothing_to_find_is_an_empty_table_and_said(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), tmp_path / "empty.nii.gz")
    document = found(tmp_path / "empty.nii.gz", "-o", tmp_path / "out")
    assert document["lesions"] == []
    assert "NO_LESION" in codes(document)
    assert (tmp_path / "out" / "lesions.csv").read_text().startswith("id,")


def test_overlapping_segments_go_into_layers(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "nrrd_slicer_ctchest" / "SegmentationOverlapping.seg.nrrd"
    document = found(path, "-o", tmp_path, "--pictures", 1)
    assert {"OVERLAPPING_SEGMENTS", "LESION_SEGMENTS_UNNAMED", "PICTURES_LEFT_OUT"} <= codes(document)
    assert len(document["lesions"]) == 32
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert (tmp_path / "lesions.seg.nrrd").exists()


def test_masks_on_another_grid_are_refused_or_resampled_with_volumes(torso: Path, tmp_path: Path) -> None:
    image = nibabel.load(torso / "scan.nii.gz")
    shifted = image.affine.copy()
    shifted[:3, 3] += 1.1
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), shifted), tmp_path / "other.nii.gz")
    with pytest.raises(GeometryMismatchError):
        found(torso / "labels.nii.gz", "--image", tmp_path / "other.nii.gz")
    document = found(torso / "labels.nii.gz", "--image", tmp_path / "other.nii.gz", "--resample-mask")
    assert "MASK_RESAMPLED" in codes(document)


def test_segments_are_chosen_by_name_and_number(torso: Path) -> None:
    kidneys = found(torso / "labels.nii.gz", "--segment", "kidney_left", "--segment", "3")
    assert {row["segment_number"] for row in kidneys["lesions"]} == {3, 4}
    with pytest.raises(UnknownSegmentError, match="pancreas"):
        found(torso / "labels.nii.gz", "--segment", "pancreas")


def test_organs_of_another_file(torso: Path, tmp_path: Path) -> None:
    labels = read_label_map(torso / "labels.nii.gz")
    only = labels.with_array((labels.array == 7).astype(np.uint8) * np.uint8(7), segments=(labels["tumour"],))
    write(only, tmp_path / "tumour.nii.gz")
    assert found(tmp_path / "tumour.nii.gz")["lesions"][0]["organ"] is None
    assert found(tmp_path / "tumour.nii.gz", "--organs", torso / "labels.nii.gz")["lesions"][0]["organ"] == "liver"
    rest = labels.with_array(np.where(labels.array >= 7, 0, labels.array), segments=labels.segments[:6])
    write(rest, tmp_path / "organs.nii.gz")
    assert found(tmp_path / "tumour.nii.gz", "--organs", tmp_path / "organs.nii.gz")["lesions"][0]["organ"] == "liver"


def test_an_earlier_run_is_kept_unless_overwritten_and_leaves_nothing_behind(torso: Path, tmp_path: Path) -> None:
    found(torso / "labels.nii.gz", "-o", tmp_path)
    with pytest.raises(OutputExistsError):
        found(torso / "labels.nii.gz", "-o", tmp_path)
    found(torso / "labels.nii.gz", "--segment", "spleen", "-o", tmp_path, "--overwrite")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["spleen-1.png"]
    rows = list(csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == ["spleen-1"]


def test_a_stack_with_interpolated_slices(shared_data: Path) -> None:
    case, scan = shared_data / "tumour_sts_025", shared_data / "dicom_ct_missing_slices" / "dicom"
    document = found(case / "rtstruct" / "CT_RS.dcm", "--image", scan, "--allow-gaps")
    assert "GAPS_INTERPOLATED" in codes(document)
    (row,) = document["lesions"]
    assert row["longest_diameter_mesh_mm"] == pytest.approx(46.322, abs=1e-3)
    files = {str(header.SOPInstanceUID): header for header in map(pydicom.dcmread, scan.glob("*.dcm"))}
    height = float(files[row["sop_instance_uid"]].ImagePositionPatient[2])
    assert row["longest_diameter_ends_ras_mm"][0][2] == pytest.approx(height, abs=0.01)


def test_people_get_a_table(torso: Path) -> None:
    result = CliRunner().invoke(lesions, [str(torso / "labels.nii.gz")], catch_exceptions=False)
    assert "1 lesion, 1 measurable by RECIST 1.1" in result.output
    assert "within liver" in result.output


def test_usage_errors_are_clicks(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError):
        lesions.main(["x.nii.gz", "--plane", "oblique"], standalone_mode=False)
