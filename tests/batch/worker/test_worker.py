"""The worker as a process: what it says, what it does when something breaks, and that it goes with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from medseg.batch.records.case import Case
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import CaseResult
from medseg.batch.records.results import is_done
from medseg.batch.worker.messages import Run, Start, parse_event, to_line
from medseg.batch.worker.work import Work
from medseg.batch.worker.worker import Line
from medseg.batch.worker.worker_setup import OUT_OF_MEMORY_EXIT
from medseg.pipeline import parse_pipeline

Make = Callable[..., object]
WORKER = (sys.executable, "-m", "medseg.batch.worker.worker")
ENVIRONMENT = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def patched(code: str) -> tuple[str, ...]:
    """The command of a worker in which something was replaced first."""
    return (sys.executable, "-c", f"from medseg.batch.worker import case_run, worker\n{code}\nworker.main()")


def spoken(batch, cases: Sequence[Case], command: Sequence[str] = WORKER, **start: object) -> tuple[int, list[dict]]:
    """Give a worker all cases at once, close its input, and return its exit code and its events but the signs of life."""
    given = Start(batch.root, batch.layout.folder, start.pop("plan", batch.plan), token="w", **start)
    lines = [to_line(given.to_dict()), *(to_line(Run(case).to_dict()) for case in cases)]
    ended = subprocess.run(command, input=b"".join(lines), capture_output=True, env=ENVIRONMENT, check=False, timeout=120)
    events = [parse_event(line) for line in ended.stdout.splitlines()]
    return ended.returncode, [event for event in events if event["event"] != "alive"]


def test_cases_go_through_the_stages_one_after_the_other(tiny_batch: Make) -> None:
    """Ready first; each case is read, computed, written and finished, in the order given; the end of input ends it well."""
    batch = tiny_batch(5)
    code, events = spoken(batch, batch.cases)
    assert code == 0
    assert events[0]["event"] == "ready"
    for case in batch.cases:
        own = [event.get("stage", event["event"]) for event in events[1:] if event["case_id"] == case.case_id]
        assert own == ["read", "compute", "write", "finished"]
        assert is_done(batch.layout, case, batch.plan, batch.root).status == "done"
    finished = [event for event in events if event["event"] == "finished"]
    assert [event["case_id"] for event in finished] == [case.case_id for case in batch.cases]
    assert all(
        event["status"] == "done" and event["rss_bytes"] > 1e7 and set(event["seconds"]) == {"read", "compute", "write"}
        for event in finished
    )
    assert sorted(batch.layout.cases.rglob(".tmp-*")) == []


def test_reading_and_writing_overlap_with_computing(tiny_batch: Make) -> None:
    """Three stages of 0.3 s each: six cases take eight steps, not eighteen; and no second scan waits in memory at any stage."""
    batch = tiny_batch(6)
    slow = (
        "import time, threading\n"
        "held, most, lock = 0, 0, threading.Lock()\n"
        "def slowed(name):\n"
        "    step = getattr(case_run.CaseRunner, name)\n"
        "    def wait(self, *given):\n"
        "        time.sleep(0.3)\n"
        "        return step(self, *given)\n"
        "    setattr(case_run.CaseRunner, name, wait)\n"
        "for name in ('read', 'compute', 'write'): slowed(name)\n"
    )
    begin_of: dict[str, list[str]] = {}
    _, events = spoken(batch, batch.cases, patched(slow))
    assert sum(event["event"] == "finished" for event in events) == 6
    in_work: set[str] = set()
    together = 0
    for event in events[1:]:
        begin_of.setdefault(event["event"], []).append(event["case_id"])
        (in_work.discard if event["event"] == "finished" else in_work.add)(event["case_id"])
        together = max(together, len(in_work))
    assert together == 3
    order = [(event["case_id"], event.get("stage")) for event in events if event["event"] == "stage"]
    second_read = order.index((batch.cases[1].case_id, "read"))
    assert second_read < order.index((batch.cases[0].case_id, "write"))  # while the first was still being computed


def test_cases_done_in_a_moment_stay_in_one_thread_until_one_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that hand over every millisecond mostly wait for one another; a long case brings them back for the next ones."""
    monkeypatch.setattr("medseg.batch.worker.worker._SHORT_S", 2.0)
    threads: dict[int, list[str]] = {}

    def step(work: Work, name: str) -> None:
        number = int(work.case.case_id, 16)
        threads.setdefault(number, []).append(threading.current_thread().name)
        if (number, name) == (1, "read"):  # until case 0, written meanwhile, is known to be short
            deadline = time.monotonic() + 60
            while not line._is_short and time.monotonic() < deadline:
                time.sleep(0.001)
        if (number, name) == (3, "read"):
            time.sleep(2.1)
        if name == "write":
            work.result = CaseResult(work.case.case_id, "done", "plan")

    line = Line(SimpleNamespace(step=step), SimpleNamespace(send=lambda event: None))
    for number in range(6):
        line.give(Run(Case(f"{number:016x}", "NIfTI", (f"{number}.nii",))))
    line.give(None)
    line.work()
    here = threading.current_thread().name
    assert threads.pop(5)[:2] == ["read_0", here]
    assert threads == {
        0: [here, here, "write_0"],
        1: ["read_0", here, here],
        2: [here, here, here],
        3: [here, here, here],
        4: [here, here, "write_0"],
    }


