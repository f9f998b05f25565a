"""Documents as rows: equal to the CSV that medseg writes of the same measurement, nothing measured by accident."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Status
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.change import TimePoint, change
from medseg.measurement.lesions import lesions
from medseg.measurement.measure import measure
from medseg.reporting.change_table import change_csv
from medseg.reporting.columns import CHANGE, LESIONS, MEASURE, TableSchema
from medseg.reporting.lesion_table import lesions_csv
from medseg.reporting.table import measurements_csv
from medseg.reporting.wording import STATUS_WORDS
from medseg.slicer_bridge.rows import Column, Table, cell_text, shown_text, table_of

GRID = Geometry((40, 36, 24), np.diag([1.5, 1.5, 2.0, 1.0]))


def scene(*boxes: tuple[int, int, int, int, int]) -> LabelMap:
    array = np.zeros(GRID.shape, np.uint8)
    for i, j, k, edge, number in boxes:
        array[i : i + edge, j : j + edge, k : k + edge] = number
    return LabelMap(array, GRID, (Segment(1, "tumour"), Segment(2, "cyst"), Segment(3, "spleen")))


def as_json(document: dict) -> dict:
    """What the worker sends: a document that went through JSON."""
    return json.loads(json.dumps(document, allow_nan=False))


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def equal_to_csv(table: Table, text: str, ours: dict[str, str] | None = None, left_out: tuple[str, ...] = ("status",)) -> None:
    """Every cell of the CSV stands in the table under the same name; `ours` maps names that differ."""
    rows = csv_rows(text)
    assert len(rows) == len(table)
    names = {column.name for column in table.columns}
    for name in (name for name in rows[0] if name not in left_out):
        mine = (ours or {}).get(name, name)
        wanted = [row[name] for row in rows]
        if mine not in names:
            assert not any(wanted), name  # a column that is empty in the CSV need not be here
            continue
        for cell, text_cell in zip(table.values(mine), wanted, strict=True):
            if isinstance(cell, float) and not isinstance(cell, bool):
                assert float(text_cell) == cell, name
            else:
                # a quote before a text keeps spreadsheets from taking it for a formula
                assert cell_text(cell) == {"true": "yes", "false": "no"}.get(text_cell, text_cell.removeprefix("'")), name


def described_by_columns(table: Table, schema: TableSchema) -> None:
    """Kinds and units are those of medseg's own description of the columns, where it has one."""
    for column in table.columns:
        known = schema.column(column.name)
        if known is None or known.unit == "of the scan":
            continue
        assert (column.kind, column.unit) == (known.kind, known.unit), column.name


@pytest.fixture
def scan() -> Volume:
    values = np.random.default_rng(3).normal(40, 12, GRID.shape).round(3).astype(np.float32)
    return Volume(values, GRID, "CT", "HU")


INTENSITIES = {f"{name}_hu": name for name in ("mean", "std", "min", "max", "median", "percentile_5")}


def test_measurements_equal_their_csv(scan: Volume) -> None:
    measured = measure(scene((5, 5, 5, 6, 1), (0, 20, 3, 5, 2)), scan, percentiles=(5.0, 50.0))
    table = table_of(as_json(measured.to_dict()))
    equal_to_csv(table, measurements_csv(measured), INTENSITIES, ("status", "reason"))
    described_by_columns(table, MEASURE)
    assert table.values("label") == ("tumour", "cyst", "spleen")
    assert table.values("status") == ("measured", "cut by field of view (left)", "not found")
    assert table.values("volume_ml")[2] is None
    reasons = table.values("reason")
    assert reasons[0] == ""
    assert "border" in reasons[1]
    assert "no voxel" in reasons[2]
    assert {column.name: column.heading for column in table.columns}["mean"] == "mean (HU)"


