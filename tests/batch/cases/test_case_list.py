"""A table of cases in the place of a search."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from made_studies import STUDY, write_slices

from medseg.batch.cases.case_files import write_linkage
from medseg.batch.cases.find_cases import find_cases
from medseg.batch.records.case import Case
from medseg.core.errors import InputError, UnreadableFileError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.write import write


def tree(folder: Path) -> Path:
    """Two studies in one folder, the first with two series; an image; broken files."""
    write_slices(folder / "dicom", f"{STUDY}.1", 5)
    write_slices(folder / "dicom", f"{STUDY}.2", 9)
    write_slices(folder / "dicom", f"{STUDY}.3", 6, StudyInstanceUID="1.2.3")
    volume = Volume(np.arange(8 * 8 * 8, dtype=np.uint8).reshape(8, 8, 8), Geometry((8, 8, 8), np.eye(4)))
    (folder / "images").mkdir()
    for name in ("a b.nii", "b.nii", "c.nii "):
        write(volume, folder / "images" / "x.nii").rename(folder / "images" / name)
    (folder / "images" / "broken.dcm").write_bytes(b"garbage")
    return folder


def table(path: Path, rows: Iterable[tuple[str, ...]], columns: tuple[str, ...] = ("path", "series_uid", "use")) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def cases_of(folder: Path, listed: Path, **options: str) -> list[Case]:
    with find_cases(folder, listed=listed, salt=b"s", **options) as found:
        for one in found.left_out():
            assert one.reason
        return list(found.cases())


def first_files(cases: list[Case]) -> list[str]:
    return sorted(case.files[0] for case in cases)


def test_a_named_series_is_run_and_no_other(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    (case,) = cases_of(folder, table(tmp_path / "t.csv", [("dicom", f"{STUDY}.1", "yes")]))
    assert case.series_uid == f"{STUDY}.1"  # not the one that a search would take, and not the other study of the folder
    assert len(case.files) == 5


def test_of_a_folder_the_series_are_chosen_as_in_a_search(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    assert first_files(cases_of(folder, table(tmp_path / "t.csv", [("dicom",)], ("path",)))) == ["dicom/2_001.dcm", "dicom/3_001.dcm"]


def test_a_named_file_is_a_case_whatever_the_rules_say(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    listed = table(
        tmp_path / "t.csv", [("images/b.nii", "", ""), (str(folder / "images" / "c.nii "), "", "Yes"), ("images/a b.nii", "", "no")]
    )
    assert first_files(cases_of(folder, listed, modality="CT")) == ["images/b.nii", "images/c.nii "]


def test_what_was_refused_is_not_run_though_it_lies_in_a_wanted_folder(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    rows = [("dicom", "", "yes"), ("dicom", f"{STUDY}.2", "no"), ("images", "", "yes"), ("images/b.nii", "", "no"), ("gone", "", "no")]
    with find_cases(folder, listed=table(tmp_path / "t.csv", rows), salt=b"s") as found:
        # without its longest series the study has another one
        assert first_files(list(found.cases())) == [
            "dicom/1_001.dcm",
            "dicom/3_001.dcm",
            "images/a b.nii",
            "images/broken.dcm",
            "images/c.nii ",
        ]
        assert found.counts["left_out"] == {"the table of cases says no": 2}
    rows = [(".", "", "yes"), ("images", "", "no"), ("images/b.nii", "", "yes")]
    with find_cases(folder, listed=table(tmp_path / "t.csv", rows), salt=b"s") as found:
        assert [name for name in first_files(list(found.cases())) if "images" in name] == ["images/b.nii"]  # the nearest row decides
        assert found.counts["left_out"]["the table of cases says no"] == 3  # the broken file too


def test_folders_inside_each_other_are_searched_once(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    (folder / "images 2").mkdir()
    rows = [("images/b.nii",), ("images",), ("images 2",), (".",), ("dicom",)]
    cases = cases_of(folder, table(tmp_path / "t.csv", rows, ("path",)))
    assert len({name for case in cases for name in case.files}) == sum(len(case.files) for case in cases)
    with find_cases(folder, salt=b"s") as found:
        assert list(found.cases()) == cases


def test_only_what_a_row_names_below_a_folder_with_a_series(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    listed = table(tmp_path / "t.csv", [(".", f"{STUDY}.3", ""), ("images/b.nii", "", "")])
    assert first_files(cases_of(folder, listed)) == ["dicom/3_001.dcm", "images/b.nii"]


def test_what_a_search_wrote_gives_the_same_cases_again(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    with find_cases(folder, salt=b"s", select=["Path!~broken"]) as found:
        before = list(found.cases())
        write_linkage(tmp_path / "t.csv", found)
    assert cases_of(folder, tmp_path / "t.csv") == before
    text = (tmp_path / "t.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    wanted = [(row["path"], row["series_uid"], "yes" if row["series_uid"] == f"{STUDY}.1" else "no") for row in rows]
    (case,) = cases_of(folder, table(tmp_path / "edited.csv", wanted))
    assert case.series_uid == f"{STUDY}.1"
    with find_cases(folder, salt=b"s") as whole, find_cases(folder, listed=tmp_path / "edited.csv", salt=b"s") as part:
        assert part.counts["found"] == whole.counts["found"]  # what was refused by hand stays among what was found
        assert part.counts["left_out"]["the table of cases says no"] >= 5


def test_tables_that_cannot_be_meant(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    for rows, said in (
        ([("../elsewhere",)], "line 2: its path lies outside"),
        ([("dicom",), ("dicom/DOE^JOHN",)], "line 3: there is nothing at its path"),
        ([("/etc/passwd",)], "line 2: its path lies outside"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            find_cases(folder, salt=b"", listed=table(tmp_path / "t.csv", rows, ("path",)))
        assert not any(row[0] in str(caught.value) for row in rows[-1:])
    with pytest.raises(InputError, match="no column 'path'"):
        find_cases(folder, salt=b"", listed=table(tmp_path / "t.csv", [("x",)], ("folder",)))
    with pytest.raises(UnreadableFileError):
        find_cases(folder, salt=b"", listed=tmp_path / "nothing.csv")


def test_slips_in_a_table_are_named_by_their_line(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_slices(folder / "a", f"{STUDY}.1")
    write_slices(folder / "b", f"{STUDY}.2", StudyInstanceUID=f"{STUDY}.8")
    (image,) = sorted((folder / "a").iterdir())[:1]
    for rows, said in (
        ([("a", "", "yes"), ("b", "1.2.3", "yes")], "line 3: no series with this UID"),
        ([("a", "", "maybe")], "line 2: the column use says neither"),
        ([("a", f"{STUDY}.1", "yes"), ("b", "", ""), ("a", f"{STUDY}.1", "no")], "lines 2 and 4: one says yes and one says no"),
        ([("a", "", "yes"), (f"a/{image.name}", "", "no")], "line 3: it names one file of a DICOM series"),
    ):
        with pytest.raises(InputError, match=said):
            find_cases(folder, salt=b"", listed=table(tmp_path / "t.csv", rows))
    with find_cases(folder, salt=b"", listed=table(tmp_path / "t.csv", [("a", "", "yes"), ("b", "", "no")])) as found:
        assert [case.series_uid for case in found.cases()] == [f"{STUDY}.1"]
        assert found.counts["left_out"] == {"the table of cases says no": 1}