def test_one_bad_case_is_a_result_and_the_others_go_on(tiny_batch: Make) -> None:
    """Broken in reading, in computing (a panic of a foreign library) and in drawing memory."""
    batch = tiny_batch(4)
    (batch.root / batch.cases[1].files[0]).write_bytes(b"")
    panic = (
        "apply = case_run.apply\n"
        "class Panic(BaseException): pass\n"
        "def failing(pipeline, volume, **given):\n"
        "    print('noise on standard output')\n"
        "    import os; os.write(1, b'more noise')\n"
        "    if volume.geometry.shape[2] == 16: raise Panic('DOE^JOHN')\n"
        "    return apply(pipeline, volume, **given)\n"
        "case_run.apply = failing\n"
    )
    code, events = spoken(batch, batch.cases, patched(panic))
    assert code == 0
    found = {event["case_id"]: event["code"] for event in events if event["event"] == "finished"}
    assert [found[case.case_id] for case in batch.cases] == ["", "UNREADABLE_FILE", "UNEXPECTED", ""]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux caps the data of a process")
def test_a_case_that_wants_too_much_memory_fails_alone(tiny_batch: Make) -> None:
    """The cap turns it into an error of Python; the next case runs."""
    batch = tiny_batch(3)
    greedy = (
        "import numpy\n"
        "apply = case_run.apply\n"
        "def wanting(pipeline, volume, **given):\n"
        "    if volume.geometry.shape[2] == 12: numpy.ones(3_000_000_000, numpy.uint8)\n"
        "    return apply(pipeline, volume, **given)\n"
        "case_run.apply = wanting\n"
    )
    code, events = spoken(batch, batch.cases, patched(greedy), memory_gb=2.0)
    assert code == 0
    assert [event["code"] for event in events if event["event"] == "finished"] == ["", "OUT_OF_MEMORY", ""]


@pytest.mark.parametrize(("line", "code"), [(b"", 2), (b"garbage\n", 2), (b'{"do":"run"}\n', 2), (b'{"do":"start","root":"/"}\n', 2)])
def test_a_wrong_start_is_fatal(line: bytes, code: int) -> None:
    """It says so instead of waiting."""
    ended = subprocess.run(WORKER, input=line, capture_output=True, check=False, timeout=60)
    assert ended.returncode == code
    assert [parse_event(said)["event"] for said in ended.stdout.splitlines()] == ["fatal"]


