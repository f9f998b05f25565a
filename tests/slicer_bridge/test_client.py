"""The host's side in every state a worker can be in: cancelled, hung, killed, dead at birth, babbling, out of memory or disk."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.slicer_bridge.client import Worker
from medseg.slicer_bridge.job_fields import JobFormatError

# A worker in which the job `describe` does something of the test's own: CODE is its body, `context` is at hand
STAND_IN = """
import sys, os, time, types
stand_in = types.ModuleType("stand_in")
def describe(context):
{body}
    return {{"methods": []}}
stand_in.describe = describe
sys.modules["stand_in"] = stand_in
from medseg.slicer_bridge import worker_jobs
worker_jobs.JOBS["describe"] = "stand_in:describe"
worker_jobs.JOBS["export"] = "stand_in:describe"
from medseg.slicer_bridge.worker import main
main({arguments!r})
"""
SOON_S = 60  # far less than the jobs take that are cancelled here; alone it takes less than one
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


def doing(*lines: str, arguments: tuple[str, ...] = ()) -> tuple[str, str]:
    """Return the arguments of a Python whose job `describe` runs these lines."""
    body = "\n".join(f"    {line}" for line in lines or ("pass",))
    return "-c", STAND_IN.format(body=body, arguments=list(arguments))


def started(host: Any, id: str) -> None:
    host.until(lambda event: event.get("id") == id and event["event"] == "started")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small(job_folder: Path) -> Volume:
    return Volume(np.arange(1000, dtype=np.int16).reshape(10, 10, 10), Geometry((10, 10, 10), np.eye(4)), "CT", "HU")


def test_cancel_of_a_job_that_listens_ends_soon_and_leaves_nothing(hosts: Callable[..., Any], job_folder: Path) -> None:
    host = hosts(*doing("time.sleep(600)"))
    host.ready()
    id = host.worker.send({"do": "describe"})
    started(host, id)
    begun = time.monotonic()
    host.worker.cancel(id)
    event = host.end(id)
    assert time.monotonic() - begun < SOON_S
    assert (event["kind"], event["exit_code"]) == ("Cancelled", 130)
    assert not host.worker.is_alive
    assert names(job_folder) == []


EXPORT = {"do": "export", "format": "csv", "path": "unused.csv"}
LABELS = {"array": "", "extent": [0, -1, 0, -1, 0, -1], "shape": [2, 2, 2], "ijk_to_ras": np.eye(4).tolist(), "segments": []}


def test_cancel_removes_the_files_of_the_job_and_no_others(hosts: Callable[..., Any], job_folder: Path) -> None:
    (job_folder / "scan.npy").write_bytes(b"the host's")
    host = hosts(*doing("open(str(context.base) + '-half.npy', 'wb').write(b'half')", "context.log('written')", "time.sleep(600)"))
    id = host.worker.send({**EXPORT, "labels": LABELS, "out": str(job_folder)})
    host.until(lambda event: event["event"] == "log")
    assert names(job_folder) == [f"{id}-half.npy", "scan.npy"]
    host.worker.cancel()
    assert host.end(id)["kind"] == "Cancelled"
    assert names(job_folder) == ["scan.npy"]


def test_a_cancelled_export_leaves_no_temporary_file(hosts: Callable[..., Any], job_folder: Path, tmp_path: Path) -> None:
    """The disk that never finishes its flush stands in for a slow drive: the file is there, but has not got its name."""
    code = (
        "import os, time\n"
        "flush = os.fsync\n"
        "os.fsync = lambda handle: time.sleep(600) if os.fstat(handle).st_size > 200 else flush(handle)\n"
        "from medseg.slicer_bridge.worker import main\n"
        "main([])\n"
    )
    target = tmp_path / "results"
    target.mkdir()
    (target / ".tmp-of-another").write_bytes(b"x")
    host = hosts("-c", code)
    np.save(job_folder / "l.npy", np.ones((20, 20, 20), np.uint8))
    segments = [{"number": 1, "label": "block"}]
    labels = {**LABELS, "array": str(job_folder / "l.npy"), "extent": [0, 19] * 3, "shape": [20, 20, 20], "segments": segments}
    id = host.worker.send(
        {"do": "export", "format": "seg.nrrd", "labels": labels, "path": str(target / "a.seg.nrrd"), "out": str(job_folder)}
    )
    end = time.monotonic() + 20
    while len(names(target)) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.2)
    assert len(names(target)) == 2
    begun = time.monotonic()
    host.worker.cancel(id)
    assert host.end(id)["kind"] == "Cancelled"
    assert time.monotonic() - begun < SOON_S
    assert names(target) == [".tmp-of-another"]


def test_a_worker_that_does_not_listen_is_killed_soon(hosts: Callable[..., Any], job_folder: Path) -> None:
    """`sleep` called through PyDLL keeps the interpreter's lock, as a kernel that hangs does: no thread of the worker runs."""
    lines = (
        "import ctypes",
        "open(str(context.base) + '-half.npy', 'wb').write(b'half')",
        "context.log('stuck')",
        "ctypes.PyDLL(None).sleep(600)",
    )
    host = hosts(*doing(*lines))
    id = host.worker.send({**EXPORT, "labels": LABELS, "out": str(job_folder)})
    host.until(lambda event: event["event"] == "log")
    time.sleep(0.1)
    begun = time.monotonic()
    host.worker.cancel(id)
    event = host.end(id)
    assert time.monotonic() - begun < SOON_S
    assert event["kind"] == "Cancelled"
    assert not host.worker.is_alive
    assert names(job_folder) == []


