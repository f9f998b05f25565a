"""Installation: three explicit ways, each refusal with its sentence, and Slicer's own Python never touched by the full one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import slicer

ROOT = Path(__file__).resolve().parents[2]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def installation(load_module, tmp_path):
    """An installation whose environment would be made in an empty folder."""
    load_module("MedSeg")
    from MedSegLib.install import Installation

    made = Installation()
    made.folder = str(tmp_path / "environment")
    yield made
    from MedSegLib import finder

    finder.leaveEnvironment()


def environment(folder: str, version: str = "0.1.0", python: bool = True, package: str = "") -> None:
    """What a finished environment looks like."""
    from MedSegLib import install

    inside = Path(install.environmentPython(folder))
    inside.parent.mkdir(parents=True)
    if python:
        inside.symlink_to(sys.executable)
    site = Path(folder) / "lib" / "python3.11" / "site-packages"
    (site / "medseg").mkdir(parents=True)
    (site / "medseg" / "__init__.py").write_text(package or f'__version__ = "{version}"\n')
    (site / "numpy").mkdir()
    (site / "numpy" / "__init__.py").write_text("raise ImportError('the numpy of the environment reached Slicer')\n")
    (Path(folder) / "pyvenv.cfg").write_text("home = nowhere\n")
    (Path(folder) / install.MARKER).write_text(json.dumps({"medseg": version, "python": "3.11"}))


def test_nothing_installed_says_what_to_do(installation, monkeypatch):
    monkeypatch.setattr("MedSegLib.finder.isImportable", lambda *names: False)
    state = installation.state()
    assert (state.ready, state.kind) == (False, "")
    assert "not installed yet" in state.sentence
    from MedSegLib.session import JobError

    with pytest.raises(JobError, match="not installed yet"):
        installation.pythonCommand()


def test_light_is_used_where_slicers_python_has_it(installation):
    state = installation.state()
    assert (state.kind, state.ready) == ("light", True)
    assert "Light" in state.sentence
    assert installation.pythonCommand() == sys.executable


def test_light_asks_and_leaves_alone_what_slicer_ships(installation, packaging, dialogs, tmp_path, monkeypatch):
    import importlib.metadata

    import qt

    true = importlib.metadata.version

    def version(name: str) -> str:
        if name == "numba":
            raise importlib.metadata.PackageNotFoundError(name)
        return true(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    dialogs.answer(qt.QMessageBox.Ok)
    installation.installLight(slicer.modules.MedSegInstance.resourcePath("MedSeg-requirements.txt"))
    assert installation.kind == "light"
    assert len(dialogs.shown) == 1
    assert packaging.installed == ["numba>=0.60", "--no-deps", "--upgrade", "medseg>=0.1,<0.2"]
    held = ("numpy", "scipy", "SimpleITK", "vtk", "requests", "pydicom")
    there = [name for name in held if any(importlib.metadata.distributions(name=name))]
    assert [line.partition("==")[0] for line in packaging.constraints] == there
    assert f"numpy=={true('numpy')}" in packaging.constraints
    assert f"pydicom=={true('pydicom')}" in packaging.constraints


def test_a_no_installs_nothing(installation, packaging, dialogs, monkeypatch):
    import importlib.metadata

    import qt
    from MedSegLib.session import JobError

    def nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    dialogs.answer(qt.QMessageBox.Cancel)
    with pytest.raises(JobError, match="as you chose"):
        installation.installLight(slicer.modules.MedSegInstance.resourcePath("MedSeg-requirements.txt"))
    assert packaging.installed == []
    assert installation.kind == ""


def test_a_failing_pip_points_to_the_full_installation(installation, packaging):
    from MedSegLib.session import JobError

    packaging.fail = True
    with pytest.raises(JobError, match="choose Full"):
        installation.installLight(slicer.modules.MedSegInstance.resourcePath("MedSeg-requirements.txt"))
    assert installation.kind == ""


def test_older_slicer_has_no_packaging(installation, dialogs, monkeypatch):
    import qt

    asked: list[Any] = []
    held: list[str] = []

    def pip_install(words: list[str]) -> None:
        asked.append(words)
        if "-c" in words:
            held[:] = Path(words[-1]).read_text(encoding="utf-8").split()

    monkeypatch.delattr(slicer, "packaging", raising=False)
    monkeypatch.setattr("MedSegLib.finder.isImportable", lambda *names: "slicer.packaging" not in names)
    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    dialogs.answer(qt.QMessageBox.Ok)
    path = slicer.modules.MedSegInstance.resourcePath("MedSeg-requirements.txt")
    installation.installLight(path)
    assert asked[0][:3] == ["-r", path, "-c"]
    assert not Path(asked[0][3]).exists(), "the constraints are a file of that moment"
    assert asked[1] == ["--no-deps", "--upgrade", "medseg>=0.1,<0.2"]
    assert any(line.startswith("numpy==") for line in held)


def test_a_slicer_whose_tool_takes_no_constraints_is_asked_for_by_pip(installation, dialogs, packaging, monkeypatch):
    """Without them Slicer's numpy might move: then pip is called with the file itself."""
    import qt

    asked: list[Any] = []
    monkeypatch.setattr(slicer.packaging, "pip_ensure", lambda requirements, requester=None: pytest.fail("without constraints"))
    monkeypatch.setattr(slicer.util, "pip_install", asked.append)
    dialogs.answer(qt.QMessageBox.Ok)
    installation.installLight(slicer.modules.MedSegInstance.resourcePath("MedSeg-requirements.txt"))
    assert "-c" in asked[0]


