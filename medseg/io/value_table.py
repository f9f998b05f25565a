"""One value a row from a CSV table: what `medseg agreement` compares."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import InputError, UnreadableFileError

MEASURED = "measured"
DEFAULT_VALUE = "volume_ml"
_DEFAULT_KEYS = (("case", "label"), ("case", "id"), ("label",), ("id",), ("number",), ("case",))
_MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})
_LARGEST = 200 << 20  # bytes; a table of measurements is far smaller
Key = tuple[str, ...]


@dataclass(frozen=True)
class ValueTable:
    """The values of one column of a table by key, and the rows that have none with the reason; `key` names the key's columns."""

    name: str
    key: Key
    column: str
    values: dict[Key, float]
    left_out: dict[Key, str]


def read_values(
    path: str | Path, *, key: Sequence[str] = (), value: str = DEFAULT_VALUE, statuses: Sequence[str] = (MEASURED,)
) -> ValueTable:
    """Read the column `value` of a CSV table, row by row under the columns `key`.

    Without `key` the first of these that the table has: case and label, case and id, label, id, number, case. Columns may be
    parted by comma, semicolon or tab (then with a decimal comma too), in UTF-8. Where there is a column `status`, rows with
    another status than `statuses` are left out and counted, and so are empty cells and NaN. Raises UnreadableFileError where
    the file is no table, InputError for missing columns, a key that stands twice, and cells that are no numbers.
    """
    path = Path(path)
    header, rows, delimiter = _rows(path)
    columns = _key_columns(path, header, key)
    if value not in header:
        raise InputError(f"{path.name} has no column {value!r}{_similar(value, header)}; choose one with --value")
    comma = delimiter != "," and _has_decimal_comma(path, rows, value)
    values: dict[Key, float] = {}
    left_out: dict[Key, str] = {}
    lines: dict[Key, int] = {}
    for line, row in rows:
        name = tuple(row[column] for column in columns)
        if not any(name):
            raise InputError(f"{path.name}, line {line}: nothing stands in {' and '.join(columns)}; every row needs a key")
        if name in lines:
            words = " / ".join(name)
            where = f"lines {lines[name]} and {line}"
            raise InputError(f"{path.name}: {words!r} stands in {where}; name more columns with --key, so that each row is one subject")
        lines[name] = line
        status = row.get("status", MEASURED)
        if status not in statuses:
            left_out[name] = f"status {status}" if status else "no status"
        elif row[value].lower() in _MISSING:
            left_out[name] = "no value"
        else:
            values[name] = _number(path, line, value, row[value].replace(",", ".") if comma else row[value])
    return ValueTable(path.name, columns, value, values, left_out)


def unit_of(column: str) -> tuple[str, str]:
    """Return quantity and unit of a column by the unit at the end of its name.

    >>> unit_of("volume_ml"), unit_of("surface_area_mm2"), unit_of("score")
    (('volume', 'ml'), ('surface area', 'mm²'), ('score', ''))
    """
    units = {"ml": "ml", "mm": "mm", "mm2": "mm²", "mm3": "mm³", "cm3": "cm³", "percent": "%", "hu": "HU", "suv": "SUV", "days": "days"}
    stem, _, last = column.rpartition("_")
    quantity, unit = (stem, units[last.lower()]) if stem and last.lower() in units else (column, "")
    return quantity.replace("_", " "), unit


def _rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]], str]:
    """The header, each row with its line number, and the separator; blank lines are skipped."""
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if not header:
                header = _checked_header(path, stripped)
                continue
            while len(stripped) > len(header) and not stripped[-1]:
                stripped.pop()
            if len(stripped) > len(header):
                raise InputError(
                    f"{path.name}, line {reader.line_num}: {len(stripped)} cells under {len(header)} columns; "
                    "put quotes around cells that hold the separator"
                )
            stripped += [""] * (len(header) - len(stripped))
            rows.append((reader.line_num, dict(zip(header, stripped, strict=True))))
    except csv.Error as err:
        raise UnreadableFileError(f"{path.name}, line {reader.line_num}: not a CSV table (a quote is not closed?)") from err
    if not rows:
        raise InputError(f"{path.name} has a header but no rows" if header else f"{path.name} is empty")
    return header, rows, delimiter


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            raise UnreadableFileError(f"{path.name} is a folder; give the table in it, such as {path.name}/measurements.csv")
        if path.stat().st_size > _LARGEST:
            raise UnreadableFileError(f"{path.name} is larger than 200 MB: not a table of measurements")
        data = path.read_bytes()
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or "not a valid path"
        raise UnreadableFileError(f"{path.name} cannot be read ({reason}); check the path") from err
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise UnreadableFileError(f"{path.name} is not text in UTF-8; save it as CSV UTF-8 (Excel: 'CSV UTF-8')") from err
    if "\0" in text:
        raise UnreadableFileError(f"{path.name} is not a CSV table; save it as CSV UTF-8")
    return text


def _checked_header(path: Path, cells: list[str]) -> list[str]:
    """The names of the columns; a first row of numbers is no header."""
    if any(_is_number(cell) for cell in cells):
        raise InputError(f"{path.name} has no header: its first line must name the columns, such as label,{DEFAULT_VALUE}")
    named = [cell for cell in cells if cell]
    twice = sorted({cell for cell in named if named.count(cell) > 1})
    if twice:
        raise InputError(f"{path.name}: the column {twice[0]!r} stands twice in the header; rename one")
    return [cell or f"column {n}" for n, cell in enumerate(cells, 1)]


def _key_columns(path: Path, header: list[str], key: Sequence[str]) -> Key:
    if key:
        for column in key:
            if column not in header:
                raise InputError(f"{path.name} has no column {column!r}; it has: {', '.join(header)}")
        return tuple(key)
    for columns in _DEFAULT_KEYS:
        if all(column in header for column in columns):
            return columns
    raise InputError(
        f"{path.name} has none of the columns label, id, number and case; say with --key what names a row: {', '.join(header)}"
    )


def _similar(value: str, header: list[str]) -> str:
    """What the table has instead: the same quantity in another unit first."""
    quantity, unit = unit_of(value)
    same = [column for column in header if unit_of(column)[0] == quantity]
    if unit and same:
        return f", but {same[0]!r}: another unit; bring all tables to one unit"
    return f"; it has: {', '.join(header)}"


def _has_decimal_comma(path: Path, rows: list[tuple[int, dict[str, str]]], value: str) -> bool:
    cells = [row[value] for _, row in rows]
    with_comma = [cell for cell in cells if "," in cell]
    if with_comma and any("." in cell for cell in cells):
        raise InputError(f"{path.name}: {value} has numbers with a point and with a comma ({with_comma[0]}); write all with a point")
    return bool(with_comma)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.lower() not in _MISSING


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError as err:
        raise InputError(f"{path.name}, line {line}: {column} is {text!r}, which is no number; correct it or leave the cell empty") from err
    if not math.isfinite(number):
        raise InputError(f"{path.name}, line {line}: {column} is infinite; correct it or leave the cell empty")
    return number
