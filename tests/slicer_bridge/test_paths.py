"""Places: the environment of the worker, and job folders that do not outlive their process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import medseg
from medseg.core.errors import OutputError
from medseg.slicer_bridge import paths


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_environment_made_by_venv_is_found(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=os.name != "nt", with_pip=False)
    assert paths.environment_python(tmp_path / "env").exists()
    packages = paths.site_packages(tmp_path / "env")
    assert packages is not None
    assert paths.package_folder(tmp_path / "env") is None
    assert paths.installed_version(tmp_path / "env") is None
    (packages / "medseg").mkdir()
    (packages / "medseg" / "__init__.py").write_text('"""x"""\n__version__ = "7.8.9"\n')
    assert paths.package_folder(tmp_path / "env") == packages / "medseg"
    assert paths.installed_version(tmp_path / "env") == "7.8.9"


def test_a_working_copy_is_found_through_its_link(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "_medseg.pth").write_text(f"\n{Path(medseg.__file__).parents[1]}\n")
    assert paths.package_folder(tmp_path) == Path(medseg.__file__).parent
    assert paths.installed_version(tmp_path) == medseg.__version__


def test_no_environment_is_none(tmp_path: Path) -> None:
    assert paths.site_packages(tmp_path / "nowhere") is None
    assert paths.installed_version(tmp_path / "nowhere") is None


def test_the_worker_runs_isolated_from_the_folder_it_is_started_in() -> None:
    command = paths.worker_command("python", memory_gb=2.5)
    assert command[1:] == ["-I", "-m", "medseg.slicer_bridge.worker", "--memory-gb", "2.5"]
    assert paths.worker_command("python")[-1] == "medseg.slicer_bridge.worker"


def test_what_a_host_sets_for_its_own_python_is_taken_out() -> None:
    inherited = {
        "PATH": "p",
        "PYTHONHOME": "h",
        "PYTHONPATH": "q",
        "LD_LIBRARY_PATH": "l",
        "QT_PLUGIN_PATH": "t",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    assert paths.clean_environment(inherited) == {"PATH": "p", "CUDA_VISIBLE_DEVICES": "0"}


def test_a_job_folder_is_private_and_named_by_its_process(tmp_path: Path) -> None:
    folder = paths.make_job_folder(tmp_path / "new" / "place")
    assert folder.name.startswith(f"jobs-{os.getpid()}-")
    assert list(folder.iterdir()) == []
    if os.name != "nt":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "scan.npy").write_bytes(b"x")
    paths.remove_job_folder(folder)
    assert not folder.exists()


def test_folders_of_dead_processes_go_and_others_stay(tmp_path: Path, dead_pid: int) -> None:
    stale = tmp_path / f"jobs-{dead_pid}-01234567"
    living = tmp_path / f"jobs-{os.getpid()}-89abcdef"
    foreign = [tmp_path / name for name in ("jobs-old", f"jobs-{dead_pid}", "data", f"jobs-{dead_pid}-0123456z")]
    for folder in (stale, living, *foreign):
        folder.mkdir()
        (folder / "a.npy").write_bytes(b"x")
    made = paths.make_job_folder(tmp_path)
    assert not stale.exists()
    assert all(folder.exists() for folder in (living, made, *foreign))


def test_only_job_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "patients").mkdir()
    paths.remove_job_folder(tmp_path / "patients")
    assert (tmp_path / "patients").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_named_like_a_job_folder_is_not_followed(tmp_path: Path, dead_pid: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keep").write_bytes(b"x")
    (tmp_path / f"jobs-{dead_pid}-01234567").symlink_to(tmp_path / "data")
    paths.remove_stale(tmp_path)
    assert (tmp_path / "data" / "keep").exists()


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="folder for jobs cannot be made"):
        paths.make_job_folder(tmp_path / "file")


def test_files_of_a_job_are_those_that_begin_with_its_id(tmp_path: Path) -> None:
    for name in ("a1-labels.npy", "a1-nested.npy", "a12-labels.npy", "a1.npy"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a1-report").mkdir()
    (tmp_path / "a1-report" / "x").write_bytes(b"x")
    paths.clear_job_files(tmp_path, "a1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a1.npy", "a12-labels.npy"]


def test_running_processes(dead_pid: int) -> None:
    assert paths.is_running(os.getppid())
    assert not paths.is_running(dead_pid)
    assert not paths.is_running(0)
    assert not paths.is_running(-5)
