"""`medseg phantom --fault` and `medseg phantom score`."""

from __future__ import annotations

import csv
import json
import sys

import pytest
from click.testing import CliRunner

from medseg.cli.main import cli
from medseg.phantom.faults import FAULTS

COPY = "import shutil,sys; shutil.copy(sys.argv[1], sys.argv[2])"


def call(*arguments, code=0):
    done = CliRunner().invoke(cli, ["phantom", *map(str, arguments)], standalone_mode=False)
    if code == 0:
        assert done.exception is None, done.exception
    else:
        assert done.exception is not None
    return done


def tool(source: str) -> str:
    return f"{sys.executable} -c '{source}' {{in}} {{out}}"


def test_the_phantoms_by_name_are_as_before(tmp_path):
    call("sphere", "-o", tmp_path / "s", "--format", "nifti")
    assert (tmp_path / "s" / "image.nii.gz").is_file()
    assert "torso" in call().output


def test_one_fault_with_its_truth(tmp_path):
    document = json.loads(call("--fault", "gantry-tilt-20", "-o", tmp_path, "--json").output)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert document["faults"][0]["truth"] == truth
    assert truth["expected"]["action"] == "C"
    assert truth["expected"]["codes"] == ["GANTRY_TILT"]
    assert truth["organ"]["volumes_ml"] == [pytest.approx(502.654825)]
    assert len(list((tmp_path / "scan").iterdir())) == 80


def test_faults_of_a_row_get_a_folder_each(tmp_path):
    call("--fault", "N2,N12", "-o", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nifti-no-xform", "nrrd-no-space", "nrrd-only-spacings"]


def test_the_list_names_every_fault():
    document = json.loads(call("--fault", "list", "--json").output)
    assert [entry["name"] for entry in document["faults"]] == list(FAULTS)
    assert "gantry-tilt-5" in call("--fault", "list").output


def test_what_does_not_fit_together_is_said(tmp_path):
    assert "leave torso out" in str(call("torso", "--fault", "oblique", "-o", tmp_path, code=2).exception)
    assert "needs -o" in str(call("--fault", "oblique", code=2).exception)
    assert "score" in str(call("torso", "--tool", "x {in} {out}", code=2).exception)
    assert "{in}" in str(call("score", code=2).exception)
    assert "{in}" in str(call("score", "--tool", "cp", code=2).exception)
    assert "cannot be run" in str(call("score", "--fault", "N2", "--tool", "/no/such/tool {in} {out}", code=2).exception)


def score(source: str, fault: str, *more):
    return json.loads(call("score", "--tool", tool(source), "--fault", fault, "--json", *more).output)


def test_a_reader_that_copies_is_right_where_the_file_is():
    document = score(COPY, "N15,N10,N4")
    verdicts = {entry["fault"]: entry for entry in document["faults"]}
    assert verdicts["nifti-radiological"]["verdict"] == "right"
    assert verdicts["nifti-radiological"]["error_percent"] == pytest.approx(0.02, abs=0.1)
    assert document["totals"]["right"] >= 3


def test_wrong_refused_crashed_and_hanging_readers():
    # an sform without the slice distance, as a reader that does not know it writes: 1 mm instead of 2.5
    forgets = (
        'import struct,sys; b=open(sys.argv[1],"rb").read(); sform=struct.pack("<12f",1,0,0,0,0,1,0,0,0,0,1,0);'
        'open(sys.argv[2],"wb").write(b[:280]+sform+b[328:])'
    )
    (entry,) = score(forgets, "nifti-neurological")["faults"]
    assert (entry["verdict"], entry["error_percent"]) == ("silently wrong", pytest.approx(-60, abs=0.1))
    (entry,) = score("raise SystemExit(3)", "nifti-neurological")["faults"]
    assert (entry["verdict"], entry["outcome"], entry["exit_code"]) == ("refused", "refused", 3)
    (entry,) = score("import os; os.abort()", "nifti-neurological")["faults"]
    assert (entry["verdict"], entry["outcome"]) == ("refused", "crashed")
    (entry,) = score("import time; time.sleep(60)", "nifti-neurological", "--timeout", 1)["faults"]
    assert (entry["verdict"], entry["outcome"]) == ("refused", "timeout")
    (entry,) = score("pass", "nifti-neurological")["faults"]
    assert (entry["verdict"], entry["remark"]) == ("refused", "no output, yet exit code 0")


def test_a_refusal_is_right_where_the_catalogue_refuses_and_a_file_left_behind_is_told():
    (entry,) = score("raise SystemExit(1)", "nifti-cut-short")["faults"]
    assert entry["verdict"] == "right"
    (entry,) = score(COPY + "; raise SystemExit(1)", "nifti-neurological")["faults"]
    assert entry["verdict"] == "refused"
    assert "left a file with +0.02 %" in entry["remark"]


def test_the_table_is_written_as_csv_and_markdown(tmp_path):
    call("score", "--tool", tool(COPY), "--fault", "N15", "-o", tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["fault"] for row in rows] == ["nifti-radiological", "nifti-neurological", "nrrd-right-anterior"]
    call("score", "--tool", tool(COPY), "--fault", "N2", "-o", tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text().startswith("| row | fault |")


def test_a_growth_study_is_written_scan_by_scan(tmp_path, monkeypatch):
    """The study itself is tested with the phantom; here only what lands where."""
    from medseg.phantom import growth

    real = growth.make_growth
    monkeypatch.setattr(growth, "make_growth", lambda seed, **_: real(seed, spacings_mm=((6.0, 6.0, 6.0),), is_moved=False))
    document = json.loads(call("growth", "-o", tmp_path, "--json").stdout)
    assert {path.name for path in (tmp_path / "day_0").iterdir()} >= {"image.nii.gz", "lesions.nii.gz", "organs.nii.gz"}
    assert json.loads((tmp_path / "truth.json").read_text()) == document["truth"]
