"""Where things are: the environment the worker runs in, and the folders that jobs pass their arrays through.

Every place is an argument. Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from medseg.core.errors import OutputError

WORKER_MODULE = "medseg.slicer_bridge.worker"
_FOLDER = re.compile(r"jobs-(\d+)-[0-9a-f]{8}")
# what a host with a Python of its own sets, and what would make another Python or its libraries load the host's files
_ASTRAY = ("PYTHON", "LD_", "DYLD_", "QT_", "TCL_LIBRARY", "TK_LIBRARY", "SSL_CERT_FILE", "SLICER_", "ITK_AUTOLOAD_PATH", "CTEST_")


def environment_python(environment: str | Path) -> Path:
    """Return the Python of an environment made by `venv`, whether it is there or not.

    >>> environment_python("env").parts[0]
    'env'
    """
    folder = Path(environment)
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def worker_command(python: str | Path, *, memory_gb: float | None = None) -> list[str]:
    """Return the command that starts the worker with a Python; -I keeps the current folder and user packages out.

    >>> worker_command("env/bin/python", memory_gb=8)
    ['env/bin/python', '-I', '-m', 'medseg.slicer_bridge.worker', '--memory-gb', '8']
    """
    cap = [] if memory_gb is None else ["--memory-gb", f"{memory_gb:g}"]
    return [str(python), "-I", "-m", WORKER_MODULE, *cap]


def clean_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process without those that would lead a foreign Python to the host's libraries.

    >>> clean_environment({"HOME": "/home/a", "PYTHONHOME": "/slicer", "LD_LIBRARY_PATH": "/slicer/lib"})
    {'HOME': '/home/a'}
    """
    return {name: value for name, value in inherited.items() if not name.upper().startswith(_ASTRAY)}


def site_packages(environment: str | Path) -> Path | None:
    """Return the folder of an environment's packages, None where there is none."""
    folder = Path(environment)
    found = [folder / "Lib" / "site-packages", *sorted(folder.glob("lib/python3*/site-packages"), reverse=True)]
    return next((path for path in found if path.is_dir()), None)


def package_folder(environment: str | Path) -> Path | None:
    """Return the folder of the package `medseg` in an environment, None where it is not installed there."""
    packages = site_packages(environment)
    if packages is None:
        return None
    if (packages / "medseg" / "__init__.py").is_file():
        return packages / "medseg"
    for link in sorted(packages.glob("*medseg*.pth")):  # an installation from a working copy
        for line in _text(link).splitlines():
            folder = Path(line.strip()) / "medseg"
            if line.strip() and (folder / "__init__.py").is_file():
                return folder
    return None


def installed_version(environment: str | Path) -> str | None:
    """Return the version of medseg in an environment without running anything; None where there is none."""
    folder = package_folder(environment)
    found = re.search(r'^__version__\s*=\s*"([^"]+)"', _text(folder / "__init__.py"), re.MULTILINE) if folder else None
    return found.group(1) if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def make_job_folder(base: str | Path, pid: int | None = None) -> Path:
    """Make the folder through which this process hands arrays to its worker; only this user may look into it.

    Folders that processes left which no longer run are removed. The host removes its own with `remove_job_folder` when it
    ends. Raises OutputError where it cannot be made.

    >>> import tempfile
    >>> folder = make_job_folder(tempfile.mkdtemp())
    >>> remove_job_folder(folder); folder.exists()
    False
    """
    base = Path(base)
    folder = base / f"jobs-{os.getpid() if pid is None else pid}-{uuid.uuid4().hex[:8]}"
    try:
        base.mkdir(parents=True, exist_ok=True)
        remove_stale(base)
        folder.mkdir(mode=0o700)
        probe = folder / "probe"
        probe.write_bytes(b"medseg")
        probe.unlink()
    except OSError as err:
        shutil.rmtree(folder, ignore_errors=True)
        reason = err.strerror or "unknown reason"
        raise OutputError(f"the folder for jobs cannot be made ({reason}): free some space, or choose another temporary folder") from err
    return folder


def remove_job_folder(folder: str | Path) -> None:
    """Remove a folder that `make_job_folder` made; any other is left alone, files still open are left for the next start."""
    if _FOLDER.fullmatch(Path(folder).name):
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(base: str | Path) -> list[str]:
    """Remove the job folders of processes that no longer run, and return their names."""
    gone = []
    for folder in sorted(Path(base).glob("jobs-*")):
        found = _FOLDER.fullmatch(folder.name)
        if found and folder.is_dir() and not folder.is_symlink() and not is_running(int(found.group(1))):
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder.name)
    return gone


def is_running(pid: int) -> bool:
    """Whether a process of this number runs; one of another user counts.

    >>> is_running(os.getpid())
    True
    """
    if pid <= 0:
        return False
    if sys.platform == "win32":
        return _is_running_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_running_windows(pid: int) -> bool:
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(kernel.GetLastError() == 5)  # it is there, but another user's
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE


def clear_job_files(folder: str | Path, id: str) -> None:
    """Remove the files and folders that a job made in its folder: their names begin with its id."""
    for path in Path(folder).glob(f"{id}-*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError:  # held open on Windows; the folder goes when the host ends
            continue