def test_measurements_of_a_real_scan(organs: LabelMap, ct: Volume) -> None:
    measured = measure(organs, ct)
    table = table_of(as_json(measured.to_dict()))
    voxel_ml = abs(float(np.linalg.det(organs.geometry.affine[:3, :3]))) / 1000
    for number, volume_ml, count in zip(table.values("number"), table.values("volume_ml"), table.values("voxel_count"), strict=True):
        assert count == int((organs.array == number).sum())
        assert volume_ml == pytest.approx(count * voxel_ml, rel=1e-12)
    described_by_columns(table, MEASURE)
    assert all(column.title for column in table.columns)


def test_lesions_equal_their_csv(scan: Volume) -> None:
    found = lesions(scene((5, 5, 5, 8, 1), (25, 20, 3, 2, 1), (0, 25, 15, 5, 1)), scan, segments=["tumour"])
    table = table_of(as_json(found.to_dict()))
    equal_to_csv(table, lesions_csv(found))
    described_by_columns(table, LESIONS)
    assert table.values("id") == ("tumour-1", "tumour-2", "tumour-3")
    assert "yes/no" in {column.kind for column in table.columns if column.name == "measurable"}


def test_changes_equal_their_csv() -> None:
    base = lesions(scene((5, 5, 5, 8, 1), (25, 20, 3, 6, 1)), segments=["tumour"])
    later = lesions(scene((5, 5, 5, 10, 1), (12, 25, 14, 5, 1)), segments=["tumour"])
    found = change(TimePoint(base), [TimePoint(later, days=60)])
    table = table_of(as_json(found.to_dict()))
    lists = {"base_ids", "ids"}  # joined by a blank there, by ; here, as the other tables do
    equal_to_csv(table, change_csv(found), left_out=("status", *lists))
    described_by_columns(table, CHANGE)
    assert set(table.values("status")) == {"grown", "gone", "new"}
    gone = table.values("status").index("gone")
    assert table.values("doubling_time_days")[gone] is None
    assert table.values("doubling_time_days_reason")[gone]


def test_nothing_found_gives_a_table_without_rows() -> None:
    empty = lesions(scene(), segments=["tumour"])
    table = table_of(as_json(empty.to_dict()))
    assert len(table) == 0
    assert table.columns[0].name == "id"


def test_words_of_a_status_are_those_of_the_reports() -> None:
    for status in Status:
        row = {"label": "a", "status": status.value}
        table = table_of({"schema": "medseg.measure/1", "segments": [row]})
        assert table.values("status") == (STATUS_WORDS[status],)


def test_no_cell_is_zero_or_no_number_by_accident(scan: Volume) -> None:
    table = table_of(as_json(measure(scene(), scan).to_dict()))
    for row in table.rows:
        for column, cell in zip(table.columns, row, strict=True):
            assert not (isinstance(cell, float) and not math.isfinite(cell))
            if column.kind == "number" and column.name != "voxel_count":
                assert cell is None, column.name


@pytest.mark.parametrize(
    "document",
    [{}, {"schema": "medseg.inspect/1", "volumes": []}, {"schema": "medseg.measure/1"}, {"schema": "medseg.measure/1", "segments": {}},
     {"schema": "medseg.lesions/1", "lesions": ["x"]}, {"schema": None, "segments": []}, [], "x"],
)  # fmt: skip
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(InputError, match="document"):
        table_of(document)


def test_chosen_columns_in_their_order() -> None:
    table = Table((Column("a", "a", "", "text"), Column("b", "b", "ml", "number")), (("x", 1.0), ("y", None)))
    assert table.only(["b", "none", "a"]).rows == ((1.0, "x"), (None, "y"))
    with pytest.raises(KeyError):
        table.values("none")


@pytest.mark.parametrize(
    ("value", "exact", "shown"),
    [(0.1 + 0.2, "0.30000000000000004", "0.3"), (123456.7, "123456.7", "123457"), (9999.96, "9999.96", "10000"), (0.0, "0.0", "0"),
     (5, "5", "5"), ("a;b", "a;b", "a;b"), (None, "", ""), (False, "no", "no"), (-0.000123456, "-0.000123456", "-0.00012346")],
)  # fmt: skip
def test_cells_as_text(value: object, exact: str, shown: str) -> None:
    assert (cell_text(value), shown_text(value)) == (exact, shown)
