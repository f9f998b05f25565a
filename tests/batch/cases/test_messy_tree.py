"""All real scans as one messy study tree, with more faults put in: every case ends as done, or failed or left out with its reason."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from medseg.batch.records.layout import Layout
from medseg.batch.records.result import read_result

pytestmark = pytest.mark.slow

PIPELINE = "schema: medseg.pipeline/1\nname: bright\nsegment: {method: threshold, parameters: {lower: 1, label: bright}}\n"

# folder or file → why it cannot be measured, as the data's own descriptions (expected.json) have it
FAILS = {
    "dicom_bad_series/missing_slice/dicom": "MISSING_SLICES",  # gaps 5, 5, 10 mm
    "dicom_bad_series/two_orientations/dicom": "MIXED_ORIENTATION",  # a localizer's orientations in one series
    "dicom_12bit_in_16/dicom": "REPEATED_UID",  # one image in three encodings under one UID
    "dicom_enhanced_mr_no_geometry/emri_small.dcm": "NO_GEOMETRY",  # ten frames without a place
    "dicom_mr_ge_epi_4d/dicom": "MIXED_SERIES",  # ten time points
    "dicom_mr_philips_oblique_phantom/dicom": "MIXED_SERIES",  # three time points
    "dicom_mr_mosaic_orientations/axial/dicom": "MIXED_SERIES",  # two time points each
    "dicom_mr_mosaic_orientations/coronal/dicom": "MIXED_SERIES",
    "dicom_mr_mosaic_orientations/sagittal/dicom": "MIXED_SERIES",
    "dicom_mr_ge_epi_4d/reference.nii": "SEVERAL_VOLUMES",  # the same as NIfTI: 4D
    "dicom_mr_philips_oblique_phantom/reference.nii": "SEVERAL_VOLUMES",
    "dicom_mr_mosaic_orientations/axial/reference.nii": "SEVERAL_VOLUMES",
    "dicom_mr_mosaic_orientations/coronal/reference.nii": "SEVERAL_VOLUMES",
    "dicom_mr_mosaic_orientations/sagittal/reference.nii": "SEVERAL_VOLUMES",
    "nifti_variants/example4d.nii.gz": "SEVERAL_VOLUMES",
    "nifti_variants/example_nifti2.nii.gz": "SEVERAL_VOLUMES",
    "faults/half.nii.gz": "UNREADABLE_FILE",
    "faults/empty.nii": "UNREADABLE_FILE",
    "faults/changed.nii.gz": "UNREADABLE_FILE",
    "faults/cut slice": "UNREADABLE_FILE",
    "faults/hole": "MISSING_SLICES",
}
LEFT_OUT = {
    "dicom_bad_series/same_position/dicom": "fewer than 4 slices",  # four files at one place
    "dicom_bad_series/two_slices/dicom": "fewer than 4 slices",
    "dicom_enhanced_ct_nema/enhanced_ct.dcm": "fewer than 4 slices",
    "dicom_transfer_syntaxes_ct/dicom": "fewer than 4 slices",
    "dicom_rgb_slices/dicom": "a screenshot or scanned picture",
    "dicom_seg_qin_prostate/seg.dcm": "no image: segmentation (SEG)",
    "rtstruct_breast_tps/rtss.dcm": "no image: radiotherapy structure set (RTSTRUCT)",
    "nrrd_slicer_ctchest/Segmentation.seg.nrrd": "a label map or mask, no scan",
}
SERIES = "dicom_ct_gantry_tilt_phantom/dicom"


def new_series(source: Path, target: Path) -> list[Path]:
    """Copy a series under UIDs of its own."""
    target.mkdir(parents=True)
    series, study = generate_uid(), generate_uid()
    for number, file in enumerate(sorted(path for path in source.iterdir() if path.is_file())):
        dataset = pydicom.dcmread(file)
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.SOPInstanceUID = series, study, generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(target / f"{number:03}")
    return sorted(target.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))


def put_faults(tree: Path) -> None:
    faults = tree / "faults"
    faults.mkdir()
    whole = (tree / "ct_totalseg_organs" / "image.nii.gz").read_bytes()
    (faults / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    (faults / "empty.nii").write_bytes(b"")
    (faults / "changed.nii.gz").write_bytes(
        whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 0x10]) + whole[len(whole) // 2 + 1 :]
    )
    cut = new_series(tree / SERIES, faults / "cut slice")[5]
    cut.write_bytes(cut.read_bytes()[:-2000])
    new_series(tree / SERIES, faults / "hole")[6].unlink()
    shutil.copytree(tree / "tumour_sts_002", faults / "the same study again")
    with zipfile.ZipFile(faults / "packed.zip", "w") as archive:
        archive.write(tree / "ct_totalseg_organs" / "image.nii.gz", "image.nii.gz")
    for name in (".DS_Store", "Thumbs.db", "._scan.dcm", "letter.pdf", "report.dcm.txt"):
        (faults / name).write_bytes(b"no image at all")
    os.mkfifo(faults / "pipe.dcm")
    (faults / "loop").symlink_to(tree, target_is_directory=True)


@pytest.fixture(scope="module")
def tree(shared_data: Path, tmp_path_factory) -> Path:
    """The real scans, copied: 198 equal-natured MR crops of one dataset would say nothing that ten of them do not."""
    place = tmp_path_factory.mktemp("messy")
    many = {path.name for path in sorted((shared_data / "msd_task04_hippocampus").rglob("*.nii.gz"))[20:]}
    shutil.copytree(shared_data, place / "studies", ignore=lambda folder, names: many & set(names) if "msd_task04" in folder else set())
    for path in (place / "studies").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    put_faults(place / "studies")
    (place / "p.yaml").write_text(PIPELINE)
    return place


@pytest.fixture(scope="module")
def layout(tree: Path) -> Layout:
    """What `medseg batch` makes of it."""
    command = [sys.executable, "-m", "medseg", "batch", "studies", "-o", "out", "--pipeline", "p.yaml", "--select", "all", "--quiet"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    return Layout(tree / "out")


def linkage(layout: Layout) -> list[dict[str, str]]:
    with layout.case_table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_case_has_the_outcome_that_its_files_deserve(layout):
    outcomes = {}
    for row in linkage(layout):
        if row["use"] == "yes":
            result = read_result(layout.result(row["case_id"]))
            outcomes[row["path"]] = result.code if result.status == "failed" else "done"
    failed = {path: code for path, code in outcomes.items() if code != "done"}
    assert failed == FAILS
    assert Counter(outcomes.values())["done"] > 200
    for path in ("faults/packed.zip", SERIES, "ct_totalseg_dicom/dicom", "dicom_ct_gantry_tilt_uneven_ge/dicom"):
        assert outcomes[path] == "done", path


def test_what_is_left_out_has_its_reason(layout):
    reasons = {row["path"]: row["reason"] for row in linkage(layout) if row["use"] == "no"}
    assert LEFT_OUT.items() <= reasons.items()
    assert all(reasons.values())


def test_a_study_that_lies_there_twice_is_one(layout):
    rows = [row for row in linkage(layout) if row["series_uid"] and row["use"] == "yes"]
    assert len({row["series_uid"] for row in rows}) == len(rows)
    merged = [row for row in rows if row["path"] == "."]  # files in folders that have nothing else in common
    assert len(merged) >= 3  # CT, MR and PET of the study that was copied
    assert {read_result(layout.result(row["case_id"])).status for row in merged} == {"done"}


def test_the_counts_add_up_everywhere(layout):
    rows = linkage(layout)
    cases = [row for row in rows if row["use"] == "yes"]
    summary = json.loads(layout.summary.read_text())["counts"]
    assert summary["found"] == len(rows) == len(cases) + summary["left_out"]["total"]
    assert summary["cases"] == len(cases) == summary["done"] + summary["failed"]["total"]
    assert summary["failed"]["by_code"] == dict(Counter(FAILS.values()))
    with layout.cohort.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["case_id"] for row in table} == {row["case_id"] for row in cases}
    of_the_table = {row["case_id"] for row in table if row["case_status"] == "failed"}
    assert of_the_table == {path.parent.name for path in layout.results() if failed(path)}
    assert len(list(layout.results())) == len(cases)


def failed(path: Path) -> bool:
    return read_result(path).status == "failed"


def test_no_folder_or_file_of_the_tree_is_named_but_in_the_private_part(layout):
    ours = {"missing_slice", "segmentation.seg.nrrd"}  # a code, and what medseg calls its own files
    words = {word for row in linkage(layout) for word in row["path"].lower().split("/") if len(word) > 12} - ours
    words |= {row["series_uid"] for row in linkage(layout) if row["series_uid"]}
    assert len(words) > 100
    for path in layout.folder.rglob("*"):
        if path.is_file() and layout.private not in path.parents and path.suffix in (".json", ".csv", ".jsonl", ".svg", ".html", ".lock"):
            text = path.read_text(encoding="utf-8").lower()
            assert not [word for word in words if word in text], path.name
