from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.reporting.number_check import ReportNumberError, Statement, check_statements, numbers_not_in
from medseg.reporting.wording import format_number, format_volume

DATA = {"volume_ml": 1512.4213, "interval": [1498.04, 1526.91], "version": "2.13.0+cpu", "count": 26, "name": "GTV_2"}


@pytest.mark.parametrize(
    "text",
    [
        "1,512 ml", "1512.4 ml", "1,498 to 1,527", "1498.0–1526.9", "volume of 1512.42 ml.", "(count 26)", "PyTorch 2.13.0+cpu",
        "GTV_2: 26",
        "26, 1512", "cited [@smith2099; @doe1988]", "no number at all", "",
    ],
)  # fmt: skip
def test_numbers_that_are_in_the_data_are_found(text):
    assert numbers_not_in(text, DATA) == ()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("1,513 ml", "1,513"), ("1512.5 ml", "1512.5"), ("-26", "-26"), ("GTV_3", "GTV_3"), ("2.13.1+cpu", "2.13.1+cpu"), ("95 %", "95"),
        ("1,498–1,528", "1,528"), ("26.0001", "26.0001"), ("3D", "3D"), ("26ml", "26ml"), ("1512.421300001", "1512.421300001"), ("٣", "٣"),
    ],
)  # fmt: skip
def test_a_number_that_is_not_there_is_named(text, missing):
    assert numbers_not_in(text, DATA) == (missing,)
    with pytest.raises(ReportNumberError) as raised:
        check_statements([Statement("fine: 26", DATA), Statement(text, DATA)])
    assert raised.value.number == missing
    assert missing in str(raised.value)
    assert raised.value.exit_code == 5


def test_constants_of_the_wording_count_only_as_whole_words():
    assert numbers_not_in("a 95 % interval, 3×3", {}, ("95 %", "3×3")) == ()
    assert numbers_not_in("195 %", {}, ("95 %",)) == ("195",)


def test_a_statement_is_checked_against_its_own_row_only():
    """The volume of one segment under the name of another is found out."""
    rows = [{"label": "liver", "volume_ml": 1500.0}, {"label": "spleen", "volume_ml": 180.0}]
    check_statements([Statement("liver: 1,500 ml", rows[0]), Statement("spleen: 180 ml", rows[1])])
    with pytest.raises(ReportNumberError, match=r"180\.0 in"):
        check_statements([Statement("liver: 180.0 ml", rows[0])])


@given(st.floats(-1e7, 1e7, allow_nan=False, allow_subnormal=False))
def test_whatever_is_written_by_our_wording_is_found(value):
    assert numbers_not_in(f"x {format_volume(value)} ml, {format_number(value)}.", {"value": value}) == ()


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_another_whole_number_is_never_found(one, other):
    found = numbers_not_in(f"{one:,} voxels", {"voxels": other})
    assert (found == ()) == (one == other)
