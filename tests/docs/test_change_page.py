"""The page on change: its Python runs, its pictures are there, and its words are those of the code."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from medseg.cli.change import change
from medseg.measurement.change import STATUSES
from medseg.measurement.matching import LEAST_OVERLAP, TOLERANCE_MM

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "change.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_python_runs():
    assert doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8").failed == 0


def test_pictures_and_scripts_are_there():
    for name in re.findall(r"\]\((pictures/[^)]+)\)", TEXT):
        assert (ROOT / "docs" / name).is_file(), name
    for name in re.findall(r"`((?:scripts|tests)/[^`]+\.py)`", TEXT):
        assert (ROOT / name).is_file(), name


def test_every_status_and_option_named_is_real():
    assert not [status for status in STATUSES if f"`{status}`" not in TEXT]
    options = {option for parameter in change.params for option in parameter.opts}
    assert not [name for name in re.findall(r"`(--[a-z]+)", TEXT) if name not in options]
    assert f"{100 * LEAST_OVERLAP:.0f} % of the smaller" in TEXT
    assert f"at most {TOLERANCE_MM:g} mm" in TEXT
