"""Is all well? Checks of the environment, the machine and the folders, each with a sentence and what to do.

`worker_checks` runs where the work is done, `host_checks` in the host and needs no worker; both give the same form. This module
imports the standard library only; what it checks it looks for without importing, but for torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medseg import __version__
from medseg.slicer_bridge.paths import environment_python, installed_version, package_folder

Status = Literal["ok", "warning", "error"]

_GB = 1e9
_DISK_SCARCE_GB, _DISK_FULL_GB = 5.0, 1.0
_MEMORY_SCARCE_GB, _MEMORY_FREE_SCARCE_GB = 7.5, 2.0
_FEW_KERNELS = 200  # `medseg warm` compiles several hundred
_BASE = ("numpy", "scipy", "SimpleITK", "pydicom", "highdicom", "nibabel", "numba", "pydantic", "yaml")
# extra → the package it brings, what cannot be done without it
_EXTRAS = {
    "report": ("jinja2", "reports with pictures cannot be written"),
    "classical": ("sklearn", "the pixel classifier cannot run"),
    "codecs": ("imagecodecs", "some compressed DICOM scans cannot be read"),
}


@dataclass(frozen=True)
class Check:
    """One thing looked at: `sentence` says how it is, `advice` what to do ("" where nothing)."""

    name: str
    status: Status
    sentence: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"name": self.name, "status": self.status, "sentence": self.sentence, "advice": self.advice}


def worker_checks(*, folder: str | None = None, store: str | None = None) -> list[Check]:
    """Return the checks of the process that works; one that fails itself is an error among them, never an exception."""
    checks: list[Check] = []
    temporary = Path(folder or tempfile.gettempdir())
    tasks: list[tuple[str, Callable[[], Iterable[Check]]]] = [
        ("versions", _versions),
        ("packages", _packages),
        ("networks", _networks),
        ("models", lambda: _models(store)),
        ("disk", lambda: [disk_check(temporary)]),
        ("memory", lambda: [memory_check()]),
        ("kernels", lambda: [_kernels()]),
    ]
    for name, task in tasks:
        try:
            checks += task()
        except Exception as err:  # noqa: BLE001 - a check that breaks is itself what the doctor has found
            sentence = f"this could not be checked ({type(err).__name__})"
            checks.append(Check(name, "error", sentence, "Install the environment again; if it stays so, report it."))
    return checks


def host_checks(environment: str | Path | None, jobs: str | Path, version: str = __version__) -> list[Check]:
    """Return what a host can see without a worker: the environment, its version against that of the extension, the disk."""
    checks = [_environment(environment, version)]
    checks.append(disk_check(Path(jobs)))
    checks.append(memory_check())
    return checks


def worst(checks: Iterable[Check]) -> Status:
    """Return the gravest status of checks, "ok" where there are none."""
    found = {check.status for check in checks}
    return "error" if "error" in found else "warning" if "warning" in found else "ok"


def _environment(environment: str | Path | None, version: str) -> Check:
    name = "environment"
    if environment is None:
        return Check(name, "error", "medseg is not installed for this host yet.", "Press Install and choose light or full.")
    folder = Path(environment)
    if not folder.is_dir():
        return Check(name, "error", "the folder of the environment is gone.", "Press Install to make it again.")
    if not environment_python(folder).exists():
        return Check(name, "error", "the environment holds no Python.", "Press Install to make it again.")
    if package_folder(folder) is None:
        return Check(name, "error", "medseg is not installed in its environment: the installation was interrupted.", "Press Install again.")
    found = installed_version(folder)
    if found != version:
        sentence = f"the environment holds medseg {found}, the extension is made for {version}."
        return Check(name, "warning", sentence, "Press Update to bring both to the same version.")
    return Check(name, "ok", f"medseg {found} is installed in its own environment.")


def _versions() -> list[Check]:
    python = platform.python_version()
    checks = [Check("medseg", "ok", f"medseg {__version__} on Python {python}, {platform.system()} {platform.machine()}.")]
    return checks


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _packages() -> list[Check]:
    missing = [package for package in _BASE if not _is_there(package)]
    if missing:
        sentence = f"packages that medseg needs are missing: {', '.join(missing)}."
        base = Check("packages", "error", sentence, "Install the environment again.")
    else:
        base = Check("packages", "ok", f"all packages are there (numpy {_version('numpy')}, SimpleITK {_version('SimpleITK')}).")
    extras = []
    for extra, (package, lost) in _EXTRAS.items():
        if not _is_there(package):
            extras.append(Check(f"extra {extra}", "warning", f"{lost}: {package} is not installed.", f"Install medseg[{extra}]."))
    return [base, *extras]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _networks() -> list[Check]:
    """Look at torch, MONAI and the GPU; torch is imported, which takes seconds."""
    missing = [package for package in ("torch", "monai", "safetensors") if not _is_there(package)]
    if missing:
        sentence = f"trained networks cannot run: {', '.join(missing)} not installed. Classical methods are not affected."
        return [Check("networks", "warning", sentence, "Install the full environment (medseg[learned]).")]
    try:
        torch = importlib.import_module("torch")
    except Exception as err:  # noqa: BLE001 - a broken installation of torch raises anything
        sentence = f"trained networks cannot run: torch is installed but broken ({type(err).__name__})."
        return [Check("networks", "error", sentence, "Remove the environment and install it again; Slicer's own Python is not affected.")]
    version = str(torch.__version__)
    checks = [Check("networks", "ok", f"torch {version} and MONAI {_version('monai')} are installed.")]
    if version.startswith("2.9."):
        sentence = f"torch {version} computes 3D convolutions several times slower than other versions."
        checks = [Check("networks", "error", sentence, "Update the environment: torch 2.10 or newer.")]
    return [*checks, _gpu(torch)]


def _gpu(torch: object) -> Check:
    cuda = torch.cuda  # type: ignore[attr-defined]
    if cuda.is_available():
        count = cuda.device_count()
        names = ", ".join(str(cuda.get_device_name(number)) for number in range(count))
        free, total = cuda.mem_get_info(0)
        sentence = f"{count} GPU: {names}, {free / _GB:.1f} of {total / _GB:.1f} GB free."
        scarce = free < 4 * _GB
        return Check(
            "gpu", "warning" if scarce else "ok", sentence, "Close other programs on the GPU, or run on the CPU." if scarce else ""
        )
    if shutil.which("nvidia-smi"):
        sentence = "an NVIDIA driver is installed, but torch sees no GPU."
        return Check("gpu", "warning", sentence, "Update the driver, or install the environment again with a torch for your CUDA version.")
    return Check("gpu", "ok", "no GPU was found: networks run on the CPU, which takes minutes where a GPU takes seconds.")


def _models(store: str | None) -> list[Check]:
    from medseg.io.atomic import check_writable
    from medseg.segmentation.learned.store.find import list_models
    from medseg.segmentation.learned.store.installed import default_store, find_broken, list_installed

    place = Path(store) if store else default_store()
    built_in, own = {model.description.name for model in list_models([])}, [model.name for model in list_installed([place])]
    broken = find_broken([place])
    sentence = f"{len(own)} models were added; {len(built_in)} come with medseg ({', '.join(sorted(built_in))})."
    advice = "" if own else "Add one with `medseg models add`, or use those that come with medseg."
    checks = [Check("models", "ok", sentence, advice)]
    if broken:
        names = ", ".join(sorted(broken)[:5])
        checks = [Check("models", "warning", f"models that cannot be used: {names}.", "Remove them and add them again.")]
    try:
        check_writable(place)
    except Exception:  # noqa: BLE001 - whatever stands against it, models cannot be added
        sentence = "the folder of models cannot be written: models cannot be added."
        checks.append(Check("store", "warning", sentence, "Ask whoever keeps this machine for the right to write there."))
    return checks


def disk_check(folder: Path) -> Check:
    """Return how much room there is for the arrays of jobs."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        free = shutil.disk_usage(folder).free / _GB
    except OSError:
        return Check("disk", "error", "the folder for jobs cannot be looked at.", "Choose another temporary folder.")
    if not os.access(folder, os.W_OK):
        return Check("disk", "error", "the folder for jobs cannot be written.", "Choose another temporary folder.")
    if free < _DISK_FULL_GB:
        return Check("disk", "error", f"only {free:.1f} GB are free where jobs pass their arrays.", "Free some space before you go on.")
    if free < _DISK_SCARCE_GB:
        return Check("disk", "warning", f"{free:.1f} GB are free where jobs pass their arrays: enough for few scans.", "Free some space.")
    return Check("disk", "ok", f"{free:.0f} GB are free where jobs pass their arrays.")


