from __future__ import annotations

import json

import click.testing
import numpy as np
import pytest

from medseg.cli.report import report
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.io.write import write


def _run(*arguments):
    return click.testing.CliRunner().invoke(report, [str(one) for one in arguments], standalone_mode=False)


@pytest.fixture
def segmentation(tmp_path):
    array = np.zeros((16, 16, 10), np.uint8)
    array[4:11, 5:12, 2:8] = 1
    return write(LabelMap(array, Geometry(array.shape, np.diag([2.0, 2.0, 3.0, 1.0])), (Segment(1, "tumour"),)), tmp_path / "t.seg.nrrd")


def test_one_json_document_and_nothing_else(segmentation, tmp_path):
    done = _run("--segmentation", segmentation, "-o", tmp_path / "out", "--methods-text", "--parquet", "--json")
    assert done.exception is None, done.exception
    document = json.loads(done.stdout)
    assert document["schema"] == "medseg.report/1"
    (case,) = document["cases"]
    assert case["segments"][0]["volume_ml"] == pytest.approx(7 * 7 * 6 * 12 / 1000)
    assert "tumour: 3.53 ml" in document["methods"]["results"]
    assert {"report.html", "methods.md", "references.bib", "measurements.parquet"} <= set(document["files"])
    again = _run(tmp_path / "out", "--quiet")
    assert again.exception is None
    assert again.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "FOLDER of a run"),
        (("--segmentation", "a"), "-o FOLDER"),
        (("--segmentation", "a", "--image", "b", "--image", "c", "-o", "x"), "one scan for each"),
        (("--segmentation", "a", "--name", "b", "--name", "c", "-o", "x"), "one name for each"),
        (("a", "b", "--image", "c", "-o", "x"), "one --image"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments, words):
    done = _run(*arguments)
    assert isinstance(done.exception, click.UsageError)
    assert words in str(done.exception)


def test_what_is_not_there_is_said_in_words(tmp_path):
    done = _run(tmp_path / "nowhere")
    assert done.exception.exit_code == 3
    assert "medseg run" in str(done.exception)
