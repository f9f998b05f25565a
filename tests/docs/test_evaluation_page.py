"""The page on evaluation: its Python runs, and its tables name what the program writes."""

from __future__ import annotations

import csv
import doctest
import io
import re
from pathlib import Path

import numpy as np

from medseg.cli.evaluate import evaluate as command
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.overlap import evaluate
from medseg.reporting.scores import scores_csv

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"


def written() -> tuple[dict, list[str]]:
    label_map = LabelMap(np.ones((4, 4, 4), np.uint8), Geometry((4, 4, 4), np.eye(4)), (Segment(1, "x"),))
    found = evaluate(label_map, label_map, lesions=True)
    return found.to_dict(), next(csv.reader(io.StringIO(scores_csv(found), newline="")))


def test_the_python_runs():
    assert doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8").failed == 0


def test_every_score_is_explained():
    text = PAGE.read_text(encoding="utf-8")
    document, columns = written()
    named = set(re.findall(r"`([a-z0-9_]+)`", text))
    assert set(document["summary"]["metrics"]) - {"volume_difference_percent"} <= named
    assert {column for column in columns if column.startswith("lesion_")} <= named


def test_every_option_exists():
    options = {name for parameter in command.params for name in parameter.opts}
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]*", PAGE.read_text(encoding="utf-8"))) <= options
