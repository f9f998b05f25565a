"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans (MEDSEG_TEST_DATA, default ../shared/data); the test is skipped where it is absent."""
    folder = Path(os.environ.get("MEDSEG_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip("no folder of real scans: set MEDSEG_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The small study that lies in the repository."""
    return ROOT / "sample_data"