def test_a_pipeline_that_cannot_run_is_fatal_before_any_case(tiny_batch: Make) -> None:
    """Exit 4 with the reason; no case is failed for it."""
    batch = tiny_batch(1)
    step = batch.plan.pipeline.segment.model_copy(update={"method": "no-such-method"})
    plan = Plan(batch.plan.pipeline.model_copy(update={"segment": step}), "0")
    code, events = spoken(batch, batch.cases, plan=plan)
    assert (code, [event["event"] for event in events]) == (4, ["fatal"])
    assert "no-such-method" in events[0]["message"]
    assert not batch.layout.cases.exists()


def test_a_model_that_is_not_there_is_fatal(tiny_batch: Make) -> None:
    """Found when the first scan needs it."""
    pytest.importorskip("torch", reason="networks need the extra learned")
    batch = tiny_batch(2)
    text = "schema: medseg.pipeline/1\nname: n\nsegment:\n  method: model\n  parameters: {model: no-such-model}\n"
    code, events = spoken(batch, batch.cases, plan=Plan(parse_pipeline(text, "n"), "0"))
    assert (code, events[-1]["event"], events[-1]["exit_code"]) == (4, "fatal", 4)
    assert "finished" not in {event["event"] for event in events}


def test_an_output_that_cannot_be_written_stops_the_worker(tiny_batch: Make) -> None:
    """Exit 5 and one sentence; the parent stops the run."""
    batch = tiny_batch(1)
    batch.layout.folder.mkdir()
    batch.layout.cases.write_text("a file where the folder of cases should be")
    code, events = spoken(batch, batch.cases)
    assert (code, events[-1]["event"], events[-1]["exit_code"]) == (5, "stopping", 5)
    assert "finished" not in {event["event"] for event in events}


