"""The files that hold what was found: the list of cases and the linkage table in `private`, and found.csv for everybody.

`private/cases.jsonl` has one `Case` a line, in the order of the case ids. `private/cases.csv` has one row a series that was
found, with its path, its UIDs and the PatientID: nothing else names them. Columns: `use` (yes or no; edit it and give the
table back with --cases), `reason`, `case_id`, `kind`, `modality`, `slices`, `files`, `path` (the file, of DICOM the folder of all
files, below the searched folder), `series_uid`, `study_uid`, `patient_id`, `study`, `patient` (the pseudonyms).

`found.csv` can be shared: one row a series or image file, cases first, and one a reason for files that are no images. Columns:
`status` ("case", "left out" or "passed over"), `reason`, `case_id`, `kind`, `modality`, `slices`, `files` (how many), `study`,
`patient`.
"""

from __future__ import annotations

import csv
import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from medseg.batch.records.case import Case
from medseg.batch.records.layout import Layout
from medseg.core.errors import OutputError, UnreadableFileError
from medseg.io.atomic import TEMPORARY_PREFIX, check_folder

if TYPE_CHECKING:
    from medseg.batch.cases.find_cases import FoundCases

LINKAGE_COLUMNS = (
    "use", "reason", "case_id", "kind", "modality", "slices", "files", "path", "series_uid", "study_uid", "patient_id", "study", "patient",
)  # fmt: skip
FOUND_COLUMNS = ("status", "reason", "case_id", "kind", "modality", "slices", "files", "study", "patient")


def save_cases(layout: Layout, found: FoundCases) -> None:
    """Write the list of cases, the linkage table and found.csv, each whole or not at all; raises OutputError."""
    make_private(layout)
    write_linkage(layout.case_table, found)
    _write(layout.found, lambda stream: _write_found(stream, found), mode=0o666)
    _write(layout.case_list, lambda stream: _write_cases(stream, found))  # the last: it says that all three are there


def write_linkage(path: Path, found: FoundCases) -> None:
    """Write the linkage table alone, to any place, readable by its owner only; raises OutputError."""
    _write(path, lambda stream: _write_linkage(stream, found))


def read_cases(layout: Layout) -> Iterator[Case]:
    """Yield the cases of a batch in the order of their ids; raises UnreadableFileError where the list is missing or damaged."""
    try:
        with layout.case_list.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    yield Case.from_dict(json.loads(line))
                except (ValueError, TypeError, KeyError) as err:
                    raise UnreadableFileError(f"line {number} of private/cases.jsonl is no case; search again with --rescan") from err
    except OSError as err:
        raise UnreadableFileError(f"private/cases.jsonl cannot be read ({err.strerror}); search again with --rescan") from err


def count_cases(layout: Layout) -> int:
    """Return how many cases a batch has; raises UnreadableFileError where the list is missing."""
    try:
        with layout.case_list.open("rb") as stream:
            return sum(1 for _ in stream)
    except OSError as err:
        raise UnreadableFileError(f"private/cases.jsonl cannot be read ({err.strerror}); search again with --rescan") from err


def read_linkage(layout: Layout) -> Iterator[dict[str, str]]:
    """Yield the rows of the linkage table by the names of its columns; raises UnreadableFileError where it cannot be read."""
    try:
        with layout.case_table.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            yield from csv.DictReader(stream)
    except (OSError, csv.Error) as err:
        raise UnreadableFileError("private/cases.csv cannot be read; search again with --rescan") from err


def make_private(layout: Layout) -> Path:
    """Make the folder that only its owner may open, and return it; raises OutputError."""
    folder = layout.private
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as err:
        raise OutputError(f"{folder} cannot be made ({err.strerror}); check the folder and your rights") from err
    return check_folder(folder)


def path_of(files: tuple[str, ...]) -> str:
    """Return the one file, or the folder of all of them ("." for the searched folder itself).

    >>> path_of(("a/1.dcm", "a/2.dcm")), path_of(("a.nii",)), path_of(("a.dcm", "b.dcm"))
    ('a', 'a.nii', '.')
    """
    return files[0] if len(files) == 1 else os.path.commonpath([os.path.dirname(file) or "." for file in files]) or "."


def _write_linkage(stream: IO[str], found: FoundCases) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(LINKAGE_COLUMNS)
    for unit, one in found.linked():
        is_case = bool(unit.case_id)
        # an image with its voxels in another file is named by its header: the folder would name every image in it
        files = one.files if unit.kind in ("DICOM", "") else one.files[:1]
        writer.writerow(
            (
                "yes" if is_case else "no", unit.reason, unit.case_id, unit.kind, unit.modality, unit.slices or "", len(one.files),
                path_of(files), unit.series_uid, unit.study_uid, unit.patient_id, one.study, one.patient,
            )
        )  # fmt: skip


def _write_found(stream: IO[str], found: FoundCases) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(FOUND_COLUMNS)
    for unit, one in found.linked():
        status, slices = "case" if unit.case_id else "left out", unit.slices or ""
        writer.writerow((status, unit.reason, unit.case_id, unit.kind, unit.modality, slices, len(one.files), one.study, one.patient))
    for reason, count in found.counts["passed_over"].items():
        writer.writerow(("passed over", reason, "", "", "", "", count, "", ""))


def _write_cases(stream: IO[str], found: FoundCases) -> None:
    for case in found.cases():
        stream.write(json.dumps(case.to_dict(), sort_keys=True) + "\n")


def _write(path: Path, write: Callable[[IO[Any]], None], mode: int = 0o600) -> None:
    """Write a text file row by row under a temporary name, flush it and give it its name."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as err:
        raise OutputError(f"{path.name} cannot be written ({err.strerror}); check the output folder and its disk") from err
    finally:
        temporary.unlink(missing_ok=True)
