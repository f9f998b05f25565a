"""What a scan of a folder has met, kept outside of the memory: a private temporary SQLite file that ends with the connection.

It holds patient and study identifiers for as long as the scan lasts; SQLite removes the file's name when it is opened, so
that nothing stays behind whatever happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from medseg.core.errors import OutputError
from medseg.io.dicom.glance import DicomGlance, SeriesFields

_SCHEMA = """
CREATE TABLE fields (id INTEGER PRIMARY KEY, json TEXT UNIQUE);
CREATE TABLE series (key TEXT PRIMARY KEY, study TEXT);
CREATE TABLE dicom (path BLOB, folder BLOB, suffix TEXT, key TEXT, fields INTEGER, sop TEXT, low REAL, high REAL, slices INTEGER);
CREATE TABLE broken (path BLOB PRIMARY KEY, folder BLOB, suffix TEXT, what TEXT);
CREATE TABLE passed (reason TEXT PRIMARY KEY, count INTEGER);
CREATE TABLE units (id INTEGER PRIMARY KEY, case_id TEXT, reason TEXT, kind TEXT, modality TEXT, series_uid TEXT, study_uid TEXT,
  patient_id TEXT, slices INTEGER);
CREATE TABLE unit_files (unit INTEGER, path BLOB);
"""
_INDEXES = """
CREATE INDEX dicom_key ON dicom (key, path);
CREATE INDEX dicom_folder ON dicom (folder);
CREATE INDEX broken_folder ON broken (folder, path);
CREATE INDEX series_study ON series (study, key);
"""
_UNIT_INDEXES = """
CREATE UNIQUE INDEX unit_case ON units (case_id) WHERE case_id <> '';
CREATE INDEX file_unit ON unit_files (unit, path);
CREATE INDEX file_path ON unit_files (path);
"""
_WAITING = 1000  # rows that are written together


@dataclass(frozen=True)
class Unit:
    """A series or file of which it was decided whether it is run: then `case_id` is not ""; otherwise `reason` says why not."""

    kind: str
    case_id: str = ""
    reason: str = ""
    modality: str = ""
    series_uid: str = ""
    study_uid: str = ""
    patient_id: str = ""
    slices: int = 0


@contextlib.contextmanager
def full_disk_told() -> Iterator[None]:
    """Raise OutputError where the temporary database cannot go on."""
    try:
        yield
    except sqlite3.Error as err:
        raise OutputError(
            "the list of what was found cannot be kept in the folder for temporary files; free some space there, or name another one in"
            " the environment variable TMPDIR"
        ) from err


class ScanStore:
    """The rows of one scan; paths are those below the searched folder, as bytes."""

    def __init__(self) -> None:
        self.database = sqlite3.connect("", isolation_level=None)
        # without a journal: a scan that fails is thrown away as a whole
        self.database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-4096;" + _SCHEMA + _UNIT_INDEXES)
        self._files: list[tuple[object, ...]] = []
        self._known: dict[int, SeriesFields] = {}
        self._ids: dict[tuple[int, str], tuple[SeriesFields, int]] = {}

    def close(self) -> None:
        """Let go of everything."""
        self.database.close()

    def add_dicom(self, path: bytes, found: DicomGlance) -> None:
        """Keep a DICOM image or object."""
        fields, folder = found.fields, os.path.dirname(path)
        where = "" if fields.series_uid else f"|{folder.hex()}|{fields.study_uid}"
        key = f"{fields.object_kind}|{fields.series_uid}{where}"
        number = self._fields_id(fields, key, folder)
        self._files.append((path, folder, suffix_of(path), key, number, found.sop_uid, found.low_mm, found.high_mm, found.slices))
        if len(self._files) >= _WAITING:
            self.flush()

    def _fields_id(self, fields: SeriesFields, key: str, folder: bytes) -> int:
        known = self._ids.get((id(fields), key))  # files of a series share one object
        if known is not None and known[0] is fields:
            return known[1]
        text = json.dumps(vars(fields) | {"texts": dict(fields.texts)}, sort_keys=True)
        self.database.execute("INSERT OR IGNORE INTO fields (json) VALUES (?)", (text,))
        self.database.execute("INSERT OR IGNORE INTO series VALUES (?, ?)", (key, fields.study_uid or f"|{folder.hex()}"))
        (number,) = self.database.execute("SELECT id FROM fields WHERE json = ?", (text,)).fetchone()
        if len(self._ids) >= _WAITING:
            self._ids.clear()
        self._ids[id(fields), key] = (fields, int(number))
        return int(number)

    def add_broken(self, path: bytes, what: str) -> None:
        """Keep what may be part of a case beside it: `what` is "broken", "empty", "closed" (a file), "folder" (closed) or "data"."""
        self.database.execute("INSERT OR IGNORE INTO broken VALUES (?, ?, ?, ?)", (path, os.path.dirname(path), suffix_of(path), what))

    def add_passed(self, reason: str, count: int = 1) -> None:
        """Count what is no image."""
        if count:
            self.database.execute(
                "INSERT INTO passed VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count", (reason, count)
            )

    def flush(self) -> None:
        """Write what waits."""
        with self.database:
            self.database.execute("BEGIN")
            self.database.executemany("INSERT INTO dicom VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._files)
        self._files.clear()

    def finish(self) -> None:
        """Make the rows quick to find; call once, when everything was added."""
        self.flush()
        self.database.executescript(_INDEXES)

    def fields(self, number: int) -> SeriesFields:
        """Return fields by their number."""
        if number in self._known:
            return self._known[number]
        (text,) = self.database.execute("SELECT json FROM fields WHERE id = ?", (number,)).fetchone()
        document = json.loads(text)
        normal = document["normal"]
        if len(self._known) >= _WAITING:
            self._known.clear()
        self._known[number] = SeriesFields(**{**document, "normal": None if normal is None else tuple(normal)})
        return self._known[number]

    def is_part_of_series(self, path: bytes) -> bool:
        """Whether a file is one of several images of a series."""
        query = "SELECT key FROM dicom WHERE folder = ? AND path = ? AND key LIKE '|%'"
        row = self.database.execute(query, (os.path.dirname(path), path)).fetchone()
        return row is not None and len(self.database.execute("SELECT 1 FROM dicom WHERE key = ? LIMIT 2", row).fetchall()) == 2

    def add_unit(self, unit: Unit, paths: Iterable[bytes]) -> int:
        """Keep a decision and the files that it is about; returns its number."""
        cursor = self.database.execute(
            "INSERT INTO units VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                unit.case_id, unit.reason, unit.kind, unit.modality, unit.series_uid, unit.study_uid,
                unit.patient_id.encode("utf-8", "surrogateescape"), unit.slices,
            ),
        )  # fmt: skip
        number = int(cursor.lastrowid or 0)
        self.database.executemany("INSERT INTO unit_files VALUES (?, ?)", ((number, path) for path in paths))
        return number

    def add_unit_files(self, unit: int, paths: Iterable[bytes]) -> None:
        """Add files to what was decided before."""
        self.database.executemany("INSERT INTO unit_files VALUES (?, ?)", ((unit, path) for path in paths))

    def holds_case(self, case_id: str) -> bool:
        """Whether there is a case of this id already."""
        return self.database.execute("SELECT 1 FROM units WHERE case_id = ? AND case_id <> ''", (case_id,)).fetchone() is not None

    def holds_file(self, path: bytes) -> bool:
        """Whether a file belongs to a decision."""
        return self.database.execute("SELECT 1 FROM unit_files WHERE path = ?", (path,)).fetchone() is not None

    def units(self, are_cases: bool) -> Iterator[tuple[Unit, tuple[str, ...]]]:
        """Yield the cases in the order of their ids, or what was left out in the order of reason, kind and first file."""
        chosen = "case_id <> '' ORDER BY case_id" if are_cases else "case_id = '' ORDER BY reason, kind, modality, slices, first"
        query = f"""SELECT id, case_id, reason, kind, modality, series_uid, study_uid, patient_id, slices,
            (SELECT MIN(path) FROM unit_files WHERE unit = units.id) AS first FROM units WHERE {chosen}"""
        with full_disk_told():
            for number, case_id, reason, kind, modality, series_uid, study_uid, patient_id, slices, _ in self.database.execute(query):
                patient = bytes(patient_id).decode("utf-8", "surrogateescape")
                unit = Unit(kind, case_id, reason, modality, series_uid, study_uid, patient, slices)
                yield unit, self.files_of(number)

    def files_of(self, unit: int) -> tuple[str, ...]:
        """Return the files of a unit in order, with "/"."""
        rows = self.database.execute("SELECT path FROM unit_files WHERE unit = ? ORDER BY rowid", (unit,))
        return tuple(decoded(path) for (path,) in rows)


def decoded(path: bytes) -> str:
    """Return a path with "/"; bytes that are no UTF-8 become lone surrogates."""
    return os.fsdecode(path).replace(os.sep, "/")


def suffix_of(path: bytes) -> str:
    """The suffix of a file's name in lower case; a DICOM file named by its UID has none, though it is full of dots."""
    suffix = os.path.splitext(path)[1].lower()
    return "" if suffix[1:].isdigit() else suffix.decode("utf-8", "replace")
