"""A table of cases as input: which files and series are run.

A CSV with the column `path` (a file or folder, below the searched folder or absolute but inside it) and, if wanted, `series_uid`
and `use` (yes or no; empty is yes). A row with a series is that series, whatever the rules say, and so is a row that names an image
file that is not DICOM; of a row that names only a folder the series are chosen as in a search of that folder. What a row with "no"
names is not run, also where it lies in a folder that another row names. The linkage table of a run (private/cases.csv) and what
`--cases-out` writes are such tables.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.batch.cases.scan import Scan, Wanted
from medseg.core.errors import InputError, UnreadableFileError

_NO = frozenset({"no", "n", "0", "false"})
_YES = frozenset({"yes", "y", "1", "true", ""})


@dataclass(frozen=True)
class _Row:
    """A row of the table, and the line of the file it ends in: paths may name patients, so errors name the line."""

    line: int
    path: str
    series: str
    is_refused: bool


def scan_listed(scan: Scan, table: Path) -> Callable[[frozenset[str]], None]:
    """Look at what a table of cases names and note it in `scan.wanted`; raises InputError or UnreadableFileError.

    Return what is to be called with the wanted series that were met, once all is decided: it raises InputError for rows that name
    a series that is not there, or one file of a series, which is run whole.
    """
    rows: list[_Row] = []
    refused: list[_Row] = []
    for row in _read(table):
        (refused if row.is_refused else rows).append(row)
    _refuse_contradictions(rows, refused, table)
    whole = {_place(scan, row, table) for row in rows if not row.series}
    paths = whole | {_place(scan, row, table) for row in rows}
    # what is refused is looked at too: the flow diagram begins with everything that the table names
    paths |= {path for row in refused if _lies_in(scan, path := _path(scan, row)) and os.path.exists(path)}
    scan.wanted = Wanted(
        frozenset(map(scan.name_of, whole)),
        frozenset(row.series for row in rows if row.series),
        frozenset(scan.name_of(_path(scan, row)) for row in refused if not row.series),
        frozenset(row.series for row in refused if row.series),
    )
    searched: set[bytes] = set()
    for path in sorted(paths, key=lambda path: path.split(b"/")):  # a folder before what lies in it
        parent = path
        while len(parent) >= len(scan.base) and parent not in searched:
            parent = os.path.dirname(parent)
        if parent in searched:
            continue
        if os.path.isfile(path):
            scan.look_at(path, scan.name_of(path))
        else:
            scan.search(path)
            searched.add(path)
    return lambda met: _check_rows(scan, rows, refused, met, table)


def _refuse_contradictions(rows: Sequence[_Row], refused: Sequence[_Row], table: Path) -> None:
    """One series of one place is run or not."""
    wanted = {(row.path, row.series): row.line for row in rows if row.series}
    for row in refused:
        if (row.path, row.series) in wanted:
            other = wanted[row.path, row.series]
            raise InputError(f"{table}, lines {other} and {row.line}: one says yes and one says no to the same series; keep one of them")


def _check_rows(scan: Scan, rows: Sequence[_Row], refused: Sequence[_Row], met: frozenset[str], table: Path) -> None:
    for row in rows:
        if row.series and row.series not in met:
            raise InputError(f"{table}, line {row.line}: no series with this UID was found; correct or remove the row")
    for row in refused:
        name = scan.name_of(_path(scan, row))
        if not row.series and scan.store.is_part_of_series(name) and scan.wanted.holds(os.path.dirname(name)):
            raise InputError(
                f"{table}, line {row.line}: it names one file of a DICOM series, which is run whole or not at all; "
                "give the folder or the series_uid of what is not to run"
            )


def _place(scan: Scan, row: _Row, table: Path) -> bytes:
    """Return where a row points; InputError where that is nowhere, or outside of the searched folder."""
    path = _path(scan, row)
    if not _lies_in(scan, path):
        raise InputError(f"{table}, line {row.line}: its path lies outside of {scan.top}; give the folder that holds all of them")
    if not os.path.exists(path):
        raise InputError(f"{table}, line {row.line}: there is nothing at its path, which counts from {scan.top}; correct or remove the row")
    return path


def _lies_in(scan: Scan, path: bytes) -> bool:
    return path == scan.base or path.startswith(scan.base.rstrip(b"/") + b"/")


def _path(scan: Scan, row: _Row) -> bytes:
    return os.path.normpath(os.path.join(scan.base, os.fsencode(row.path)))


def _read(table: Path) -> list[_Row]:
    try:
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream)
            if "path" not in (reader.fieldnames or ()):
                raise InputError(f"{table} has no column 'path'; give a table of cases as --dry-run --cases-out writes it")
            rows = []
            for cells in reader:
                use = (cells.get("use") or "").strip().lower()
                if use not in _YES | _NO:
                    raise InputError(f"{table}, line {reader.line_num}: the column use says neither yes nor no; correct it")
                path = cells.get("path") or ""
                if path.strip():
                    rows.append(_Row(reader.line_num, path, (cells.get("series_uid") or "").strip(), use in _NO))
            return rows
    except (OSError, csv.Error) as err:
        raise UnreadableFileError(f"{table} cannot be read as a table; check the file") from err
