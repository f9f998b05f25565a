"""The agreement of two tables as a user types it: groups, unpaired rows, figures, sentences, poor input."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest

from medseg.cli.agreement import agreement as command


@pytest.fixture
def tables(tmp_path):
    rng = np.random.default_rng(1)
    paths = []
    true = {label: rng.normal(size, size / 5, 20) for label, size in (("liver", 1500), ("left kidney", 170))}
    for reader in ("ann", "ben"):
        lines = ["case,label,status,volume_ml"]
        for label, sizes in true.items():
            for case, size in enumerate(sizes):
                status = "cut_by_field_of_view" if reader == "ben" and case == 3 else "measured"
                if (reader, label, case) != ("ann", "liver", 7):
                    lines.append(f"c{case},{label},{status},{size * (1 + rng.normal(0, 0.03))}")
        path = tmp_path / f"{reader}.csv"
        path.write_text("\n".join(lines))
        paths.append(path)
    return paths


def run(*arguments: object) -> None:
    command.main([str(argument) for argument in arguments], standalone_mode=False)


def document_of(capsys, *arguments: object) -> dict:
    run(*arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_one_result_a_label(tables, capsys):
    found = document_of(capsys, *tables)
    assert found["schema"] == "medseg.agreement/1"
    assert [(result["group"], result["count"]) for result in found["results"]] == [("liver", 18), ("left kidney", 19)]
    assert found["results"][0]["readers"] == ["ann", "ben"]
    reasons = {tuple(row["key"]): row["reason"] for row in found["left_out"]}
    assert reasons == {
        ("c3", "liver"): "status cut_by_field_of_view in ben",
        ("c3", "left kidney"): "status cut_by_field_of_view in ben",
        ("c7", "liver"): "no row in ann",
    }


def test_pooled_rows_are_warned_of(tables, capsys):
    (result,) = document_of(capsys, *tables, "--pooled", "--status", "measured", "--status", "cut_by_field_of_view")["results"]
    assert result["count"] == 39
    assert "AGREEMENT_ROWS_NOT_INDEPENDENT" in {finding["code"] for finding in result["findings"]}


def test_every_number_of_the_sentences_is_in_the_result(tables, tmp_path):
    run(*tables, "-o", tmp_path / "out", "--quiet")
    document = json.loads((tmp_path / "out" / "agreement.json").read_text())
    known = set()

    def collect(value):
        if isinstance(value, dict):
            for entry in value.values():
                collect(entry)
        elif isinstance(value, list):
            for entry in value:
                collect(entry)
        elif isinstance(value, (int, float)):
            known.update(f"{abs(value):.{digits}f}" for digits in range(7))

    collect(document["results"])
    known.update(str(sum(row["key"][1] == group for row in document["left_out"])) for group in ("liver", "left kidney"))
    text = (tmp_path / "out" / "agreement.txt").read_text()
    for fixed in ("95 %", "ICC(2,1)", "1.96 √2", "p < 0.001", "> 0.999"):
        text = text.replace(fixed, "")
    numbers = re.findall(r"\d[\d,]*(?:\.\d+)?", text)
    assert len(numbers) > 40
    assert not {number for number in numbers if number.replace(",", "") not in known}


def test_outputs_are_written_whole_or_not_at_all(tables, tmp_path):
    out = tmp_path / "out"
    run(*tables, "-o", out, "--quiet")
    names = {path.name for path in out.iterdir()}
    assert {"agreement.json", "agreement.csv", "agreement.txt"} < names
    assert sum(name.endswith(".svg") for name in names) == sum(name.endswith(".png") for name in names) == 2
    rows = list(csv.DictReader(io.StringIO((out / "agreement.csv").read_text())))
    document = json.loads((out / "agreement.json").read_text())
    assert float(rows[0]["bias"]) == document["results"][0]["comparisons"][0]["bias"]["value"]
    assert float(rows[1]["icc_2_1_low"]) == document["results"][1]["icc_2_1"]["interval"][0]
    with pytest.raises(Exception, match="--overwrite"):
        run(*tables, "-o", out, "--quiet")
    run(*tables, "-o", out, "--quiet", "--overwrite")


def test_tables_of_measure_from_two_folders_take_the_names_of_the_folders(tmp_path, capsys):
    for reader in ("first", "second"):
        (tmp_path / reader).mkdir()
        rows = "".join(f"{n},organ {n},measured,{100 * n + len(reader)}\n" for n in range(1, 6))
        (tmp_path / reader / "measurements.csv").write_text("number,label,status,volume_ml\n" + rows)
    found = document_of(capsys, tmp_path / "first" / "measurements.csv", tmp_path / "second" / "measurements.csv")
    (result,) = found["results"]
    assert result["readers"] == ["first", "second"]
    assert result["comparisons"][0]["bias"]["value"] == pytest.approx(-1)
    assert "AGREEMENT_STRUCTURES_POOLED" in {finding["code"] for finding in result["findings"]}


@pytest.mark.parametrize(
    ("other", "options", "sentence", "code"),
    [
        ("case,volume_ml\nx1,1\nx2,2\nx3,3\n", (), "no row has a value in every table", 3),
        ("case,volume_ml\nc0,1\nx2,2\nx3,3\n", (), "only 1 subject has a value", 3),
        ("case,volume_ml\nc0,\nc1,\nc2,\n", (), "other has no row with a value: all 3 rows were left out", 3),
        ("case,volume_mm3\nc0,1\nc1,2\nc2,3\n", (), "another unit", 3),
        ("label,volume_ml\nc0,1\nc1,2\nc2,3\n", (), "in different ways", 3),
        ("case,volume_ml\nc0,1\nc1,2\nc2,3\n", ("--by", "label"), "not a column of the key", 2),
        ("case,volume_ml\nc0,1\nc1,2\nc2,3\n", ("--name", "x"), "as many different --name", 2),
        ("case,volume_ml\nc0,-1\nc1,2\nc2,3\n", ("--scale", "log"), "0 or less", 3),
    ],
)
def test_poor_input_is_a_sentence_and_an_exit_code(tmp_path, other, options, sentence, code):
    (tmp_path / "one.csv").write_text("case,volume_ml\nc0,1.1\nc1,2.1\nc2,2.9\n")
    (tmp_path / "other.csv").write_text(other)
    with pytest.raises(Exception, match=sentence) as caught:
        run(tmp_path / "one.csv", tmp_path / "other.csv", *options)
    assert caught.value.exit_code == code


def test_one_table_or_the_same_twice_is_a_mistake_of_use(tables):
    for arguments in (tables[:1], [tables[0], tables[0]]):
        with pytest.raises(Exception, match=r"tables|twice") as caught:
            run(*arguments)
        assert caught.value.exit_code == 2
