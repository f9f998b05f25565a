from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from medseg.core.errors import ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow, Status
from medseg.core.segment import Segment
from medseg.reporting.table import (
    compare_with_truth,
    measurements_csv,
    rich_findings,
    rich_table,
    rich_truth_table,
    truth_csv,
)

COLUMNS = (  # the contract of every measurements.csv
    "number,label,status,volume_ml,volume_low_ml,volume_high_ml,mean_hu,std_hu,min_hu,max_hu,median_hu,voxel_count,"
    "centroid_r_mm,centroid_a_mm,centroid_s_mm,touches_border,reason,visible_ml,grid_sd_ml,boundary_sd_ml,model_sd_ml,surface_area_mm2"
)
ODD_LABEL = 'left "lobe", upper\nsegment'


def _row(number, label, volume, status=Status.MEASURED, reason="", **extra):
    measurements = {"volume": Measurement(label, "volume", volume, "ml", extra.pop("interval", None), status, reason)}
    for name, value in extra.pop("intensities", {}).items():
        measurements[name] = Measurement(label, name, value, "HU", reason="" if value is not None else "no finite voxel")
    if "area" in extra:
        measurements["surface_area"] = Measurement(label, "surface_area", extra.pop("area"), "mm2")
    return SegmentRow(number, label, status, reason, measurements, extra.pop("voxels", 10), **extra)


@pytest.fixture
def table():
    return MeasurementTable(
        (
            _row(
                1,
                "liver",
                1512.4237,
                interval=(1498.0, 1526.9),
                intensities={"mean": 1 / 3, "std": 12.5, "min": -20.0, "max": 240.0, "median": 55.0},
                area=10.5,
                centroid_mm=(60.1, -10.25, 1e-17),
            ),
            _row(
                2,
                ODD_LABEL,
                3.0,
                Status.CUT_BY_FIELD_OF_VIEW,
                "touches the border",
                touches=("superior", "left"),
                intensities={"mean": None},
            ),
            _row(3, "spleen", 0.0, Status.ABSENT, "no voxel", voxels=0),
            _row(4, "[bold]kidney[/bold]", None, Status.FAILED, "the network ran out of memory"),
        ),
        "CT",
        "HU",
    )


def test_csv_reads_back_equal(table):
    """Every value that is written reads back as the same float, every undefined one as an empty cell with a reason."""
    text = measurements_csv(table)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert ",".join(rows[0]) == COLUMNS
    assert [row["label"] for row in rows] == ["liver", ODD_LABEL, "spleen", "[bold]kidney[/bold]"]
    liver = rows[0]
    assert float(liver["volume_ml"]) == 1512.4237
    assert (float(liver["volume_low_ml"]), float(liver["volume_high_ml"])) == (1498.0, 1526.9)
    assert float(liver["mean_hu"]) == 1 / 3
    assert [float(liver[f"centroid_{letter}_mm"]) for letter in "ras"] == [60.1, -10.25, 1e-17]
    assert float(liver["surface_area_mm2"]) == 10.5
    assert rows[1]["touches_border"] == "superior;left"
    assert rows[1]["mean_hu"] == ""
    assert rows[2]["volume_ml"] == "0.0"
    assert rows[3]["volume_ml"] == ""
    assert rows[3]["reason"] == "the network ran out of memory"
    assert {row["status"] for row in rows} == {"measured", "cut_by_field_of_view", "absent", "failed"}


def test_csv_ends_lines_as_rfc_4180_says(table):
    text = measurements_csv(table)
    assert text.endswith("\r\n")
    assert text.replace("\r\n", "").count("\r") == 0
    assert '"left ""lobe"", upper\nsegment"' in text
    assert "nan" not in text.lower().split("reason")[1]


def test_units_name_the_columns():
    assert "mean,std,min" in measurements_csv(MeasurementTable((), unit=""))
    assert "mean_g_ml,std_g_ml" in measurements_csv(MeasurementTable((), unit="g/ml"))


def _printed(renderable, width=140):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(renderable)
    return console.file.getvalue()


