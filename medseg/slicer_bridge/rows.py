"""The JSON documents of `medseg measure`, `lesions` and `change` as rows with typed columns, for a table node or a panel.

Columns have the names of the CSV files, intensities without their unit; in the status column stand words. A value that was not
measured is None, and the column of its reason says why: never 0, NaN or infinity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medseg.core.errors import InputError
from medseg.core.measurement import Status

Kind = Literal["text", "number", "integer", "yes/no"]
Cell = str | float | int | bool | None

_SEGMENTS = ("medseg.measure", "segments")
_LESIONS = ("medseg.lesions", "lesions")
_CHANGE = ("medseg.change", "lesions")
_FIRST = {
    _SEGMENTS: ("label", "status", "volume_ml", "volume_low_ml", "volume_high_ml", "reason"),
    _LESIONS: (
        "id",
        "status",
        "volume_ml",
        "volume_low_ml",
        "volume_high_ml",
        "longest_diameter_mm",
        "perpendicular_diameter_mm",
        "reason",
    ),
    _CHANGE: ("lesion", "time_point", "status", "base_volume_ml", "volume_ml", "percent_change", "beyond_measurement_error", "reason"),
}
_INTENSITIES = ("mean", "std", "min", "max", "median", "percentile")
_LEFT_OUT = ("bounding_box_ijk",)  # places on the grid mean nothing once the scan is closed
_INTEGERS = ("number", "segment_number", "voxel_count", "slice_index", "time_point", "since_time_point")
_YES_NO = ("measurable", "is_lymph_node", "beyond_measurement_error")
_TEXTS = (
    "label",
    "id",
    "lesion",
    "segment",
    "status",
    "reason",
    "organ",
    "organ_relation",
    "slice_axis",
    "slice_plane",
    "touches_border",
    "matched_by",
)
_UNITS = {"_ml": "ml", "_mm3": "mm³", "_mm2": "mm²", "_mm": "mm", "_percent": "%", "percent_change": "%", "_days": "d", "days": "d"}
_TITLES = {
    "label": "segment",
    "volume_low_ml": "volume, lower end of 95 % interval",
    "volume_high_ml": "volume, upper end of 95 % interval",
    "std": "standard deviation",
    "min": "least",
    "max": "largest",
    "half_voxel_shell_ml": "± half a voxel of border",
    "longest_diameter_mm": "longest diameter",
    "diameter_3d_mm": "longest diameter in space",
    "volume_status": "status of the volume",
    "base_volume_status": "status of the base volume",
    "percent_change": "change",
    "percent_change_interval_low": "change, lower end of 95 % interval",
    "percent_change_interval_high": "change, upper end of 95 % interval",
    "doubling_time_days": "doubling time",
    "touches_border": "touches border",
    "beyond_measurement_error": "beyond measurement error",
}
_STATUS_WORDS = {
    Status.MEASURED.value: "measured",
    Status.ABSENT.value: "not found",
    Status.CUT_BY_FIELD_OF_VIEW.value: "cut by field of view",
    Status.NOT_ATTEMPTED.value: "not attempted",
    Status.FAILED.value: "failed",
    "out_of_view": "out of view",
}


@dataclass(frozen=True)
class Column:
    """A column: its name in the CSV file, what stands above it, its unit ("" where it has none) and what it holds."""

    name: str
    title: str
    unit: str
    kind: Kind

    @property
    def heading(self) -> str:
        """The title with its unit, such as "volume (ml)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Table:
    """Rows of cells in the order of the columns; None is a value that there is not."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, name: str) -> tuple[Cell, ...]:
        """Return one column's cells from top to bottom; KeyError where there is no such column."""
        for place, column in enumerate(self.columns):
            if column.name == name:
                return tuple(row[place] for row in self.rows)
        raise KeyError(name)

    def only(self, names: Sequence[str]) -> Table:
        """Return the table with these columns, those of them that it has, in this order."""
        places = {column.name: place for place, column in enumerate(self.columns)}
        kept = [places[name] for name in names if name in places]
        return Table(tuple(self.columns[place] for place in kept), tuple(tuple(row[place] for place in kept) for row in self.rows))


def table_of(document: Mapping[str, Any]) -> Table:
    """Return the rows of a measurement document, one a segment, a lesion, or a lesion at a follow-up.

    Raises InputError where the document is none of these.

    >>> volume = {"label": "liver", "status": "absent", "reason": "no voxel", "volume_ml": None, "volume_interval_ml": None}
    >>> table = table_of({"schema": "medseg.measure/1", "intensity_unit": "HU", "segments": [volume]})
    >>> [column.heading for column in table.columns[:3]], table.rows[0][:3]
    (['segment', 'status', 'volume (ml)'], ('liver', 'not found', None))
    """
    kind = _kind_of(document)
    rows = document.get(kind[1])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f"the measurement document has no list {kind[1]!r}: measure again")
    flat = [dict(_flat(row, named=kind is _CHANGE)) for row in rows]
    names = list(dict.fromkeys((*_FIRST[kind], *(name for row in flat for name in row))))
    unit = str(document.get("intensity_unit") or "")
    columns = tuple(_column(name, [row.get(name) for row in flat], unit) for name in names)
    return Table(columns, tuple(tuple(row.get(name) for name in names) for row in flat))


