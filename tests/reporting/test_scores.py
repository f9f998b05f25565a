"""Scores as a reader and a spreadsheet get them."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.bootstrap import Bootstrap
from medseg.evaluation.cohort import CaseScores, CaseStatus, CohortEvaluation
from medseg.evaluation.overlap import evaluate, evaluate_without
from medseg.reporting.scores import crosscheck_lines, definition_line, format_score, score_tables, scores_csv

GRID = Geometry((12, 10, 8), np.diag([1.0, 2, 3, 1]))


def label_map(start: int, second: bool = True) -> LabelMap:
    array = np.zeros(GRID.shape, np.uint8)
    array[start : start + 3, 1:4, 2:4] = 1
    array[2:4, 6:9, 2:4] = 2 * second
    return LabelMap(array, GRID, (Segment(1, "tumour, primary"), Segment(2, "node")))


def cohort(**options: object) -> dict:
    settings = {"lesions": True, **options}
    found = evaluate(label_map(2), label_map(3, False), **settings)
    other = evaluate(label_map(2), label_map(2), **settings)
    cases = (
        CaseScores("one", CaseStatus.COMPARED, "", found),
        CaseScores("two", CaseStatus.COMPARED, "", other),
        CaseScores("three", CaseStatus.MISSING, "", evaluate_without(label_map(2), settings, note="no prediction has this name")),
        CaseScores("four", CaseStatus.FAILED, "damaged prediction", evaluate_without(label_map(2), settings, failure="damaged prediction")),
        CaseScores("five", CaseStatus.FAILED, "damaged reference"),
    )
    rules = {"surface": found.surface, "match": found.match}
    return CohortEvaluation(cases, **rules, surplus=("six.nii",), ignored=("notes.txt",), bootstrap=Bootstrap(500, 7)).to_dict()


def rows(document: dict) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(scores_csv(document), newline="")))


def printed(document: dict, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(*score_tables(document), sep="\n")
    return console.file.getvalue()


def test_the_table_has_a_row_for_every_case_and_segment():
    found = rows(cohort())
    assert [(row["case"], row["label"], row["outcome"]) for row in found] == [
        ("one", "tumour, primary", "compared"),
        ("one", "node", "missed"),
        ("two", "tumour, primary", "compared"),
        ("two", "node", "compared"),
        ("three", "tumour, primary", "missed"),
        ("three", "node", "missed"),
        ("four", "tumour, primary", "failed"),
        ("four", "node", "failed"),
        ("five", "", "failed"),
    ]
    assert {row["definition"] for row in found} == {"max-directed"}
    assert {row["percentile"] for row in found} == {"95"}


def test_what_is_undefined_is_an_empty_cell_with_its_reason():
    by_case = {(row["case"], row["label"]): row for row in rows(cohort())}
    missed, failed, unread = by_case["one", "node"], by_case["four", "node"], by_case["five", ""]
    assert (missed["dice"], missed["hd95_mm"], missed["precision"]) == ("0.0", "", "")
    assert missed["reason"] == "the segment has no voxel in the prediction"
    assert (failed["dice"], failed["prediction_voxels"], failed["reason"]) == ("", "", "damaged prediction")
    assert unread["reason"] == "damaged reference"
    assert "nan" not in scores_csv(cohort()).lower()


def test_numbers_read_back_equal():
    document = cohort()
    for row, cells in zip(document["segments"], rows(document), strict=False):
        for key in ("dice", "assd_mm", "nsd_1mm", "reference_volume_ml"):
            assert (float(cells[key]) if cells[key] else None) == row[key]


def test_lesions_stand_in_their_columns():
    (row,) = [row for row in rows(cohort(match="iou>=0.5")) if (row["case"], row["label"]) == ("one", "node")]
    assert (row["lesion_rule"], row["lesion_false_negatives"], row["lesion_sensitivity"]) == ("iou>=0.5", "1", "0.0")
    assert float(row["lesion_missed_volumes_ml"]) == pytest.approx(12 * 6 / 1000)
    assert "lesion_matched_dice" in row


def test_a_pair_of_files_has_no_column_case():
    (first, *_) = rows(evaluate(label_map(2), label_map(3)).to_dict())
    assert "case" not in first
    assert "lesion_rule" not in first


def test_the_reader_sees_three_lines_and_what_is_missing():
    text = printed(cohort())
    for words in ("without misses", "misses as worst case", "95 % interval", "500 resamples", "seed 7", "2 missed, 1 failed"):
        assert words in text
    for words in ("failed four: damaged prediction", "failed five: damaged reference", "every segment counted as missed: three", "six.nii"):
        assert words in text
    assert "notes.txt" in text
    assert "any-overlap" in text
    assert "larger of the two directed 95th percentiles" in text


def test_a_narrow_terminal_still_shows_every_segment():
    text = printed(cohort(), width=80)
    assert "node" in text
    assert "…" not in text  # nothing is cut off


def test_many_rows_and_labels_are_cut_and_said():
    array = np.zeros((30, 30, 30), np.uint16)
    array.reshape(-1)[: 300 * 5 : 5] = np.arange(1, 301)
    many = LabelMap(array, Geometry((30, 30, 30), np.eye(4)), tuple(Segment(n, f"s{n}") for n in range(1, 301)))
    document = evaluate(many, many, surfaces=False).to_dict()
    text = printed(document)
    assert "the first 200 of 300 rows" in text
    assert "300 labels" in text
    assert len(rows(document)) == 300


def test_the_definition_is_said():
    pooled = definition_line({"definition": "pooled", "percentile": 90, "tolerances_mm": [1.0, 2.5]})
    assert pooled.startswith("HD90 pooled")
    assert "1 mm and 2.5 mm" in pooled
    assert definition_line({"definition": None}) == "surfaces were not compared"


def test_values_have_the_digits_of_their_kind():
    assert [format_score(*pair) for pair in (("dice", 0.5), ("hd95_mm", 12.345), ("volume_difference_percent", 3.0), ("dice", None))] == [
        "0.5000",
        "12.3",
        "+3.00",
        "",
    ]


def test_what_other_packages_say():
    one = {"score": "dice", "largest_difference": 1e-9, "segment": "node", "note": "why"}
    checks = [
        {"package": "A", "version": "1.2", "segment_count": 3, "differences": [one], "note": ""},
        {"package": "B", "version": None, "segment_count": 0, "differences": [], "note": "not installed"},
    ]
    text = "\n".join(str(line) for line in crosscheck_lines(checks))
    assert "A 1.2 over 3 segments" in text
    assert "dice: 1e-09, in node (why)" in text
    assert "B: not installed" in text
