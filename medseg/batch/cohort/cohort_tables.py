"""The columns and rows of the cohort tables: the long one with all that was measured, the wide one with a row a case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from medseg.batch.cohort.cohort_rows import CaseView
from medseg.batch.cohort.suspicion import CohortStatistics, Suspicion
from medseg.reporting.cohort_columns import CASE_COLUMNS, IDENTIFYING_COLUMNS, WIDE_CASE_COLUMNS, WideColumn, wide_columns
from medseg.reporting.columns import MEASURE
from medseg.reporting.documents import ROW_KEYS

MOST_WIDE_LABELS = 500  # more make no table that a program can open; the long one holds all

_INTENSITIES = ("mean", "std", "min", "max", "median")
_FIRST = ("number", "label", "status", "volume_ml", "volume_low_ml", "volume_high_ml", "volume_z")
_PLACE = ("voxel_count", "centroid_r_mm", "centroid_a_mm", "centroid_s_mm", "touches_border", "reason", "visible_ml")
_PARTS = ("grid", "boundary", "model")
_NO_SEGMENT = "the case has no such segment"
_WIDE = ("volume_ml", "volume_low_ml", "volume_high_ml", "status", "reason")
_ORDER = {column.name: n for n, column in enumerate(MEASURE.columns)}

Row = list[Any]


class Columns:
    """Which columns the tables of a cohort need, gathered a case at a time."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._labels: dict[str, tuple[int, int]] = {}

    def add(self, view: CaseView) -> None:
        """Take note of what a case was measured for."""
        suffix = unit_suffix(view.unit)
        for row in view.segments:
            for name in row:
                if name not in ROW_KEYS and not name.endswith("_reason"):
                    self._seen.add((name, suffix if _has_unit(name) else ""))
            label, number = str(row["label"]), int(row["number"])
            count, least = self._labels.get(label, (0, number))
            self._labels[label] = (count + 1, min(least, number))

    @property
    def labels(self) -> tuple[str, ...]:
        """The segments of the wide table, by number: the 500 that most cases have."""
        usual = sorted(self._labels, key=lambda label: (-self._labels[label][0], self._labels[label][1], label))[:MOST_WIDE_LABELS]
        return tuple(sorted(usual, key=lambda label: (self._labels[label][1], label)))

    @property
    def labels_left_out(self) -> int:
        """How many segments the wide table has no room for."""
        return max(0, len(self._labels) - MOST_WIDE_LABELS)

    @property
    def quantities(self) -> tuple[tuple[str, str], ...]:
        """Quantities beside volume and place, as (name, suffix of its unit): those that are described first."""

        def place(one: tuple[str, str]) -> tuple[bool, int, str, str]:
            name, suffix = one
            known = _ORDER.get(f"{name}{{unit}}", _ORDER.get(name, len(_ORDER)))
            return name not in _INTENSITIES, known, name, suffix

        return tuple(sorted(self._seen, key=place))


class LongTable:
    """The rows of cohort.csv."""

    def __init__(self, columns: Columns, identify: bool) -> None:
        self._quantities = columns.quantities
        self._identify = identify
        near = [name + suffix for name, suffix in self._quantities if name in _INTENSITIES]
        far = [name + suffix for name, suffix in self._quantities if name not in _INTENSITIES]
        self.head = [*case_head(identify), *_FIRST, *near, *_PLACE, *(f"{part}_sd_ml" for part in _PARTS), *far, "components"]

    def rows(self, view: CaseView, case: Row, statistics: CohortStatistics) -> Iterator[Row]:
        """Yield a row a segment; one with the case alone where there is none."""
        if not view.segments:
            yield case + [None] * (len(self.head) - len(case))
        pieces = view.checks.get("components") or {}
        suffix = unit_suffix(view.unit)
        for row in view.segments:
            low, high = row.get("volume_interval_ml") or (None, None)
            z = statistics.volume_z(row)
            parts = row.get("volume_sd_ml") or {}
            near: Row = []
            far: Row = []
            for name, unit in self._quantities:
                value = row.get(name) if not _has_unit(name) or unit == suffix else None
                (near if name in _INTENSITIES else far).append(value if isinstance(value, (int, float)) else None)
            first = [row["number"], row["label"], row["status"], row["volume_ml"], low, high, None if z is None else round(z, 6)]
            place = [row.get("voxel_count"), *(row.get("centroid_ras_mm") or (None, None, None)), _joined(row.get("touches_border"))]
            last = [reason_of(row), row.get("visible_ml"), *(parts.get(part) for part in _PARTS)]
            yield [*case, *first, *near, *place, *last, *far, pieces.get(row["label"])]


