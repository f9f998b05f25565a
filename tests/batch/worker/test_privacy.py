"""Sentences about a case name its files by their number."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.batch.records.case import Case
from medseg.batch.worker.privacy import failure_sentence, findings_without_paths, said_without_paths
from medseg.core.finding import Finding, Severity

ROOT = Path("/data/2024 Schmidt")
CASE = Case("0" * 16, "DICOM", ("DOE^JOHN/CT/IM-0001.dcm", "DOE^JOHN/CT/IM-0002.dcm", "DOE^JOHN/CT/7", "DOE^JOHN/CT/12345678"))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("/data/2024 Schmidt/DOE^JOHN/CT/IM-0002.dcm is empty", "file 2 of 4 is empty"),
        ("DOE^JOHN/CT/IM-0001.dcm is empty", "file 1 of 4 is empty"),
        ("2 slices (IM-0001.dcm, IM-0002.dcm) are copies", "2 slices (file 1 of 4, file 2 of 4) are copies"),
        ("IM-0001 frame 3", "file 1 of 4 frame 3"),
        ("12345678 is cut short", "file 4 of 4 is cut short"),
        ("7 slices are missing in 12 mm", "7 slices are missing in 12 mm"),
        ("/data/2024 Schmidt/DOE^JOHN/CT holds two series", "(a folder) holds two series"),
        ("/data/2024 Schmidt/DOE^JOHN/CT: DICOM series 1.2.840.113619.2.5.17 holds 2 stacks", "the DICOM series holds 2 stacks"),
        ("/data/2024 Schmidt/DOE^JOHN/CT holds 1 stack(s): no --select 2", "the DICOM series holds 1 stack(s): no --stack 2"),
        ("the CT of DOE^JOHN", "the CT of (a folder)"),
        ("/data/2024 Schmidt is not there", "(the folder) is not there"),
        ("series 1.2.840.113619.2.5.1762583153 has gaps", "series (a UID) has gaps"),
        ("series 2.25.122678389289431019380737462635775538829 has gaps", "series (a UID) has gaps"),
        ("DICOM series 2.25.1226783892894… cannot be read", "the DICOM series cannot be read"),
        (
            "position -3.75 mm, 0.123456789 ml, 2.25 mm and 1.1234567890123 ml",
            "position -3.75 mm, 0.123456789 ml, 2.25 mm and 1.1234567890123 ml",
        ),
        ("torch 2.13.0 needs 3.5 GB", "torch 2.13.0 needs 3.5 GB"),
        ("/home/schmidt/models/liver is broken", "(a path) is broken"),
        ("20 mg/ml and/or 5 mm", "20 mg/ml and/or 5 mm"),
        ("", ""),
    ],
)
def test_names_become_numbers(said: str, expected: str) -> None:
    """Whole paths, names, folders, UIDs and paths of anything else; numbers and units stay."""
    assert said_without_paths(said, CASE, ROOT) == expected


def test_longer_names_are_not_broken_by_shorter_ones() -> None:
    """IM1 is the beginning of IM10."""
    case = Case("0" * 16, "DICOM", tuple(f"IM{number}" for number in range(1, 13)))
    assert said_without_paths("IM1, IM10 and IM12.", case, ROOT) == "file 1 of 12, file 10 of 12 and file 12 of 12."


def test_a_file_that_is_called_as_its_folder_and_a_series_uid_of_any_form() -> None:
    """The folder is not taken for the file, and the UID of the series goes however short it is."""
    case = Case("0" * 16, "DICOM", ("DOE^JOHN/scan/DOE^JOHN.dcm",), series_uid="1.2.3")
    text = "/data/2024 Schmidt/DOE^JOHN/scan: DICOM series 1.2.3 holds 2 stacks"
    assert said_without_paths(text, case, ROOT) == "the DICOM series holds 2 stacks"


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("a.nii", "a.nii: it reads a file or the folder of a series", "file 1 of 1: it reads a file or the folder of a series"),
        ("image.nii.gz", "/data/2024 Schmidt/P/image.nii.gz is no image medseg can read", "file 1 of 1 is no image medseg can read"),
        ("Segmentation.nrrd", "the Segmentation in Segmentation.nrrd", "the Segmentation in file 1 of 1"),
        ("file.dcm", "file.dcm: P/file.dcm", "file 1 of 1: file 1 of 1"),
        ("mask.nii.gz", "mask.nii of the mask", "file 1 of 1 of the mask"),
        ("Doe.nii", "Doe is no image", "file 1 of 1 is no image"),
    ],
)
def test_a_file_that_is_called_as_a_word_of_ours_does_not_break_the_sentence(name: str, said: str, expected: str) -> None:
    """Without its extension such a name stays; with it, or in a path, it is a number."""
    assert said_without_paths(said, Case("0" * 16, "NIfTI", (f"P/{name}",)), ROOT) == expected


def test_names_that_are_no_utf8_are_found_too() -> None:
    """They come as lone surrogates, as Python reads such names."""
    case = Case("0" * 16, "NIfTI", ("M\udcfcller/\udce9t\udce9.nii",))
    assert said_without_paths("\udce9t\udce9.nii of M\udcfcller", case, ROOT) == "file 1 of 1 of (a folder)"


def test_names_with_signs_of_regular_expressions_are_only_names() -> None:
    """Brackets, stars and backslashes."""
    case = Case("0" * 16, "NIfTI", (r"a+(b)*[c]\1.nii",))
    assert said_without_paths(r"a+(b)*[c]\1.nii is broken", case, ROOT) == "file 1 of 1 is broken"


def test_findings_lose_names_in_messages_and_details() -> None:
    """Nested too; severity, code and numbers stay."""
    details = {"files": ["IM-0001.dcm"], "gap_mm": 2.5, "in": {"DOE": "DOE^JOHN"}}
    found = findings_without_paths((Finding("GAP", Severity.ERROR, "after IM-0001.dcm", details),), CASE, ROOT)[0]
    assert found == Finding(
        "GAP", Severity.ERROR, "after file 1 of 4", {"files": ["file 1 of 4"], "gap_mm": 2.5, "in": {"DOE": "(a folder)"}}
    )


def test_advice_names_the_option_of_the_batch() -> None:
    """There --select chooses series, and --stack one stack of a series."""
    assert said_without_paths("choose one with --select 2", CASE, ROOT) == "choose one with --stack 2"


def test_of_an_archive_nothing_is_quoted() -> None:
    """What it holds bears names that are not in the list of files."""
    archive = Case("0" * 16, "archive", ("study.zip",))
    said = failure_sentence("MISSING_SLICES", "DOE^JOHN.dcm: 3 slices are missing", archive, ROOT)
    assert "DOE" not in said
    assert "MISSING_SLICES" in said
    found = findings_without_paths((Finding("GAP", Severity.WARNING, "after DOE^JOHN.dcm", {"file": "DOE"}),), archive, ROOT)[0]
    assert (found.message, dict(found.details)) == ("after (a file)", {})


def test_one_of_thousands_of_files_has_its_number() -> None:
    case = Case("0" * 16, "DICOM", tuple(f"P/S/IM{number:05}.dcm" for number in range(3000)))
    for number in range(0, 3000, 1000):
        assert said_without_paths(f"IM{number:05}.dcm is empty", case, ROOT) == f"file {number + 1} of 3000 is empty"
