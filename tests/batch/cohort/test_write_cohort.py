"""Cohort folders made by hand: the tables say what the results say, the counts add up, and nothing depends on order or attempts."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from click.testing import CliRunner
from cohort_builder import NAMES, build, decision, key_of, scene

from medseg.batch.cohort.write_cohort import write_cohort
from medseg.batch.records.result import read_result
from medseg.cli.main import cli
from medseg.core.errors import UnreadableFileError
from medseg.measurement.measure import measure
from medseg.reporting.cohort_columns import COHORT
from medseg.reporting.flow import CountsError


@pytest.fixture
def cohort(tmp_path):
    return build(tmp_path / "out")


def test_counts_add_up(cohort):
    counts = write_cohort(cohort.layout).counts
    assert counts["found"] == 17
    assert counts["left_out"] == {"total": 5, "by_reason": {"localizer": 4, "too few slices": 1}}
    assert (counts["cases"], counts["done"], counts["not_run"], counts["analysed"]) == (12, 9, 1, 9)
    assert counts["failed"] == {"total": 2, "by_code": {"MISSING_SLICES": 1, "TIMEOUT": 1}}
    assert counts["passed_over"] == {"total": 7, "by_reason": {"no image": 7}}
    assert counts["found_in"] == {"studies": 12, "patients": 7}
    assert counts["analysed_in"] == {"studies": 9, "patients": 5}
    assert json.loads(cohort.layout.summary.read_text())["counts"] == counts


def test_the_long_table_holds_what_was_measured(cohort):
    write_cohort(cohort.layout)
    liver, lung = cohort.of(0)
    table = measure(*scene(5))
    volume = table["liver", "volume"]
    assert [float(liver[name]) for name in ("volume_ml", "volume_low_ml", "volume_high_ml")] == [volume.value, *volume.interval]
    assert float(liver["volume_ml"]) == 5 * 6 * 6 * 12 / 1000
    assert (liver["case_status"], liver["analysed"], liver["review"]) == ("done", "yes", "unreviewed")
    assert (float(liver["mean_hu"]), float(lung["mean_hu"])) == (40.0, -800.0)
    assert (lung["status"], lung["touches_border"]) == ("cut_by_field_of_view", ";".join(table.rows[1].touches))
    assert float(lung["visible_ml"]) == float(lung["volume_ml"])
    assert (liver["centroid_r_mm"], liver["components"], liver["patient"]) == (repr(table.rows[0].centroid_mm[0]), "1", "p0")
    assert all(COHORT.column(name) is not None for name in liver), [name for name in liver if COHORT.column(name) is None]


def test_a_case_without_a_result_is_one_row_with_its_reason_and_no_number(cohort):
    write_cohort(cohort.layout)
    for n, status, code, message in (
        (9, "failed", "MISSING_SLICES", "2 slices are missing"),
        (10, "failed", "TIMEOUT", "took too long"),
        (11, "not_run", "", "it was not run yet"),
    ):
        (row,) = cohort.of(n)
        assert (row["case_status"], row["case_code"], row["case_message"], row["analysed"]) == (status, code, message, "no")
        assert not any(row[name] for name in row if name.endswith(("_ml", "_mm", "_hu")) or name in ("suspicion", "number", "status"))
        (wide,) = cohort.of(n, "cohort_wide.csv")
        assert wide["liver_volume_ml"] == ""
        assert wide["case_message"] == message


def test_the_wide_table_has_a_row_a_case(cohort):
    write_cohort(cohort.layout)
    rows = cohort.rows("cohort_wide.csv")
    assert [row["case_id"] for row in rows] == NAMES[:12]
    long = {(row["case_id"], row["label"]): row for row in cohort.rows()}
    for row in rows[:9]:
        for label, stem in (("liver", "liver"), ("left lung", "left_lung")):
            for name in ("volume_ml", "volume_low_ml", "volume_high_ml", "status", "reason", "mean_hu"):
                assert row[f"{stem}_{name}"] == long[row["case_id"], label][name]
        assert (row["inputs_sha256"], row["result_key"]) == (row["case_id"] * 2, key_of(row["case_id"]))


def test_order_and_attempts_leave_no_trace(tmp_path):
    names = ("cohort.csv", "cohort_wide.csv", "summary.json", "flow.svg", "cohort.parquet", "cohort_wide.parquet", "qc.html", "medseg.lock")
    first = build(tmp_path / "a")
    second = build(tmp_path / "b", order=reversed(range(12)), attempts=3)
    write_cohort(first.layout), write_cohort(second.layout)
    before = {name: (first.layout.folder / name).read_bytes() for name in names}
    assert {name: (second.layout.folder / name).read_bytes() for name in names} == before
    write_cohort(first.layout)
    assert {name: (first.layout.folder / name).read_bytes() for name in names} == before
    assert not list(first.layout.folder.glob(".tmp-*"))


def test_parquet_says_the_same(cohort):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    write_cohort(cohort.layout)
    for name, schema in (("cohort", b"medseg.cohort/1"), ("cohort_wide", b"medseg.cohort_wide/1")):
        table = pyarrow.read_table(cohort.layout.folder / f"{name}.parquet")
        rows = cohort.rows(f"{name}.csv")
        assert table.schema.metadata[b"medseg.schema"] == schema
        assert table.column_names == list(rows[0])
        for row, found in zip(rows, table.to_pylist(), strict=True):
            for column, cell in row.items():
                value = found[column]
                expected = None if cell == "" else cell == "yes" if isinstance(value, bool) else type(value)(cell)
                assert value == expected, column
    field = table.schema.field("left_lung_volume_ml")
    assert str(field.type) == "double"
    assert field.metadata[b"unit"] == b"ml"
    assert field.metadata[b"meaning"].startswith(b"left lung: ")
    assert str(pyarrow.read_schema(cohort.layout.folder / "cohort.parquet").field("analysed").type) == "bool"


def test_an_unlike_case_comes_first(cohort):
    write_cohort(cohort.layout)
    score = {row["case_id"]: int(row["suspicion"]) for row in cohort.rows("cohort_wide.csv")[:9]}
    ranked = sorted(score, key=lambda case_id: -score[case_id])
    assert set(ranked[:2]) == {NAMES[3], NAMES[8]}
    assert "far below the cohort" in cohort.of(8)[0]["suspicion_reasons"]
    assert "7 pieces" in cohort.of(3)[0]["suspicion_reasons"]
    # every left lung is cut: that is usual here, and says nothing
    assert not any("border" in row["suspicion_reasons"] for row in cohort.rows())


def test_units_stay_apart(cohort):
    cohort.case(NAMES[12])
    cohort.write_found()
    cohort.done(NAMES[12], unit="")
    write_cohort(cohort.layout)
    assert (cohort.of(12)[0]["mean"], cohort.of(12)[0]["mean_hu"]) == ("40.0", "")
    assert (cohort.of(0)[0]["mean"], cohort.of(0)[0]["mean_hu"]) == ("", "40.0")


def test_results_of_another_plan_do_not_count(cohort):
    path = cohort.layout.result(NAMES[0])
    path.write_text(replace(read_result(path), plan_key="another").to_json())
    summary = write_cohort(cohort.layout)
    assert (summary.counts["not_run"], summary.counts["done"]) == (2, 8)
    assert any("earlier plan" in note for note in summary.notes)


def test_changed_measurements_are_no_result(cohort):
    path = cohort.layout.case(NAMES[0]) / "measurements.json"
    path.write_text(path.read_text().replace('"liver"', '"spleen"'))
    assert write_cohort(cohort.layout).counts["failed"]["by_code"]["MEASUREMENTS_CHANGED"] == 1
    (row,) = cohort.of(0)
    assert row["volume_ml"] == ""
    assert "not the one that was written" in row["case_message"]


def test_identify_adds_what_the_private_table_knows(cohort):
    write_cohort(cohort.layout)
    assert "path" not in cohort.rows()[0]
    assert b"ID28" not in cohort.layout.cohort.read_bytes()
    write_cohort(cohort.layout, identify=True)
    assert (cohort.of(0)[0]["patient_id"], cohort.of(0)[0]["path"]) == ("ID28", "in/28")
    assert {path.stat().st_mode & 0o777 for path in cohort.layout.folder.glob("cohort*")} == {0o600}


def test_a_shared_folder_needs_no_private_part(cohort):
    before = write_cohort(cohort.layout).counts
    cohort.layout.case_table.unlink()
    cohort.layout.private.rmdir()
    assert write_cohort(cohort.layout).counts == before
    with pytest.raises(UnreadableFileError, match=r"private/cases\.csv"):
        write_cohort(cohort.layout, identify=True)


def test_lost_cases_are_noticed(cohort):
    (cohort.layout.private / "cases.jsonl").write_text("{}\n" * 13)
    with pytest.raises(CountsError, match=r"found\.csv has 12 cases, private/cases\.jsonl has 13"):
        write_cohort(cohort.layout)
    assert not cohort.layout.cohort.exists()
    assert not list(cohort.layout.folder.glob(".tmp-*"))


def test_a_case_that_ends_meanwhile_is_counted_again(cohort, monkeypatch):
    """Between the two readings a case is finished: the tables are made from one state, never from both."""
    from medseg.batch.cohort import write_cohort as module

    write, calls = module._write_tables, []

    def late(*arguments):
        if not calls:
            cohort.done(NAMES[11])
        calls.append(1)
        return write(*arguments)

    monkeypatch.setattr(module, "_write_tables", late)
    assert write_cohort(cohort.layout).counts["done"] == 10
    assert len(calls) == 2
    assert len(cohort.of(11)) == 2


def test_the_figure_shows_the_counts(cohort):
    cohort.decide(n0=decision(0, "reject"))
    write_cohort(cohort.layout, title="A <cohort>")
    text = " ".join(
        "".join(one.itertext()) for one in ET.fromstring(cohort.layout.flow.read_text()).iter("{http://www.w3.org/2000/svg}text")
    )
    for said in (
        "A <cohort>",
        "Series found (n = 17)",
        "in 12 studies of 7 patients",
        "Left out (n = 5)",
        "4 localizer",
        "n = 12",
        "1 not run yet",
    ):
        assert said in text
    assert "Analysed (n = 8)" in text
    assert "1 rejected" in text
    assert "liver: 8 measured" in text


def test_report_command(cohort, tmp_path):
    review = tmp_path / "review.json"
    document = {"schema": "medseg.review/1", "decisions": {NAMES[0]: decision(0, "reject").to_dict()}}
    review.write_text(json.dumps(document))
    out = str(cohort.layout.folder)
    found = json.loads(CliRunner().invoke(cli, ["report", out, "--review", str(review), "--json"], catch_exceptions=False).output)
    assert (found["schema"], found["counts"]["analysed"]) == ("medseg.summary/1", 8)
    assert json.loads(cohort.layout.review.read_text())["decisions"][NAMES[0]]["decision"] == "reject"
    shown = CliRunner().invoke(cli, ["report", out], catch_exceptions=False).output
    assert "rejected in review" in shown
    assert "localizer" in shown
    assert "liver" in shown
    assert CliRunner().invoke(cli, ["report", out, "--pdf"]).exit_code == 2


def test_a_case_with_its_result_replaced_by_rubbish(cohort):
    cohort.layout.result(NAMES[0]).write_text("{")
    assert write_cohort(cohort.layout).counts["failed"]["by_code"]["RESULT_UNREADABLE"] == 1


def test_findings_are_named(cohort):
    finding = {"code": "GANTRY_TILT", "severity": "warning", "message": "tilted by 12°", "details": {}}
    cohort.case(NAMES[12])
    cohort.write_found()
    cohort.done(NAMES[12], findings=[finding, {**finding, "code": "SLICES_MISSING", "severity": "error"}, {**finding, "severity": "info"}])
    write_cohort(cohort.layout)
    row = cohort.of(12)[0]
    assert row["findings"] == "SLICES_MISSING;GANTRY_TILT"
    assert "GANTRY_TILT: tilted by 12°" in row["suspicion_reasons"]
    assert int(row["suspicion"]) >= 70
