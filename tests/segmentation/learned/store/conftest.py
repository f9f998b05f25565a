"""The set of malicious models, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("safetensors.torch")

# importlib mode leaves the folders of tests out of the path; the sets of models lie in the one above


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """The functions that write sound models."""
    import sound_models

    return sound_models


@pytest.fixture(scope="session")
def sound(models: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sound model of each kind."""
    return {kind: make(tmp_path_factory.mktemp(kind)) for kind, make in models.SOUND.items()}


@pytest.fixture
def medseg(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the program; returns exit code, standard output, standard error."""
    from medseg.cli.main import run

    def call(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call
