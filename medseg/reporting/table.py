"""Measurements and the comparison with the truth as CSV (RFC 4180) and as tables for the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.core.errors import ParameterError
from medseg.core.finding import Finding
from medseg.core.measurement import MeasurementTable, SegmentRow, Status
from medseg.core.segment import Colour, Segment, default_colour
from medseg.reporting.tabular import csv_of, new_table, text
from medseg.reporting.wording import format_measured, format_number, format_volume, interval_of, reason_of, status_words, value_of

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_INTENSITIES = ("mean", "std", "min", "max", "median")
_PARTS = ("grid", "boundary", "model")
_MOST_ROWS = 150  # every structure of the largest models fits; thousands of regions say nothing on a screen
_FIRST_ROWS = 20
_STATUS_STYLES = {
    Status.MEASURED: "green",
    Status.ABSENT: "yellow",
    Status.CUT_BY_FIELD_OF_VIEW: "yellow",
    Status.NOT_ATTEMPTED: "dim",
    Status.FAILED: "bold red",
}
_SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


def measurements_csv(table: MeasurementTable) -> str:
    """Return one row a segment as CSV with CRLF line ends; numbers are written so that they read back equal.

    Columns: number, label, status, volume_ml, volume_low_ml, volume_high_ml (95 % interval), mean, std, min, max and median
    with the unit of the scan (`mean_hu`), voxel_count, centroid_r_mm, centroid_a_mm, centroid_s_mm, touches_border (sides
    joined by ";"), reason, visible_ml (of what the field of view cuts), grid_sd_ml, boundary_sd_ml, model_sd_ml (the parts of
    the interval), then any further quantities. What is undefined is an empty cell.

    >>> measurements_csv(MeasurementTable((), unit="HU")).split(",")[:7]
    ['number', 'label', 'status', 'volume_ml', 'volume_low_ml', 'volume_high_ml', 'mean_hu']
    """
    extra = _further_quantities(table)
    suffix = _unit_suffix(table.unit)
    head = ["number", "label", "status", "volume_ml", "volume_low_ml", "volume_high_ml", *(name + suffix for name in _INTENSITIES)]
    head += ["voxel_count", "centroid_r_mm", "centroid_a_mm", "centroid_s_mm", "touches_border", "reason"]
    head += ["visible_ml", *(f"{part}_sd_ml" for part in _PARTS)]
    rows: list[list[Any]] = [head + [_column(name, unit) for name, unit in extra.items()]]
    for row in table:
        low, high = interval_of(row) or (None, None)
        centroid = row.centroid_mm or (None, None, None)
        values = [value_of(row, "volume"), low, high, *(value_of(row, name) for name in _INTENSITIES), row.voxel_count, *centroid]
        visible = value_of(row, "volume") if row.status is Status.CUT_BY_FIELD_OF_VIEW else None
        parts = row.measurements["volume"].parts if "volume" in row.measurements else {}
        spread = [visible, *(parts.get(part) for part in _PARTS)]
        last = [";".join(row.touches), reason_of(row), *spread, *(value_of(row, name) for name in extra)]
        rows.append([row.number, row.label, row.status.value, *values, *last])
    return csv_of(rows)


@dataclass(frozen=True)
class TruthRow:
    """A measured volume beside the known one; the error is None, with a reason, where it is not defined."""

    label: str
    volume_ml: float | None
    truth_ml: float
    error_percent: float | None
    reason: str = ""

    def is_within(self, percent: float) -> bool:
        """Whether the volume is known and at most this far from the truth."""
        return self.error_percent is not None and abs(self.error_percent) <= percent

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON row."""
        return dict(vars(self))


