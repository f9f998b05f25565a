"""What people read of an inspection: complete, in 80 columns, and the same as the JSON document says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.io.inspect import inspect
from medseg.io.report import SeriesAudit, SliceGap, StackSummary, StructureSummary, TagDisagreement, VolumeReport
from medseg.measurement.pricing import GapPrice, SegmentPrice
from medseg.reporting.inspection import gap_runs, inspection, price_remark, verdict

EYE = Geometry((4, 5, 6), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
MISSING = Finding("MISSING_SLICES", Severity.ERROR, "3 slices are missing")
TILT = Finding("GANTRY_TILT", Severity.WARNING, "it leans")


def shown(report: VolumeReport, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(inspection(report.to_dict(), 1))
    return stream.getvalue()


def words(text: str) -> str:
    """The text on one line, as wrapping breaks sentences anywhere."""
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (VolumeReport("x", "DICOM", geometry=EYE), "can be reported"),
        (VolumeReport("x", "DICOM", geometry=EYE, findings=(TILT,)), "can be reported, with the warnings below"),
        (VolumeReport("x", "DICOM", geometry=EYE, findings=(TILT, MISSING)), "must not be reported"),
        (VolumeReport("x", "NIfTI-1", error="cut short"), "must not be reported"),
        (VolumeReport("x", "DICOM SR", findings=(Finding("NO_VOLUME", Severity.INFO, "no"),)), "no image volume"),
        (VolumeReport("x", "DICOM", geometry=EYE, findings=(Finding("MIXED_SERIES", Severity.ERROR, "2"),)), "several volumes: choose one"),
        (
            VolumeReport("x", "DICOM", geometry=EYE, findings=(Finding("MIXED_SERIES", Severity.ERROR, "2"), MISSING)),
            "must not be reported",
        ),
        (VolumeReport("x", "DICOM RTSTRUCT", structures=()), "can be reported"),
    ],
)
def test_the_verdict_comes_first(report, expected):
    assert verdict(report.to_dict())[0] == expected
    assert expected in shown(report).splitlines()[0]


def test_findings_are_shown_gravest_first_with_cost_and_advice():
    report = VolumeReport("x", "DICOM", geometry=EYE, findings=(Finding("LOCALIZER", Severity.INFO, "left out"), TILT, MISSING))
    text = shown(report)
    assert text.index("MISSING_SLICES") < text.index("GANTRY_TILT") < text.index("LOCALIZER")
    for entry in report.to_dict()["findings"]:
        assert words(entry["message"]) in words(text)
        assert words(entry["advice"]["effect"]) in words(text)
    assert "--allow-gaps" in text
    assert "Nothing to do" not in text


def test_the_slice_table_counts_and_places_gaps():
    gaps = (SliceGap(394.28, 9.81, 2), SliceGap(459.68, 6.54, 1))
    audit = SeriesAudit(44, 47, 364.85, 515.27, 3.27, gaps, 2, tilt_degrees=18.5, obliqueness_degrees=0.01, options_used=("--allow-gaps",))
    text = shown(VolumeReport("x", "DICOM", geometry=EYE, audit=audit))
    for part in ("44 found, 47 expected, 3 missing, 2 copies left out", "394.28", "9.810", "tilt 18.50°", "--allow-gaps", "515.27"):
        assert part in text
    assert "oblique" not in text


def test_equal_gaps_in_a_row_are_one_line():
    gaps = [SliceGap(10.0 + 7 * n, 7.0) for n in range(30)] + [SliceGap(300.0, 7.0), SliceGap(400.0, 9.0, 2)]
    assert gap_runs([vars(gap) for gap in gaps]) == [(0, 29), (30, 30), (31, 31)]
    text = shown(VolumeReport("x", "DICOM", geometry=EYE, audit=SeriesAudit(60, gaps=tuple(gaps))))
    assert "30 ×" in text
    assert sum("7.000" in line for line in text.splitlines()) == 2


def test_long_tables_say_how_much_they_leave_out():
    stacks = tuple(StackSummary(str(n), 15, f"TimePoint {n}") for n in range(1, 31))
    text = shown(VolumeReport("x", "DICOM", geometry=EYE, audit=SeriesAudit(450, stacks=stacks)))
    assert "TimePoint 20" in text
    assert "TimePoint 21" not in text
    assert "and 10 more" in text


def test_prices_are_a_table_with_what_else_is_to_be_said():
    price = SegmentPrice(
        1, "tumour", 25.2, 33.1, 6.9, (GapPrice(14.0, 12.0, 6.9),), ("last",), {"mean distance": 25.2, "SliceThickness": 50.4}
    )
    entry = price.to_dict()
    assert price_remark(entry) == "touches the gap of 12 mm; reaches the last slice: a lower bound; by SliceThickness: 50.4"
    empty = SegmentPrice(2, "nothing", 0.0, 0.0, 0.0)
    text = words(shown(VolumeReport("x", "DICOM", geometry=EYE, prices=(price, empty)), 120))
    assert "tumour 25.2 33.1 -23.9 % 6.90 touches the gap of 12 mm" in text
    assert "nothing 0 0 – –" in text


def test_structures_and_disagreeing_tags_are_listed():
    rows = (StructureSummary(1, "Heart", "ORGAN", 33, 439.7), StructureSummary(2, "Areola", reason="it has no contours"))
    tags = (TagDisagreement("(0018,0050)", "SliceThickness", ("4", "7", "8", "9", "10")),)
    text = words(shown(VolumeReport("x", "DICOM RTSTRUCT", structures=rows, audit=SeriesAudit(2, disagreeing_tags=tags)), 100))
    assert "1 Heart ORGAN 33 439.7" in text
    assert "2 Areola – – it has no contours" in text
    assert "(0018,0050) SliceThickness 4, 7, 8, 9 …" in text


def test_markup_in_names_is_no_markup():
    findings = (Finding("TILT", Severity.INFO, "a [bold]b[/] c"),)
    audit = SeriesAudit(2, stacks=(StackSummary("1", 2, "Echo [1]"), StackSummary("2", 2, "Echo [2]")))
    rows = (StructureSummary(1, "[left] lung"),)
    prices = (SegmentPrice(1, "[right] lung", 1.0, 1.0, 0.0),)
    text = shown(VolumeReport("[red]x[/]", "DICOM", geometry=EYE, findings=findings, audit=audit, structures=rows, prices=prices))
    for part in ("[red]x[/]", "[bold]b[/]", "Echo [2]", "[left] lung", "[right] lung"):
        assert part in text


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize(
    "case",
    [
        *(f"dicom_bad_series/{name}/dicom" for name in ("gantry_tilt", "missing_slice", "same_position", "two_orientations", "two_slices")),
        "dicom_ct_missing_slices/dicom",
        "dicom_ct_gantry_tilt_uneven_ge/dicom",
        "dicom_rgb_slices",
        "rtstruct_breast_tps",
        "dicom_seg_qin_prostate/seg.dcm",
        "nifti_variants",
    ],
)
def test_real_cases_fit_and_lose_nothing(shared_data: Path, case: str, width: int) -> None:
    for report in inspect(shared_data / case):
        text = shown(report, width)
        assert max(map(len, text.splitlines())) <= width
        joined = re.sub(r"\s+", "", text)
        for finding in report.findings:
            assert re.sub(r"\s+", "", finding.message) in joined
