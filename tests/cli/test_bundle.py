"""`medseg bundle`: everything the target needs, every byte checked, and a folder that appears whole or not at all.

Packages are tiny stand-ins in a folder (`--from`); pip itself is the real one.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import medseg
from medseg.cli.bundle_download import BundleError, read_wheel, refusal
from medseg.cli.bundle_folder import verify, write_description
from medseg.cli.bundle_target import PLATFORMS, Target, this_machine
from medseg.cli.bundle_wheel import write_own_wheel
from medseg.cli.main import run
from medseg.core.errors import OutputError, OutputVerificationError

METADATA = f"""Metadata-Version: 2.4
Name: medseg
Version: {medseg.__version__}
License-Expression: Apache-2.0
Requires-Python: >=3.10
Requires-Dist: alpha>=1.0
Requires-Dist: beta>=2; platform_system == "Windows"
Provides-Extra: learned
Requires-Dist: torchlike>=2; extra == "learned"
Provides-Extra: all
Requires-Dist: medseg[learned]; extra == "all"
Provides-Extra: dev
"""
# name, version, requirements, tag of the stand-ins
PACKAGES = [
    ("alpha", "1.0", ("gamma[more]",), "py3-none-any"),
    ("alpha", "0.9", (), "py3-none-any"),
    ("beta", "2.1", (), "py3-none-any"),
    ("gamma", "3.0", ('delta; extra == "more"', 'never; python_version < "3.5"'), "py3-none-any"),
    ("delta", "1.0", (), "py3-none-any"),
    ("torchlike", "2.5", (), "cp312-cp312-win_amd64"),
    ("torchlike", "2.5", (), "cp312-cp312-manylinux_2_28_x86_64"),
    ("torchlike", "2.5", (), "py3-none-macosx_11_0_arm64"),
]


class _Installed:
    """What `importlib.metadata` says of an installation."""

    version = medseg.__version__
    requires = ("alpha>=1.0",)
    files: tuple[Any, ...] = ()

    def read_text(self, name: str) -> str | None:
        return {"METADATA": METADATA, "entry_points.txt": "[console_scripts]\nmedseg = medseg.cli.main:main\n"}.get(name)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation of few requirements, and a package of few files: what is tested does not hang on their number."""
    monkeypatch.setattr("medseg.cli.bundle_wheel.importlib.metadata.distribution", lambda name: _Installed())
    monkeypatch.setattr("medseg.cli.bundle_wheel._check_fresh", lambda required: None)
    monkeypatch.setattr("medseg.cli.bundle._extras_there", lambda: ["learned", "all", "dev"])
    monkeypatch.setattr("medseg.cli.bundle_wheel._package_files", lambda: iter([("medseg/__init__.py", b'__version__ = "0"\n')]))


