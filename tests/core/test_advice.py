"""Every code that a check can give has advice, and the advice can be read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import medseg
from medseg.core import errors
from medseg.core.advice import ADVICE, ADVICE_BY_SEVERITY, advice_on
from medseg.core.finding import Finding, Severity
from medseg.io.dicom.fault_codes import CODES
from medseg.io.file_report import code_of

_MAKERS = re.compile(r"^_?(Finding|finding|error|warning|info|note|add)$")
_CODE = re.compile(r"^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$")


def codes_in_the_source() -> set[str]:
    """The first text of every call that makes a finding."""
    found = set()
    for file in Path(medseg.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if _MAKERS.match(name) and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                found |= {node.args[0].value} if _CODE.match(node.args[0].value) else set()
    return found


def codes_of_errors() -> set[str]:
    """The codes under which inspect reports errors about an input."""
    found = set()
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, (errors.InputError, errors.GeometryError, errors.SegmentError)):
            found.add(code_of(kind("x")))
    return found | {"MISSING_DEPENDENCY"}


def test_the_search_finds_codes():
    """A search that finds nothing would prove nothing."""
    assert {"MISSING_SLICES", "GANTRY_TILT", "NOT_PRICED", "SEGMENT_EMPTY", "OPEN_CONTOURS"} <= codes_in_the_source()
    assert {"UNREADABLE_FILE", "SINGULAR_AFFINE", "SEVERAL_VOLUMES"} <= codes_of_errors()


def test_no_code_lacks_advice():
    assert not sorted((codes_in_the_source() | codes_of_errors() | set(CODES)) - set(ADVICE))


@pytest.mark.parametrize("code", sorted(ADVICE))
def test_advice_is_said_in_whole_sentences(code):
    advice = ADVICE[code]
    for text in (advice.effect, advice.action):
        assert text[0].isupper()
        assert text.endswith((".", "?"))
        assert "  " not in text
    assert advice.action != advice.effect


def test_a_graver_case_has_its_own_words():
    for (code, severity), advice in ADVICE_BY_SEVERITY.items():
        assert advice_on(Finding(code, severity, "x")) == advice
        assert advice != ADVICE[code] or severity is Severity.INFO
    small, large = (advice_on(Finding("UNEVEN_SPACING", Severity.WARNING, "x", {"resampled": value})) for value in (False, True))
    assert small != large


def test_an_unknown_code_has_no_advice():
    assert advice_on(Finding("NEVER_HEARD", Severity.INFO, "x")).to_dict() == {"effect": "", "action": ""}
