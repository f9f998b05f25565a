"""The page on agreement: its sentences are those the script makes, and its Python runs."""

from __future__ import annotations

import doctest
import importlib.util
import math
from pathlib import Path

import pytest

from medseg.evaluation import agreement as statistics

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "agreement.md"


def script():
    spec = importlib.util.spec_from_file_location("make_agreement_picture", ROOT / "scripts" / "make_agreement_picture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_sentences_are_those_of_the_script():
    quoted = " ".join(line[2:] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("> "))
    assert quoted == script().sentences(), "run scripts/make_agreement_picture.py and copy its sentences"


def test_the_python_runs():
    assert doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8").failed == 0


def test_exact_intervals_are_as_much_wider_as_the_page_says():
    one = script().example().comparisons[0]
    z, n = 1.959964, one.count
    approximate = 2.119905 * one.sd * math.sqrt(1 / n + z * z / (2 * (n - 1)))  # t of 16 degrees of freedom, Bland & Altman 1999
    assert (one.upper.high - one.upper.value) / approximate - 1 == pytest.approx(0.3, abs=0.05)


def test_the_page_names_every_finding():
    source = Path(statistics.__file__).read_text(encoding="utf-8")
    codes = {part.split('"')[0] for part in source.split('Finding("')[1:]}
    assert len(codes) == 7
    assert not {code for code in codes if f"`{code}`" not in PAGE.read_text(encoding="utf-8")}
