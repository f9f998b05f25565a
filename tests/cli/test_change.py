"""`medseg change` as a user types it: tables and plots, days, registration, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from medseg.cli.change import change
from medseg.core.errors import MedsegError

AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return str(path)


def scene(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    array = np.zeros((50, 48, 30), np.uint8)
    for i, j, k, edge in boxes:
        array[i : i + edge, j : j + edge, k : k + edge] = 1
    return array


def run(*arguments: object) -> dict:
    result = CliRunner().invoke(change, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(change, [*map(str, arguments)])
    assert result.exit_code != 0
    assert isinstance(result.exception, (MedsegError, SystemExit)), result.exception
    return str(result.exception) + result.output


@pytest.fixture
def pair(tmp_path) -> tuple[str, str]:
    base = save(tmp_path / "base.nii.gz", scene((10, 10, 5, 8), (30, 30, 15, 6)))
    later = save(tmp_path / "later.nii.gz", scene((9, 9, 5, 12), (12, 34, 20, 6)))
    return base, later


def test_tables_plots_and_json(pair, tmp_path):
    document = run(*pair, "--days", 60, "--volumetric", "-o", tmp_path / "out")
    assert document["schema"] == "medseg.change/1"
    assert {row["status"] for row in document["lesions"]} >= {"new", "gone"}
    assert document["recist"]["responses"][0]["overall_response"] == "PD"
    assert document["volumetric"]["progression_limit_percent"] == 55.0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files >= {"change.csv", "change.json", "responses.csv", "waterfall.svg", "spider.svg"}
    assert json.loads((tmp_path / "out" / "change.json").read_text()) == document
    assert "already" in refused(*pair, "-o", tmp_path / "out")
    run(*pair, "--days", 60, "-o", tmp_path / "out", "--overwrite")


def test_positions_that_are_compared_as_they_are_are_said(pair):
    assert "NOT_REGISTERED" in {finding["code"] for finding in run(*pair)["findings"]}
    document = run(*pair, "--registration", "none")
    assert "NOT_REGISTERED" not in {finding["code"] for finding in document["findings"]}
    assert "DAYS_UNKNOWN" in {finding["code"] for finding in document["findings"]}


def test_only_day_differences_go_out(pair, tmp_path):
    document = run(*pair, "--date", "2021-03-04", "--date", "20210603", "-o", tmp_path / "out")
    assert document["time_points"][1]["days"] == 91.0
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir() if path.is_file())
    assert "2021" not in written.replace("doi:10.1016/j.ejca.2008.10.026", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--days", "3", "--days", "4"], "1 times, not 2"),
        (["--date", "2021-03-04"], "2 times, not 1"),
        (["--date", "yesterday", "--date", "today"], "2024-03-01"),
        (["--date", "2021-03-04", "--date", "2020-03-04"], "order of time"),
        (["--registration", "rigid"], "--image"),
        (["--target", "nothing"], "no lesion 'nothing'"),
        (["--segment", "nothing"], "no segment 'nothing'"),
    ],
)
def test_what_cannot_be_meant_is_refused(pair, options, words):
    assert words in refused(*pair, *options)


def test_one_scan_is_refused(pair):
    assert "two scans at least" in refused(pair[0])


def test_empty_masks_give_an_empty_table(tmp_path):
    empty = save(tmp_path / "empty.nii.gz", scene())
    (tmp_path / "empty.labels.csv").write_text("LabelValue,Name\n1,lesion\n")
    document = run(empty, empty, "--registration", "none")
    assert document["lesions"] == []
    assert {"NO_LESION"} <= {finding["code"] for finding in document["findings"]}


def test_dicom_dates_and_frame_of_reference(shared_data):
    """Tumour of one patient drawn on CT and on PET of one session: one frame of reference, so nothing is registered."""
    case = shared_data / "tumour_sts_002"
    document = run(
        case / "rtstruct" / "CT_RS.dcm", case / "rtstruct" / "PET_RS.dcm",
        "--image", case / "dicom" / "CT", "--image", case / "dicom" / "PET",
    )  # fmt: skip
    assert "SAME_FRAME_OF_REFERENCE" in {finding["code"] for finding in document["findings"]}
    assert document["time_points"][1]["registration"] == {"kind": "none"}
    (row,) = [row for row in document["lesions"] if row["base_volume_ml"] and row["base_volume_ml"] > 5]
    assert row["overlap"] > 0.8
    assert row["base_volume_ml"] == pytest.approx(53.295369, abs=1e-3)  # the mask that IBSI made of the contours


def test_a_folder_of_a_run_is_taken(pair, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "segmentation.nii.gz").write_bytes(Path(pair[0]).read_bytes())
    assert run(folder, pair[1], "--registration", "none")["time_points"][0]["lesions"] == 2


def test_help_names_every_option():
    text = CliRunner().invoke(change, ["--help"]).output
    for name in ("--registration", "--volumetric", "--date", "--days", "--repeatability", "--target", "--tolerance"):
        assert name in text