def test_a_lost_device_ends_the_process_after_its_result(tiny_batch: Make) -> None:
    """The parent starts another one, and tries the case again."""
    batch = tiny_batch(1)
    lose = "def lost(*_, **__): raise RuntimeError('CUDA error: unspecified launch failure')\ncase_run.apply = lost\n"
    code, events = spoken(batch, batch.cases, patched(lose))
    assert (code, events[-1]["event"], events[-1]["code"]) == (75, "finished", "DEVICE_LOST")


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_a_thread_that_breaks_does_not_leave_the_others_waiting(tiny_batch: Make, stage: str) -> None:
    """A fault of the worker itself is said, without the words of the error."""
    batch = tiny_batch(2)
    broken = (
        "step = case_run.CaseRunner.step\n"
        "def breaking(self, work, name):\n"
        f"    if name == {stage!r}: raise ValueError('DOE^JOHN')\n"
        "    step(self, work, name)\n"
        "case_run.CaseRunner.step = breaking\n"
    )
    code, events = spoken(batch, batch.cases, patched(broken))
    (fatal,) = (event for event in events if event["event"] == "fatal")  # another thread may begin a stage meanwhile
    assert code == 1
    assert "DOE" not in fatal["message"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_goes_with_its_parent(tiny_batch: Make, tmp_path: Path) -> None:
    """The parent is killed while a case hangs: the worker, though in a session of its own, is gone within seconds."""
    batch = tiny_batch(1)
    hang = "import time\ndef hanging(*_, **__): time.sleep(600)\ncase_run.apply = hanging\n"
    lines = tmp_path / "lines"
    lines.write_bytes(
        to_line(Start(batch.root, batch.layout.folder, batch.plan, token="w").to_dict()) + to_line(Run(batch.cases[0]).to_dict())
    )
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({patched(hang)!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)\n"
        f"child.stdin.write(open({str(lines)!r}, 'rb').read()); child.stdin.flush()\n"
        "for line in child.stdout:\n"
        "    print(child.pid, line.decode().strip(), flush=True)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = 0
    for line in parent.stdout:
        pid = int(line.split()[0])
        if '"compute"' in line:
            break
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 60
    while time.monotonic() < end and _is_running(pid):
        time.sleep(0.05)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone since it was asked for
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_kill_while_writing_leaves_only_what_is_swept(tiny_batch: Make) -> None:
    """SIGKILL with half the files written: no case folder, one temporary one, and the next run finds it missing."""
    from medseg.batch.records.results import sweep

    batch = tiny_batch(1)
    die = (
        "import os, signal\n"
        "write = case_run.write_numbers\n"
        "def dying(*given, **named):\n"
        "    write(*given, **named)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "case_run.write_numbers = dying\n"
    )
    code, events = spoken(batch, batch.cases, patched(die))
    assert code == -signal.SIGKILL
    assert events[-1]["stage"] == "write"
    assert len(list(batch.layout.cases.rglob(".tmp-*"))) == 1
    assert is_done(batch.layout, batch.cases[0], batch.plan, batch.root).status == "missing"
    assert sweep(batch.layout, lambda token: False) == 1
    assert [path for path in batch.layout.cases.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much memory is in use")
def test_memory_stays_flat(tiny_batch: Make) -> None:
    """After the first eighty cases, four hundred more add nothing that counts."""
    batch = tiny_batch(4)
    cases = [Case(f"{number:016x}", "NIfTI", batch.cases[number % 4].files) for number in range(480)]
    _, events = spoken(batch, cases)
    rss = [event["rss_bytes"] for event in events if event["event"] == "finished"]
    assert len(rss) == 480
    assert max(rss[80:]) - max(rss[:80]) < 16e6


def test_another_model_than_that_of_the_plan_is_fatal(tiny_batch: Make) -> None:
    """A worker that is started again hours later must not go on with what lies there then under the key of before."""
    batch = tiny_batch(1)
    code, events = spoken(batch, batch.cases, plan=replace(batch.plan, models={"liver": "0" * 64}))
    assert (code, [event["event"] for event in events]) == (4, ["fatal"])
    assert "liver has changed since the batch began" in events[0]["message"]


def test_signs_of_life_come_while_a_case_computes(tiny_batch: Make) -> None:
    """With memory and processor; every 0.3 s here instead of every two."""
    batch = tiny_batch(1)
    wait = (
        "import time\n"
        "from medseg.batch.worker import worker_setup\n"
        "worker_setup.ALIVE_EVERY_S = 0.3\n"
        "apply = case_run.apply\n"
        "case_run.apply = lambda *given, **named: (time.sleep(1.5), apply(*given, **named))[1]\n"
    )
    given = [to_line(Start(batch.root, batch.layout.folder, batch.plan, token="w").to_dict()), to_line(Run(batch.cases[0]).to_dict())]
    ended = subprocess.run(patched(wait), input=b"".join(given), capture_output=True, env=ENVIRONMENT, check=False, timeout=60)
    alive = [event for event in map(parse_event, ended.stdout.splitlines()) if event["event"] == "alive"]
    assert len(alive) >= 2
    assert all(event["rss_bytes"] > 1e7 and event["cpu_percent"] >= 0 and event["device"] is None for event in alive)


def test_where_memory_is_at_its_cap_and_nothing_goes_on_it_ends(tiny_batch: Make) -> None:
    """As when a thread cannot take its first step: who waits for it waits for ever, and the parent only sees signs of life."""
    batch = tiny_batch(1)
    stuck = (
        "import time\n"
        "from medseg.batch.worker import worker_setup\n"
        "worker_setup.ALIVE_EVERY_S, worker_setup._STUCK_S = 0.3, 0.5\n"
        "worker_setup.data_bytes = lambda: 1_900_000_000\n"
        "case_run.apply = lambda *given, **named: time.sleep(60)\n"
    )
    code, events = spoken(batch, batch.cases, patched(stuck), memory_gb=2.0)
    assert (code, events[-1]["event"]) == (OUT_OF_MEMORY_EXIT, "stage")
    idle = "worker.Line.give = lambda self, run: None\nworker.threading.Timer(3, lambda: worker.os._exit(9)).start()\n"
    assert spoken(batch, [], patched(stuck + idle), memory_gb=2.0)[0] == 9  # one that waits for work is not stuck
