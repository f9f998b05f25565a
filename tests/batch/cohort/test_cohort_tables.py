"""The limits of the tables: many segments, odd names, no pyarrow, a program that was killed."""

from __future__ import annotations

import csv
import io
import os
import time

import pytest
from click.testing import CliRunner
from cohort_builder import build

from medseg.batch.cohort import table_files
from medseg.batch.cohort.cohort_rows import CaseView, Listed
from medseg.batch.cohort.cohort_tables import MOST_WIDE_LABELS, Columns, LongTable, WideTable, case_cells, case_head
from medseg.batch.cohort.suspicion import CohortStatistics
from medseg.batch.cohort.table_files import Stage
from medseg.batch.cohort.write_cohort import write_cohort
from medseg.cli.main import cli
from medseg.core.errors import MissingDependencyError, OutputError
from medseg.reporting.cohort_columns import COHORT, wide_columns


def segment(label, number=1, volume=1.5, **more):
    row = {"number": number, "label": label, "status": "measured", "reason": "", "volume_ml": volume, "voxel_count": 3}
    return row | {"volume_interval_ml": [1.0, 2.0], "centroid_ras_mm": [1.0, 2.0, 3.0], "touches_border": []} | more


def view(case_id="0" * 16, segments=(), unit="HU"):
    return CaseView(Listed(case_id), "done", standing="unreviewed", segments=segments, unit=unit)


def test_names_of_columns_are_unique_and_plain():
    columns = wide_columns(["a b", "a-b", "A_B", "case", "", "Ärzte", "=1+1"], ["status"])
    names = [column.name for column in columns]
    assert names == ["a_b_status", "a_b_2_status", "A_B_3_status", "case_2_status", "segment_status", "Ärzte_status", "1_1_status"]
    assert len({name.lower() for name in names}) == len(names)
    assert not set(names) & set(case_head(True))


def test_the_wide_table_takes_the_segments_that_most_cases_have():
    columns = Columns()
    columns.add(view(segments=[segment(f"lesion {n}", n) for n in range(1, 700)]))
    columns.add(view(segments=[segment("lesion 650", 650)]))
    assert len(columns.labels) == MOST_WIDE_LABELS
    assert columns.labels[-1] == "lesion 650"
    assert columns.labels_left_out == 199


def test_quantities_that_some_cases_have():
    """Percentiles and features of a pipeline to come: each has a column, the unit in its name, empty where a case has none."""
    one = view("1" * 16, [segment("liver", mean=4.0, percentile_90=8.0, sphericity=0.5, mean_reason="")], "HU")
    other = view("2" * 16, [segment("liver", mean=None, mean_reason="no voxel is finite")], "")
    columns = Columns()
    columns.add(one), columns.add(other)
    table = LongTable(columns, identify=False)
    rows = []
    for each in (one, other):
        rows += [dict(zip(table.head, row, strict=True)) for row in table.rows(each, case_cells(each, None, None), CohortStatistics())]
    found = [(row["mean_hu"], row["mean"], row["percentile_90_hu"], row["sphericity"]) for row in rows]
    assert found == [(4.0, None, 8.0, 0.5), (None,) * 4]
    assert rows[1]["reason"] == "no voxel is finite"
    wide = WideTable(columns, identify=False)
    assert wide.row(other, case_cells(other, None, None))[wide.head.index("liver_reason")] == "no voxel is finite"


def test_what_a_finished_case_does_not_have_has_a_reason():
    columns = Columns()
    columns.add(view(segments=[segment("liver"), segment("spleen", 2)]))
    wide = WideTable(columns, identify=False)
    row = dict(zip(wide.head, wide.row(view(segments=[segment("liver")]), case_cells(view(), None, None)), strict=True))
    assert (row["spleen_volume_ml"], row["spleen_reason"]) == (None, "the case has no such segment")


def test_any_text_is_one_cell(tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    odd = ['a "quoted", comma', "two\nlines", "\udce9 no UTF-8", "=1+1", "Ärzte"]
    with Stage(tmp_path) as stage:
        table = stage.table(tmp_path / "cohort.csv", ["case_id", "label"], COHORT)
        for text in odd:
            table.add(["x", text])
        stage.publish()
    rows = list(csv.reader(io.StringIO((tmp_path / "cohort.csv").read_bytes().decode("utf-8"), newline="")))
    assert [row[1] for row in rows[1:]] == [text.replace("\udce9", "\\udce9") for text in odd]
    assert pyarrow.read_table(tmp_path / "cohort.parquet").column("label").to_pylist() == [row[1] for row in rows[1:]]


def test_without_pyarrow_no_old_parquet_stays(tmp_path, monkeypatch):
    cohort = build(tmp_path / "out")
    write_cohort(cohort.layout)
    assert len(list(cohort.layout.folder.glob("*.parquet"))) == 2

    def load(module):
        raise MissingDependencyError(f"{module} is not installed")

    monkeypatch.setattr(table_files, "load", load)
    assert "cohort.parquet" not in write_cohort(cohort.layout).files
    assert not list(cohort.layout.folder.glob("*.parquet")), "an old table beside a new one would be wrong"


def test_a_full_disk_leaves_the_old_tables(tmp_path, monkeypatch):
    cohort = build(tmp_path / "out")
    write_cohort(cohort.layout)
    before = cohort.layout.cohort.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table_files._HashedFile, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        write_cohort(cohort.layout)
    assert cohort.layout.cohort.read_bytes() == before
    assert not list(cohort.layout.folder.glob(".tmp-*"))


def test_what_a_killed_program_left_is_swept(tmp_path):
    (tmp_path / "private").mkdir()
    names = (".tmp-cohort-1.csv", f".tmp-{'0' * 32}.json", f"private/.tmp-{'1' * 32}", f"private/.tmp-salt-{'2' * 16}", ".tmp-of-a-user")
    old = [tmp_path / name for name in names]
    young = tmp_path / ".tmp-cohort-2.csv"
    for path in (*old, young):
        path.write_text("")
        os.utime(path, (time.time() - 7200,) * 2)
    os.utime(young)
    with Stage(tmp_path):
        assert [path.name for path in old if path.exists()] == [".tmp-of-a-user"]
        assert young.exists()


def test_usage(tmp_path):
    cohort = build(tmp_path / "out")
    run = CliRunner().invoke
    out = str(cohort.layout.folder)
    assert run(cli, ["report", out, "--review", str(tmp_path / "none.json")]).exit_code != 0
    assert run(cli, ["report", str(tmp_path), "--identify"]).exit_code == 2
    assert run(cli, ["report", out, "-o", str(tmp_path / "x")]).exit_code == 2
    assert "do not share" in run(cli, ["report", out, "--identify"]).output
