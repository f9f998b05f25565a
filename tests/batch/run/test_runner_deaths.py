"""Workers that crash, hang, are killed or take too much: the guilty case fails, the others are done, none is tried for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from runner_bench import Bench

from medseg.batch.records.result import read_result
from medseg.batch.run.runner import Summary


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, 4)


@pytest.mark.parametrize(("what", "word"), [("crash", "SIGSEGV"), ("exit:134", "exit code 134"), ("exit:0", "exit code 0")])
def test_a_crash_fails_the_guilty_case_alone(bench: Bench, what: str, word: str) -> None:
    """B45: of the two in the worker either may be guilty, so each is run by itself."""
    assert bench.run({1: [what]}) == Summary(done=3, failed=1, by_code={"CRASH": 1})
    assert bench.codes() == ["", "CRASH", "", ""]
    assert len(bench.attempts(1)) <= 2
    result = read_result(bench.layout.result(bench.cases[1].case_id))
    assert result is not None
    assert word in result.message
    bench.check_nothing_is_left()


def test_a_case_that_dies_alone_is_not_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 1)
    assert bench.run({0: ["crash", "done"]}) == Summary(failed=1, by_code={"CRASH": 1})
    assert bench.attempts(0) == [1]


def test_a_worker_that_dies_before_it_begins_is_no_endless_loop(bench: Bench) -> None:
    summary = bench.run({2: ["crash unread"]})
    assert summary == Summary(done=3, failed=1, by_code={"CRASH": 1})
    assert bench.codes() == ["", "", "CRASH", ""]


def test_a_killed_worker_loses_nothing(bench: Bench) -> None:
    """B44: the case may have been too large beside another; it gets the machine for itself, once."""
    assert bench.run({0: ["kill", "done"]}, workers=2).done == 4
    assert bench.codes() == ["", "", "", ""]
    assert bench.count("worker_died") == 1
    bench.check_nothing_is_left()


def test_a_case_that_is_always_killed_fails_at_the_end(bench: Bench) -> None:
    summary = bench.run({0: ["kill"]}, workers=2)
    assert (summary.done, summary.failed) == (3, 1)
    assert bench.codes()[0] in ("KILLED", "OUT_OF_MEMORY")  # the latter where the machine ran out of memory meanwhile
    assert 2 <= len(bench.attempts(0)) <= 3
    finished = [event["case_id"] for event in bench.events if event["event"] == "case_finished"]
    assert finished[-1] == bench.cases[0].case_id
    companies = [event["company"] for event in bench.events if event["event"] == "case_retried"]
    assert companies[-1] == "only"


@pytest.mark.parametrize("what", ["hang", "hang read"])
def test_a_case_that_hangs_times_out_and_the_others_are_innocent(bench: Bench, what: str) -> None:
    """B46: the process is killed with its group, the case fails, nothing else is tried twice for it."""
    begun = time.monotonic()
    summary = bench.run({1: [what]}, timeout_s=4.0)
    assert summary == Summary(done=3, failed=1, by_code={"TIMEOUT": 1})
    assert bench.codes() == ["", "TIMEOUT", "", ""]
    assert bench.attempts(1) == [1]
    assert bench.count("case_retried") == 0
    assert time.monotonic() - begun < 60  # it would hang for 600
    bench.check_nothing_is_left()


def test_a_process_that_cannot_be_killed_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits inside the system for a dead file server ends when that answers; the run does not wait for it."""
    bench, kept = Bench(tmp_path, 3), []
    monkeypatch.setattr("medseg.batch.run.worker_process.kill_group", kept.append)
    monkeypatch.setattr("medseg.batch.run.dispatcher._STUCK_S", 0.5)
    monkeypatch.setattr("medseg.batch.run.runner._END_S", 0.5)
    assert bench.run({0: ["hang"]}, timeout_s=4.0) == Summary(done=2, failed=1, by_code={"TIMEOUT": 1})
    assert bench.codes() == ["TIMEOUT", "", ""]
    kept[0].kill()
    kept[0].wait()


def test_waiting_behind_a_slow_case_is_no_fault(tmp_path: Path) -> None:
    """The second case is read while the first one computes for nearly the whole time that a stage may take."""
    bench = Bench(tmp_path, 3)
    assert bench.run({0: ["sleep:2.4"], 1: ["sleep:2.4"], 2: ["sleep:2.4"]}, timeout_s=3.6) == Summary(done=3)


def test_a_silent_worker_is_ended(bench: Bench) -> None:
    summary = bench.run({1: ["stop"]}, silence_s=4.0)
    assert summary == Summary(done=3, failed=1, by_code={"TIMEOUT": 1})
    bench.check_nothing_is_left()


def test_a_worker_that_takes_too_much_memory_is_ended(bench: Bench) -> None:
    summary = bench.run({1: ["memory"]}, memory_gb=1.0)
    assert summary == Summary(done=3, failed=1, by_code={"OUT_OF_MEMORY": 1})
    assert bench.attempts(1)[-1] in (2, 3)
