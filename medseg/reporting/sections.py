"""Tables and figures of other commands (lesions, change, evaluate, agreement) as sections of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medseg.reporting.number_check import Statement, check_statements
from medseg.reporting.wording import format_number, format_volume, plain

NamedPicture = tuple[str, str, bytes]  # name, caption, PNG or SVG

# schema -> title, key of the rows, columns in reading order (key, heading); a column that no row has is left out
_KINDS: dict[str, tuple[str, str, tuple[tuple[str, str], ...]]] = {
    "medseg.lesions": (
        "Lesions",
        "lesions",
        (
            ("id", "Lesion"),
            ("organ", "Organ"),
            ("volume_ml", "Volume (ml)"),
            ("volume_interval_ml", "95 % interval (ml)"),
            ("longest_diameter_mm", "Longest (mm)"),
            ("perpendicular_diameter_mm", "Perpendicular (mm)"),
            ("diameter_3d_mm", "3D (mm)"),
            ("measurable", "RECIST measurable"),
            ("measurable_reason", "Why"),
        ),
    ),
    "medseg.change": (
        "Change over time",
        "lesions",
        (
            ("lesion", "Lesion"),
            ("time_point", "Follow-up"),
            ("days", "Days"),
            ("status", "Status"),
            ("base_volume_ml", "Base (ml)"),
            ("volume_ml", "Now (ml)"),
            ("percent_change", "Change (%)"),
            ("percent_change_interval", "95 % interval (%)"),
            ("beyond_measurement_error", "Beyond error"),
            ("doubling_time_days", "Doubling time (days)"),
            ("reason", "Note"),
        ),
    ),
}
_MOST_ROWS = 200


@dataclass(frozen=True)
class Section:
    """One table with its pictures; cells are texts, `numeric` says which columns are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    note: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    pictures: tuple[NamedPicture, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    csv: str = field(default="", repr=False)


def section_of(document: Mapping[str, Any], pictures: Sequence[NamedPicture] = (), csv: str = "") -> Section | None:
    """Return the section of a document of `medseg lesions` or `medseg change`; None for any other.

    Every figure is looked up in its own row. Raises ReportNumberError where one is not there.

    >>> row = {"id": "L1", "volume_ml": 4.318, "measurable": True}
    >>> section_of({"schema": "medseg.lesions/1", "lesions": [row]}).rows
    (('L1', '4.32', 'yes'),)
    """
    kind = _KINDS.get(str(document.get("schema", "")).partition("/")[0])
    if kind is None:
        return None
    title, key, wanted = kind
    entries = [entry for entry in document.get(key) or () if isinstance(entry, Mapping)]
    columns = [(name, heading) for name, heading in wanted if any(entry.get(name) not in (None, "", []) for entry in entries)]
    rows = tuple(tuple(_cell(name, entry.get(name)) for name, _ in columns) for entry in entries[:_MOST_ROWS])
    check_statements(Statement("; ".join(row), entry) for row, entry in zip(rows, entries, strict=False))
    left = len(entries) - len(rows)
    return Section(
        title,
        tuple(heading for _, heading in columns),
        rows,
        tuple(_is_numeric(entries, name) for name, _ in columns),
        f"{left} more rows are in the table file." if left else "",
        pictures=tuple(pictures),
        document=document,
        csv=csv,
    )


def _cell(name: str, value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return format_volume(value) if name.endswith("_ml") else format_number(float(value))
    if isinstance(value, (list, tuple)) and value and all(isinstance(entry, (int, float)) for entry in value):
        return " to ".join(_cell(name, entry) for entry in value)
    return plain(value)


def _is_numeric(rows: Iterable[Mapping[str, Any]], name: str) -> bool:
    values = [row.get(name) for row in rows if row.get(name) is not None]
    return all(isinstance(value, (int, float, list)) and not isinstance(value, bool) for value in values)
