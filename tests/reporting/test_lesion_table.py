"""Lesions as CSV and on the terminal."""

from __future__ import annotations

import csv
import io

import numpy as np
from rich.console import Console

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.measurement.diameters import Slices
from medseg.measurement.lesions import LesionTable, lesions
from medseg.reporting.lesion_table import lesions_csv, rich_lesions


def two() -> LesionTable:
    array = np.zeros((20, 20, 10), np.uint8)
    array[2:14, 3:9, 2:5] = 1
    array[0, 15, 8] = 1
    return lesions(LabelMap(array, Geometry(array.shape, np.diag([-1.0, -1.0, 3.0, 1.0])), (Segment(1, 'tumour, "left"'),)))


def test_csv_reads_back_equal() -> None:
    table = two()
    rows = list(csv.DictReader(io.StringIO(lesions_csv(table), newline="")))
    assert len(rows) == 2
    for row, lesion in zip(rows, table, strict=True):
        entry = lesion.to_dict()
        assert row["segment"] == 'tumour, "left"'
        for name in ("longest_diameter", "perpendicular_diameter", "diameter_3d"):
            assert float(row[f"{name}_mm"]) == entry[f"{name}_mm"]
            ends = [[float(row[f"{name}_end{n}_{axis}_mm"]) for axis in "ras"] for n in (1, 2)]
            assert ends == entry[f"{name}_ends_ras_mm"]
        assert float(row["volume_ml"]) == entry["volume_ml"]
        assert row["measurable"] == ("yes" if lesion.measurable else "no")
        assert row["organ"] == ""
        assert row["sop_instance_uid"] == ""
        assert row["sop_instance_uid_reason"]
    assert rows[1]["touches_border"] == "right"


def test_every_number_of_the_json_row_is_in_the_csv() -> None:
    table = two()
    head = lesions_csv(table).splitlines()[0].split(",")
    left = {"bounding_box_ijk", "visible_ml", "volume_sd_ml"}
    for key in table.lesions[0].to_dict():
        renamed = (
            key.replace("_ends_ras_mm", "_end1_r_mm")
            .replace("centroid_ras_mm", "centroid_r_mm")
            .replace("volume_interval_ml", "volume_low_ml")
        )
        assert renamed in head or key in left, key


def test_the_terminal_says_how_many_and_why_not() -> None:
    console = Console(width=160, file=io.StringIO())
    console.print(rich_lesions(two()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2 lesions, 1 measurable by RECIST 1.1" in text
    assert "visible" in text
    assert "cut by the border" in text
    console.print(rich_lesions(two(), limit=1))
    assert "and 1 more" in console.file.getvalue()  # type: ignore[attr-defined]


def test_an_empty_table_has_its_columns() -> None:
    empty = LesionTable((), (), Slices(2, "axial", 1.0))
    assert lesions_csv(empty).startswith("id,number,segment")
    console = Console(width=120, file=io.StringIO())
    console.print(rich_lesions(empty))
    assert "0 lesions" in console.file.getvalue()  # type: ignore[attr-defined]
