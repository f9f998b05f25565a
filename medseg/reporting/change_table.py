"""Lesions over time as tables: for people on a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from medseg.measurement.change import Assessment, ChangeTable, LesionChange
    from medseg.measurement.growth import Estimate

_COLOURS = {"new": "red", "grown": "red", "gone": "green", "shrunk": "green", "undetermined": "yellow", "out_of_view": "yellow"}


def change_csv(table: ChangeTable) -> str:
    """Return one line a lesion and follow-up; intervals are two columns each, lists are joined by a space."""
    rows = [_flat(row.to_dict()) for row in table.rows]
    columns = list(rows[0]) if rows else ["lesion", "time_point", "status", "reason"]
    return _csv(columns, rows)


def responses_csv(table: ChangeTable) -> str:
    """Return one line a follow-up and rule: sums, nadir, changes and category."""
    rows = []
    for assessment in (table.recist, table.volumetric):
        if assessment is not None:
            unit = assessment.rule.unit
            for n, response in enumerate(assessment.responses, start=1):
                entry = response.to_dict(unit)
                plain = {name.removesuffix(f"_{unit}"): value for name, value in entry.items()}
                days = table.time_points[n].days
                rows.append({"rule": assessment.rule.name, "unit": unit, "time_point": n, "days": days, **_flat(plain)})
    return _csv(list(rows[0]) if rows else ["rule"], rows)


def rich_change(table: ChangeTable) -> Table:
    """Return the table of lesions for a terminal."""
    from rich.table import Table

    made = Table(header_style="bold")
    for name in ("lesion", "scan", "status", "base ml", "now ml", "change", "beyond error", "doubling time", "longest mm"):
        made.add_column(name, justify="left" if name in ("lesion", "status") else "right")
    for row in table.rows:
        colour = _COLOURS.get(row.status, "")
        status = f"[{colour}]{row.status}[/]" if colour else row.status
        beyond = {True: "yes", False: "no", None: "-"}[row.is_beyond_error]
        made.add_row(
            row.track, str(row.time_point), status, _volume(row.before.volume.value), _volume(row.after.volume.value),
            _percent(row.change), beyond, _days(row.doubling_time), _diameters(row),
        )  # fmt: skip
    return made


def response_lines(table: ChangeTable) -> list[str]:
    """Return the responses in words, every number of the rule with them."""
    lines = []
    for assessment in (table.recist, table.volumetric):
        if assessment is not None:
            lines += _response_lines(assessment, table)
    return lines


def _response_lines(assessment: Assessment, table: ChangeTable) -> list[str]:
    rule = assessment.rule
    named = ", ".join(f"{target.id} {target.base:.1f} {rule.unit}" for target in assessment.targets) or "none measurable at base"
    lines = [f"{rule.name}: targets {named} ({rule.reference})"]
    for n, response in enumerate(assessment.responses, start=1):
        days = table.time_points[n].days
        when = f"follow-up {n}" + ("" if days is None else f" (day {days:g})")
        numbers = f"sum {response.sum:.1f} {rule.unit}" if response.sum is not None else "sum not evaluable"
        if response.change_from_base_percent is not None:
            numbers += f", {response.change_from_base_percent:+.1f} % from base"
        if response.change_from_nadir is not None:
            relative = "" if response.change_from_nadir_percent is None else f" ({response.change_from_nadir_percent:+.1f} %)"
            numbers += f", {response.change_from_nadir:+.1f} {rule.unit}{relative} from nadir {response.nadir:.1f} {rule.unit}"
        why = f"; {'; '.join(response.reasons)}" if response.reasons else ""
        lines.append(f"  {when}: {response.overall} - {numbers}{why}")
    return lines


def _volume(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(change: Estimate) -> str:
    if change.value is None:
        return "-"
    value = f"{change.value:+.0f} %" if abs(change.value) >= 0.5 else "0 %"
    if change.low is None:
        return value
    high = "…" if change.high is None else f"{change.high:+.0f}"
    return f"{value} [{change.low:+.0f}, {high}]"


def _days(time: Estimate) -> str:
    if time.value is None:
        return "-"
    if time.low is None:
        return f"{time.value:.0f} d"
    return f"{time.value:.0f} d [{time.low:.0f}, {'…' if time.high is None else f'{time.high:.0f}'}]"


def _diameters(row: LesionChange) -> str:
    before, after = row.before.longest_mm, row.after.longest_mm
    return f"{'-' if before is None else f'{before:.1f}'} → {'-' if after is None else f'{after:.1f}'}"


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """Intervals as two columns, points as three, lists as text; None stays empty."""
    flat: dict[str, Any] = {}
    for name, value in entry.items():
        if name.endswith(("_interval", "_interval_ml")):
            low, high = value or (None, None)
            flat[f"{name}_low"], flat[f"{name}_high"] = low, high
        elif name.endswith("_ras_mm"):
            for axis, part in zip("ras", value or (None,) * 3, strict=True):
                flat[f"{name.removesuffix('_ras_mm')}_{axis}_mm"] = part
        elif isinstance(value, list):
            flat[name] = " ".join(str(part) for part in value)
        else:
            flat[name] = value
    return flat


def _csv(columns: list[str], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _cell(value) for name, value in row.items()} for row in rows])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Booleans as true and false; text that a spreadsheet would take for a formula is kept text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