def compare_with_truth(table: MeasurementTable, truth: Mapping[str, Any]) -> tuple[TruthRow, ...]:
    """Put each known volume beside the measured one; a segment that was not found has an error of -100 %.

    `truth` maps labels to ml, or is a document with "segments": [{"label", "volume_ml"}]. Raises ParameterError where it
    holds no volumes.

    >>> from medseg.core.measurement import Measurement
    >>> liver = SegmentRow(1, "liver", Status.MEASURED, "", {"volume": Measurement("liver", "volume", 1515.0, "ml")}, 9)
    >>> compare_with_truth(MeasurementTable((liver,)), {"liver": 1500.0})[0].error_percent
    1.0
    """
    rows_of = {row.label: row for row in table}
    found = []
    for label, truth_ml in expected_volumes(truth).items():
        row = rows_of.get(label)
        volume = None if row is None else value_of(row, "volume")
        if volume is None:
            found.append(TruthRow(label, None, truth_ml, None, "no such segment in the table" if row is None else reason_of(row)))
        elif truth_ml == 0:
            error = 0.0 if volume == 0 else None
            found.append(TruthRow(label, volume, truth_ml, error, "" if volume == 0 else "the true volume is 0"))
        else:
            found.append(TruthRow(label, volume, truth_ml, 100 * (volume - truth_ml) / truth_ml, _remark(row, truth_ml)))
    return tuple(found)


def _remark(row: SegmentRow | None, truth_ml: float) -> str:
    """Say what limits a volume, and where the truth lies outside of its interval how far the whole border would have to move."""
    if row is None:
        return ""
    remarks = [] if row.status is Status.MEASURED else [status_words(row)]
    volume = row.measurements["volume"]
    if volume.interval is not None and volume.value is not None and not volume.interval[0] <= truth_ml <= volume.interval[1]:
        shell = value_of(row, "half_voxel_shell_ml")
        side = "in" if truth_ml > volume.value else "out"
        cause = f": the border lies about {abs(truth_ml - volume.value) / (2 * shell):.2f} voxels too far {side}" if shell else ""
        remarks.append(f"outside the 95 % interval{cause}")
    return "; ".join(remarks)


def expected_volumes(truth: Mapping[str, Any]) -> dict[str, float]:
    """Return label → ml of a truth document or a plain mapping; a volume that is not known (null) is left out."""
    entries: Any = truth.get("segments", truth)
    try:
        if isinstance(entries, Mapping):
            known = {str(label): value["volume_ml"] if isinstance(value, Mapping) else value for label, value in entries.items()}
        else:
            known = {str(entry["label"]): entry["volume_ml"] for entry in entries}
        return {label: float(value) for label, value in known.items() if value is not None}
    except (KeyError, TypeError, ValueError) as err:
        raise ParameterError("a truth gives each segment a label and its volume_ml") from err


def truth_csv(rows: Iterable[TruthRow]) -> str:
    """Return the comparison with the truth as CSV."""
    return csv_of([["label", "volume_ml", "truth_ml", "error_percent", "reason"], *(list(vars(row).values()) for row in rows)])


