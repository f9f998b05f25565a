"""One run at a time has an output folder."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medseg.batch.records.identity import Identity
from medseg.batch.run import run_lock
from medseg.batch.run.run_lock import BusyOutputError, RunLock

HOLD = """
import sys, time
from pathlib import Path
from medseg.batch.run.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    print('held', flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["locks", "no locks"])
def state(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file system with locks, and one on which they mean nothing."""
    if request.param == "no locks":
        monkeypatch.setattr(run_lock, "fcntl", None)
    return tmp_path / "state"


def test_a_second_one_is_refused_until_the_first_ends(state: Path) -> None:
    with RunLock(state):
        with pytest.raises(BusyOutputError, match=f"process {os.getpid()} on .*--join") as caught, RunLock(state):
            pass
        assert caught.value.exit_code == 2
        with pytest.raises(BusyOutputError), RunLock(state):
            pass
    with RunLock(state):
        pass
    assert [path.name for path in state.iterdir()] == ["lock"]


def test_a_process_that_was_killed_holds_nothing(state: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(state)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BusyOutputError), RunLock(state):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with RunLock(state):
        pass


def test_what_names_nobody_is_no_holder_where_the_lock_says_so(tmp_path: Path) -> None:
    """A power cut may leave an empty file; the lock of the system is ours, so nobody runs."""
    (tmp_path / "run").write_bytes(b"")
    with RunLock(tmp_path), pytest.raises(BusyOutputError), RunLock(tmp_path):
        pass


def test_without_locks_of_the_system_nobody_elses_name_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses locks, and another run that takes the folder in between."""

    def refuse(*given: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    from_file, others = Identity.from_file, []

    def slow(path: Path) -> Identity | None:
        found = from_file(path)
        if path.name == "run" and not others:
            others.append(RunLock(tmp_path))
            others[0].__enter__()
        return found

    monkeypatch.setattr(Identity, "from_file", staticmethod(slow))
    with pytest.raises(BusyOutputError), RunLock(tmp_path):
        pass
    others[0].__exit__(None, None, None)


def test_the_lock_stays_alive_however_long_its_holder_is_at_work(state: Path) -> None:
    """Touched by a thread: a search of hours has no loop that could do it."""
    with RunLock(state, timeout_s=0.5):
        os.utime(state / "run", (1, 1))
        end = time.monotonic() + 20
        while (state / "run").stat().st_mtime < time.time() - 60 and time.monotonic() < end:
            time.sleep(0.02)
        assert (state / "run").stat().st_mtime > time.time() - 60


def test_another_machine_is_believed_until_it_is_silent(state: Path) -> None:
    state.mkdir()
    far = dataclasses.replace(Identity.of_this_process(), host="far-away")
    (state / "run").write_bytes(far.to_bytes())
    with pytest.raises(BusyOutputError, match="far-away"), RunLock(state):
        pass
    os.utime(state / "run", (1, 1))
    with RunLock(state):
        pass
