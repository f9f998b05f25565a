"""The parent with the real worker, on tiny scans whose volumes are known from their making."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.batch.records.result import read_result
from medseg.batch.run.runner import RunOptions, Summary, run_cases

Make = Callable[..., Any]


def run(batch: Any, observe: Callable[[dict[str, Any]], None] = lambda event: None, **options: Any) -> Summary:
    return run_cases(
        batch.plan,
        batch.cases,
        total=len(batch.cases),
        root=batch.root,
        layout=batch.layout,
        options=RunOptions(**{"workers": 1, **options}),
        observe=observe,
    )


def volume_ml(batch: Any, number: int) -> float:
    document = json.loads((batch.layout.case(batch.cases[number].case_id) / "measurements.json").read_bytes())
    (row,) = document["segments"]
    return float(row["volume_ml"])


def test_cases_are_done_with_the_right_volumes_and_not_again(tiny_batch: Make) -> None:
    batch = tiny_batch(5)
    assert run(batch, workers=2) == Summary(done=5)
    for number in range(5):
        assert volume_ml(batch, number) == pytest.approx(batch.volume_ml(number), rel=1e-6)
    before = [batch.layout.result(case.case_id).stat().st_mtime_ns for case in batch.cases]
    assert run(batch) == Summary(skipped=5)
    assert before == [batch.layout.result(case.case_id).stat().st_mtime_ns for case in batch.cases]


def test_a_worker_that_is_killed_loses_nothing(tiny_batch: Make) -> None:
    """B44: the real worker, killed by the system in the middle of a case."""
    batch, killed = tiny_batch(5), []
    pids: dict[str, int] = {}

    def observe(event: dict[str, Any]) -> None:
        if event["event"] == "worker_started":
            pids[event["worker"]] = event["pid"]
        if event["event"] == "case_stage" and event["stage"] == "compute" and len(killed) < 1:
            killed.append(event["case_id"])
            os.kill(pids[event["worker"]], signal.SIGKILL)

    summary = run(batch, observe)
    assert killed
    assert (summary.done, summary.failed) == (5, 0)
    for number in range(5):
        assert volume_ml(batch, number) == pytest.approx(batch.volume_ml(number), rel=1e-6)
    assert list(batch.layout.cases.rglob(".tmp-*")) == []


def test_one_bad_file_fails_alone_and_an_added_plan_redoes_all(tiny_batch: Make) -> None:
    batch = tiny_batch(4)
    bad = batch.root / batch.cases[1].files[0]
    bad.write_bytes(bad.read_bytes()[:-20])
    summary = run(batch)
    assert (summary.done, summary.failed) == (3, 1)
    result = read_result(batch.layout.result(batch.cases[1].case_id))
    assert result is not None
    assert result.code
    assert list(summary.by_code) == [result.code]
    assert run(batch) == Summary(skipped=3, failed_before=1, by_code=dict(summary.by_code))


def test_a_file_that_is_gone_is_looked_for_again_by_the_next_run(tiny_batch: Make) -> None:
    """B27: it fails with its reason, and is done once it is back."""
    batch = tiny_batch(2)
    gone = batch.root / batch.cases[1].files[0]
    aside = gone.with_suffix(".aside")
    gone.rename(aside)
    seen: list[dict[str, Any]] = []
    assert run(batch, seen.append) == Summary(done=1, failed=1, by_code={"INPUT_GONE": 1})
    assert [event["code"] for event in seen if event["event"] == "case_retried"] == ["INPUT_GONE", "INPUT_GONE"]
    aside.rename(gone)
    assert run(batch) == Summary(done=1, skipped=1)


def test_outputs_that_were_changed_are_made_again(tiny_batch: Make) -> None:
    batch = tiny_batch(3)
    run(batch)
    touched = batch.layout.case(batch.cases[0].case_id) / "measurements.json"
    touched.write_bytes(b" " * touched.stat().st_size)
    assert run(batch, quick=True) == Summary(skipped=3)  # sizes alone do not tell
    assert run(batch) == Summary(done=1, skipped=2)


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost_done_twice_or_different(tmp_path: Path) -> None:
    """A small version of benchmarks/batch_kill.py: the command line, killed with and without its workers."""
    path = Path(__file__).parents[3] / "benchmarks" / "batch_kill.py"
    spec = importlib.util.spec_from_file_location("batch_kill", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    counts = benchmark.kill_rounds(tmp_path, kills=4, cases=40, workers=2, seed=1)
    assert counts["kills"] == 4
    assert counts["rounds"] >= 1
    assert {name: counts[name] for name in ("lost", "redone", "wrong", "tables", "strays")} == dict.fromkeys(
        ("lost", "redone", "wrong", "tables", "strays"), 0
    )