def rich_table(table: MeasurementTable, segments: Iterable[Segment] = (), more_in: str = "the JSON document (--json)") -> Table:
    """Return the measurements for the terminal: colour, label, volume with interval and its parts, intensity, status.

    "½ voxel" is what the volume would change by if the whole border lay half a voxel further out, which no interval covers.
    Colours are those of `segments` where given, else the default colour of each number. Of more than 150 segments the first
    20 are shown, with how many more there are in `more_in`.
    """
    rows = tuple(table)
    rows = rows if len(rows) <= _MOST_ROWS else rows[:_FIRST_ROWS]
    colours = {segment.number: segment.rgb for segment in segments}
    has_interval = any(interval_of(row) for row in table)
    has_mean = any(value_of(row, "mean") is not None for row in table)
    unit = f" ({table.unit})" if table.unit else ""
    shown = new_table(f"{len(table)} segments" if len(table) != 1 else "1 segment")
    shown.add_column("", width=1)
    shown.add_column("segment", overflow="fold")
    shown.add_column("volume (ml)", justify="right", no_wrap=True)
    if has_interval:
        shown.add_column("95 % interval", justify="right", no_wrap=True)
        shown.add_column("sd (ml)", justify="right", overflow="fold")
        shown.add_column("½ voxel (ml)", justify="right", no_wrap=True)
    if has_mean:
        shown.add_column(f"mean{unit}", justify="right", no_wrap=True)
        shown.add_column("std", justify="right", no_wrap=True)
    shown.add_column("status", overflow="fold")
    if len(rows) < len(table):
        shown.caption = text(f"… {len(table) - len(rows):,} more in {more_in}", "dim")
    for row in rows:
        volume, interval = value_of(row, "volume"), interval_of(row)
        said, bounds = ("", "") if volume is None else format_measured(volume, interval)
        cells = [_swatch(colours.get(row.number) or default_colour(row.number)), text(row.label, "bold"), text(said)]
        if has_interval:
            shell = value_of(row, "half_voxel_shell_ml")
            cells += [text(bounds, "dim"), text(_said_parts(row), "dim"), text("" if shell is None else f"± {shell:.2g}", "dim")]
        if has_mean:
            cells += [_number(value_of(row, name), format_number) for name in ("mean", "std")]
        shown.add_row(*cells, text(status_words(row), _STATUS_STYLES[row.status]))
    return shown


def _said_parts(row: SegmentRow) -> str:
    """Return the parts of the interval, such as "grid 0.11, boundary 0.07"."""
    volume = row.measurements.get("volume")
    return ", ".join(f"{part} {sd:.2g}" for part, sd in volume.parts.items()) if volume is not None else ""


def rich_findings(findings: Iterable[Finding]) -> Table:
    """Return what the checks found, the gravest first."""
    order = list(_SEVERITY_STYLES)
    ranked = sorted(findings, key=lambda finding: order.index(finding.severity.value))
    shown = new_table("findings" if ranked else "no findings")
    for column in ("severity", "code", "what was found"):
        shown.add_column(column, overflow="fold")
    for finding in ranked:
        style = _SEVERITY_STYLES[finding.severity.value]
        shown.add_row(text(finding.severity.value, style), text(finding.code, "bold"), text(finding.message))
    return shown


def rich_truth_table(rows: Iterable[TruthRow], allowed_percent: float = 1.0) -> Table:
    """Return the comparison with the truth for the terminal; errors beyond `allowed_percent` are red."""
    shown = new_table("measured and true volumes")
    shown.add_column("segment", overflow="fold")
    for column in ("volume (ml)", "truth (ml)", "error"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("note", overflow="fold")
    for row in rows:
        error = "" if row.error_percent is None else f"{row.error_percent:+.2f} %"
        cells = [_number(row.volume_ml, format_volume), _number(row.truth_ml, format_volume)]
        style = "green" if row.is_within(allowed_percent) else "bold red"
        shown.add_row(text(row.label, "bold"), *cells, text(error or "not defined", style), text(row.reason, "dim"))
    return shown


def _further_quantities(table: MeasurementTable) -> dict[str, str]:
    """Quantities beyond the fixed columns, with their units, in the order in which they first occur."""
    found: dict[str, str] = {}
    for row in table:
        for name, measurement in row.measurements.items():
            if name != "volume" and name not in _INTENSITIES:
                found.setdefault(name, measurement.unit)
    return found


def _column(name: str, unit: str) -> str:
    """Return the name of a column: with its unit, where the name does not end with it already."""
    suffix = _unit_suffix(unit)
    return name if suffix and name.endswith(suffix) else name + suffix


def _unit_suffix(unit: str) -> str:
    word = re.sub(r"[^a-z0-9]+", "_", unit.lower()).strip("_")
    return f"_{word}" if word else ""


def _swatch(colour: Colour) -> Text:
    red, green, blue = colour
    return text("■", f"rgb({red},{green},{blue})")


def _number(value: float | None, form: Any) -> Text:
    return text("–", "dim") if value is None else text(form(value))
