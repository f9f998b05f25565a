"""`medseg evaluate` as a user types it: two files, two folders, everything that goes wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from medseg.cli.evaluate import evaluate as command
from medseg.cli.main import run as run_program

AFFINE = np.diag([1.0, 1.5, 2.5, 1])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def boxes(shift: int = 0, tumour: bool = True) -> np.ndarray:
    array = np.zeros((20, 18, 12), np.uint8)
    array[3 + shift : 9 + shift, 3:9, 2:8] = 1
    array[13:16, 12:15, 6:9] = 2 * tumour
    return array


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Six cases: two good, one with a miss, one missing, one damaged, one on another grid; and a prediction too many."""
    ours, theirs = tmp_path / "ref", tmp_path / "pred"
    for n in range(6):
        save(ours / f"c{n}.nii.gz", boxes())
    save(theirs / "c0.nii.gz", boxes())
    save(theirs / "c1.nii.gz", boxes(1))
    save(theirs / "c2.nii.gz", boxes(1, tumour=False))
    (theirs / "c4.nii.gz").write_bytes(b"no image")
    save(theirs / "c5.nii.gz", boxes(), np.diag([1.0, 1.5, 2.4, 1]))
    save(theirs / "c9.nii.gz", boxes())
    return ours, theirs


def scored(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict:
    found = run_program(["evaluate", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert found == code, captured.err
    return json.loads(captured.out)


def test_two_files(tmp_path, capsys):
    document = scored(capsys, save(tmp_path / "a.nii", boxes()), save(tmp_path / "b.nii", boxes(1)), "--tolerance", 1, "--tolerance", 3)
    assert document["schema"] == "medseg.evaluate/1"
    first = document["segments"][0]
    assert first["dice"] == pytest.approx(5 / 6)
    assert first["hd95_mm"] == pytest.approx(1)
    assert first["nsd_3mm"] == 1
    assert "cases" not in document
    assert document["summary"]["tolerances_mm"] == [1, 3]
    assert document["summary"]["mean_dice"] == pytest.approx((5 / 6 + 1) / 2)


def test_folders_go_on_after_a_failure_and_end_with_1(folders, capsys, tmp_path):
    document = scored(capsys, *folders, code=1)
    statuses = {case["case"]: case["status"] for case in document["cases"]}
    assert statuses == {
        "c0": "compared",
        "c1": "compared",
        "c2": "compared",
        "c3": "missing_prediction",
        "c4": "failed",
        "c5": "failed",
    }
    summary = document["summary"]
    assert (summary["missing_predictions"], summary["failed_cases"], summary["surplus_predictions"]) == (
        ["c3"],
        ["c4", "c5"],
        ["c9.nii.gz"],
    )
    reasons = {case["case"]: case["reason"] for case in document["cases"]}
    assert "c4.nii.gz" in reasons["c4"]
    assert "not on one grid" in reasons["c5"]
    assert {row["outcome"] for row in document["segments"] if row["case"] == "c5"} == {"failed"}
    tumour = next(entry for entry in summary["labels"] if entry["label"] == "segment_2")
    assert [tumour[f"{kind}_count"] for kind in ("compared", "missed", "failed")] == [2, 2, 2]
    assert tumour["without_misses"]["dice"] == 1
    assert tumour["misses_as_worst_case"]["dice"] == pytest.approx(2 / 6)
    low, high = tumour["interval"]["dice"]
    assert 0 <= low < 2 / 6 < high <= 1
    diagonal = float(np.linalg.norm(np.array([20, 18, 12]) * [1, 1.5, 2.5]))
    assert tumour["misses_as_worst_case"]["hd95_mm"] == pytest.approx(4 * diagonal / 6)


def test_resampling_brings_a_case_back_and_says_what_it_did(folders, capsys):
    document = scored(capsys, *folders, "--resample", code=1)
    (case,) = [case for case in document["cases"] if case["case"] == "c5"]
    assert case["status"] == "compared"
    (finding,) = [one for one in case["findings"] if one["code"] == "PREDICTION_RESAMPLED"]
    assert finding["details"]["volumes"][0]["before_ml"] == pytest.approx(6 * 6 * 6 * 1.5 * 2.4 / 1000)


def test_the_seed_repeats_the_interval(folders, capsys):
    found = [scored(capsys, *folders, "--no-surfaces", "--seed", seed, "--bootstrap", 500, code=1) for seed in (3, 3, 4)]
    limits = [document["summary"]["overall"]["interval"]["dice"] for document in found]
    assert limits[0] == limits[1]
    assert found[0]["summary"]["bootstrap"]["seed"] == 3
    assert found[0]["segments"][0]["hd95_mm_reason"] == "surfaces were not compared"


def test_the_table_is_long(folders, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert run_program(["evaluate", *map(str, folders), "-o", str(out), "--lesions", "--quiet"]) == 1
    with open(out, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["case"], row["label"]) for row in rows] == [(f"c{n}", f"segment_{m}") for n in range(6) for m in (1, 2)]
    assert capsys.readouterr().out == ""
    assert run_program(["evaluate", *map(str, folders), "-o", str(out)]) == 5  # it is there already
    assert run_program(["evaluate", *map(str, folders), "-o", str(tmp_path / "s.json"), "--quiet"]) == 1
    assert len(json.loads((tmp_path / "s.json").read_text())["cases"]) == 6
    assert run_program(["evaluate", *map(str, folders), "-o", str(tmp_path / "s.xlsx")]) == 2


def test_names_that_differ_are_paired_on_request(tmp_path, capsys):
    a, b = save(tmp_path / "a.nii", boxes()), save(tmp_path / "b.nii", np.where(boxes(1) == 2, 5, boxes(1)).astype(np.uint8))
    (tmp_path / "a.labels.csv").write_text("LabelValue,Name\n1,liver\n2,GTV\n")
    (tmp_path / "b.labels.csv").write_text("LabelValue,Name\n1,Liver\n5,tumour\n")
    apart = scored(capsys, a, b)
    assert [row["outcome"] for row in apart["segments"]] == ["compared", "missed", "false"]
    assert "--map tumour=GTV" in next(one["message"] for one in apart["findings"] if one["code"] == "LABELS_NOT_MATCHED")
    assert [row["outcome"] for row in scored(capsys, a, b, "--map", "tumour=GTV")["segments"]] == ["compared", "compared"]
    assert [row["outcome"] for row in scored(capsys, a, b, "--map", "5=GTV")["segments"]] == ["compared", "compared"]
    for wrong, words in (
        ("nobody=GTV", "no prediction has a segment 'nobody'"),
        ("tumour", "does not name two"),
        ("a=", "does not name two"),
    ):
        assert run_program(["evaluate", str(a), str(b), "--map", wrong]) == 2
        assert words in capsys.readouterr().err


def test_two_files_on_different_grids_end_with_3(tmp_path, capsys):
    a, b = save(tmp_path / "a.nii", boxes()), save(tmp_path / "b.nii", boxes(), np.diag([1.0, 1.5, 2.6, 1]))
    assert run_program(["evaluate", str(a), str(b)]) == 3
    said = capsys.readouterr().err
    assert "--resample" in said
    assert "Traceback" not in said
    assert scored(capsys, a, b, "--resample")["segments"][0]["dice"] > 0.8


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--match", "overlap", "--lesions"], 2),
        (["--tolerance", "-1"], 2),
        (["--percentile", "0"], 2),
        (["--bootstrap", "-5"], 2),
        (["--definition", "mean"], 2),
    ],
)
def test_options_that_make_no_sense(tmp_path, capsys, arguments, code):
    a = save(tmp_path / "a.nii", boxes())
    assert run_program(["evaluate", str(a), str(a), *arguments]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_inputs_that_are_not_there_or_no_labels(tmp_path, capsys):
    a = save(tmp_path / "a.nii", boxes())
    assert run_program(["evaluate", str(a), str(tmp_path / "absent.nii")]) == 3
    fractions = save(tmp_path / "f.nii", boxes().astype(np.float32) + np.float32(0.3))
    assert run_program(["evaluate", str(a), str(fractions)]) == 3
    folder = tmp_path / "empty"
    folder.mkdir()
    assert run_program(["evaluate", str(folder), str(folder)]) == 3
    assert run_program(["evaluate", str(folder), str(folder), "--image", str(a)]) == 2


def test_empty_and_one_voxel_masks(tmp_path, capsys):
    empty = save(tmp_path / "empty.nii", np.zeros((20, 18, 12), np.uint8))
    one = np.zeros((20, 18, 12), np.uint8)
    one[10, 9, 6] = 1
    voxel = save(tmp_path / "one.nii", one)
    (same,) = scored(capsys, voxel, voxel, "--lesions")["segments"]
    assert (same["dice"], same["hd95_mm"], same["lesions"]["sensitivity"]) == (1, 0, 1)
    (missed,) = scored(capsys, voxel, empty)["segments"]
    assert (missed["outcome"], missed["hd95_mm"]) == ("missed", None)
    nothing = scored(capsys, empty, empty)
    assert nothing["segments"] == []
    assert nothing["summary"]["mean_dice"] is None
    assert "NO_SEGMENTS" in {one["code"] for one in nothing["findings"]}


def test_clicks_runner_shows_tables_for_people(folders):
    done = CliRunner().invoke(command, [*map(str, folders), "--lesions", "--match", "iou>=0.5"], standalone_mode=False)
    assert done.return_value == 1, done.output
    for words in ("without misses", "worst case", "95 % interval", "iou>=0.5", "c9.nii.gz", "failed c4"):
        assert words in done.output


def test_the_check_with_other_packages_is_in_the_document(tmp_path, capsys, monkeypatch):
    from medseg.evaluation import crosscheck

    monkeypatch.setattr(crosscheck, "_is_installed", lambda name: False)
    a, b = save(tmp_path / "a.nii", boxes()), save(tmp_path / "b.nii", boxes(1))
    first, second = scored(capsys, a, b, "--crosscheck")["crosscheck"]
    assert (first["package"], first["segment_count"], second["note"]) == ("SimpleITK", 2, "not installed")
    assert next(one for one in first["differences"] if one["score"] == "dice")["largest_difference"] < 1e-12


def test_segmentations_of_real_scans_with_overlaps_and_contours(shared_data, capsys):
    overlapping = shared_data / "nrrd_slicer_ctchest" / "SegmentationOverlapping.seg.nrrd"
    document = scored(capsys, overlapping, overlapping, "--no-surfaces")
    assert [row["dice"] for row in document["segments"]] == [1] * 8
    case = shared_data / "tumour_sts_002"
    for names in (("reference/CT_mask.nii.gz", "rtstruct/CT_RS.dcm"), ("rtstruct/CT_RS.dcm", "reference/CT_mask.nii.gz")):
        (row,) = scored(capsys, *(case / name for name in names))["segments"]
        assert row["dice"] > 0.999
    document = scored(capsys, case / "rtstruct/CT_RS.dcm", case / "reference/CT_mask.nii.gz", "--image", case / "dicom/CT")
    assert document["segments"][0]["label"].startswith("GTV")


def test_the_published_metrics_of_real_masks(shared_data, capsys):
    """Values that the assembler of the data took from surface-distance and from counting."""
    case = shared_data / "metrics_prostate_masks"
    expected = json.loads((case / "expected.json").read_text())["metrics"]
    for name in ("seg_dilated_10mm.nii.gz", "seg_single_slice.nii.gz", "seg_one_label.nii.gz"):
        document = scored(capsys, case / "seg_one_label.nii.gz", case / name, "--tolerance", 1, "--tolerance", 2)
        row, known = document["segments"][0], expected[name]
        surface = known["deepmind_surface_distance"]
        assert row["dice"] == pytest.approx(known["dice"], abs=1e-12)
        assert row["hd_mm"] == pytest.approx(surface["hausdorff100"], abs=1e-6)
        assert row["hd95_mm"] == pytest.approx(surface["hausdorff95"], abs=1e-6)
        assert row["masd_mm"] == pytest.approx((surface["avg_ref_to_pred"] + surface["avg_pred_to_ref"]) / 2, abs=1e-5)
        assert row["nsd_1mm"] == pytest.approx(surface["surface_dice_1mm"], abs=1e-6)
        assert row["nsd_2mm"] == pytest.approx(surface["surface_dice_2mm"], abs=1e-6)
    (row,) = scored(capsys, case / "seg_one_label.nii.gz", case / "seg_empty.nii.gz")["segments"]
    assert (row["outcome"], row["dice"], row["hd_mm"]) == ("missed", 0, None)
