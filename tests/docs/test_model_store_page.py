"""The Python of the page on the store of models runs, and what it counts is so."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "model_store.md"


def test_the_python_runs() -> None:
    assert doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8").failed == 0


def test_the_malicious_set_has_as_many_models_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "segmentation" / "learned"))
    cases = importlib.import_module("malicious").CASES
    assert f"{len(cases)} of them" in re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))
