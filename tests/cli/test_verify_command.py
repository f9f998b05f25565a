"""What `medseg verify` says of a sample."""

from __future__ import annotations

import pytest

from medseg.batch import verify as module
from medseg.batch.verify import Verification, Verified
from medseg.cli.main import run


@pytest.mark.parametrize(
    ("asked", "drawn", "said"),
    [
        ("5", 3, "3/3 identical (only 3 cases are done) (seed 7)"),
        ("5", 1, "1/1 identical (only 1 case is done) (seed 7)"),
        ("3", 3, "3/3 identical (seed 7)"),
        ("all", 3, "3/3 identical (seed 7)"),
    ],
)
def test_a_sample_smaller_than_asked_is_said(monkeypatch, capsys, asked, drawn, said):
    found = Verification(tuple(Verified(f"case{number}", "identical") for number in range(drawn)), 7)
    monkeypatch.setattr(module, "verify", lambda *given, **options: found)
    assert run(["verify", "out", "--sample", asked]) == 0
    assert capsys.readouterr().out == f"{said}\n"