def test_light_is_refused_where_slicer_is_too_old_for_it(installation, packaging, monkeypatch):
    from MedSegLib import install
    from MedSegLib.session import JobError

    assert install.slicerVersion() == (5, 12)
    for version in ((5, 10), (4, 13)):
        monkeypatch.setattr(install, "slicerVersion", lambda version=version: version)
        with pytest.raises(JobError, match=r"needs Slicer 5\.12 .*Choose Full"):
            installation.installLight(slicer.modules.MedSegInstance.resourcePath("MedSeg-requirements.txt"))
    assert packaging.installed == []
    assert installation.kind == ""
    monkeypatch.setattr(install, "slicerVersion", lambda: (6, 0))
    install.checkLight()


def test_full_is_steps_in_an_environment_of_its_own(installation, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1e12, 0, 1e12))
    steps = installation.fullSteps("python3.11")
    inside = os.path.join(installation.folder, "bin", "python")
    assert steps[0].command == ("python3.11", "-m", "venv", "--clear", installation.folder)
    assert all(step.command[0] == inside for step in steps[1:])
    assert "medseg[learned,classical,codecs,report]>=0.1,<0.2" in steps[1].command
    assert not any(name.startswith("PYTHON") for step in steps for name in step.environment)


def test_full_without_internet_takes_packages_from_a_bundle_only(installation, monkeypatch, tmp_path):
    from MedSegLib.session import JobError

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1e12, 0, 1e12))
    with pytest.raises(JobError, match="medseg bundle"):
        installation.fullSteps("python3", str(tmp_path))
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "medseg-0.1.0-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(JobError, match="medseg bundle"):
        installation.fullSteps("python3", str(tmp_path))
    (tmp_path / "requirements.txt").write_text("")
    command = next(step.command for step in installation.fullSteps("python3", str(tmp_path)) if "pip" in step.command)
    assert "--no-index" in command
    assert str(tmp_path / "wheels") in command
    assert "--require-hashes" in command


def test_an_environment_that_is_made_anew_is_not_used_before_it_is_done(installation, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1e12, 0, 1e12))
    installation.kind = "full"
    environment(installation.folder)
    assert installation.state().ready
    installation.fullSteps("python3")
    assert "not finished" in installation.state().sentence


def test_an_update_keeps_an_environment_of_the_same_python(installation, monkeypatch):
    from MedSegLib import install

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1e12, 0, 1e12))
    environment(installation.folder)
    monkeypatch.setattr(install, "pythonVersion", lambda python, environment=None: (3, 11))
    assert installation.fullSteps("python3.11")[0].command[1:3] == ("-m", "pip")
    monkeypatch.setattr(install, "pythonVersion", lambda python, environment=None: (3, 12) if "environment" in python else (3, 11))
    assert installation.fullSteps("python3.11")[0].command[1:4] == ("-m", "venv", "--clear")


