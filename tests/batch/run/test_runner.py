"""The parent of the workers, against a worker that does what a script says: every case ends as done or with its reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from runner_bench import Bench

from medseg.batch.records.layout import Layout
from medseg.batch.run.runner import Summary


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, 4)


def test_every_case_is_done_once_and_not_again(bench: Bench) -> None:
    summary = bench.run(workers=2)
    assert summary == Summary(done=4)
    assert summary.exit_code == 0
    assert bench.codes() == ["", "", "", ""]
    assert [bench.attempts(number) for number in range(4)] == [[1]] * 4
    before = [bench.layout.result(case.case_id).stat().st_mtime_ns for case in bench.cases]
    assert bench.again() == Summary(skipped=4)
    assert before == [bench.layout.result(case.case_id).stat().st_mtime_ns for case in bench.cases]
    assert bench.count("worker_started") == 2
    bench.check_nothing_is_left()


def test_the_log_tells_the_story_without_paths(bench: Bench) -> None:
    bench.run({0: ["code:MISSING_SLICES"], 1: ["crash"]})
    logged = [json.loads(line) for line in bench.layout.events.read_text(encoding="ascii").splitlines()]
    kinds = Counter(event["event"] for event in logged)
    assert kinds["run_started"] == kinds["run_finished"] == 1
    assert kinds["case_finished"] == 4
    assert logged[-1]["by_code"] == {"CRASH": 1, "MISSING_SLICES": 1}
    assert logged[-1]["exit_code"] == 1
    failed = {event["code"]: event for event in logged if event["event"] == "case_finished" and event["status"] == "failed"}
    assert failed["MISSING_SLICES"]["message"] == "it failed"
    assert "SIGSEGV" in failed["CRASH"]["message"]
    text = bench.layout.events.read_text(encoding="ascii")
    assert not any(name in text for name in ("scans", ".bin", str(bench.root.parent)))


def test_a_failure_stands_until_it_is_to_be_tried_again(bench: Bench) -> None:
    """B45, B46: no loop of retries, neither now nor with the next run."""
    assert bench.run({0: ["code:MISSING_SLICES"], 1: ["crash", "crash", "done"]}) == Summary(
        done=2, failed=2, by_code={"CRASH": 1, "MISSING_SLICES": 1}
    )
    again = bench.again()
    assert again == Summary(skipped=2, failed_before=2, by_code={"CRASH": 1, "MISSING_SLICES": 1})
    assert again.exit_code == 1
    bench.write_script({})
    assert bench.again(retry_failed=True) == Summary(done=2, skipped=2)
    assert bench.codes() == ["", "", "", ""]


def test_what_can_pass_is_tried_again(bench: Bench) -> None:
    summary = bench.run({0: ["code:IO_ERROR", "done"], 1: ["code:OUT_OF_MEMORY", "done"], 2: ["code:DEVICE_LOST", "done"]})
    assert summary == Summary(done=4)
    assert [event["code"] for event in bench.events if event["event"] == "case_retried"].count("IO_ERROR") == 1
    assert bench.attempts(1)[-1] == 2
    bench.check_nothing_is_left()


def test_retries_have_an_end(bench: Bench) -> None:
    summary = bench.run({1: ["code:OUT_OF_MEMORY"], 2: ["code:DEVICE_LOST"]}, workers=2)
    assert summary == Summary(done=2, failed=2, by_code={"DEVICE_LOST": 1, "OUT_OF_MEMORY": 1})
    assert sorted(set(bench.attempts(1))) == [1, 2, 3]  # an attempt that ends with the worker of the lost device counts for nobody
    assert bench.attempts(2)[-1] <= 3
    assert bench.count("case_finished") == 4


def test_lines_that_are_no_events_are_passed_over(bench: Bench) -> None:
    assert bench.run({0: ["garbage"], 2: ["garbage"]}) == Summary(done=4)
    assert bench.count("worker_started") == 1


def test_a_full_disk_stops_the_run(bench: Bench) -> None:
    """B48: exit 5, what is done stays, and nothing half-written."""
    summary = bench.run({1: ["full"]}, grace_s=2)
    assert (summary.stopped, summary.exit_code, summary.message) == ("OUTPUT", 5, "the disk is full")
    assert bench.codes()[1] == "-"  # one that was looked at sooner may have come before it
    assert set(bench.codes()) <= {"", "-"}
    bench.check_nothing_is_left()
    done = bench.codes().count("")
    assert bench.run({}) == Summary(done=4 - done, skipped=done)


def test_an_output_that_cannot_be_written_is_said_at_once(bench: Bench) -> None:
    from medseg.core.errors import OutputError

    bench.layout = Layout(bench.root / "000.bin" / "out")
    with pytest.raises(OutputError):
        bench.run({})
    assert bench.trace() == []


@pytest.mark.parametrize(("start", "word"), [("fatal", "the model is not there"), ("broken", "No module named 'medseg'")])
def test_workers_that_cannot_start_end_the_run(bench: Bench, start: str, word: str) -> None:
    summary = bench.run({}, start=start, workers=2)
    assert (summary.stopped, summary.exit_code) == ("MODEL", 4)
    assert word in summary.message
    assert bench.codes() == ["-"] * 4
    assert bench.count("worker_started") <= 6
    bench.check_nothing_is_left()


def test_a_program_that_is_not_there_ends_the_run(bench: Bench) -> None:
    summary = bench.again(worker_command=("/nowhere/python",))
    assert (summary.stopped, summary.exit_code) == ("MODEL", 4)


def test_a_worker_that_never_gets_ready_is_ended(bench: Bench) -> None:
    assert bench.run({}, start="asleep", start_s=0.5, silence_s=2).stopped == "MODEL"
