"""What `medseg batch` does with the bad inputs that need a whole run: through the real command line, on a handful of tiny scans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from bad_input_checks import Bench
from batch_folder import write_pipeline, write_scan

from medseg.batch.records.layout import Layout

COUNT = 4


def studies(folder: Path) -> Path:
    """A folder with scans and a pipeline beside it."""
    for number in range(COUNT):
        write_scan(folder / "studies" / f"{number}.nii.gz", 3 + number)
    write_pipeline(folder / "p.yaml")
    return folder


def awkward_names(folder: Path) -> Path:
    """Scans whose names are as long as a file system takes, and differ in case alone."""
    for name in ("Scan.nii.gz", "SCAN.nii.gz", "x" * 240 + ".nii.gz"):
        write_scan(folder / "studies" / ("deep" * 20) / name, 3)
    write_pipeline(folder / "p.yaml")
    return folder


def short_names(_: Bench, folder: Path) -> None:
    assert _run(folder).returncode == 0
    layout = Layout(folder / "out")
    cases = [path.parent.name for path in layout.results()]
    longest = max(len(str(path.relative_to(layout.folder))) for path in layout.folder.rglob("*"))
    assert (len(cases), len({name.lower() for name in cases})) == (3, 3)
    assert longest < 80  # of the 260 that Windows takes


def killed_worker(_: Bench, folder: Path) -> None:
    command = [*_command(folder), "--workers", "1", "--json-events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if (event := json.loads(line))["event"] == "worker_started":
                os.kill(event["pid"], signal.SIGKILL)
                break
        text, said = run.communicate(timeout=100)
    events = [json.loads(line)["event"] for line in text.splitlines() if '"event"' in line]
    assert run.returncode == 0, said
    assert "worker_died" in events
    assert len(list(Layout(folder / "out").results())) == COUNT


def two_runs(_: Bench, folder: Path) -> None:
    with subprocess.Popen([*_command(folder), "--json-events"], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert any(json.loads(line)["event"] == "run_started" for line in run.stdout)
        run.send_signal(signal.SIGSTOP)  # whatever the second one takes to start, the first is at work
        second = _run(folder)
        run.send_signal(signal.SIGCONT)
        run.communicate(timeout=100)
    assert (run.returncode, second.returncode) == (0, 2)
    assert "--join" in second.stderr


def broken_index(_: Bench, folder: Path) -> None:
    assert _run(folder).returncode == 0
    layout = Layout(folder / "out")
    before = {path: path.stat().st_mtime_ns for path in layout.results()}
    (index,) = layout.state.glob("*.sqlite")
    index.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    done = _run(folder)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in layout.results()} == before
    assert list(layout.state.glob("*.bad*"))


def _command(folder: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "medseg",
        "batch",
        str(folder / "studies"),
        "-o",
        str(folder / "out"),
        "--pipeline",
        str(folder / "p.yaml"),
    ]


def _run(folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(_command(folder), capture_output=True, text=True, check=False, timeout=100)
    assert "Traceback" not in done.stderr
    return done
