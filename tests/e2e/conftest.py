"""The real command line in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@pytest.fixture
def medseg(tmp_path):
    """Run `medseg ARGUMENTS` in an empty folder; no traceback may ever reach the user."""

    def call(*arguments: object, cwd: Path = tmp_path) -> Done:
        command = [sys.executable, "-W", "error", "-m", "medseg", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def study(sample_data) -> Path:
    """The sample study: dicom/, labels.nii.gz, truth.json."""
    return sample_data / "torso"