def memory_check() -> Check:
    """Return how much memory the machine has and how much of it is free."""
    total, free = _memory_gb()
    if total is None:
        return Check("memory", "ok", "how much memory there is could not be found out.")
    known = f", {free:.1f} GB of it free" if free is not None else ""
    if free is not None and free < _MEMORY_FREE_SCARCE_GB:
        return Check("memory", "warning", f"{total:.0f} GB of memory{known}: large scans will not fit.", "Close other programs or scenes.")
    if total < _MEMORY_SCARCE_GB:
        return Check("memory", "warning", f"{total:.0f} GB of memory{known}: crop large scans first.", "16 GB are comfortable.")
    return Check("memory", "ok", f"{total:.0f} GB of memory{known}.")


def _memory_gb() -> tuple[float | None, float | None]:
    if sys.platform == "win32":
        return _memory_windows()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = {line.split(":")[0]: float(line.split()[1]) * 1024 / _GB for line in lines if len(line.split()) > 1}
        return found["MemTotal"], found.get("MemAvailable")
    except (OSError, ValueError, KeyError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GB, None
    except (OSError, ValueError, AttributeError):
        return None, None


def _memory_windows() -> tuple[float | None, float | None]:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong) for name in ("total", "free", "page_total", "page_free", "virtual_total", "virtual_free", "extended")
        ]

    status = Status()
    status.length = ctypes.sizeof(status)
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined,unused-ignore]
        return None, None
    return status.total / _GB, status.free / _GB


def _kernels() -> Check:
    """Where compiled kernels cannot be kept, every start compiles them again."""
    import medseg

    folder = Path(medseg.__file__).parent / "kernels" / "__pycache__"
    kept = len(list(folder.glob("*.nbi"))) if folder.is_dir() else 0
    if not os.access(folder if folder.is_dir() else folder.parent, os.W_OK):
        sentence = "medseg is installed where nothing can be written: kernels are compiled again for every user."
        return Check("kernels", "warning", sentence, "Run `medseg warm` once as the one who installed it.")
    if not kept:
        return Check(
            "kernels", "warning", "no kernel is compiled yet: the first use of each method takes longer.", "Run `medseg warm` once."
        )
    return Check("kernels", "ok", f"{kept} compiled kernels are kept on disk.")
