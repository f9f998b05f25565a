"""The same structure measured in several scans, side by side: volumes with their intervals on one scale."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medseg.core.measurement import MeasurementTable, SegmentRow
from medseg.reporting.number_check import Statement, check_statements
from medseg.reporting.wording import format_volume, interval_of, status_words, value_of

_MODALITY_WORDS = frozenset(("ct", "mr", "mri", "pet", "pt", "t1", "t2", "flair", "dwi", "adc", "cbct", "us"))


@dataclass(frozen=True)
class Case:
    """One scan of a comparison: its title and its table."""

    title: str
    table: MeasurementTable


@dataclass(frozen=True)
class Compared:
    """One structure in one scan, and its difference from the first scan that has it.

    `difference_interval_ml` is the 95 % interval of the difference where both volumes have one, taken as independent; `beyond`
    says whether it leaves out zero. None where not defined.
    """

    structure: str
    case: str
    label: str
    volume_ml: float | None
    interval_ml: tuple[float, float] | None
    status: str
    difference_ml: float | None = None
    difference_percent: float | None = None
    difference_interval_ml: tuple[float, float] | None = None
    beyond: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON row."""
        return {
            **vars(self),
            "interval_ml": list(self.interval_ml) if self.interval_ml else None,
            "difference_interval_ml": list(self.difference_interval_ml) if self.difference_interval_ml else None,
        }


def compare_cases(cases: Sequence[Case]) -> tuple[Compared, ...]:
    """Return every structure that at least two scans hold, in each of them, with its difference from the first.

    Structures are paired by label without words of modality (GTV_Mass_CT is GTV_Mass_PET); where every scan holds one segment,
    those are paired whatever they are called.

    >>> common_name("GTV_Mass_MR_T1")
    'GTV_Mass'
    """
    single = len(cases) > 1 and all(len(case.table) == 1 for case in cases)
    groups: dict[str, list[tuple[Case, SegmentRow]]] = {}
    for case in cases:
        for row in case.table:
            name = common_name(row.label)
            groups.setdefault("" if single else name.lower(), []).append((case, row))
    found = []
    for members in groups.values():
        if len({case.title for case, _ in members}) > 1:
            structure = common_name(members[0][1].label)
            found += [_compared(structure, case, row, members[0][1]) for case, row in members]
    return tuple(found)


def common_name(label: str) -> str:
    """Return a label without the words that say in which kind of scan it was drawn; the label where nothing is left."""
    words = [word for word in re.split(r"[_\s-]+", label) if word.lower() not in _MODALITY_WORDS]
    return "_".join(words) or label


def _compared(structure: str, case: Case, row: SegmentRow, first: SegmentRow) -> Compared:
    volume, interval = value_of(row, "volume"), interval_of(row)
    base, base_interval = value_of(first, "volume"), interval_of(first)
    if row is first or volume is None or not base:
        return Compared(structure, case.title, row.label, volume, interval, status_words(row))
    difference = volume - base
    bounds = None
    if interval is not None and base_interval is not None:
        # Independent errors: the distances of the bounds add as squares (Zou & Donner 2008, doi:10.1002/sim.3095)
        down = math.hypot(volume - interval[0], base_interval[1] - base)
        up = math.hypot(interval[1] - volume, base - base_interval[0])
        bounds = (difference - down, difference + up)
    return Compared(
        structure,
        case.title,
        row.label,
        volume,
        interval,
        status_words(row),
        difference,
        100 * difference / base,
        bounds,
        None if bounds is None else not bounds[0] <= 0 <= bounds[1],
    )


def comparison_context(cases: Sequence[Case]) -> dict[str, Any] | None:
    """Return the comparison as the template draws it; None for one scan or where nothing is shared."""
    rows = compare_cases(cases)
    if not rows:
        return None
    shown = [_shown(row, rows) for row in rows]
    check_statements(
        Statement(
            f"{one['volume']} ({one['interval'].replace('–', ' to ')}) {one['difference']}, {one['percent']}, {one['bounds']}",
            row.to_dict(),
        )
        for one, row in zip(shown, rows, strict=True)
    )
    return {"rows": shown, "has_interval": any(row.interval_ml for row in rows), "structures": len({row.structure for row in rows})}


def _shown(row: Compared, rows: Sequence[Compared]) -> dict[str, Any]:
    mine = [other for other in rows if other.structure == row.structure]
    bounds = [bound for other in mine for bound in (other.interval_ml or (() if other.volume_ml is None else (other.volume_ml,) * 2))]
    low, high = (min(bounds), max(bounds)) if bounds else (0.0, 1.0)
    margin = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
    start, width = low - margin, high - low + 2 * margin
    interval = row.interval_ml
    return {
        "structure": row.structure,
        "case": row.case,
        "volume": "" if row.volume_ml is None else format_volume(row.volume_ml),
        "interval": "–".join(format_volume(bound) for bound in interval) if interval else "",
        "status": row.status,
        "difference": "" if row.difference_ml is None else _signed(row.difference_ml),
        "percent": "" if row.difference_percent is None else _percent(row.difference_percent),
        "bounds": " to ".join(_signed(bound) for bound in row.difference_interval_ml) if row.difference_interval_ml else "",
        "beyond": {None: "", True: "yes", False: "no"}[row.beyond],
        "at": None if row.volume_ml is None else round(100 * (row.volume_ml - start) / width, 2),
        "left": round(100 * (interval[0] - start) / width, 2) if interval else None,
        "width": round(100 * (interval[1] - interval[0]) / width, 2) if interval else None,
    }


def _percent(value: float) -> str:
    return "0.0" if abs(value) < 0.05 else f"{value:+.1f}"


def _signed(value: float) -> str:
    text = format_volume(value)
    return text if text.startswith("-") or value == 0 else f"+{text}"
