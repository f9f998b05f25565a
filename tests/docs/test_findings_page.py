"""The page of findings is the one the script makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_findings_page", ROOT / "scripts" / "make_findings_page.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "docs" / "findings.md").read_text(encoding="utf-8") == script.page(), "run scripts/make_findings_page.py"
