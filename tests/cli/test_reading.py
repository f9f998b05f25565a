"""The explicit ways on, on every command that reads a scan: what is typed becomes ReadOptions, and is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import click
import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from medseg.cli.main import cli
from medseg.cli.main import run as run_program
from medseg.cli.reading import reading
from medseg.io.options import ReadOptions
from medseg.io.report import choices_of

READING_COMMANDS = ("inspect", "convert", "measure", "run", "preprocess resample", "segment otsu", "postprocess keep-largest")
FLAGS = ("--series", "--select", "--volume", "--allow-gaps", "--spacing", "--nifti-xform", "--assume-hu", "--resample-mixed")


@click.command()
@reading(takes_all="makes each a channel")
def takes_all(reading: ReadOptions, every_volume: bool) -> None:
    click.echo(json.dumps([choices_of(reading), every_volume]))


@click.command()
@reading()
def takes_one(reading: ReadOptions) -> None:
    click.echo(json.dumps(choices_of(reading)))


def said(command: click.Command, *arguments: str):
    done = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return json.loads(done.output)


def test_what_is_typed_is_what_is_read():
    typed = ("--series", "1.2", "--select", "largest", "--volume", "3", "--allow-gaps", "--spacing", "0.9,0.9,2.5")
    assert said(takes_one, *typed, "--nifti-xform", "qform", "--assume-hu", "--resample-mixed") == {
        "series": "1.2",
        "select": "largest",
        "volume_index": 3,
        "allow_gaps": True,
        "spacing_mm": [0.9, 0.9, 2.5],
        "nifti_xform": "qform",
        "assume_hu": True,
        "resample_mixed": True,
    }
    assert said(takes_one) == {}


def test_all_volumes_where_the_command_can():
    assert said(takes_all, "--volume", "all") == [{}, True]
    assert said(takes_all, "--volume", "0") == [{"volume_index": 0}, False]
    with pytest.raises(click.BadParameter, match="number from 0"):
        said(takes_one, "--volume", "all")


@pytest.mark.parametrize(
    "typed",
    [
        ("--spacing", "1,2"),
        ("--spacing", "1,2,x"),
        ("--spacing", "1,2,0"),
        ("--spacing", "1,2,-3"),
        ("--spacing", "1,2,nan"),
        ("--volume", "-1"),
        ("--volume", "1.5"),
        ("--volume", "²"),
        ("--nifti-xform", "both"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(typed):
    with pytest.raises(click.UsageError):
        said(takes_one, *typed)


@pytest.mark.parametrize("command", READING_COMMANDS)
def test_every_reading_command_has_all_of_them(command):
    text = CliRunner().invoke(cli, [*command.split(), "--help"]).output
    assert [flag for flag in FLAGS if f"{flag} " not in text and f"{flag}\n" not in text] == []


@pytest.fixture
def bold(tmp_path: Path) -> Path:
    array = np.zeros((12, 12, 12, 3), np.int16)
    array[4:8, 4:8, 4:8] = (10, 20, 30)
    array[..., 2] += 5
    nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 3, 4, 1])), tmp_path / "bold.nii.gz")
    return tmp_path / "bold.nii.gz"


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    code = run_program([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_a_run_records_how_the_scan_was_read(bold, tmp_path, capsys):
    (tmp_path / "p.yaml").write_text(
        "schema: medseg.pipeline/1\nname: p\nsegment: {method: threshold, parameters: {lower: 31, label: bright}}\n"
    )
    done = document(capsys, "run", tmp_path / "p.yaml", bold, "-o", tmp_path / "out", "--volume", 2)
    assert done["reading"] == {"volume_index": 2}
    assert done["segments"][0]["volume_ml"] == pytest.approx(64 * 24 / 1000)
    for name in ("provenance.json", "measurements.json"):
        record = json.loads((tmp_path / "out" / name).read_text())
        assert record["reading"] == {"volume_index": 2}
        assert isinstance(record["findings"], list)


def test_measure_and_segment_record_it_too(bold, tmp_path, capsys):
    done = document(capsys, "segment", "threshold", bold, "-o", tmp_path / "m.nii.gz", "--lower", 15, "--volume", 1)
    assert done["reading"] == {"volume_index": 1}
    done = document(capsys, "measure", tmp_path / "m.nii.gz", "--image", bold, "--volume", 2)
    assert (done["reading"], done["segments"][0]["mean"]) == ({"volume_index": 2}, 35)
    assert document(capsys, "measure", tmp_path / "m.nii.gz")["reading"] == {}


def test_a_limit_without_end_is_null_in_every_document(tmp_path, capsys):
    """An infinite limit among the details of a finding once broke the documents of a whole run."""
    flat = np.full((8, 8, 8), 40, np.int16)
    nibabel.save(nibabel.Nifti1Image(flat, np.eye(4)), tmp_path / "flat.nii")
    (tmp_path / "p.yaml").write_text("schema: medseg.pipeline/1\nname: p\nsegment: {method: threshold, parameters: {lower: 100}}\n")
    done = document(capsys, "run", tmp_path / "p.yaml", tmp_path / "flat.nii", "-o", tmp_path / "out")
    found = {finding["code"]: finding for finding in done["findings"]}
    assert {"CONSTANT_INTENSITY", "SEGMENT_EMPTY"} <= set(found)
    assert (done["segments"][0]["volume_ml"], done["segments"][0]["status"]) == (None, "absent")
    assert (tmp_path / "out" / "provenance.json").is_file()