@POSIX
def test_children_of_the_worker_end_with_it(hosts: Callable[..., Any]) -> None:
    host = hosts(*doing("import subprocess", "child = subprocess.Popen(['sleep', '99'])", "context.log(str(child.pid))", "time.sleep(600)"))
    id = host.worker.send({"do": "describe"})
    child = int(host.until(lambda event: event["event"] == "log")["text"])
    os.kill(host.worker.pid, signal.SIGSTOP)  # a worker that cannot do anything by itself any more
    host.worker.cancel(id)
    assert host.end(id)["kind"] == "Cancelled"
    end = time.monotonic() + 2
    while _is_sleeping(child) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _is_sleeping(child)


def _is_sleeping(pid: int) -> bool:
    """Whether it runs: one that is dead, but not collected by whoever inherited it, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_a_waiting_job_is_cancelled_and_the_running_one_goes_on(hosts: Callable[..., Any]) -> None:
    host = hosts(*doing("time.sleep(1.0)"))
    first, second = host.worker.send({"do": "describe"}), host.worker.send({"do": "describe"})
    started(host, first)
    host.worker.cancel(second)
    assert host.end(second)["kind"] == "Cancelled"
    assert host.end(first)["event"] == "result"
    assert host.worker.is_alive


def test_jobs_queue_in_order_and_those_behind_a_cancelled_one_say_so(hosts: Callable[..., Any]) -> None:
    host = hosts(*doing("time.sleep(0.2)"))
    ids = [host.worker.send({"do": "describe"}) for _ in range(3)]
    assert host.worker.busy
    assert host.end(ids[2])["event"] == "result"
    ended = [event["id"] for event in host.events if event["event"] == "result"]
    assert ended == ids
    assert not host.worker.busy
    slow = [host.worker.send({"do": "describe"}) for _ in range(2)]
    started(host, slow[0])
    host.worker.cancel(slow[0])
    assert host.end(slow[1])["kind"] == "WorkerDied"
    assert "behind one that was cancelled" in host.events[-1]["message"]


def test_after_a_cancellation_the_same_worker_starts_again(hosts: Callable[..., Any], small: Volume) -> None:
    host = hosts()
    host.ready()
    ref = host.scan(small)
    id = host.worker.send({"do": "segment", "method": "otsu", "scan": ref, "out": str(host.folder)})
    host.worker.cancel()
    host.end(id)
    host.worker.start()
    assert host.result(do="segment", method="otsu", scan=ref)["labels"]["array"]


@POSIX
def test_a_killed_worker_is_one_sentence_and_the_next_one_works(hosts: Callable[..., Any]) -> None:
    host = hosts(*doing("time.sleep(600)"))
    id = host.worker.send({"do": "describe"})
    started(host, id)
    os.kill(host.worker.pid, signal.SIGKILL)
    event = host.end(id)
    assert (event["kind"], event["event"]) == ("WorkerDied", "error")
    assert "SIGKILL" in event["message"]
    assert "memory" in event["message"]
    assert not host.worker.is_alive
    last = [one for one in host.events if one.get("id") == id and one["event"] in ("result", "error")]
    assert len(last) == 1
    host.worker.start()
    assert host.result(do="doctor")["checks"]


@POSIX
def test_a_worker_counts_as_alive_until_its_last_words_are_there(hosts: Callable[..., Any]) -> None:
    """A host that looks for a dead worker and then collects events must find the sentence, not make up one."""
    host = hosts(*doing("time.sleep(600)"))
    id = host.worker.send({"do": "describe"})
    started(host, id)
    os.kill(host.worker.pid, signal.SIGKILL)
    while host.worker.is_alive:
        pass
    assert [event["kind"] for event in host.worker.poll() if event["event"] == "error"] == ["WorkerDied"]


@POSIX
def test_an_idle_worker_that_is_killed_says_so_without_a_job(hosts: Callable[..., Any]) -> None:
    host = hosts()
    host.ready()
    os.kill(host.worker.pid, signal.SIGKILL)
    event = host.until(lambda event: event["event"] == "error")
    assert (event["id"], event["kind"]) == (None, "WorkerDied")


@POSIX
def test_a_crash_in_native_code_names_the_signal(hosts: Callable[..., Any]) -> None:
    host = hosts(*doing("import ctypes", "ctypes.string_at(0)"))
    event = host.error(do="describe")
    assert event["kind"] == "WorkerDied"
    assert "SIGSEGV" in event["message"]
    assert "Segmentation fault" in event["message"]


def test_a_worker_that_cannot_start_says_why() -> None:
    worker = Worker([str(Path("nowhere") / "python"), "-m", "x"])
    worker.start()
    (event,) = worker.wait(60)
    assert event["kind"] == "WorkerDied"
    assert "cannot be started" in event["message"]
    id = worker.send({"do": "doctor"})
    (event,) = worker.wait(60)
    assert (event["id"], event["kind"]) == (id, "WorkerDied")
    worker.cancel()
    worker.close()


def test_an_environment_without_medseg_is_told_from_its_last_words() -> None:
    worker = Worker([sys.executable, "-I", "-S", "-m", "medseg_that_is_not_there.worker"])
    worker.start()
    (event,) = worker.wait(60)
    assert event["kind"] == "WorkerDied"
    assert "exit code 1" in event["message"]
    assert "medseg_that_is_not_there" in event["message"]
    assert str(Path(sys.executable).parent) not in event["message"]


def test_malformed_lines_are_refused_and_the_worker_lives_on(hosts: Callable[..., Any]) -> None:
    host = hosts()
    host.ready()
    life = host.worker._life
    for line in (
        b"{not json\n",
        b"[1, 2]\n",
        b'"text"\n',
        b'{"do": "doctor"}\n',
        b'{"id": "a", "do": "fly"}\n',
        b"\xff\xfe\x00\n",
        b"\n",
        b"{}\n",
    ):
        life._outgoing.put(line)
    for _ in range(6):
        host.until(lambda event: event["event"] == "error")
    errors = [event for event in host.events if event["event"] == "error"]
    assert all(event["kind"] == "JobFormatError" and event["exit_code"] == 2 for event in errors)
    assert [event["id"] for event in errors] == [None] * 6  # one of a job that this host never sent is passed over
    assert host.result(do="forget")["forgotten"] == 0


def test_what_libraries_print_never_reaches_the_protocol(hosts: Callable[..., Any]) -> None:
    lines = (
        "print('printed')",
        "sys.stdout.flush()",
        'os.write(1, b\'{"event": "result", "id": "forged"}\\n\')',
        "os.system('echo from a child')",
        "assert sys.stdin.read() == ''",
    )
    host = hosts(*doing(*lines))
    assert host.result(do="describe")["methods"] == []
    assert not [event for event in host.events if event.get("id") == "forged" or event["event"] == "log"]
    end = time.monotonic() + 2
    while len(host.worker.stderr) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    assert {"printed", "from a child"} <= set(host.worker.stderr)


def test_foreign_warnings_and_errors_do_not_quote_what_they_saw(hosts: Callable[..., Any]) -> None:
    lines = (
        "import logging, warnings",
        "warnings.warn('bad name DOE^JANE')",
        "logging.getLogger('pydicom').warning('DOE^JANE')",
        "raise ValueError('DOE^JANE')",
    )
    host = hosts(*doing(*lines))
    event = host.error(do="describe")
    assert (event["kind"], event["exit_code"]) == ("ValueError", 1)
    assert "unexpected ValueError" in event["message"]
    assert host.result(do="forget") is not None
    assert "DOE" not in str(host.events)
    assert "DOE" not in str(host.worker.stderr)
    assert any("pydicom" in line for line in host.worker.stderr)


@POSIX
def test_memory_cap_ends_the_job_and_not_the_worker(hosts: Callable[..., Any]) -> None:
    host = hosts(*doing("import numpy", "numpy.ones(int(4e9), numpy.uint8)", arguments=("--memory-gb", "3")))
    assert host.ready()["memory_gb"] == 3
    event = host.error(do="describe")
    assert event["kind"] == "OutOfMemory"
    assert "3 GB" in event["message"]
    assert host.result(do="forget")["forgotten"] == 0


@POSIX
def test_a_full_disk_is_a_sentence_and_leaves_no_half_file(hosts: Callable[..., Any], job_folder: Path, small: Volume) -> None:
    """A limit on the size of files stands in for the full disk: the write itself is cut off."""
    code = (
        "import resource, signal\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "from medseg.slicer_bridge.worker import main\n"
        "main([])\n"
    )
    host = hosts("-c", code)
    event = host.error(do="segment", method="threshold", parameters={"lower": 5}, scan=host.scan(small))
    assert (event["kind"], event["exit_code"]) == ("OutputError", 5)
    assert "disk" in event["message"]
    assert "full" in event["message"]
    assert names(job_folder) == ["scan.npy"]


def test_no_space_left_is_the_same_sentence(hosts: Callable[..., Any], job_folder: Path) -> None:
    host = hosts(*doing("import errno", "raise OSError(errno.ENOSPC, 'No space left on device', '/home/someone/secret')"))
    event = host.error(do="describe")
    assert (event["kind"], event["exit_code"]) == ("OutputError", 5)
    assert event["message"] == "the disk of the job folder is full: free some space and start again"


def test_send_refuses_what_is_no_job_before_anything_is_sent(hosts: Callable[..., Any]) -> None:
    host = hosts(*doing("time.sleep(0.3)"))
    with pytest.raises(JobFormatError, match="there is no job 'fly'"):
        host.worker.send({"do": "fly"})
    with pytest.raises(JobFormatError, match="call cancel"):
        host.worker.send({"cancel": "a"})
    host.worker.send({"id": "same", "do": "describe"})
    with pytest.raises(JobFormatError, match="already"):
        host.worker.send({"id": "same", "do": "describe"})
    assert host.end("same")["event"] == "result"


def test_the_worker_ends_when_its_host_closes_the_pipe(hosts: Callable[..., Any]) -> None:
    host = hosts(*doing("time.sleep(600)"))
    id = host.worker.send({"do": "describe"})
    started(host, id)
    begun = time.monotonic()
    host.worker.close()
    assert time.monotonic() - begun < SOON_S
    assert not host.worker.is_alive
    assert host.end(id)["kind"] == "Cancelled"


def test_progress_of_a_fast_loop_is_thinned_out(hosts: Callable[..., Any]) -> None:
    host = hosts(*doing("for n in range(5001): context.progress('working', n, 5000)"))
    host.result(do="describe")
    told = [event for event in host.events if event["event"] == "progress"]
    assert 2 <= len(told) < 100
    assert told[0]["done"] == 0
    assert told[-1] == {"id": told[-1]["id"], "event": "progress", "text": "working", "done": 5000, "total": 5000}
