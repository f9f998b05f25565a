"""B48 on a real disk: one that gets full, and one that is read-only (both need the right to mount)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.batch.records.layout import Layout
from medseg.batch.run.runner import RunOptions, Summary, run_cases

PROGRAM = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from medseg.batch.records.case import Case
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.run.runner import RunOptions, run_cases
from medseg.core.errors import MedsegError
given = json.loads(Path(sys.argv[1]).read_text(encoding="ascii"))
cases = [Case.from_dict(case) for case in given["cases"]]
try:
    summary = run_cases(Plan.from_dict(given["plan"]), cases, total=len(cases), root=Path(given["root"]), layout=Layout(Path(sys.argv[2])),
                        options=RunOptions(workers=1, grace_s=5))
    print(json.dumps([summary.stopped, summary.exit_code, summary.done, summary.message]))
except MedsegError as err:
    print(json.dumps(["", err.exit_code, 0, str(err)]))
"""
MOUNT = 'mount -t tmpfs -o size="$3" tmpfs "$2" && {prepare}; "$0" "$4" "$1" "$2/out"; cp -r "$2/out" "$5" 2>/dev/null'


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False)
    return done.returncode == 0


def run_on_disk(batch: Any, folder: Path, size: str, prepare: str = "true") -> tuple[list[Any], Layout]:
    """Run in a process with a small disk of its own; return what it says, and a copy of its output."""
    disk, program, given, copy = folder / "disk", folder / "program.py", folder / "given.json", folder / "copy"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("needs the right to mount a disk")
    program.write_text(PROGRAM, encoding="ascii")
    document = {"cases": [case.to_dict() for case in batch.cases], "plan": batch.plan.to_dict(), "root": str(batch.root)}
    given.write_text(json.dumps(document), encoding="ascii")
    script = MOUNT.format(prepare=prepare)
    command = ["unshare", "-m", "sh", "-c", script, sys.executable, str(given), str(disk), size, str(program), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), Layout(copy)


def test_a_disk_that_gets_full_stops_the_run_and_leaves_no_stub(tiny_batch: Callable[..., Any], tmp_path: Path) -> None:
    batch = tiny_batch(12)
    said, copy = run_on_disk(batch, tmp_path, "260k")
    stopped, code, done, message = said
    assert (stopped, code) == ("OUTPUT", 5)
    assert "No space left" in message
    assert 0 < done < 12
    assert list(copy.folder.rglob(".tmp-*")) == []
    again = run_cases(batch.plan, batch.cases, total=12, root=batch.root, layout=copy, options=RunOptions(workers=1))
    assert again == Summary(done=12 - done, skipped=done)


def test_a_read_only_disk_is_said_at_the_start(tiny_batch: Callable[..., Any], tmp_path: Path) -> None:
    said, copy = run_on_disk(tiny_batch(1), tmp_path, "1m", 'mount -o remount,ro "$2"')
    assert said[1] == 5
    assert "Read-only" in said[3]
    assert not copy.folder.exists()