class WideTable:
    """The rows of cohort_wide.csv."""

    def __init__(self, columns: Columns, identify: bool) -> None:
        means = [suffix for name, suffix in columns.quantities if name == "mean"]
        self.columns: tuple[WideColumn, ...] = wide_columns(columns.labels, (*_WIDE, *(f"mean{suffix}" for suffix in means)))
        case = case_head(identify)
        self._common = len(CASE_COLUMNS)
        self.head = [*case[: self._common], *(column.name for column in WIDE_CASE_COLUMNS), *case[self._common :]]
        self.head += [column.name for column in self.columns]

    def row(self, view: CaseView, case: Row) -> Row:
        """Return the row of a case; a segment that it does not have is empty."""
        result = view.result
        own = [None, None] if result is None else [result.inputs.sha256 if result.inputs is not None else None, result.key]
        rows_of = {str(row["label"]): row for row in view.segments}
        mean = f"mean{unit_suffix(view.unit)}"
        strange = _NO_SEGMENT if view.status == "done" else None
        values = [_wide_value(rows_of.get(column.label), column.source, mean, strange) for column in self.columns]
        return [*case[: self._common], *(value or None for value in own), *case[self._common :], *values]


def case_head(identify: bool) -> list[str]:
    """Return the names of the columns that describe a case."""
    return [column.name for column in (*CASE_COLUMNS, *(IDENTIFYING_COLUMNS if identify else ()))]


def case_cells(view: CaseView, suspicion: Suspicion | None, identity: Sequence[str] | None) -> Row:
    """Return what the tables say of a case, in the order of `case_head`."""
    listed = view.listed
    modality = view.modality or (view.result.modality if view.result is not None else "") or listed.modality
    score = [None, None] if suspicion is None else [suspicion.score, "; ".join(suspicion.texts)]
    case = [listed.case_id, view.status, view.code, view.message, view.standing, "yes" if view.is_analysed else "no", *score]
    case += [modality, listed.kind, listed.slices or None, listed.study, listed.patient, ";".join(codes_of(view.findings))]
    return [None if cell == "" else cell for cell in (*case, *(identity or ()))]


def codes_of(findings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the codes of warnings and errors, each once, errors first."""
    grave = {severity: [str(one.get("code")) for one in findings if one.get("severity") == severity] for severity in ("error", "warning")}
    return list(dict.fromkeys((*sorted(grave["error"]), *sorted(grave["warning"]))))


def reason_of(row: Mapping[str, Any]) -> str | None:
    """Return why a row is not simply measured: its own reason, else those of its quantities."""
    said = row.get("reason") or "; ".join(dict.fromkeys(str(text) for name, text in row.items() if name.endswith("_reason") and text))
    return said or None


def unit_suffix(unit: str) -> str:
    """Return what a unit adds to the name of a column.

    >>> unit_suffix("HU"), unit_suffix("")
    ('_hu', '')
    """
    word = "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in unit.lower()).strip("_")
    return f"_{word}" if word else ""


def segments_of(counted: Mapping[str, Counter[str]], volumes: Mapping[str, Sequence[float]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return how often each segment is measured, cut, absent, and the middle of its volumes (measured ones alone)."""
    import numpy as np

    found = []
    for label in labels:
        numbers = np.asarray(volumes.get(label, ()), dtype=np.float64)
        quartiles = [float(value) for value in np.quantile(numbers, (0.25, 0.5, 0.75))] if len(numbers) else [None] * 3
        ends = [float(numbers.min()), float(numbers.max())] if len(numbers) else [None, None]
        names = ("measured", "cut_by_field_of_view", "absent", "not_attempted", "failed")
        spread = {"median": quartiles[1], "lower_quartile": quartiles[0], "upper_quartile": quartiles[2], "least": ends[0], "most": ends[1]}
        found.append({"label": label} | {name: counted[label][name] for name in names} | {"volume_ml": spread})
    return found


def _wide_value(row: Mapping[str, Any] | None, source: str, mean: str, strange: str | None) -> Any:
    if row is None:
        return strange if source == "reason" else None
    if source == "reason":
        return reason_of(row)
    if source.startswith("mean"):
        return row.get("mean") if source == mean else None
    if source in ("volume_low_ml", "volume_high_ml"):
        return (row.get("volume_interval_ml") or (None, None))[source == "volume_high_ml"]
    return row.get(source)


def _has_unit(name: str) -> bool:
    return name in _INTENSITIES or name.startswith("percentile_")


def _joined(sides: Sequence[str] | None) -> str | None:
    return ";".join(str(side) for side in sides) if sides else None
