"""The Python of the page on surfaces runs, and its table holds every format."""

from __future__ import annotations

import doctest
from pathlib import Path

from medseg.io.surface import SURFACE_SUFFIXES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "surfaces.md"


def test_the_python_runs():
    assert doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8").failed == 0


def test_every_format_is_in_the_table():
    rows = [line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `.")]
    assert sorted(row.split("`")[1] for row in rows) == sorted(SURFACE_SUFFIXES)
