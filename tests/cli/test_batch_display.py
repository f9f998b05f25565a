"""What a running batch shows, from events as a run sends them and a clock that the test moves."""

from __future__ import annotations

import io
import json

import pytest

from medseg.cli.batch_display import batch_display, line_printer, view
from medseg.cli.batch_state import BatchState, counted_line


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def started(case: str, worker: str = "1") -> dict:
    return {"time": "t", "event": "case_started", "case_id": case, "attempt": 1, "worker": worker}


def finished(case: str, code: str = "", worker: str = "1") -> dict:
    status = "failed" if code else "done"
    return {
        "time": "t",
        "event": "case_finished",
        "case_id": case,
        "status": status,
        "code": code,
        "attempt": 1,
        "seconds": {},
        "worker": worker,
    }


RUN = {"time": "t", "event": "run_started", "total": 118}
WORKER = {"time": "t", "event": "worker_started", "worker": "1", "device": "cpu"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def drawn(state: BatchState, width: int = 120) -> str:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width).print(view(state, "medseg batch · lungs"))
    return out.getvalue()


def test_counts_rate_and_time_left_come_from_the_events(clock):
    state = BatchState(clock)
    for event in (RUN, WORKER):
        state.take(event)
    for number in range(12):
        state.take(started(f"case{number}"))
        clock.now += 10
        state.take(finished(f"case{number}", "TIMEOUT" if number == 5 else ""))
    assert (state.done, state.failed, state.left) == (11, 1, 106)
    assert state.a_minute == pytest.approx(6)  # 12 cases in 120 s
    assert state.left_s == pytest.approx(106 * 10)
    assert counted_line(state) == "11 of 118 cases done, 1 failed, 106 left, 6 cases/min, about 18 min left"
    assert state.codes == {"TIMEOUT": 1}


def test_the_rate_is_that_of_the_last_ten_minutes(clock):
    state = BatchState(clock)
    state.take(RUN)
    for number in range(60):  # an hour of one case a minute, then ten minutes of six
        clock.now += 60
        state.take(finished(f"slow{number}"))
    for number in range(60):
        clock.now += 10
        state.take(finished(f"fast{number}"))
    assert state.a_minute == pytest.approx(6, rel=0.05)


def test_cases_that_were_done_before_make_the_rate_no_faster(clock):
    state = BatchState(clock)
    state.take(RUN)
    for _ in range(100):
        state.take({"event": "case_skipped", "case_id": "x", "status": "done", "code": "", "count": 1})
    state.take({"event": "case_skipped", "case_id": "y", "status": "failed", "code": "TIMEOUT", "count": 1})
    clock.now += 60
    state.take(finished("a"))
    state.take(finished("b"))
    assert (state.already, state.failed_before, state.done, state.left) == (100, 1, 2, 15)
    assert "100 done before, 1 failed before, 0 failed" in counted_line(state)
    assert state.a_minute == pytest.approx(2)


def test_the_view_names_what_each_worker_does_and_the_last_failures(clock):
    state = BatchState(clock)
    alive = {
        "event": "worker_alive",
        "worker": "1",
        "rss_bytes": 3 << 30,
        "cpu_percent": 98.2,
        "device": {"percent": 71, "used_bytes": 9 << 30},
    }
    for event in (RUN, WORKER, {**WORKER, "worker": "2", "device": "cuda:0"}, started("aaaa"), alive):
        state.take(event)
    state.take({"event": "case_stage", "case_id": "aaaa", "stage": "compute", "worker": "1"})
    clock.now += 12
    state.take({**finished("bbbb", "MISSING_SLICES", "2"), "message": "3 slices\nare missing"})
    text = drawn(state)
    for said in ("0 of 118 cases done, 1 failed, 117 left", "aaaa segmenting 12 s", "3.00 GiB", "98 %", "71 %, 9.0 GiB", "cuda:0", "waits"):
        assert said in text, said
    assert "bbbb  MISSING_SLICES  3 slices are missing" in text
    assert max(map(len, drawn(state, 60).splitlines())) <= 60  # a narrow terminal breaks nothing


def test_a_worker_that_died_is_gone_and_its_cases_wait(clock):
    state = BatchState(clock)
    for event in (RUN, WORKER, started("aaaa"), {"event": "worker_died", "worker": "1", "reason": "killed"}):
        state.take(event)
    assert "aaaa" not in drawn(state)
    state.take({**WORKER, "worker": "1"})
    state.take({"event": "case_retried", "case_id": "aaaa", "worker": "1"})
    assert (state.retried, state.done, state.failed) == (1, 0, 0)