def test_terminal_table_says_status_in_words(table):
    """Undefined volumes are a dash, markup in labels is inert, the colours are those of the segments."""
    text = _printed(rich_table(table, [Segment(1, "liver", colour=(1, 2, 3))]))
    assert "1,512" in text
    assert "1,498–1,527" in text
    assert "cut by field of view (superior, left)" in text
    assert "not found" in text
    assert "[bold]kidney[/bold]" in text
    assert any(line.split()[-2:] == ["–", "failed"] or ("–" in line and "failed" in line) for line in text.splitlines())
    swatch = next(iter(rich_table(table, [Segment(1, "liver", colour=(1, 2, 3))]).columns[0].cells))
    assert swatch.style == "rgb(1,2,3)"


def test_truth_is_compared_honestly(table):
    """Misses count as -100 %, a true volume of 0 and a volume that was not measured have no relative error."""
    rows = compare_with_truth(table, {"liver": 1500.0, "spleen": 200.0, "[bold]kidney[/bold]": 150.0, "adrenal": 4.0, ODD_LABEL: 0.0})
    errors = {row.label: row.error_percent for row in rows}
    assert errors["liver"] == pytest.approx(100 * 12.4237 / 1500)
    assert errors["spleen"] == -100.0
    assert errors["[bold]kidney[/bold]"] is None
    assert errors["adrenal"] is None
    assert errors[ODD_LABEL] is None
    assert [row.is_within(1.0) for row in rows] == [True, False, False, False, False]
    assert all(row.reason for row in rows if row.error_percent is None)
    assert "+0.83 %" in _printed(rich_truth_table(rows))
    again = list(csv.DictReader(io.StringIO(truth_csv(rows), newline="")))
    assert float(again[0]["error_percent"]) == errors["liver"]
    assert list(again[0]) == ["label", "volume_ml", "truth_ml", "error_percent", "reason"]


def test_a_truth_outside_of_the_interval_is_said_with_what_it_takes():
    """Half a voxel is worth 10 ml: 4 ml too little are a border 0.2 voxels too far in."""
    shell = Measurement("liver", "half_voxel_shell_ml", 10.0, "ml")
    volume = Measurement("liver", "volume", 100.0, "ml", interval=(99.0, 101.0))
    rows = MeasurementTable((SegmentRow(1, "liver", Status.MEASURED, "", {"volume": volume, "half_voxel_shell_ml": shell}, 9),))
    said = {truth: compare_with_truth(rows, {"liver": truth})[0].reason for truth in (100.9, 104.0, 98.0)}
    assert said[100.9] == ""
    assert said[104.0] == "outside the 95 % interval: the border lies about 0.20 voxels too far in"
    assert said[98.0] == "outside the 95 % interval: the border lies about 0.10 voxels too far out"


def test_truth_documents_are_understood(table):
    entries = [{"label": "liver", "volume_ml": 1500.0, "number": 1}]
    assert compare_with_truth(table, {"schema": "x", "segments": entries}) == compare_with_truth(table, {"liver": 1500.0})
    assert compare_with_truth(table, {"segments": {"liver": {"volume_ml": 1500.0}}}) == compare_with_truth(table, {"liver": 1500.0})
    assert compare_with_truth(table, {"segments": [*entries, {"label": "spleen", "volume_ml": None}]}) == compare_with_truth(
        table, {"liver": 1500.0}
    )
    with pytest.raises(ParameterError, match="volume_ml"):
        compare_with_truth(table, {"segments": [{"label": "liver"}]})


def test_findings_come_gravest_first():
    findings = [
        Finding("A_NOTE", Severity.INFO, "x"),
        Finding("GAP", Severity.ERROR, "[red]y[/red]"),
        Finding("TILT", Severity.WARNING, "z"),
    ]
    text = _printed(rich_findings(findings))
    assert text.index("GAP") < text.index("TILT") < text.index("A_NOTE")
    assert "[red]y[/red]" in text
    assert "no findings" in _printed(rich_findings([]))