def stand_in(folder: Path, name: str, version: str, requires: tuple[str, ...] = (), tag: str = "py3-none-any") -> Path:
    """Write a wheel of one empty module."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        "License: MIT",
        *(f"Requires-Dist: {one}" for one in requires),
    ]
    lines += ["Provides-Extra: more"] if name == "gamma" else []
    contents = {
        f"{name}.py": b"",
        f"{info}/METADATA": ("\n".join(lines) + "\n").encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, content in contents.items():
            wheel.writestr(inside, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{inside},,\n" for inside in [*contents, f"{info}/RECORD"]))
    return path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    for name, version, requires, tag in PACKAGES:
        stand_in(folder, name, version, requires, tag)
    return folder


def bundled(packages: Path, output: Path, *arguments: str) -> int:
    return run(["bundle", "-o", str(output), "--from", str(packages), *arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in (folder / "wheels").iterdir())


WINDOWS = ("--platform", "windows-x86_64", "--python-version", "3.12")
LINUX = ("--platform", "linux-x86_64", "--python-version", "3.12")


def test_a_bundle_holds_what_its_target_needs_and_nothing_else(packages: Path, tmp_path: Path) -> None:
    assert bundled(packages, tmp_path / "linux", *LINUX) == 0
    assert names(tmp_path / "linux") == ["alpha", "delta", "gamma", "medseg"]
    assert bundled(packages, tmp_path / "windows", *WINDOWS, "--extras", "all") == 0
    assert names(tmp_path / "windows") == ["alpha", "beta", "delta", "gamma", "medseg", "torchlike"]
    assert (tmp_path / "windows" / "wheels" / "torchlike-2.5-cp312-cp312-win_amd64.whl").is_file()
    text = (tmp_path / "windows" / "INSTALL.txt").read_text()
    assert r"..\medseg_env\Scripts\python -m pip install" in text
    assert "all for windows-x86_64, Python 3.12" in text
    assert {path.name for path in tmp_path.iterdir()} == {"linux", "windows"}


def test_versions_are_found_that_fit_every_requirement(tmp_path: Path) -> None:
    """The newest alpha is fetched first; what another package asks of it then decides."""
    index = tmp_path / "index"
    for version in ("1.0", "1.5", "2.0"):
        stand_in(index, "alpha", version, ("gamma",) if version == "2.0" else ("delta",))
    stand_in(index, "delta", "1.0", ("alpha<1.5",))
    stand_in(index, "gamma", "1.0", ("alpha<2", 'epsilon; sys_platform == "win32"'))
    assert bundled(index, tmp_path / "b", *LINUX) == 0
    assert {path.name for path in (tmp_path / "b" / "wheels").glob("[!m]*")} == {"alpha-1.0-py3-none-any.whl", "delta-1.0-py3-none-any.whl"}


def test_requirements_that_contradict_each_other_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(tmp_path / "index", "alpha", "1.0", ("delta",))
    stand_in(tmp_path / "index", "delta", "1.0", ("alpha<1.0",))
    assert bundled(tmp_path / "index", tmp_path / "b", *LINUX) == 5
    assert "no wheel of alpha<1.0,>=1.0 is to be had" in capsys.readouterr().err


def test_the_document_and_the_sums_name_every_file(packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bundled(packages, tmp_path / "b", *LINUX, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "medseg.bundle/1"
    written = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert written == {name: value for name, value in document.items() if name != "folder"}
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "b" / "SHA256SUMS").read_text().splitlines())
    for entry in document["files"]:
        content = (tmp_path / "b" / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest() == sums[entry["file"]]
        assert entry["bytes"] == len(content)
    assert [entry["licence"] for entry in document["files"] if entry["name"] in ("alpha", "medseg")] == ["MIT", "Apache-2.0"]


def test_the_one_command_installs_it_and_refuses_a_changed_wheel(packages: Path, tmp_path: Path) -> None:
    stand_in(tmp_path / "index", "alpha", "1.5")
    here = this_machine()
    chosen = ("--platform", here.platform, "--python-version", here.python)
    assert bundled(tmp_path / "index", tmp_path / "b", *chosen) == 0
    install = json.loads((tmp_path / "b" / "bundle.json").read_text())["command"].split(" -m pip ")[1].split()

    def pip(target: str) -> subprocess.CompletedProcess[str]:
        options = ["--disable-pip-version-check", "--target", str(tmp_path / target)]
        return subprocess.run(
            [sys.executable, "-m", "pip", *install, *options], cwd=tmp_path / "b", capture_output=True, text=True, check=False
        )

    done = pip("good")
    assert done.returncode == 0, done.stderr
    assert {"medseg", "alpha.py"} <= {path.name for path in (tmp_path / "good").iterdir()}
    stand_in(tmp_path / "b" / "wheels", "alpha", "1.5", ("x; python_version < '3'",))
    changed = pip("changed")
    assert changed.returncode != 0
    assert "DO NOT MATCH THE HASHES" in changed.stderr
    with pytest.raises(OutputVerificationError, match=r"alpha-1\.5"):
        verify(tmp_path / "b")


def test_verify_misses_no_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    wheels = [read_wheel(stand_in(tmp_path / "b" / "wheels", name, "1.0")) for name in ("alpha", "delta")]
    write_description(tmp_path / "b", wheels, [], Target("linux-x86_64", "3.12"))
    verify(tmp_path / "b")
    extra = tmp_path / "b" / "wheels" / "extra.whl"
    extra.write_bytes(b"")
    with pytest.raises(OutputVerificationError, match=r"extra\.whl"):
        verify(tmp_path / "b")
    extra.unlink()
    next((tmp_path / "b" / "wheels").glob("delta*")).unlink()
    with pytest.raises(OutputVerificationError, match="delta"):
        verify(tmp_path / "b")


def test_a_package_that_cannot_be_had_is_named_and_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(tmp_path / "index", "alpha", "0.5")
    assert bundled(tmp_path / "index", tmp_path / "b", *LINUX) == 5
    assert "no wheel of alpha>=1.0 is to be had for linux-x86_64, Python 3.12" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_damaged_wheel_is_refused(packages: Path, tmp_path: Path) -> None:
    whole = stand_in(tmp_path / "index", "alpha", "1.0")
    content = bytearray(whole.read_bytes())
    content[content.index(b"License: MIT")] ^= 0xFF
    whole.write_bytes(content)
    with pytest.raises(BundleError, match=r"alpha-1\.0"):
        read_wheel(whole)
    whole.write_bytes(b"PK nothing")
    with pytest.raises(BundleError, match="no sound wheel"):
        read_wheel(whole)


def test_only_a_bundle_is_ever_replaced(packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    assert bundled(packages, tmp_path / "mine", *LINUX) == 5
    assert bundled(packages, tmp_path / "mine", *LINUX, "--overwrite") == 5
    assert "no bundle, so it is not replaced" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    assert bundled(packages, tmp_path / "b", *LINUX) == 0
    (tmp_path / "b" / "old").write_bytes(b"")
    assert bundled(packages, tmp_path / "b", *LINUX) == 5
    assert bundled(packages, tmp_path / "b", *LINUX, "--overwrite") == 0
    assert not (tmp_path / "b" / "old").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "mine"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--extras", "dev"), "there is no extra 'dev'"),
        (("--extras", "learned,nonsense"), "there is no extra 'nonsense'; known: learned, all"),
        (("--python-version", "2.7"), "--python-version is 3.10 or newer"),
        (("--python-version", "3.9"), "--python-version is 3.10 or newer"),
        (("--python-version", "3.12.1"), "--python-version is 3.10 or newer"),
        (("--platform", "amiga"), "amiga"),
    ],
)
def test_wrong_wishes(packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    assert bundled(packages, tmp_path / "b", *arguments) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["/usr/bin/python: No module named pip"], "ensurepip"),
        (["ERROR: Could not install: [Errno 28] No space left on device"], "disk is full"),
        (["WARNING: Retrying ... NewConnectionError(...)", "ERROR: No matching distribution found for alpha"], "cannot be reached"),
        (["ERROR: No matching distribution found for torch>=2.10"], "no wheel of torch>=2.10 is to be had"),
        (["ERROR: ResolutionImpossible: for help visit"], "contradict each other"),
        (["ERROR: something else"], "something else"),
        ([], "it gave no reason"),
    ],
)
def test_what_pip_says_becomes_one_sentence(said: list[str], words: str) -> None:
    sentence = refusal(said, Target("linux-x86_64", "3.12"))
    assert words in sentence
    assert "\n" not in sentence


def test_an_installation_older_than_the_working_copy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if sys.version_info < (3, 11):
        pytest.skip("needs tomllib")
    from medseg.cli import bundle_wheel

    with pytest.raises(OutputError, match="was installed before it required"):
        bundle_wheel._check_fresh(["numpy>=1"])


def test_our_own_wheel_is_whole_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("medseg.cli.bundle_wheel.importlib.metadata.distribution", lambda name: _Installed())
    monkeypatch.setattr("medseg.cli.bundle_wheel._check_fresh", lambda required: None)
    (tmp_path / "again").mkdir()
    path, again = write_own_wheel(tmp_path), write_own_wheel(tmp_path / "again")
    assert path.read_bytes() == again.read_bytes()
    package = Path(medseg.__file__).parent
    with zipfile.ZipFile(path) as wheel:
        inside = set(wheel.namelist())
        record = next(name for name in inside if name.endswith("RECORD"))
        rows = list(csv.reader(wheel.read(record).decode().splitlines()))
        assert {row[0] for row in rows} == inside
        for name, digest, size in rows:
            content = wheel.read(name)
            if name != record:
                expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                assert (digest, int(size)) == (f"sha256={expected}", len(content))
    sources = {f"medseg/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    assert sources <= inside
    assert "medseg/py.typed" in inside
    assert "medseg/sample_data/MANIFEST.tsv" in inside
    assert not [name for name in inside if "__pycache__" in name or name.endswith((".pyc", ".nbc", ".nbi"))]


def test_markers_of_each_platform() -> None:
    from packaging.markers import Marker, default_environment

    assert set(Target("linux-x86_64", "3.12").markers()) >= set(default_environment())
    for name in PLATFORMS:
        assert Marker("platform_system == 'Windows'").evaluate(Target(name, "3.12").markers()) == name.startswith("windows")
        assert Marker("python_version >= '3.11'").evaluate(Target(name, "3.10").markers()) is False
    here = this_machine()
    ours = here.markers()
    for key in ("sys_platform", "platform_system", "os_name", "platform_machine", "python_version"):
        assert ours[key] == default_environment()[key]


def test_real_requirements_are_understood() -> None:
    """The list of medseg's own requirements, as installed here, is read for every platform without an error."""
    from medseg.cli.bundle_download import _holds, requirements_module

    for text in importlib.metadata.requires("medseg") or []:
        need = requirements_module().Requirement(text)
        for name in PLATFORMS:
            assert _holds(need, Target(name, "3.12"), "all") in (True, False)
