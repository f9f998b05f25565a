"""Tables of any length as CSV and Parquet: written a row at a time under temporary names, read back, and named together."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from medseg.core.errors import MissingDependencyError, OutputError, OutputVerificationError
from medseg.io.atomic import TEMPORARY_PREFIX, write_verified
from medseg.reporting.cohort_columns import kinds_of
from medseg.reporting.columns import Kind, TableSchema
from medseg.reporting.dependencies import load

_CELLS_A_GROUP = 200_000  # of a Parquet row group: what is held in memory
_CHUNK = 1 << 20
_STALE_S = 3600
_LEFT = re.compile(re.escape(TEMPORARY_PREFIX) + r"(cohort\w*-[0-9a-f]+|salt-[0-9a-f]{16}|[0-9a-f]{32})(\.[a-z.]+)?")


class _HashedFile(io.RawIOBase):
    """A file whose SHA-256 is known when it is closed."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        self._file = os.fdopen(handle, "wb", buffering=0)
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):  # an unbuffered file may take a part only
            done += self._file.write(view[done:])
        self.digest.update(view)
        return len(view)

    def close(self) -> None:
        if not self.closed:
            os.fsync(self._file.fileno())
            self._file.close()
        super().close()


class TableFile:
    """One table that is being written as CSV, and as Parquet where pyarrow is installed."""

    def __init__(self, path: Path, head: Sequence[str], schema: TableSchema, token: str, mode: int) -> None:
        self._path = path
        self._staged = {suffix: path.with_name(f"{TEMPORARY_PREFIX}{path.stem}-{token}{suffix}") for suffix in (".csv", ".parquet")}
        self._raw = _HashedFile(self._staged[".csv"], mode)
        self._text = io.TextIOWrapper(io.BufferedWriter(self._raw, _CHUNK), "utf-8", "backslashreplace", newline="")
        self._csv = csv.writer(self._text, lineterminator="\r\n")
        self._csv.writerow(head)
        try:
            self._parquet: _Parquet | None = _Parquet(self._staged[".parquet"], head, schema, mode)
        except MissingDependencyError:
            self._parquet = None
        self.row_count = 0

    def add(self, row: Sequence[Any]) -> None:
        """Write a row; None is an empty cell."""
        self._csv.writerow(row)
        if self._parquet is not None:
            self._parquet.add(row)
        self.row_count += 1

    def finish(self) -> None:
        """Write what waits to the disk."""
        self._text.close()
        if self._parquet is not None:
            self._parquet.close()

    def publish(self) -> list[Path]:
        """Read back what was written and give it its name; a Parquet file of before that is not made anew is removed."""
        done = [_named(self._staged[".csv"], self._path, self._raw.digest.hexdigest())]
        parquet = self._path.with_suffix(".parquet")
        if self._parquet is not None:
            done.append(_named(self._staged[".parquet"], parquet, self._parquet.digest))
        else:
            parquet.unlink(missing_ok=True)
        return done

    def drop(self) -> None:
        """Remove what has no name yet."""
        with suppress(OSError, ValueError):
            self._text.close()
        if self._parquet is not None:
            with suppress(OSError, ValueError):
                self._parquet.close()
        for path in self._staged.values():
            path.unlink(missing_ok=True)


class _Parquet:
    """A Parquet file (zstd) that is written in groups of rows; types, units and meanings are those of the schema."""

    def __init__(self, path: Path, head: Sequence[str], schema: TableSchema, mode: int) -> None:
        self._pyarrow = pyarrow = load("pyarrow")
        described = kinds_of(schema, head)
        types = {"integer": pyarrow.int64(), "number": pyarrow.float64(), "text": pyarrow.string(), "yes/no": pyarrow.bool_()}
        self._kinds: list[Kind] = []
        fields = []
        for name in head:
            column = described[name]
            self._kinds.append("number" if column is None else column.kind)
            meta = {} if column is None else {"unit": column.unit, "meaning": column.meaning}
            fields.append(pyarrow.field(name, types[self._kinds[-1]], metadata=meta))
        self._schema = pyarrow.schema(fields, metadata={"medseg.schema": schema.schema})
        self._raw = _HashedFile(path, mode)
        self._buffered = io.BufferedWriter(self._raw, _CHUNK)
        self._writer = load("pyarrow.parquet").ParquetWriter(self._buffered, self._schema, compression="zstd")
        self._rows: list[Sequence[Any]] = []
        self._most_rows = max(1, _CELLS_A_GROUP // max(1, len(head)))

    @property
    def digest(self) -> str:
        return self._raw.digest.hexdigest()

    def add(self, row: Sequence[Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._most_rows:
            self._flush()

    def close(self) -> None:
        if self._buffered.closed:
            return
        self._flush()
        self._writer.close()
        self._buffered.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = [[_cell(row[n], kind) for row in self._rows] for n, kind in enumerate(self._kinds)]
        arrays = [self._pyarrow.array(cells, field.type) for cells, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(self._pyarrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []


class Stage:
    """Tables that get their names together, once all of them are written; whatever goes wrong, none of them stays half written.

    Private ones can be read by their owner alone.
    """

    def __init__(self, folder: Path, *, is_private: bool = False) -> None:
        self._folder = folder
        self._mode = 0o600 if is_private else 0o666
        self._token = uuid.uuid4().hex[:12]
        self._tables: list[TableFile] = []
        _sweep(folder)

    def table(self, path: Path, head: Sequence[str], schema: TableSchema) -> TableFile:
        """Begin a table."""
        self._tables.append(TableFile(path, head, schema, self._token, self._mode))
        return self._tables[-1]

    def publish(self) -> list[Path]:
        """Finish all tables, then name them; raises OutputError, OutputVerificationError."""
        for table in self._tables:
            table.finish()
        return [path for table in self._tables for path in table.publish()]

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for table in self._tables:
            table.drop()
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                f"the tables cannot be written into {self._folder.name or self._folder} ({error.strerror or type(error).__name__}); "
                "check the disk and its space, then run `medseg report` on the folder"
            ) from error


def _sweep(folder: Path) -> None:
    """Remove what a killed program left behind; what is younger than an hour may belong to one that is at work."""
    for path in (*folder.glob(f"{TEMPORARY_PREFIX}*"), *folder.glob(f"private/{TEMPORARY_PREFIX}*")):
        with suppress(OSError):
            if _LEFT.fullmatch(path.name) and time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _named(staged: Path, path: Path, digest: str) -> Path:
    def verify(temporary: Path) -> None:
        found = hashlib.sha256()
        with temporary.open("rb") as file:
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                found.update(chunk)
        if found.hexdigest() != digest:
            raise OutputVerificationError(f"{path.name}: what was read back is not what was written; check the disk and try again")

    return write_verified(path, lambda temporary: os.replace(staged, temporary), verify, overwrite=True)


def _cell(value: Any, kind: Kind) -> Any:
    if value is None or value == "":
        return None
    if kind == "number":
        return float(value)
    if kind == "yes/no":
        return value == "yes"
    return int(value) if kind == "integer" else str(value).encode("utf-8", "backslashreplace").decode("utf-8")
