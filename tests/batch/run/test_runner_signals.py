"""Runs that are stopped or killed, and what the next one makes of it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from runner_bench import FAKE, Bench, wait_until

from medseg.batch.records.case import Case
from medseg.batch.run.runner import Summary

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from runner_bench import Bench
bench = Bench.__new__(Bench)
import pickle
bench.__dict__.update(pickle.loads(Path({state!r}).read_bytes()))
summary = bench.again(**{options!r})
print(summary)
sys.exit(summary.exit_code)
"""


def started(bench: Bench, **options: Any) -> subprocess.Popen[str]:
    """Run the bench in a process of its own, and wait until its first case is being computed."""
    state = bench.script.with_suffix(".state")
    state.write_bytes(pickle.dumps(vars(bench)))
    program = PROGRAM.format(tests=str(FAKE.parent), state=str(state), options=options)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: any(attempt == 1 for _, attempt, *_ in bench.trace()))
    time.sleep(0.3)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGHUP, 143)])
def test_a_signal_lets_what_runs_end(tmp_path: Path, number: int, code: int) -> None:
    """B47: what was begun is finished, nothing else is begun, and the next run does the rest."""
    bench = Bench(tmp_path, 8)
    bench.write_script({n: ["sleep:0.8"] for n in range(8)})
    process = started(bench)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    done = bench.codes().count("")
    events = [json.loads(line) for line in bench.layout.events.read_text(encoding="ascii").splitlines()]
    stopping = [event["event"] for event in events].index("stopping")
    begun = [number for number, event in enumerate(events) if event["event"] == "case_started"]
    assert 1 <= done == len(begun) < 8
    assert max(begun) < stopping, "nothing else is begun"
    assert bench.codes().count("-") == 8 - done
    bench.check_nothing_is_left()
    assert bench.run({}) == Summary(done=8 - done, skipped=done)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 3)
    bench.write_script({0: ["hang"], 1: ["hang"], 2: ["hang"]})
    process = started(bench)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: '"stopping"' in bench.layout.events.read_text(encoding="ascii"))
    assert process.poll() is None  # it gives what runs some time
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert time.monotonic() - begun < 20  # the grace is 30
    assert bench.codes() == ["-"] * 3
    bench.check_nothing_is_left()


def test_time_in_which_the_run_itself_stood_still_counts_for_no_case(tmp_path: Path) -> None:
    """A machine that was frozen for longer than a case may take, and goes on."""
    bench = Bench(tmp_path, 2)
    bench.write_script({n: ["sleep:1.5"] for n in range(2)})
    process = started(bench, timeout_s=2.5, silence_s=2.5)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    frozen = [process.pid, *(int(child) for child in children)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4.0)
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert [bench.attempts(number) for number in range(2)] == [[1], [1]]


def test_what_runs_is_dropped_after_the_grace_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 2)
    bench.write_script({0: ["hang"], 1: ["hang"]})
    process = started(bench, grace_s=0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143
    bench.check_nothing_is_left()


def test_a_run_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    """B49: lock, claims, index and half-written folders of a dead run are no obstacle, and what it finished stays."""
    bench = Bench(tmp_path, 30)
    bench.write_script({n: ["sleep:0.3"] for n in range(30)})
    process = started(bench)
    wait_until(lambda: any(finished_in_log(bench, case) for case in bench.cases))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    done = {case.case_id: bench.layout.result(case.case_id).stat().st_mtime_ns for case in bench.cases if finished_in_log(bench, case)}
    half = bench.layout.temporary(bench.cases[-1].case_id, "0123456789ab-1-1")
    half.mkdir(parents=True, exist_ok=True)
    (half / "out.txt").write_text("half", encoding="ascii")
    assert list(bench.layout.claims.iterdir()) != []
    assert bench.run({}).exit_code == 0
    assert bench.codes() == [""] * 30
    assert done
    assert {case_id: bench.layout.result(case_id).stat().st_mtime_ns for case_id in done} == done
    bench.check_nothing_is_left()


def finished_in_log(bench: Bench, case: Case) -> bool:
    lines = bench.layout.events.read_text(encoding="ascii").splitlines()
    return any('"case_finished"' in line and case.case_id in line for line in lines)
