"""The sample study is the one its MANIFEST says, small enough, and made again to the byte by the command written there."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def manifest(folder: Path) -> dict[str, str]:
    lines = (folder / "MANIFEST.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith(("#", "sha256"))]
    return {name: digest for digest, _, name in rows}


def test_every_file_has_its_hash_and_all_are_small(sample_data):
    files = {path.relative_to(sample_data).as_posix(): path.read_bytes() for path in (sample_data / "torso").rglob("*") if path.is_file()}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} == manifest(sample_data)
    assert sum(map(len, files.values())) < 3_000_000


@pytest.mark.slow
def test_the_command_makes_the_same_study(sample_data, tmp_path):
    spec = importlib.util.spec_from_file_location("make_sample_data", ROOT / "scripts" / "make_sample_data.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.make(tmp_path)
    # DICOM, names and truth to the byte; floating point may move a noisy voxel on another processor
    same = manifest(tmp_path).items() & manifest(sample_data).items()
    assert len(same) >= 0.9 * len(manifest(sample_data))
    assert manifest(tmp_path).keys() == manifest(sample_data).keys()
