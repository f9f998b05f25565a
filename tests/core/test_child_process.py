"""Child processes: ended with everything they started, and their last words without anyone's folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from medseg.core.child_process import kill_group, last_words, own_group, signal_name


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ""),
        (["first", "", "ValueError: no"], "ValueError: no"),
        (["Fatal Python error: Aborted", "Current thread 0x0"], "Fatal Python error: Aborted"),
        (["error in C:\\Users\\jane\\y.dll"], "error in y.dll"),
        (["cannot open '/opt/secret/lib.so.1'"], "cannot open 'lib.so.1'"),
    ],
)
def test_last_words_hold_no_folders(lines: list[str], words: str) -> None:
    assert last_words(lines) == words


def test_a_home_folder_with_a_space_in_its_name_is_left_out_too() -> None:
    for home, line in (
        (PurePosixPath("/home/jane doe"), "/home/jane doe/x/y.py: gone"),
        (PureWindowsPath(r"C:\Users\jane doe"), r"C:\Users\jane doe\x\y.py: gone"),
    ):
        assert last_words([line], home) == "y.py: gone"  # type: ignore[arg-type]


def test_signals_have_names() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(250) == "250"


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_children_end_with_the_group_and_this_process_goes_on() -> None:
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, **own_group())
    assert process.stdout is not None
    with process.stdout:
        child = int(process.stdout.readline())
    assert os.getpgid(child) == process.pid != os.getpgid(0)
    kill_group(process)
    assert process.wait(60) == -signal.SIGKILL
    end = time.monotonic() + 60
    while _is_running(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _is_running(child)
    kill_group(process)  # of one that has ended nothing is killed


def _is_running(pid: int) -> bool:
    """A process that has ended may stay as a zombie until someone collects it."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
