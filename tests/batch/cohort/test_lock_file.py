"""medseg.lock: complete, without a path, and the same bytes for the same cohort."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.batch.cases.case_files import FOUND_COLUMNS
from medseg.batch.cohort.lock_file import write_lock
from medseg.batch.records.batch_file import write_batch
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import CaseResult, Inputs, Output
from medseg.core.errors import UnreadableFileError
from medseg.pipeline import parse_pipeline

PIPELINE = parse_pipeline("schema: medseg.pipeline/1\nname: p\nsegment: {method: threshold, parameters: {lower: 0}}\n", "p.yaml")
PLAN = Plan(PIPELINE, "1.0", models={"b": "22", "a": "11"})
ENVIRONMENT = {"python": "CPython 3.11.1", "platform": "Linux", "libraries": {"numpy": "2.1.0"}}


def list_cases(layout: Layout, *case_ids: str) -> None:
    with layout.found.open("w", newline="") as file:
        csv.writer(file).writerows([FOUND_COLUMNS, *(("case", "", case_id, "NIfTI", "CT", 9, 1, "", "") for case_id in case_ids)])


def put(layout: Layout, result: CaseResult) -> None:
    folder = layout.case(result.case_id)
    folder.mkdir(parents=True, exist_ok=True)
    steps = [{"method": "threshold", "stage": "segment", "parameters": {"lower": 0, "upper": None}, "reference": "", "seconds": 0.12}]
    (folder / "provenance.json").write_text(json.dumps({"steps": steps}))
    layout.result(result.case_id).write_text(result.to_json())


def done(case_id: str, **values) -> CaseResult:
    return CaseResult(
        case_id, "done", PLAN.key, "k" + case_id, inputs=Inputs("f" * 64, 80, 1234, "s"), outputs={"x": Output(1, "2")}, **values
    )


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "out")
    write_batch(found, PLAN, None, ENVIRONMENT)
    list_cases(found, "cd" * 8, "ab" * 8)
    return found


def test_it_names_plan_models_steps_environment_and_the_inputs_of_every_case(layout):
    put(layout, done("ab" * 8))
    put(layout, CaseResult("cd" * 8, "failed", PLAN.key, code="TIMEOUT", message="too slow"))
    write_lock(layout)
    lock = json.loads(layout.lock.read_text())
    assert (lock["plan_key"], lock["plan"], lock["models"]) == (PLAN.key, PLAN.to_dict(), {"a": "11", "b": "22"})
    assert lock["environments"] == [ENVIRONMENT]
    assert lock["steps"] == [{"method": "threshold", "stage": "segment", "parameters": {"lower": 0, "upper": None}, "reference": ""}]
    expected = {"status": "done", "plan_key": PLAN.key, "key": "k" + "ab" * 8, "inputs_sha256": "f" * 64, "files": 80}
    assert lock["cases"] == {"ab" * 8: expected, "cd" * 8: {"status": "failed", "code": "TIMEOUT", "plan_key": PLAN.key, "key": ""}}


def test_times_attempts_and_the_order_of_the_runs_change_no_byte(layout, tmp_path):
    cases = [done(f"{number:016x}") for number in (5, 3, 2**60)]
    for case in cases:
        put(layout, case)
    list_cases(layout, *(case.case_id for case in cases))
    first = write_lock(layout).read_bytes()
    other = Layout(tmp_path / "other")
    write_batch(other, PLAN, None, ENVIRONMENT)
    for number, case in enumerate(reversed(cases)):
        put(other, replace(case, attempts=number + 1, seconds={"compute": number}, finished=f"2026-01-0{number + 1}", device="cpu"))
    list_cases(other, *sorted(case.case_id for case in cases))
    assert write_lock(other, is_sorted=True).read_bytes() == first
    assert list(json.loads(first)["cases"]) == sorted(case.case_id for case in cases)


def test_a_broken_result_is_left_out_and_an_empty_batch_is_whole(layout):
    assert json.loads(write_lock(layout).read_text())["cases"] == {}
    put(layout, done("ab" * 8))
    put(layout, done("cd" * 8))
    layout.result("ab" * 8).write_text('{"schema": "medseg.result/1"')
    assert list(json.loads(write_lock(layout).read_text())["cases"]) == ["cd" * 8]


def test_a_result_of_an_earlier_search_is_not_named(layout):
    put(layout, done("ab" * 8))
    put(layout, done("cd" * 8))
    list_cases(layout, "cd" * 8)
    assert list(json.loads(write_lock(layout).read_text())["cases"]) == ["cd" * 8]


def test_a_folder_that_is_no_batch_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="not the output of medseg batch"):
        write_lock(Layout(tmp_path))
