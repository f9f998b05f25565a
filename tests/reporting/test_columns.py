"""docs/tables.md and the code agree: every column a table writes is described, and Parquet gives back what CSV says."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.measure import measure
from medseg.reporting.columns import AGREEMENT, CHANGE, COMPARISON, EVALUATE, LESIONS, MEASURE, RESPONSES, TABLES, tables_page
from medseg.reporting.comparison import Case, compare_cases
from medseg.reporting.parquet import parquet_of
from medseg.reporting.table import measurements_csv

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(3)
    grid = Geometry((20, 18, 12), np.diag([-2.0, -2.0, 3.0, 1.0]))
    array = np.zeros(grid.shape, np.uint8)
    array[3:9, 3:9, 3:9], array[12:20, 10:15, 2:9] = 1, 2
    label_map = LabelMap(array, grid, (Segment(1, "tumour"), Segment(2, "liver"), Segment(3, "spleen")))
    return label_map, Volume(rng.normal(40, 10, grid.shape).astype(np.float32), grid, "CT", "HU")


def _head(text):
    return next(csv.reader(io.StringIO(text, newline="")))


def _undescribed(text, schema):
    return [name for name in _head(text) if schema.column(name) is None]


def test_the_page_is_what_the_code_says():
    assert (DOCS / "tables.md").read_text(encoding="utf-8") == tables_page(), "run scripts/make_tables_page.py"


@pytest.mark.parametrize("schema", [*TABLES.values(), COMPARISON], ids=lambda schema: schema.title)
def test_descriptions_are_whole(schema):
    assert re.fullmatch(r"medseg\.[a-z]+/\d+", schema.schema)
    names = [column.name for column in schema.columns]
    assert len(set(names)) == len(names)
    assert all(column.kind in ("integer", "number", "text", "yes/no") and column.meaning for column in schema.columns)


def test_measurements(scene):
    text = measurements_csv(measure(*scene, percentiles=(50, 12.5)))
    assert _undescribed(text, MEASURE) == []
    assert MEASURE.column("mean_absolute_deviation_hu") is None
    described = [column.name for column in MEASURE.columns if not any(column.matches(name) for name in _head(text))]
    assert described == ["probability_ml"]  # only where class probabilities were given


def test_features_are_described_on_their_page(scene):
    intensity = pytest.importorskip("medseg.measurement.intensity")
    shape = pytest.importorskip("medseg.measurement.shape")
    page = DOCS / "features.md"
    if not page.is_file():
        pytest.skip("no page of the features yet")
    text = page.read_text(encoding="utf-8")
    found = shape.shape_features(scene[0])[1] | intensity.intensity_features(*scene)[1]
    assert [name for name in found if name not in text] == []


def test_lesions(scene):
    from medseg.measurement.lesions import lesions
    from medseg.reporting.lesion_table import lesions_csv

    text = lesions_csv(lesions(*scene, segments=["tumour"]))
    assert _undescribed(text, LESIONS) == []


def test_change(scene):
    from medseg.measurement.change import TimePoint, change
    from medseg.measurement.lesions import lesions
    from medseg.reporting.change_table import change_csv, responses_csv

    label_map, volume = scene
    grown = np.array(label_map.array)
    grown[2:10, 2:10, 3:9] = 1
    base, later = (lesions(one, volume, segments=["tumour"]) for one in (label_map, label_map.with_array(grown)))
    table = change(TimePoint(base), [TimePoint(later, days=90)], volumetric=True)
    assert _undescribed(change_csv(table), CHANGE) == []
    assert _undescribed(responses_csv(table), RESPONSES) == []


def test_scores(scene):
    from medseg.evaluation.overlap import evaluate
    from medseg.reporting.scores import scores_csv

    label_map, _ = scene
    other = np.roll(label_map.array, 1, axis=0)
    assert _undescribed(scores_csv(evaluate(label_map, label_map.with_array(other))), EVALUATE) == []


def test_agreement():
    pytest.importorskip("medseg.evaluation.agreement")
    from medseg.reporting import agreement_text

    names = ["group", "quantity", "unit", "first", "second", "count", "scale", "difference_unit"]
    for name in (*agreement_text._PAIR_ESTIMATES, "slope", *agreement_text._ESTIMATES):
        names += [name, f"{name}_low", f"{name}_high"]
    assert [name for name in names if AGREEMENT.column(name) is None] == []


def test_comparison(scene):
    table = measure(scene[0])
    rows = compare_cases([Case("a", table), Case("b", table)])
    assert set(rows[0].to_dict()) == {column.name for column in COMPARISON.columns}


def test_parquet_gives_back_what_csv_says(scene):
    """Read back with pyarrow: types, units, meanings, the schema, every number bit by bit, null for what is undefined."""
    pyarrow = pytest.importorskip("pyarrow.parquet")
    text = measurements_csv(measure(*scene))
    table = pyarrow.read_table(io.BytesIO(parquet_of(text, MEASURE)))
    assert table.schema.metadata[b"medseg.schema"] == b"medseg.measure/1"
    assert table.schema.field("volume_ml").metadata == {b"unit": b"ml", b"meaning": MEASURE.column("volume_ml").meaning.encode()}
    assert {str(table.schema.field(name).type) for name in ("number", "voxel_count")} == {"int64"}
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert table.column_names == list(rows[0])
    for row, found in zip(rows, table.to_pylist(), strict=True):
        for name, cell in row.items():
            value = found[name]
            assert value == (None if cell == "" else type(value)(cell)), name
    assert table.column("volume_ml").to_pylist()[2] is None  # the spleen is absent


@pytest.mark.parametrize(("text", "match"), [("", "header"), ("number,label\r\nx,liver\r\n", "number holds 'x'")])
def test_a_changed_table_is_refused_in_words(text, match):
    pytest.importorskip("pyarrow")
    with pytest.raises(ParameterError, match=match):
        parquet_of(text, MEASURE)
