"""`preprocess`, `segment` and `postprocess`: no input is destroyed, faults are found before the work and said in words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.cli.main import run

AFFINE = np.diag([-1.0, 1.5, 2.5, 1.0])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    array = np.full((14, 12, 10), -1000, np.int16)
    array[4:9, 3:8, 2:7] = 60
    return saved(tmp_path / "scan.nii.gz", array)


def saved(path: Path, array: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run([str(argument) for argument in arguments])
    done = capsys.readouterr()
    return code, done.out, done.err


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", ["same", "dotted", "link", "hard link"])
@pytest.mark.parametrize("command", [("segment", "threshold", "--lower", 0), ("preprocess", "gaussian")])
def test_the_scan_is_never_its_own_output(scan, tmp_path, capsys, way, command):
    output = scan
    if way == "dotted":
        (tmp_path / "below").mkdir()
        output = tmp_path / "below" / ".." / scan.name
    elif way == "link":
        output = tmp_path / "link.nii.gz"
        output.symlink_to(scan)
    elif way == "hard link":
        output = tmp_path / "hard.nii.gz"
        os.link(scan, output)
    before = contents(tmp_path)
    stage, name, *flags = command
    code, _, err = call(capsys, stage, name, scan, "-o", output, "--overwrite", *flags)
    assert code == 2, err
    assert "the output is the scan itself" in err
    assert contents(tmp_path) == before


def test_a_file_of_the_series_is_not_replaced(tmp_path, capsys):
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "000001.dcm").write_bytes(b"a slice")
    code, _, err = call(capsys, "segment", "otsu", tmp_path / "ct", "-o", tmp_path / "ct" / "000001.dcm", "--overwrite")
    assert code == 2, err
    assert "inside the folder" in err
    assert (tmp_path / "ct" / "000001.dcm").read_bytes() == b"a slice"


def test_further_inputs_are_not_replaced_either(scan, tmp_path, capsys):
    labels = saved(tmp_path / "labels.nii.gz", (nibabel.load(scan).get_fdata() > 0).astype(np.uint8))
    other = saved(tmp_path / "other.nii.gz", np.zeros((14, 12, 10), np.int16))
    before = contents(tmp_path)
    for arguments, says in (
        (("segment", "k-means", scan, "-o", other, "--channel", other), "--channel"),
        (("segment", "watershed", scan, "-o", labels, "--markers", labels), "--markers"),
        (("postprocess", "keep-largest", labels, "-o", scan, "--image", scan), "--image"),
    ):
        code, _, err = call(capsys, *arguments, "--overwrite")
        assert (code, says in err) == (2, True), err
    assert contents(tmp_path) == before
    code, _, err = call(capsys, "postprocess", "keep-largest", labels, "-o", labels, "--overwrite")
    assert code == 0, err


def test_entropy_is_offered_where_a_network_has_passes(scan, tmp_path, capsys):
    before = contents(tmp_path)
    code, _, err = call(capsys, "segment", "k-means", scan, "-o", tmp_path / "o.nii", "--entropy", tmp_path / "e.nii")
    assert (code, "--entropy" in err) == (2, True), err
    code, _, err = call(capsys, "segment", "model", scan, "-o", tmp_path / "o.nii", "--entropy", tmp_path / "e.nii")
    assert (code, "--uncertainty" in err) == (2, True), err
    code, _, err = call(capsys, "segment", "model", scan, "-o", tmp_path / "o.nii", "--entropy", tmp_path / "o.nii")
    assert (code, "-o" in err) == (2, True), err
    assert contents(tmp_path) == before
    assert "--entropy" in call(capsys, "segment", "model", "--help")[1]


@pytest.mark.parametrize(
    ("output", "says"),
    [("o.xyz", "xyz"), ("o.dcm", "DICOM SEG"), ("o.rtstruct.dcm", "DICOM RTSTRUCT"), ("way.nii", "folder")],
)
def test_outputs_that_cannot_be_written_are_found_before_the_work(scan, tmp_path, capsys, monkeypatch, output, says):
    def worked(*_: object, **__: object) -> None:
        raise AssertionError("the method ran")

    monkeypatch.setattr("medseg.method.method.Method.__call__", worked)
    (tmp_path / "way.nii").mkdir()
    code, _, err = call(capsys, "segment", "threshold", scan, "-o", tmp_path / output, "--lower", 0, "--overwrite")
    assert (code, says in err) == (5, True), err


def test_what_is_there_already_names_the_flag(scan, tmp_path, capsys):
    (tmp_path / "o.nii").write_text("mine")
    code, _, err = call(capsys, "segment", "threshold", scan, "-o", tmp_path / "o.nii", "--lower", 0)
    assert (code, "--overwrite" in err) == (5, True), err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("segment", "confidence-connected", "--seed", "10,20"), "seeds 1 ('10,20'): needs three numbers R,A,S in mm"),
        (("segment", "confidence-connected", "--seed", "1,2,3", "--seed", "a,b,c"), "seeds 2 ('a,b,c'): needs three numbers R,A,S in mm"),
        (("segment", "confidence-connected", "--seed", "1,2,3,4"), "seeds 1 ('1,2,3,4'): needs three numbers R,A,S in mm"),
        (("segment", "confidence-connected", "--seed", "1,2,nan"), "seeds 1 ('1,2,nan'): needs three finite numbers R,A,S in mm"),
        (("preprocess", "gaussian", "--sigma-mm", "-2"), "sigma_mm: must be above 0 (given -2)"),
        (("preprocess", "gaussian", "--sigma-mm", "nan"), "sigma_mm: must be a finite number (given nan)"),
        (("preprocess", "gaussian", "--sigma-mm", "inf"), "sigma_mm: must be a finite number (given inf)"),
    ],
)
def test_a_wrong_value_is_said_in_words(scan, tmp_path, capsys, arguments, says):
    stage, name, *flags = arguments
    code, _, err = call(capsys, stage, name, scan, "-o", tmp_path / "o.nii", *flags)
    assert code == 2
    assert says in err
    assert not (tmp_path / "o.nii").exists()


def test_the_help_is_true_of_each_method(capsys):
    texts = {
        name: " ".join(call(capsys, *name.split(), "--help")[1].split()) for name in ("segment k-means", "segment model", "segment otsu")
    }
    assert "in the model's order" in texts["segment model"]
    assert "--channel" in texts["segment k-means"]
    assert "in the model's order" not in texts["segment k-means"]
    assert "Where the network runs" in texts["segment model"]
    assert "--device" not in texts["segment otsu"]
    assert "Default: []" not in " ".join(call(capsys, "segment", "region-growing", "--help")[1].split())


def test_a_hidden_device_is_still_taken(scan, tmp_path, capsys):
    code, _, err = call(capsys, "segment", "threshold", scan, "-o", tmp_path / "o.nii", "--lower", 0, "--device", "cpu")
    assert code == 0, err


def test_the_catalogue_writes_limits_as_signs(capsys):
    code, out, _ = call(capsys, "methods", "gaussian")
    assert code == 0
    assert "> 0" in out
    assert "gt 0" not in out
    assert "≤" in call(capsys, "methods", "canny")[1] or "≥" in call(capsys, "methods", "canny")[1]


def test_thousands_of_segments_are_not_all_printed(scan, tmp_path, capsys):
    arguments = ("segment", "superpixels", scan, "--size-mm", 2)
    code, out, err = call(capsys, *arguments, "-o", tmp_path / "o.nii")
    assert code == 0, err
    count = np.count_nonzero(np.unique(nibabel.load(tmp_path / "o.nii").dataobj))
    assert count > 150
    assert f"… {count - 20:,} more in o.nii" in out
    assert len(out.splitlines()) < 40
    code, out, _ = call(capsys, *arguments, "-o", tmp_path / "p.nii", "--json")
    assert len(json.loads(out)["segments"]) == count


def test_too_many_names_leave_no_file(scan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("medseg.io.labels._MOST_BYTES", 1000)
    code, _, err = call(capsys, "segment", "superpixels", scan, "--size-mm", 2, "-o", tmp_path / "o.nii")
    assert code == 5
    assert "o.labels.csv" in err
    assert "tmp-" not in err
    assert sorted(os.listdir(tmp_path)) == ["scan.nii.gz"]
