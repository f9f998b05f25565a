"""The program without standard streams, as some services start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="closes streams by the shell's words for it")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_it_does_its_work_with_closed_streams(tmp_path: Path, closed: str) -> None:
    """What it has to say is lost, what it has to write is not; and no file of its own gets the number of a stream."""
    command = f'"$0" -m medseg phantom sphere -o "$1" --format nifti --spacing 8,8,8 {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, str(tmp_path / "out")], check=False)
    assert done.returncode == 0
    assert list((tmp_path / "out").iterdir())


def _run_with_stdout(stdout: int, *arguments: str, cwd: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "medseg", *arguments]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=cwd, check=False, timeout=120)
    return done.returncode, done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
@pytest.mark.parametrize("arguments", [("methods",), ("methods", "--json"), ("inspect", "nothing", "--json")])
def test_a_full_standard_output_is_said(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    code, said = _run_with_stdout(full, *arguments, cwd=tmp_path)
    os.close(full)
    assert code in (3, 5)
    assert len(said.splitlines()) == 1
    assert said.startswith("medseg: ")


@pytest.mark.parametrize("arguments", [("methods",), ("methods", "--json")])
def test_a_reader_that_has_gone_is_no_failure(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    assert _run_with_stdout(write, *arguments, cwd=tmp_path) == (0, "")
    os.close(write)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_standard_error_leaves_the_exit_code(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-m", "medseg", "inspect", "nothing"]
    assert subprocess.run(command, stderr=full, stdout=subprocess.DEVNULL, cwd=tmp_path, check=False, timeout=120).returncode == 3
    os.close(full)