def test_without_a_terminal_it_is_a_line_a_minute(clock):
    said: list[str] = []
    state = BatchState(clock)
    observe = line_printer(state, said.append)
    observe(RUN)
    for number in range(30):
        clock.now += 10
        observe(finished(f"case{number:02}", "CRASH" if number < 5 else ""))
    assert len([line for line in said if "cases done" in line]) == 5
    assert said[0] == "failed: case00 CRASH"
    assert "failed: 2 more since the last line" in said
    observe({"event": "stopping", "reason": "SIGINT", "signal": "SIGINT", "message": "stopping: SIGINT"})
    assert said[-1] == "stopping: what runs gets a moment to finish"
    observe({"event": "stopping", "reason": "OUTPUT", "signal": "", "message": "the disk is full"})
    assert said[-1] == "stopping: the disk is full"
    observe({"event": "run_finished"})
    assert said[-1].startswith("25 of 118 cases done, 5 failed, 88 left")
    assert "counting" not in drawn(state)  # what was stopped is not counted
    state.stopping = ""
    assert "counting" in drawn(state)


def test_an_event_of_a_later_version_or_without_values_breaks_nothing(clock):
    state = BatchState(clock)
    for kind in (
        "run_started",
        "found",
        "case_started",
        "case_finished",
        "worker_alive",
        "worker_died",
        "claim_taken_over",
        "unknown",
        "worker",
    ):
        state.take({"event": kind})
    state.take({})
    assert drawn(state)


def test_programs_get_every_event_as_a_line(capsys):
    with batch_display("", as_events=True) as observe:
        for event in (RUN, finished("a", "TIMEOUT")):
            observe(event)
    out, err = capsys.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["run_started", "case_finished"]
    assert err == ""
    with batch_display("", silent=True) as observe:
        observe(RUN)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_view_is_drawn_and_gone_afterwards(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with batch_display("title") as observe:
        observe(RUN)
        observe(finished("a"))
    assert capsys.readouterr().out == ""


def test_the_search_is_shown_until_the_run_begins_and_is_no_part_of_the_rate(clock):
    state, said = BatchState(clock), []
    observe = line_printer(state, said.append)
    for count in (200, 400_000):
        clock.now += 61
        observe({"event": "searching", "files": count})
    assert said == ["searching: 400,000 files looked at"]
    assert "400,000 files" in drawn(state)
    observe(RUN)
    for case in "ab":
        clock.now += 30
        observe(finished(case))
    assert state.a_minute == pytest.approx(2)
    assert counted_line(state).startswith("2 of 118 cases done")


def test_an_array_that_is_waited_for_says_how_many_jobs_are_left(clock):
    state, said = BatchState(clock), []
    observe = line_printer(state, said.append)
    observe({"event": "searching", "files": 40})
    observe({"event": "found", "files": 40, "cases": 40})
    assert counted_line(state) == "0 of 40 cases done, 0 failed, 40 left"
    observe({"event": "submitted", "total": 40, "shards": 4, "array_job": "17", "collect_job": "18"})
    assert counted_line(state) == "job array 17: 4 tasks submitted for 40 cases"
    assert said == []  # a run that does not wait ends with this, in its summary
    for left in (5, 5, 1, 0):
        clock.now += 5
        observe({"event": "waiting", "jobs_left": left})
    assert said == ["job array 17: 5 jobs left"]
    assert "no job left" in drawn(state)
    clock.now += 60
    observe({"event": "waiting", "jobs_left": 1})
    assert said[1:] == ["job array 17: 1 job left"]
    text = drawn(state)
    assert "job array 17: 1 job left" in text
    assert not {"searching", "40", "%"} & set(text.split())


def test_a_pool_without_workers_is_said_until_one_comes(clock):
    state, said = BatchState(clock), []
    observe = line_printer(state, said.append)
    observe(RUN)
    for _ in range(2):
        observe({"event": "waiting_for_workers", "message": "no worker of the pool is there yet: its jobs wait, or cannot start"})
    assert said == ["no worker of the pool is there yet: its jobs wait, or cannot start"]
    assert "no worker of the pool is there yet" in drawn(state)
    observe({"event": "worker_started", "worker": "dask-1", "pid": 1})
    assert "no worker" not in drawn(state)


def test_an_index_that_was_given_up_and_second_tries_are_said(clock):
    state, said = BatchState(clock), []
    observe = line_printer(state, said.append)
    for event in (RUN, {"event": "index_given_up", "reason": "OperationalError"}, {"event": "case_retried", "case_id": "a"}):
        observe(event)
    assert said == ["the index cannot be written any more (OperationalError): no result is lost, the next run makes it anew from them"]
    assert "the index cannot be written" in drawn(state)
    assert counted_line(state) == "0 of 118 cases done, 0 failed, 118 left, 1 tried again"


def test_a_log_has_the_whole_sentence_of_a_failure(clock):
    said: list[str] = []
    observe = line_printer(BatchState(clock), said.append)
    sentence = "3 slices are missing between 112.5 mm and 120 mm, " + "which adds to every volume there, " * 6 + "send the series again"
    observe(RUN)
    observe({**finished("a", "MISSING_SLICES"), "message": sentence.replace(", ", ",\n")})
    observe({"event": "run_finished"})
    assert said[0] == f"failed: a MISSING_SLICES {sentence}"


@pytest.mark.parametrize("kind", ["found", "submitted", "waiting", "waiting_for_workers", "index_given_up"])
def test_words_of_a_cluster_without_values_break_nothing(clock, kind):
    state = BatchState(clock)
    state.take({"event": kind})
    assert drawn(state)
