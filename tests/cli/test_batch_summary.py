"""The end of a batch: counts that add up, in shards too, and why cases failed in full, whatever was written."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from medseg.batch.batch import BatchDone, Request
from medseg.batch.cases.case_files import read_cases
from medseg.batch.cohort.write_cohort import CohortSummary
from medseg.batch.records.case import Case
from medseg.batch.records.events import EventLog
from medseg.batch.records.layout import Layout
from medseg.batch.run.run_options import RunOptions, Summary
from medseg.cli.batch_failures import _of_log
from medseg.cli.batch_summary import counts_of, show_summary
from medseg.cli.terminal import Terminal
from medseg.pipeline import parse_pipeline

PIPELINE = parse_pipeline("schema: medseg.pipeline/1\nname: p\nsegment: {method: threshold, parameters: {lower: 0}}\n", "p.yaml")
SENTENCE = "3 slices are missing at 112.5 mm, " + "which adds to every volume there, " * 6 + "so send the series again from the archive"
COHORT = CohortSummary({}, ())


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    (tmp_path / "out").mkdir()
    return Request(tmp_path / "in", tmp_path / "out", PIPELINE)


def shown(capsys: pytest.CaptureFixture[str], request: Request, done: BatchDone, options: RunOptions | None = None) -> str:
    show_summary(request, done, Terminal(), options=options)
    return capsys.readouterr().out


def words(text: str) -> str:
    """The text as one line: what was wrapped stands in it all the same."""
    return " ".join(text.split())


def write_table(layout: Layout, rows: list[tuple[str, str, str, str]]) -> None:
    with layout.cohort_wide.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("case_id", "case_status", "case_code", "case_message"), *rows])


def write_log(path: Path, failures: list[tuple[str, str, str]], summary: Summary) -> None:
    log = EventLog(path, lambda event: None)
    log.write("run_started", total=10)
    for case_id, code, message in failures:
        log.write("case_finished", case_id=case_id, status="failed", code=code, message=message)
    log.write("case_finished", case_id="fine", status="done", code="")
    log.write("run_finished", **{**vars(summary), "by_code": dict(summary.by_code)})
    log.close()


def list_cases(layout: Layout, count: int) -> None:
    """The list of cases as a search leaves it."""
    layout.private.mkdir()
    cases = [Case(f"{number:016x}", "NIfTI", (f"{number}.nii.gz",)) for number in range(count)]
    layout.case_list.write_text("".join(json.dumps(case.to_dict()) + "\n" for case in cases))
    assert len(list(read_cases(layout))) == count


def test_why_cases_failed_is_said_in_full_from_the_table(request_, capsys):
    """Those of earlier runs and of other machines too; of many that are alike a few, and where the others stand."""
    rows = [(f"slices{n}", "failed", "MISSING_SLICES", SENTENCE) for n in range(7)]
    write_table(request_.layout, [("fine", "done", "", "corrected by hand"), *rows, ("late", "failed", "TIMEOUT", "it took too long")])
    done = BatchDone(Summary(done=1, failed=6, failed_before=2, by_code={"MISSING_SLICES": 7, "TIMEOUT": 1}), None, COHORT)
    text = shown(capsys, request_, done)
    assert max(map(len, text.splitlines())) <= 160
    assert words(text).count(words(SENTENCE)) == 3
    assert "…" not in text
    assert "late TIMEOUT it took too long" in words(text)
    assert "4 more failed; why each case failed: column case_message of cohort.csv\n" in text
    assert "corrected by hand" not in text


def test_without_a_table_the_log_of_this_run_says_it(request_, capsys):
    first = Summary(failed=1, by_code={"CRASH": 1})
    write_log(request_.layout.events, [("old", "CRASH", "of an earlier run")], first)
    stopped = Summary(done=1, failed=1, by_code={"TIMEOUT": 1}, stopped="SIGINT")
    write_log(request_.layout.events, [("new", "TIMEOUT", SENTENCE)], stopped)
    text = words(shown(capsys, request_, BatchDone(stopped, {"cases": 9}, None)))
    assert f"new TIMEOUT {words(SENTENCE)} why each case failed: column case_message of cohort.csv when it is written" in text
    assert "earlier run" not in text
    assert "not run │ 7" in text
    other = BatchDone(Summary(done=2, failed=2, by_code={"TIMEOUT": 2}, stopped="SIGINT"), {"cases": 9}, None)
    assert "new" not in words(shown(capsys, request_, other)).split()  # that log is not of this run


def test_a_shard_reads_its_own_log_and_counts_what_others_do(request_, capsys):
    list_cases(request_.layout, 12)
    summary = Summary(done=2, failed=1, by_code={"TIMEOUT": 1})
    for number, (name, case) in enumerate([("events-2of3-a", "before"), ("events-2of3-b", "mine"), ("events-1of3-c", "other")]):
        path = request_.output / f"{name}.jsonl"
        write_log(path, [(case, "TIMEOUT", "it took too long")], summary)
        os.utime(path, (number, number))
    done, options = BatchDone(summary, {"cases": 12}, None), RunOptions(shard=(2, 3))
    text = words(shown(capsys, request_, done, options))
    assert "mine TIMEOUT it took too long" in text
    assert "before TIMEOUT" not in text
    assert "other TIMEOUT" not in text
    assert "not run │ 1" in text  # 4 of the 12 are its own
    assert "of other shards │ 8" in text
    # the same where the list was there and nothing was searched
    assert "of other shards │ 8" in words(shown(capsys, request_, BatchDone(summary, None, None), options))


@pytest.mark.parametrize("log", [b"", b"\xff{\n", b'{"event":"case_finished","status":"failed"}\n', b'["run_finished"]\n', None])
def test_a_log_or_table_that_cannot_be_read_spoils_no_end(request_, capsys, log):
    if log is not None:
        request_.layout.events.write_bytes(log)
        request_.layout.cohort_wide.write_bytes(log)
    summary = Summary(failed=1, by_code={"TIMEOUT": 1}, stopped="SIGTERM")
    assert "column case_message" in shown(capsys, request_, BatchDone(summary, None, None))
    assert "column case_message" in shown(capsys, request_, BatchDone(Summary(failed=1, by_code={"TIMEOUT": 1}), None, COHORT))


def test_where_nothing_failed_nothing_is_said_of_failures(request_, capsys):
    assert "case_message" not in shown(capsys, request_, BatchDone(Summary(done=3), {"cases": 3}, COHORT))


def test_counts_add_up_to_what_was_found():
    found = {"cases": 40, "left_out": {"scout": 2}}
    summary = Summary(done=10, skipped=1, failed=1, by_code={"TIMEOUT": 1})
    for done, share, is_shard, name in (
        (BatchDone(summary, found, None), (12, 40), True, "of other shards"),
        (BatchDone(summary, found, None), None, True, "not of this shard"),
        (BatchDone(summary, found, None), None, False, "run by others"),
        (BatchDone(Summary(done=12, stopped="SIGINT"), found, None), None, False, "not run"),
    ):
        counts = counts_of(done, share, is_shard=is_shard)
        assert counts[name] == 28
        assert sum(counts.values()) == 42
        assert [other for other in counts if other in {"not run", "not of this shard", "run by others", "of other shards"}] == [name]


def test_of_a_run_that_joined_others_the_rest_is_theirs(request_, capsys):
    done = BatchDone(Summary(done=2), {"cases": 9}, None)
    assert "run by others │ 7" in words(shown(capsys, request_, done, RunOptions(join=True)))
    # the list of cases is gone, so how many are of the shard is not known
    assert "not of this shard │ 7" in words(shown(capsys, request_, done, RunOptions(shard=(1, 2))))


def test_of_a_log_of_many_failures_a_few_of_every_code_are_kept(request_, capsys):
    """Those of the runs before do not count, and the others are counted."""
    write_log(request_.layout.events, [(f"old{n}", "CRASH", "") for n in range(9)], Summary(failed=9, by_code={"CRASH": 9}))
    failures = [(f"case{n}", ("TIMEOUT", "CRASH")[n // 40], SENTENCE) for n in range(80)]
    done = BatchDone(Summary(failed=80, by_code={"TIMEOUT": 40, "CRASH": 40}, stopped="SIGINT"), None, None)
    write_log(request_.layout.events, failures, done.summary)
    first = ["case0", "case1", "case2", "case40", "case41", "case42"]
    assert [failure.case_id for failure in _of_log(request_.layout.events, done)] == first
    assert "74 more failed" in shown(capsys, request_, done)
