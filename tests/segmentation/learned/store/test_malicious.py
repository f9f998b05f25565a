"""Every model of the malicious set ends as a model error with a clear sentence; nothing of it runs, nothing of it stays."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import malicious
import malicious_archives
import malicious_checkpoints
import pytest
from sound_models import NNUNET_FOLDER

Program = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("kind", ["medseg", "nnunet", "bundle"])
def test_the_sound_models_they_are_made_from_are_installed(kind: str, sound: dict[str, Path], medseg: Program, tmp_path: Path) -> None:
    """Otherwise the refusals below would show nothing."""
    flags = ["--accept-licence", "--licence", "CC0-1.0", "--intended-use", "tests", "--name", "sound"]
    code, _, errors = medseg("models", "add", sound[kind], "--store", tmp_path, *flags)
    assert (code, errors) == (0, "")
    assert (tmp_path / "sound" / ".complete").is_file()


@pytest.mark.parametrize("name", malicious.CASES)
def test_it_is_refused_and_never_runs(name: str, medseg: Program, tmp_path: Path) -> None:
    make, word = malicious.CASES[name]
    canary = tmp_path / "canary"
    source = make(tmp_path / "source", canary)
    assert not canary.exists(), "the set itself must not run what it writes"
    store = tmp_path / "store"
    flags = ["--accept-licence", "--licence", "CC0-1.0", "--intended-use", "tests", "--name", "evil"]
    code, out, errors = medseg("models", "add", source, "--store", store, *flags)
    assert not canary.exists()
    assert code == 4, errors
    assert errors.startswith("medseg: ")
    assert "Traceback" not in errors
    assert ".adding" not in errors, "a path that is gone helps nobody"
    assert re.search(word, errors), errors
    assert out == ""
    left = [path.name for path in store.rglob("*") if path.name != ".adding"]
    assert left == []


def test_through_a_program_of_its_own(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    source = malicious_checkpoints.os_system(tmp_path / "source", canary)
    command = [
        sys.executable,
        "-m",
        "medseg",
        "models",
        "add",
        str(source),
        "--store",
        str(tmp_path / "store"),
        "--accept-licence",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert not canary.exists()
    assert json.loads(done.stdout)["error"]["type"] == "UnsafeModelError"
    assert "posix.system" in done.stderr


def test_the_canary_would_appear(tmp_path: Path) -> None:
    """The set is real: torch's loader with its safety off runs it."""
    import torch

    canary = tmp_path / "canary"
    malicious_checkpoints.os_system(tmp_path / "source", canary)
    torch.load(tmp_path / "source" / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert canary.exists()


def test_what_can_run_is_left_out_and_said(medseg: Program, tmp_path: Path) -> None:
    source = malicious_archives.executable_file(tmp_path / "source", tmp_path / "canary")
    code, out, _ = medseg("models", "add", source, "--store", tmp_path / "store", "--accept-licence")
    assert code == 0
    assert "model.pkl" in out
    assert not list((tmp_path / "store").rglob("*.pkl"))
    assert not (tmp_path / "store" / "sound" / "setup.sh").stat().st_mode & 0o111
    assert not (tmp_path / "canary").exists()
