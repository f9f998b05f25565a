"""The page on the cohort: its columns, options, weights and figures are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from medseg.batch.cohort import suspicion
from medseg.batch.cohort.review_file import parse_review
from medseg.cli.report import report
from medseg.reporting.cohort_columns import cohort_page

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cohort.md"
TEXT = PAGE.read_text(encoding="utf-8")
BEGIN = "<!-- columns: made from medseg/reporting/cohort_columns.py by scripts/make_cohort_page.py; do not edit -->\n"


def test_the_columns_are_those_of_the_code():
    assert TEXT.partition(BEGIN)[2].partition("<!-- /columns -->")[0] == cohort_page(), "run scripts/make_cohort_page.py"


def test_every_option_and_picture_is_there():
    options = {option for parameter in report.params for option in parameter.opts}
    named = re.findall(r"medseg report [^`\n#]*?(--[a-z]+)", TEXT) + re.findall(r"`(--[a-z]+)", TEXT)
    assert len(named) >= 4
    assert not [name for name in named if name not in options]
    for name in re.findall(r"\]\((pictures/[^)]+)\)", TEXT):
        assert (ROOT / "docs" / name).is_file(), name


def test_the_weights_are_those_of_the_code():
    for weight in (
        suspicion._NOTHING,
        suspicion._ERROR,
        suspicion._FAILED,
        suspicion._COMPONENTS,
        suspicion._BORDER,
        suspicion._MOST_Z_WEIGHT,
    ):
        assert re.search(rf"\| {weight}\b", TEXT), weight
    assert suspicion._z_weight(suspicion.OUTLIER_Z, suspicion._MOST_Z_WEIGHT) == pytest.approx(0.45)
    assert f"Below {suspicion.LEAST_CASES} cases" in TEXT


def test_the_share_of_false_alarms_is_as_said():
    """A fresh simulation, of 20,000 cases: with another seed, and the functions that the program uses."""
    counts, shares = (re.search(rf"^\| {first} \| (.*) \|$", TEXT, re.M)[1].split(" | ") for first in ("cases", "beyond 3.5 by chance .%."))
    said = {int(count.replace(",", "")): float(share) for count, share in zip(counts, shares, strict=True)}
    rng = np.random.default_rng(77)
    for n in (8, 20):
        draws = rng.normal(size=(20_000 // n, n))
        usual = [suspicion.distribution_of(row) for row in draws]
        beyond = sum(abs(one.z(value)) > suspicion.OUTLIER_Z for one, row in zip(usual, draws, strict=True) for value in row)
        share = beyond / draws.size
        assert abs(100 * share - said[n]) < 100 * 4 * np.sqrt(share / draws.size) + 0.05


def test_the_example_of_a_review_is_one():
    document = TEXT.partition("```json\n")[2].partition("```")[0].replace("9c1f…", "9c1f" * 16)
    assert parse_review(document.encode())["3f0a51c2b7de9a04"].decision == "fix"