def _kind_of(document: Mapping[str, Any]) -> tuple[str, str]:
    schema = document.get("schema") if isinstance(document, Mapping) else None
    for kind in (_SEGMENTS, _LESIONS, _CHANGE):
        if isinstance(schema, str) and schema.partition("/")[0] == kind[0]:
            return kind
    raise InputError("this is no document of measurements, lesions or changes: its schema is missing or of another kind")


def cell_text(value: Cell) -> str:
    """Return a cell for a table node or a CSV: "" where there is no value, numbers so that they read back equal.

    >>> cell_text(None), cell_text(0.1), cell_text(True)
    ('', '0.1', 'yes')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if isinstance(value, float) else str(value)


def shown_text(value: Cell) -> str:
    """Return a cell for a reader: at most five significant digits, and never fewer than the whole number has.

    >>> shown_text(1512.4217), shown_text(0.021437), shown_text(None), shown_text(-1024.0)
    ('1512.4', '0.021437', '', '-1024')
    """
    if isinstance(value, bool) or not isinstance(value, float):
        return cell_text(value)
    if abs(value) >= 1e4:
        return f"{value:.0f}"
    return f"{value:.5g}"


def _flat(row: Mapping[str, Any], named: bool) -> Iterator[tuple[str, Cell]]:
    """Take lists apart: an interval into two columns, a point into three, ends into six; `named` is the way of `change`."""
    for name, value in row.items():
        if name in _LEFT_OUT:
            continue
        if name == "status":
            yield name, _status_words(value, row.get("touches_border") or ())
        elif name == "volume_sd_ml":
            yield from ((f"{part}_sd_ml", sd) for part, sd in (value or {}).items())
        elif name.endswith(("_interval", "_interval_ml")):
            low, high = value or (None, None)
            stem = name.removesuffix("_interval_ml")
            pair = (f"{name}_low", f"{name}_high") if named else (f"{stem}_low_ml", f"{stem}_high_ml")
            yield from zip(pair, (low, high), strict=True)
        elif name.endswith("_ends_ras_mm"):
            for end, point in enumerate(value or (None, None), start=1):
                yield from _point(f"{name.removesuffix('_ends_ras_mm')}_end{end}", point)
        elif name.endswith("_ras_mm"):
            yield from _point(name.removesuffix("_ras_mm"), value)
        else:
            yield name, ";".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _point(stem: str, point: Sequence[float] | None) -> Iterator[tuple[str, Cell]]:
    yield from ((f"{stem}_{axis}_mm", value) for axis, value in zip("ras", point or (None,) * 3, strict=True))


def _status_words(status: Any, sides: Sequence[str]) -> str:
    words = _STATUS_WORDS.get(str(status), str(status))
    return f"{words} ({', '.join(sides)})" if status == Status.CUT_BY_FIELD_OF_VIEW.value and sides else words


def _column(name: str, values: Sequence[Cell], intensity_unit: str) -> Column:
    is_intensity = name.startswith(_INTENSITIES) and not name.endswith(("_ml", "_mm", "_reason"))
    unit = intensity_unit if is_intensity else next((unit for end, unit in _UNITS.items() if _ends(name, end)), "")
    return Column(name, _TITLES.get(name) or _title(name, unit, is_intensity), unit, _holds(name, values))


def _ends(name: str, end: str) -> bool:
    return name.removesuffix("_low").removesuffix("_high").removesuffix("_interval").endswith(end)


def _title(name: str, unit: str, is_intensity: bool) -> str:
    """Put a name into words: its unit stands beside it, axes and ends are said."""
    if name.endswith("_reason"):
        return f"reason: {name.removesuffix('_reason').removesuffix('_percent').replace('_', ' ')}"
    stem = name
    for end in () if is_intensity or not unit else _UNITS:
        stem = stem.removesuffix(end)
    words = stem.replace("_", " ").strip()
    for short, said in ((" sd", " standard deviation"), (" r", ", right"), (" a", ", anterior"), (" s", ", superior")):
        if words.endswith(short):
            words = words.removesuffix(short) + said
    return words or name


def _holds(name: str, values: Sequence[Cell]) -> Kind:
    given = [value for value in values if value is not None]
    if name in _YES_NO or (given and all(isinstance(value, bool) for value in given)):
        return "yes/no"
    if name in _TEXTS or name.endswith(("_reason", "_status", "_uid", "ids")) or any(isinstance(value, str) for value in given):
        return "text"
    return "integer" if name in _INTEGERS else "number"
