"""The page on lesions: its Python runs, its table is that of the script, and the options it names are there."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path

from medseg.cli.lesions import lesions

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "lesions.md"


def script():
    spec = importlib.util.spec_from_file_location("check_diameters", ROOT / "scripts" / "check_diameters.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_python_runs() -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 5
    assert failed == 0


def test_the_table_is_that_of_the_script() -> None:
    """Its rows and head; the figures are those of 60 trials, which take minutes."""
    page = PAGE.read_text(encoding="utf-8")
    written = page.partition(script().START)[2].partition(script().END)[0].strip().splitlines()
    made = script().table(1).splitlines()
    assert [line.split("|")[1:3] for line in written] == [line.split("|")[1:3] for line in made]
    assert written[0] == made[0]


def test_every_option_and_picture_that_it_names_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    known = {flag for parameter in lesions.params for flag in parameter.opts} | {"--features", "--data"}
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= known
    for picture in re.findall(r"\]\((pictures/[^)]+)\)", page):
        assert (PAGE.parent / picture).is_file()