def test_a_small_disk_is_refused(installation, monkeypatch):
    from MedSegLib.session import JobError

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1e11, 0, 2.5e9))
    with pytest.raises(JobError, match=r"2\.5 GB are free"):
        installation.fullSteps("python3")


def test_a_read_only_folder_is_refused(installation, tmp_path):
    from MedSegLib.session import JobError

    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    installation.folder = str(folder / "environment")
    try:
        if os.access(folder, os.W_OK):  # the superuser may write everywhere: let the system refuse instead
            installation.folder = "/proc/medseg-environment"
        with pytest.raises(JobError, match="cannot be written"):
            installation.fullSteps("python3")
    finally:
        folder.chmod(stat.S_IRWXU)


def test_a_folder_with_other_files_is_left_alone(installation, monkeypatch):
    from MedSegLib.session import JobError

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1e12, 0, 1e12))
    Path(installation.folder).mkdir()
    (Path(installation.folder) / "thesis.doc").write_text("mine")
    with pytest.raises(JobError, match="other files"):
        installation.fullSteps("python3")
    installation.kind = "full"
    with pytest.raises(JobError, match="nothing was removed"):
        installation.remove()
    assert (Path(installation.folder) / "thesis.doc").read_text() == "mine"


def test_an_environment_is_ready_used_and_removed(installation):
    installation.kind = "full"
    assert "not finished" in installation.state().sentence
    environment(installation.folder)
    state = installation.state()
    assert (state.ready, state.version) == (True, "0.1.0")
    assert installation.pythonCommand() == os.path.join(installation.folder, "bin", "python")
    installation.remove()
    assert not os.path.exists(installation.folder)
    assert installation.kind == ""
    assert not any(type(finder).__name__ == "EnvironmentFinder" for finder in sys.meta_path)


@pytest.mark.parametrize(("version", "word"), [("0.2.0", "does not fit"), ("0.0.9", "does not fit"), ("1.0", "does not fit")])
def test_a_version_that_does_not_fit_asks_for_an_update(installation, version, word):
    installation.kind = "full"
    environment(installation.folder, version)
    state = installation.state()
    assert not state.ready
    assert word in state.sentence
    assert "Update" in state.sentence


def test_a_damaged_environment_is_named(installation):
    from MedSegLib import install

    installation.kind = "full"
    environment(installation.folder, python=False)
    assert "Python of the environment is gone" in installation.state().sentence
    (Path(installation.folder) / install.MARKER).write_text("{")
    assert "damaged" in installation.state().sentence


def test_remote_is_kept_for_later(installation):
    from MedSegLib.session import JobError

    for address in ("https://one:8042", "two:8042", "https://one:8042"):
        installation.useRemote(address)
    assert installation.addresses == ["https://one:8042", "two:8042"]
    state = installation.state()
    assert not state.ready
    assert "later version" in state.sentence
    for wrong in ("", "  ", "ftp://x", "two words"):
        with pytest.raises(JobError, match="no address"):
            installation.useRemote(wrong)


CHILD = """
import sys
sys.path.append({folder!r})
from MedSegLib import finder
finder.useEnvironment({environment!r})
import medseg
assert medseg.__version__ == "0.1.7", medseg.__file__
for name in ("numpy", "onlyhere"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " of the environment reached Slicer")
finder.leaveEnvironment()
finder.forgetPackage()
assert not finder.isImportable("medseg")
print("gone")
"""


def test_only_medseg_comes_from_the_environment(installation):
    environment(installation.folder, "0.1.7")
    site = Path(installation.folder) / "lib" / "python3.11" / "site-packages"
    (site / "onlyhere.py").write_text("")
    folder = str(ROOT / "slicer_extension" / "MedSeg")
    code = CHILD.format(folder=folder, environment=installation.folder)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "gone", done.stderr
