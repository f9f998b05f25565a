"""The client's side of a run on dask, against a pool that is played: how much is handed out, tried again, and given up."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed", reason="dask is not installed: pip install 'medseg[cluster]'")

from medseg.batch.cluster.cluster_error import ClusterError
from medseg.batch.cluster.dask_clusters import Connection
from medseg.batch.cluster.dask_run import AHEAD, DaskRun
from medseg.batch.cluster.starts import Starts
from medseg.batch.records.case import Case, case_id_of
from medseg.batch.records.events import EventLog
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import read_result
from medseg.batch.run.run_options import RunOptions, Summary
from medseg.batch.worker.messages import Start

WORKERS = 4
Answer = Callable[[str, int, int], dict[str, Any] | None]


def done(case_id: str, attempt: int, time_handed: int) -> dict[str, Any]:
    return {"event": "finished", "case_id": case_id, "status": "done", "code": "", "message": "", "seconds": {}, "rss_bytes": 0}


def failed(case_id: str, code: str) -> dict[str, Any]:
    return {**done(case_id, 1, 1), "status": "failed", "code": code, "message": "it failed"}


class PlayedFuture:
    def __init__(self) -> None:
        self.status = "pending"
        self.answer: dict[str, Any] | None = None
        self.callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    def result(self, timeout: float) -> dict[str, Any]:
        assert self.answer is not None
        return self.answer


class PlayedPool:
    """Answers tasks one after the other in a thread of its own; an answer None is a task that dask lost."""

    def __init__(self, answer: Answer) -> None:
        self.status = "running"
        self.most = self.submitted = 0
        self.handed: Counter[str] = Counter()
        self._answer = answer
        self._waiting: queue.Queue[tuple[PlayedFuture, dict[str, Any]]] = queue.Queue()
        self._in_flight = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def submit(self, task: Any, topic: str, text: str, **settings: Any) -> PlayedFuture:
        future = PlayedFuture()
        self.submitted += 1
        self._in_flight += 1
        self.most = max(self.most, self._in_flight)
        self._waiting.put((future, json.loads(text)))
        return future

    def nthreads(self) -> dict[str, int]:
        return {str(number): 1 for number in range(WORKERS)}

    def cancel(self, futures: list[PlayedFuture]) -> None:
        pass

    register_plugin = subscribe_topic = unsubscribe_topic = unregister_worker_plugin = lambda self, *given: None

    def _serve(self) -> None:
        while True:
            future, document = self._waiting.get()
            while not future.callbacks:
                time.sleep(0.0001)
            case_id = document["case"]["case_id"]
            self.handed[case_id] += 1
            future.answer = self._answer(case_id, document["attempt"], self.handed[case_id])
            future.status = "error" if future.answer is None else "finished"
            self._in_flight -= 1
            for callback in future.callbacks:
                callback(future)


def cases(count: int) -> Iterator[Case]:
    for number in range(count):
        yield Case(case_id_of([str(number)]), "NIfTI", (f"{number}.nii.gz",))


class Play:
    def __init__(self, tmp_path: Path, plan: Any, answer: Answer) -> None:
        self.pool, self.layout = PlayedPool(answer), Layout(tmp_path)
        self.starts = Starts(tmp_path / "state" / "dask-token")
        self.starts.make()
        self.start = Start(tmp_path / "in", tmp_path, plan, token="token")
        self.said: list[dict[str, Any]] = []

    def run(self, listed: Iterator[Case], **options: Any) -> Summary:
        log = EventLog(self.layout.events, self.said.append)
        connection = Connection(self.pool, [])
        try:
            with DaskRun(connection, self.start, RunOptions(**options), log, self.starts, queue.SimpleQueue()) as run:
                return run.all(listed)
        finally:
            log.close()


def test_a_few_tasks_for_each_process_are_handed_out_and_no_more(tmp_path, plan):
    taken = 0

    def listed() -> Iterator[Case]:
        nonlocal taken
        for case in cases(2000):
            taken += 1
            assert taken - play.pool.submitted <= 1  # the list is not read ahead either
            yield case

    play = Play(tmp_path, plan, done)
    summary = play.run(listed())
    assert (summary.done, summary.exit_code) == (2000, 0)
    assert 1 < play.pool.most <= AHEAD * WORKERS


def test_what_can_pass_is_tried_three_times_and_what_cannot_once(tmp_path, plan):
    codes = ["OUT_OF_MEMORY", "IO_ERROR", "MISSING_SLICES", "TIMEOUT"]
    of = {case.case_id: code for case, code in zip(cases(4), codes, strict=True)}
    play = Play(tmp_path, plan, lambda case_id, attempt, time_handed: failed(case_id, of[case_id]))
    summary = play.run(cases(4))
    assert dict(summary.by_code) == dict.fromkeys(codes, 1)
    assert [play.pool.handed[case_id] for case_id in of] == [3, 3, 1, 1]
    attempts = [event["attempt"] for event in play.said if event["event"] == "case_finished"]
    assert sorted(attempts) == [1, 1, 3, 3]


def test_what_passes_is_done(tmp_path, plan):
    play = Play(tmp_path, plan, lambda case_id, attempt, handed: done(case_id, 1, 1) if attempt == 2 else failed(case_id, "IO_ERROR"))
    assert play.run(cases(5)).done == 5


def test_an_innocent_case_that_dask_blames_is_run_again(tmp_path, plan):
    """It was never begun, so it is handed out again; after ten times the pool is what is at fault, and that is said."""
    innocent = Play(tmp_path, plan, lambda case_id, attempt, handed: None if handed < 5 else done(case_id, 1, 1))
    assert innocent.run(cases(3)).done == 3
    hopeless = Play(tmp_path / "other", plan, lambda case_id, attempt, handed: None)
    summary = hopeless.run(cases(1))
    assert dict(summary.by_code) == {"KILLED": 1}
    assert hopeless.pool.submitted == 11


def test_a_case_whose_processes_died_is_a_crash_written_by_the_client(tmp_path, plan):
    (case,) = cases(1)

    def dies(case_id: str, attempt: int, time_handed: int) -> None:
        play.starts.begin(case_id, play.layout.result(case_id))

    play = Play(tmp_path, plan, dies)
    summary = play.run(cases(1))
    assert (dict(summary.by_code), play.pool.submitted) == ({"CRASH": 1}, 3)
    result = read_result(play.layout.result(case.case_id))
    assert result is not None
    assert (result.status, result.code) == ("failed", "CRASH")
    assert play.starts.count(case.case_id) == 0


@pytest.mark.parametrize(("event", "code", "stopped"), [("fatal", 4, "MODEL"), ("stopping", 5, "OUTPUT")])
def test_what_concerns_every_case_ends_the_run(tmp_path, plan, event, code, stopped):
    play = Play(tmp_path, plan, lambda *given: {"event": event, "message": "it cannot go on", "exit_code": code})
    summary = play.run(cases(500))
    assert (summary.stopped, summary.exit_code, summary.message, summary.failed) == (stopped, code, "it cannot go on", 0)
    assert play.pool.submitted <= AHEAD * WORKERS


def test_a_scheduler_that_goes_ends_the_run_with_advice(tmp_path, plan):
    def goes(case_id: str, attempt: int, time_handed: int) -> dict[str, Any] | None:
        if play.pool.submitted < 20:
            return done(case_id, attempt, time_handed)
        play.pool.status = "closed"
        return None

    play = Play(tmp_path, plan, goes)
    with pytest.raises(ClusterError, match="what was done is safe"):
        play.run(cases(100))
