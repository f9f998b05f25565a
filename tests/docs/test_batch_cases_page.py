"""The page about which scans run names every field and every reason that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.batch.cases import scan, series_choice
from medseg.batch.cases.series_rules import CHOICES, COMPUTED
from medseg.io.dicom.glance import FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "batch_cases.md").read_text(encoding="utf-8")


def test_every_field_is_named_and_no_other() -> None:
    listed = PAGE.split("Fields: ")[1].split("An image file that is not")[0]
    words = set(re.findall(r"[A-Za-z]{3,}", re.sub(r"\([^)]*\)", "", listed)))
    assert words - {"and", "what", "counted"} == {*FIELDS, *COMPUTED}


def test_every_choice_is_named() -> None:
    assert all(f"`{choice}`" in PAGE or f"--select {choice}" in PAGE for choice in CHOICES if choice != "best")


def test_every_reason_is_named() -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ")]
    constants = [(name, value) for module in (scan, series_choice) for name, value in vars(module).items() if name.isupper()]
    reasons = {value for name, value in constants if not name.startswith("_") and isinstance(value, str) and " " in value}
    for reason in reasons:
        shown = reason.replace("no image: {}", "no image: …").replace("modality {}, not {}", "modality MR, not CT").replace("{}", "4")
        shown = "a file / a folder that cannot be opened" if shown.endswith("cannot be opened") else shown
        assert shown in rows, reason
    assert len(reasons) >= 15
