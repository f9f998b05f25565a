"""The doctor: every check has a status, a sentence and, where something is wrong, what to do."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import medseg
from medseg.slicer_bridge import doctor
from medseg.slicer_bridge.doctor import Check, host_checks, worker_checks, worst


def _named(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def _environment(folder: Path, version: str) -> Path:
    bin_folder = folder / ("Scripts" if sys.platform == "win32" else "bin")
    packages = folder / ("Lib/site-packages" if sys.platform == "win32" else "lib/python3.12/site-packages") / "medseg"
    bin_folder.mkdir(parents=True)
    packages.mkdir(parents=True)
    (bin_folder / ("python.exe" if sys.platform == "win32" else "python")).write_bytes(b"")
    (packages / "__init__.py").write_text(f'__version__ = "{version}"\n')
    return folder


def test_a_sound_environment_is_ok(tmp_path: Path) -> None:
    checks = _named(host_checks(_environment(tmp_path / "env", medseg.__version__), tmp_path))
    assert checks["environment"].status == "ok"
    assert medseg.__version__ in checks["environment"].sentence


@pytest.mark.parametrize(
    ("state", "status", "sentence"),
    [
        ("none", "error", "not installed for this host yet"),
        ("gone", "error", "the folder of the environment is gone"),
        ("no python", "error", "holds no Python"),
        ("no medseg", "error", "was interrupted"),
        ("other version", "warning", "holds medseg 0.0.1"),
    ],
)
def test_what_is_wrong_with_an_environment(tmp_path: Path, state: str, status: str, sentence: str) -> None:
    folder = _environment(tmp_path / "env", "0.0.1")
    if state == "gone":
        shutil.rmtree(folder)
    if state == "no python":
        shutil.rmtree(folder / ("Scripts" if sys.platform == "win32" else "bin"))
    if state == "no medseg":
        shutil.rmtree(next(folder.rglob("medseg")))
    check = _named(host_checks(None if state == "none" else folder, tmp_path))["environment"]
    assert check.status == status
    assert sentence in check.sentence
    assert check.advice


@pytest.mark.parametrize(("free_gb", "status"), [(0.2, "error"), (3, "warning"), (100, "ok")])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gb: float, status: str) -> None:
    usage = types.SimpleNamespace(free=free_gb * 1e9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    check = doctor.disk_check(tmp_path / "not" / "there" / "yet")
    assert check.status == status
    assert bool(check.advice) == (status != "ok")


@pytest.mark.parametrize(
    ("total", "free", "status"), [(16.0, 10.0, "ok"), (4.0, 3.0, "warning"), (64.0, 0.5, "warning"), (None, None, "ok")]
)
def test_memory(monkeypatch: pytest.MonkeyPatch, total: float | None, free: float | None, status: str) -> None:
    monkeypatch.setattr(doctor, "_memory_gb", lambda: (total, free))
    assert doctor.memory_check().status == status


def test_memory_of_this_machine_is_found() -> None:
    total, free = doctor._memory_gb()
    assert total is not None
    assert total > 0.5
    assert free is None or 0 < free <= total


class _Cuda:
    def __init__(self, count: int, free_gb: float = 20) -> None:
        self._count, self._free = count, free_gb * 1e9

    def is_available(self) -> bool:
        return self._count > 0

    def device_count(self) -> int:
        return self._count

    def get_device_name(self, number: int) -> str:
        return f"GPU {number}"

    def mem_get_info(self, number: int) -> tuple[float, float]:
        return self._free, 24e9


@pytest.mark.parametrize(
    ("count", "free_gb", "has_driver", "status", "words"),
    [
        (2, 20, True, "ok", "2 GPU: GPU 0, GPU 1, 20.0 of 24.0 GB free"),
        (1, 1, True, "warning", "1.0 of 24.0 GB free"),
        (0, 0, True, "warning", "torch sees no GPU"),
        (0, 0, False, "ok", "networks run on the CPU"),
    ],
)
def test_gpu(monkeypatch: pytest.MonkeyPatch, count: int, free_gb: float, has_driver: bool, status: str, words: str) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi" if has_driver else None)
    check = doctor._gpu(types.SimpleNamespace(cuda=_Cuda(count, free_gb)))
    assert check.status == status
    assert words in check.sentence


def _spec(missing: set[str]) -> Any:
    from importlib.util import find_spec

    return lambda name: None if name in missing else find_spec(name)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", _spec({"torch", "numba", "jinja2"}))
    checks = _named([*doctor._packages(), *doctor._networks()])
    assert checks["packages"].status == "error"
    assert "numba" in checks["packages"].sentence
    assert checks["extra report"].status == "warning"
    assert checks["networks"].status == "warning"
    assert "torch" in checks["networks"].sentence


def test_a_broken_torch_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_is_there", lambda package: True)

    def fail(name: str) -> Any:
        raise OSError("libtorch.so")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    (check,) = doctor._networks()
    assert check.status == "error"
    assert "broken" in check.sentence


def test_the_slow_series_of_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_is_there", lambda package: True)
    torch = types.SimpleNamespace(__version__="2.9.1", cuda=_Cuda(0))
    monkeypatch.setattr(doctor.importlib, "import_module", lambda name: torch)
    assert doctor._networks()[0].status == "error"


def test_a_check_that_breaks_is_an_error_among_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail() -> list[Check]:
        raise RuntimeError("secret")

    monkeypatch.setattr(doctor, "_packages", fail)
    monkeypatch.setattr(doctor, "_networks", list)
    checks = worker_checks(folder=str(tmp_path), store=str(tmp_path / "store"))
    assert worst(checks) == "error"
    assert "secret" not in str(checks)
    assert "disk" in _named(checks)
    assert _named(checks)["models"].status == "ok"


def test_worst() -> None:
    ok, warning, error = (Check("a", status, "s") for status in ("ok", "warning", "error"))  # type: ignore[arg-type]
    assert worst([]) == "ok"
    assert worst([ok, warning]) == "warning"
    assert worst([ok, error, warning]) == "error"
