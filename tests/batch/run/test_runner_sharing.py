"""Several runs on one folder, and what one run holds and takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from runner_bench import Bench

from medseg.batch.records.identity import Identity
from medseg.batch.run.claims import Claims
from medseg.batch.run.runner import BusyOutputError, Summary, run_cases

WHO = "from medseg.batch.records.identity import Identity; print(Identity.of_this_process().to_bytes().decode())"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, 4)


def test_cases_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    """However long the list, only a handful is in hand."""
    bench = Bench(tmp_path, 60)
    taken, most = [], [0]

    def cases() -> Any:
        for case in bench.cases:
            taken.append(case)
            yield case

    def observe(event: Mapping[str, Any]) -> None:
        if event["event"] == "case_finished":
            done = sum(seen["event"] == "case_finished" for seen in bench.events)
            most[0] = max(most[0], len(taken) - done)

    bench.write_script({})
    run_cases(
        bench.plan,
        cases(),
        total=60,
        root=bench.root,
        layout=bench.layout,
        options=bench.options(),
        observe=lambda event: (bench.events.append(event), observe(event))[0],
    )
    assert bench.codes() == [""] * 60
    assert most[0] < 30


def test_threads_are_shared_among_the_workers(bench: Bench) -> None:
    bench.run({}, workers=2, threads=3)
    assert {threads for what, _, _, threads, _ in bench.trace() if what == "worker"} == {"3"}


def test_shards_share_the_cases_without_overlap(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 24)
    bench.write_script({})
    summaries = [bench.again(shard=(part, 3)) for part in (1, 2, 3)]
    assert sum(summary.done for summary in summaries) == 24
    assert all(summary.done > 0 for summary in summaries)
    assert all(len(bench.attempts(number)) == 1 for number in range(24))
    assert len(list(bench.layout.folder.glob("events-*.jsonl"))) == 3
    assert not bench.layout.events.exists()
    assert bench.again() == Summary(skipped=24)


def test_a_shard_takes_over_what_a_killed_one_left(tmp_path: Path) -> None:
    """Its claims are no obstacle, and its half-written folders go."""
    bench = Bench(tmp_path, 4)
    done = subprocess.run([sys.executable, "-c", WHO], capture_output=True, text=True, check=True)
    dead = Claims(bench.layout.claims, identity=Identity(**json.loads(done.stdout)))
    half = [bench.layout.temporary(case.case_id, f"{dead.identity.token}-1-1") for case in bench.cases]
    for case, folder in zip(bench.cases, half, strict=True):
        dead.take(case.case_id)
        folder.mkdir(parents=True)
        (folder / "out.txt").write_text("half", encoding="ascii")
    assert bench.run({}, shard=(1, 1)) == Summary(done=4)
    assert bench.count("claim_taken_over") == 4
    assert not [folder for folder in half if folder.exists()]


def test_runs_that_join_share_the_work(tmp_path: Path) -> None:
    """B50: claims, so that each case is done by one of them; the second waits for what the first one has in hand."""
    bench = Bench(tmp_path, 12)
    bench.write_script({number: ["sleep:0.1"] for number in range(12)})
    found: list[Summary] = []
    other = threading.Thread(target=lambda: found.append(bench.again(join=True)))
    other.start()
    found.append(bench.again(join=True))
    other.join()
    assert sum(summary.done for summary in found) == 12
    assert all(bench.attempts(number) == [1] for number in range(12))
    assert all(summary.exit_code == 0 for summary in found)
    assert all(summary.done + summary.skipped == 12 for summary in found)


def test_a_case_that_is_listed_twice_is_run_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 3)
    bench.cases = [bench.cases[0], *bench.cases]
    summary = bench.run({0: ["sleep:0.5"]}, workers=2)
    assert (summary.done, summary.exit_code) == (3, 0)
    assert summary.skipped <= 1  # counted where the first was done by then, else not: nobody promises an order
    assert bench.attempts(0) == [1]
    bench.check_nothing_is_left()


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    """B50: it says who is there, ends with exit code 2 and disturbs nothing."""
    bench = Bench(tmp_path, 2)
    refused: list[BusyOutputError] = []

    def observe(event: Mapping[str, Any]) -> None:
        if event["event"] == "case_started" and not refused:
            with pytest.raises(BusyOutputError, match="--join") as caught:
                bench.again()
            refused.append(caught.value)

    bench.write_script({})
    assert bench.again(observe) == Summary(done=2)
    assert refused[0].exit_code == 2
    assert str(os.getpid()) in str(refused[0])
    bench.check_nothing_is_left()


def test_a_broken_index_is_made_again(bench: Bench) -> None:
    """B51: it is set aside and said, and no case is run again."""
    bench.run({})
    index = bench.layout.state / "index.sqlite"
    index.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    bench.events.clear()
    assert bench.again() == Summary(skipped=4)
    assert bench.count("index_rebuilt") == 1
    assert index.with_name("index.sqlite.bad").is_file()


def test_the_parent_stays_light(tmp_path: Path) -> None:
    """It never decodes pixels, and so loads nothing that does."""
    heavy = ("torch", "numba", "SimpleITK", "scipy", "skimage", "pydicom", "nibabel", "highdicom", "matplotlib", "click", "rich")
    program = f"import sys, medseg.batch.run.runner; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
