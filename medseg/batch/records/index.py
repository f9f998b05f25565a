"""The index of a batch: one row a result in SQLite, quick to count; the results are the truth, it can always be made again."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from medseg.batch.records.file_systems import is_on_network
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import CaseResult, read_result
from medseg.core.errors import OutputError, UnreadableFileError

NAME = "index.sqlite"
_APPLICATION = 0x6D656473  # "meds"
_VERSION = 1
_WAIT_S = 5.0
_ROWS_A_COMMIT = 500
_COLUMNS = "case_id, status, code, plan_key, attempts, seconds, changed_ns"


@dataclass(frozen=True)
class Row:
    """What the index knows of a result; `changed_ns` is when its file was last changed."""

    case_id: str
    status: str
    code: str
    plan_key: str
    attempts: int
    seconds: float
    changed_ns: int


class Index:
    """The index of an output folder, open for one process.

    In `state/` on a local disk (write-ahead log). On a network file system, where that log cannot work, and where processes
    share the folder, it lies in a temporary folder, holds what this process sees and goes with it; so it does where a file there
    cannot be used, not even a new one. `rebuilt` says why an index that was there could not be used, "" where it could; that one
    lies beside it as `index.sqlite.bad`. Raises OutputError where there is no place for any.
    """

    def __init__(self, layout: Layout, *, is_shared: bool = False) -> None:
        self._layout = layout
        self._temporary = ""
        self.rebuilt = ""
        self.path = layout.state / NAME
        self._waiting = 0
        if is_shared or is_on_network(layout.folder):
            self._base = self._opened_elsewhere()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._base = self._opened()
        if not self._temporary:
            try:
                self._reconcile()
            except sqlite3.Error as err:  # the disk gave way only now
                self.rebuilt = self.rebuilt or str(err)
                self._base.close()
                self._waiting = 0
                self._base = self._opened_elsewhere()

    @property
    def is_temporary(self) -> bool:
        """Whether it goes when it is closed."""
        return bool(self._temporary)

    def record(self, row: Row) -> None:
        """Take a row, in place of the one of this case."""
        self._base.execute(f"INSERT OR REPLACE INTO results ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(row))
        self._waiting += 1
        if self._waiting >= _ROWS_A_COMMIT:
            self.commit()

    def record_result(self, result: CaseResult) -> None:
        """Take the row of a result that lies in the folder."""
        with contextlib.suppress(OSError):
            changed_ns = self._layout.result(result.case_id).stat().st_mtime_ns
            self.record(row_of(result, changed_ns))

    def commit(self) -> None:
        """Make what was recorded stay."""
        if self._waiting:
            self._base.commit()
            self._waiting = 0

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many results have a status and code."""
        found = self._base.execute("SELECT status, code, COUNT(*) FROM results GROUP BY status, code")
        return {(status, code): count for status, code, count in found}

    def rows(self) -> Iterator[Row]:
        """Yield every row, in the order of the case ids."""
        for values in self._base.execute(f"SELECT {_COLUMNS} FROM results ORDER BY case_id"):
            yield Row(*values)

    def close(self) -> None:
        """Commit and close; the index stays, but for one that is temporary."""
        with contextlib.suppress(sqlite3.Error):
            self.commit()
        self._base.close()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _opened(self) -> sqlite3.Connection:
        try:
            return _open(self.path)
        except sqlite3.Error as err:
            self.rebuilt = str(err)
        try:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self.path.with_name(NAME + suffix).replace(self.path.with_name(f"{NAME}.bad{suffix}"))
            return _open(self.path)
        except (sqlite3.Error, OSError):  # a disk on which SQLite cannot work, whatever it calls itself
            return self._opened_elsewhere()

    def _opened_elsewhere(self) -> sqlite3.Connection:
        """The index in a temporary folder of its own."""
        try:
            self._temporary = tempfile.mkdtemp(prefix="medseg-index-")
            self.path = Path(self._temporary) / NAME
            return _open(self.path)
        except (sqlite3.Error, OSError) as err:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise OutputError(
                "the index of the results can be kept neither in the output folder nor in the folder for temporary files; free some space"
                " there, or name another one in the environment variable TMPDIR"
            ) from err

    def _reconcile(self) -> None:
        """Make the rows those of the results: what a killed process did not commit, or someone deleted, is put right."""
        reader = sqlite3.connect(self.path)  # sees the rows as they were, while they change: both are walked in order, nothing is kept
        try:
            known = reader.execute("SELECT case_id, changed_ns FROM results ORDER BY case_id")
            row = known.fetchone()
            for path in self._layout.results():
                case_id = path.parent.name
                while row is not None and row[0] < case_id:
                    self._forget(row[0])
                    row = known.fetchone()
                is_known = row is not None and row == (case_id, path.stat().st_mtime_ns)
                if row is not None and row[0] == case_id:
                    row = known.fetchone()
                if not is_known:
                    self._read_again(path)
            while row is not None:
                self._forget(row[0])
                row = known.fetchone()
        finally:
            reader.close()
        self.commit()

    def _forget(self, case_id: str) -> None:
        self._base.execute("DELETE FROM results WHERE case_id = ?", (case_id,))
        self._waiting += 1

    def _read_again(self, path: Path) -> None:
        try:
            result = read_result(path)
        except UnreadableFileError:
            result = None
        if result is None:  # the run will do the case again
            self._forget(path.parent.name)
        else:
            self.record(row_of(result, path.stat().st_mtime_ns))


def row_of(result: CaseResult, changed_ns: int) -> Row:
    """Return the row of a result."""
    seconds = float(sum(result.seconds.values()))
    return Row(result.case_id, result.status, result.code, result.plan_key, result.attempts, seconds, changed_ns)


def _open(path: Path) -> sqlite3.Connection:
    """Open or make the file; raises sqlite3.Error with the reason where it holds something else."""
    base = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False)
    try:
        (application,) = base.execute("PRAGMA application_id").fetchone()
        (version,) = base.execute("PRAGMA user_version").fetchone()
        (tables,) = base.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if tables and (application, version) != (_APPLICATION, _VERSION):
            raise sqlite3.DatabaseError("it is that of another program or version")
        (health,) = base.execute("PRAGMA quick_check(1)").fetchone()
        if health != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        base.execute("PRAGMA journal_mode = WAL")  # only now: a file of another program stays as it was
        base.execute("PRAGMA synchronous = NORMAL")
        base.execute(f"PRAGMA application_id = {_APPLICATION}")
        base.execute(f"PRAGMA user_version = {_VERSION}")
        base.execute(
            "CREATE TABLE IF NOT EXISTS results (case_id TEXT PRIMARY KEY, status TEXT NOT NULL, code TEXT NOT NULL,"
            " plan_key TEXT NOT NULL, attempts INTEGER NOT NULL, seconds REAL NOT NULL, changed_ns INTEGER NOT NULL) WITHOUT ROWID"
        )
        # a lock that another process holds shows when something is written
        base.execute("BEGIN IMMEDIATE")
        base.commit()
    except BaseException:
        base.close()
        raise
    return base
