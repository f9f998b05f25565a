"""Every command of the README is run as written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("medseg ")]


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder that looks like the root of the repository, so that nothing is written into the real one."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "sample_data", folder / "sample_data")
    return folder


@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_their_order(checkout):
    assert len(commands()) > 8
    for line in commands():
        arguments = shlex.split(line)[1:]
        done = subprocess.run([sys.executable, "-m", "medseg", *arguments], cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_python_of_the_readme_runs(checkout):
    assert snippets()
    for snippet in snippets():
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        done = subprocess.run([sys.executable, "-c", snippet], cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "ml" in done.stdout
