"""What is written about the cases that were found, and who may see what of it."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from pathlib import Path

import pytest
from made_studies import STUDY, write_object, write_slices

from medseg.batch.cases.case_files import count_cases, path_of, read_cases, read_linkage
from medseg.batch.cases.find_cases import find_cases
from medseg.batch.records.layout import Layout
from medseg.core.errors import OutputError, UnreadableFileError


def tree(folder: Path) -> Path:
    write_slices(folder / "ZZCANARY^NAME" / "scan")
    write_slices(folder / "ZZCANARY^NAME" / "thin", f"{STUDY}.2", 2, SeriesDescription="ZZCANARY")
    write_object(folder / "ZZCANARY^NAME" / "report", "1.2.840.10008.5.1.4.1.1.88.33", "SR")
    for k, name in enumerate((b"caf\xe9.nii", b"a,\"b'\nc.nii", b"=1+1.nii")):
        with open(os.path.join(os.fsencode(folder), name), "wb") as stream:
            stream.write(b"x" * k)
    return folder


def test_cases_are_read_as_they_were_found(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    with find_cases(tree(tmp_path / "in"), salt=b"s") as found:
        found.save(layout)
        cases = list(found.cases())
        found.save(layout)  # again, over the first
    assert list(read_cases(layout)) == cases
    assert count_cases(layout) == len(cases) == 4
    assert sorted(path.name for path in layout.folder.rglob("*")) == ["cases.csv", "cases.jsonl", "found.csv", "private"]


def test_only_the_private_folder_names_anything_of_the_input(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    with find_cases(tree(tmp_path / "in"), salt=b"s") as found:
        found.save(layout)
    shared = layout.found.read_text()
    for word in ("CANARY", STUDY, "scan", "caf", ".nii", "/"):
        assert word not in shared
    assert "ZZCANARY-17" not in layout.case_list.read_text()
    assert "ZZCANARY-17" in layout.case_table.read_text(errors="replace")
    assert stat.S_IMODE(layout.private.stat().st_mode) == 0o700
    for path in (layout.case_table, layout.case_list):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_found_has_a_row_for_each_series_and_adds_up(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    folder = tree(tmp_path / "in")
    (folder / "notes.txt").write_text("no image")
    (folder / "more.txt").write_text("no image either")
    with find_cases(folder, salt=b"s") as found:
        found.save(layout)
        counts = found.counts
    rows = list(csv.DictReader(io.StringIO(layout.found.read_text())))
    passed = [(row["reason"], row["files"]) for row in rows if row["status"] == "passed over"]
    assert passed == [("no image", "2")]
    rows = [row for row in rows if row["status"] != "passed over"]
    assert len(rows) == counts["found"] == 6
    assert [row["case_id"] for row in rows if row["status"] == "case"] == [case.case_id for case in read_cases(layout)]
    left_out = [row["reason"] for row in rows if row["status"] == "left out"]
    assert {reason: left_out.count(reason) for reason in left_out} == counts["left_out"]
    assert all(row["reason"] for row in rows if not row["case_id"])
    (scan,) = (row for row in rows if row["modality"] == "CT" and row["case_id"])
    assert (scan["slices"], scan["files"], len(scan["study"]), len(scan["patient"])) == ("5", "5", 12, 12)


def test_the_linkage_table_names_path_and_patient(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    with find_cases(tree(tmp_path / "in"), salt=b"s") as found:
        found.save(layout)
    rows = {row["path"]: row for row in read_linkage(layout)}
    assert rows["ZZCANARY^NAME/scan"]["patient_id"] == "ZZCANARY-17"
    assert rows["ZZCANARY^NAME/scan"]["series_uid"] == f"{STUDY}.1"
    assert rows["ZZCANARY^NAME/scan"]["use"] == "yes"
    assert rows["ZZCANARY^NAME/thin"]["use"] == "no"
    assert {os.fsencode(path) for path in rows} >= {b"caf\xe9.nii", b"a,\"b'\nc.nii", b"=1+1.nii"}


def test_the_same_tree_gives_the_same_files_elsewhere(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        layout = Layout(tmp_path / f"out-{name}")
        with find_cases(tree(tmp_path / name), salt=b"s") as found:
            found.save(layout)
        texts.append([path.read_bytes() for path in (layout.case_list, layout.case_table, layout.found)])
    assert texts[0] == texts[1]


def test_a_list_that_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for read in (count_cases, lambda one: list(read_cases(one)), lambda one: list(read_linkage(one))):
        with pytest.raises(UnreadableFileError, match="--rescan"):
            read(layout)
    layout.private.mkdir()
    for text in ("{", "[]", json.dumps({"case_id": "x"})):
        layout.case_list.write_text(text + "\n")
        with pytest.raises(UnreadableFileError, match="line 1"):
            list(read_cases(layout))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with find_cases(tree(tmp_path / "in"), salt=b"") as found, pytest.raises(OutputError):
        found.save(Layout(tmp_path / "out"))


def test_the_folder_of_files_in_several_places() -> None:
    assert path_of(("a/b/1", "a/c/2")) == "a"
    assert path_of(("a/1", "b/2")) == "."
    assert path_of(("1", "a/2")) == "."
