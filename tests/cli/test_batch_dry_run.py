"""What a dry run says of scans that do not name their modality."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_studies import STUDY, write_slices

from medseg.batch.batch import Request
from medseg.batch.run.run_options import RunOptions
from medseg.cli.batch_dry_run import dry_run
from medseg.cli.terminal import Terminal
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.write import write
from medseg.pipeline import load_pipeline

PIPELINE = "schema: medseg.pipeline/1\nname: bright\n{}segment: {{method: threshold, parameters: {{lower: 1, label: bright}}}}\n"


def said(folder: Path, capsys: pytest.CaptureFixture[str], *select: str, modality: str = "CT", listed: Path | None = None) -> str:
    """What it prints of the scans in `folder`/in."""
    (folder / "p.yaml").write_text(PIPELINE.format(f"modality: {modality}\n" if modality else ""))
    request = Request(folder / "in", folder / "out", load_pipeline(str(folder / "p.yaml")), select=select, listed=listed)
    assert dry_run(request, RunOptions(), None, Terminal()) == 0
    return capsys.readouterr().out


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A CT, a DICOM series and an image that do not say what they are, and broken DICOM files, which fail anyway."""
    write_slices(tmp_path / "in" / "ct", f"{STUDY}.1")
    write_slices(tmp_path / "in" / "unknown", f"{STUDY}.2", Modality="", StudyInstanceUID="1.2.3")
    (tmp_path / "in" / "broken").mkdir()
    (tmp_path / "in" / "broken" / "x.dcm").write_bytes(b"garbage")
    write(
        Volume(
            np.zeros(
                (
                    6,
                    6,
                    6,
                ),
                np.int16,
            ),
            Geometry((6, 6, 6), np.eye(4)),
            "CT",
        ),
        tmp_path / "in" / "scan.nii",
    )
    return tmp_path


def test_they_are_counted_and_what_it_advises_leaves_them_out(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(scans, capsys)
    assert text.count("not named") == 2
    assert "2 cases do not name their modality and are taken for CT: check them, or leave them out with --select Modality=CT\n" in text
    assert "4 cases" in text
    text = said(scans, capsys, "Modality=CT")
    assert "name" not in text.replace("--identify", "")
    assert "2 cases" in text  # the CT, and the broken files
    assert "a rule of --select does not hold: 2" in text


def test_one_of_them_is_spoken_of_as_one(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scans / "in" / "scan.nii").unlink()
    assert "1 case does not name its modality and is taken for CT: check it, or leave it out with --select" in said(scans, capsys)


def test_a_pipeline_for_any_scan_takes_them_for_nothing(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(scans, capsys, modality="")
    assert text.count("not named") == 2
    assert "taken for" not in text


def test_a_table_of_cases_runs_what_it_names_whatever_the_rules_say(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = scans / "t.csv"
    table.write_text(f"path,series_uid,use\nunknown,{STUDY}.2,yes\nscan.nii,,yes\n")
    text = said(scans, capsys, "Modality=CT", listed=table)
    assert "leave them out with a no in the table of --cases\n" in text
    table.write_text(f"path,series_uid,use\nunknown,{STUDY}.2,no\nscan.nii,,no\nct,,yes\n")
    text = said(scans, capsys, listed=table)
    assert "not named" not in text
    assert "the table of cases says no: 2" in text


def test_programs_are_told_nothing_in_place_of_a_modality(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scans / "p.yaml").write_text(PIPELINE.format("modality: CT\n"))
    request = Request(scans / "in", scans / "out", load_pipeline(str(scans / "p.yaml")))
    assert dry_run(request, RunOptions(), None, Terminal(as_json=True)) == 0
    assert sorted(case["modality"] for case in json.loads(capsys.readouterr().out)["cases"]) == ["", "", "", "CT"]
