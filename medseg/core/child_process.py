"""Child processes: started apart from their parent, ended with everything they started, and how they died in words.

Standard library only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def own_group() -> dict[str, Any]:
    """Return the arguments of `subprocess.Popen` for a process apart from its parent.

    Its children can be ended with it, and an interrupt of the parent does not reach it.
    """
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that was started with `own_group`, and everything it started; one that has ended is left alone."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], check=False, capture_output=True)
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: the number of its group is its own
    except (ProcessLookupError, PermissionError):  # it ended meanwhile
        return


def signal_name(number: int) -> str:
    """Return the name of a signal, its number where it has none.

    >>> signal_name(11), signal_name(250)
    ('SIGSEGV', '250')
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def last_words(stderr: Sequence[str], home: Path | None = None) -> str:
    """Return the line of a log that tells most: a fatal error of Python, else the last one; paths become file names.

    `home` is the folder of this user, found out by default: its name may hold spaces, at which other paths are taken to end.

    >>> last_words(["/home/someone/env/bin/python: No module named medseg"])
    'python: No module named medseg'
    """
    fatal = [line for line in stderr if line.startswith("Fatal Python error")]
    spoken = [line for line in stderr if line.strip()]
    line = (fatal or spoken or [""])[-1].strip()
    own = home or _home()
    if len(own.parts) > 1:
        line = line.replace(str(own), "")
    return re.sub(r"(?:[A-Za-z]:)?(?:[\\/][^\\/\s:'\"]+)*[\\/](?=[^\\/\s:'\"]+)", "", line)[:300]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user without one
        return Path("~")
