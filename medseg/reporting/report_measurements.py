"""The measurements as the report shows them: volumes with their intervals drawn to scale, what the intervals are made of, places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable, SegmentRow, Status
from medseg.core.segment import Colour, Segment, default_colour
from medseg.reporting.number_check import Statement, check_statements
from medseg.reporting.places import is_lesion
from medseg.reporting.planes import OPPOSITE
from medseg.reporting.wording import format_number, format_volume, interval_of, reason_of, status_words, value_of

_INTENSITIES = (("Mean ± SD", ("mean", "std")), ("Range", ("min", "max")), ("Median", ("median",)))
_STATUS_CLASSES = {Status.MEASURED: "good", Status.ABSENT: "quiet", Status.NOT_ATTEMPTED: "quiet"}
_PART_NAMES = ("grid", "boundary", "model")
_MOST_CARDS = 6
_FURTHER_SHOWN = 40  # quantities of one segment that a page shows; the files hold all


def measurements_context(table: MeasurementTable, label_map: LabelMap | None) -> dict[str, Any]:
    """Return what the template needs to show a table; every figure of it is looked up in the table's document.

    Raises ReportNumberError where a shown number is not in the data.
    """
    segments = {segment.label: segment for segment in (label_map.segments if label_map is not None else ())}
    largest = max((value_of(row, "volume") or 0.0 for row in table), default=0.0)
    widest = _widest_percent(table)
    columns = [(title, names) for title, names in _INTENSITIES if any(value_of(row, names[0]) is not None for row in table)]
    rows = [_row(row, segments.get(row.label), largest, widest, [names for _, names in columns]) for row in table]
    check_statements(_statements(table, rows))
    parts = [name for name in _PART_NAMES if any(name in row.measurements["volume"].parts for row in table)]
    return {
        "unit": table.unit,
        "intensities": [title for title, _ in columns],
        "has_interval": any(row["interval"] for row in rows),
        "has_shell": any(row["shell"] for row in rows),
        "widest": f"{widest:.3g}",
        "parts": parts,
        "rows": rows,
        "cards": [row for row in _ranked(rows) if row["volume"]][:_MOST_CARDS],
        "count": len(rows),
        "further": _further(table),
    }


def _ranked(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Lesions first, then by volume."""
    return sorted(rows, key=lambda row: (not row["is_lesion"], -(row["volume_sort"] or 0.0)))


def _widest_percent(table: MeasurementTable) -> float:
    """The widest interval, in percent of its volume: the scale of the drawn intervals."""
    found = [
        max(abs(bound - volume) / volume for bound in interval)
        for row in table
        for volume, interval in [_volume(row)]
        if interval and volume
    ]
    return 100 * min(1.0, max(found, default=0.0))


def _volume(row: SegmentRow) -> tuple[float, tuple[float, float] | None]:
    return value_of(row, "volume") or 0.0, interval_of(row)


def _row(row: SegmentRow, segment: Segment | None, largest: float, widest: float, intensities: list[tuple[str, ...]]) -> dict[str, Any]:
    volume, interval = value_of(row, "volume"), interval_of(row)
    shell = value_of(row, "half_voxel_shell_ml")
    values = [[value_of(row, name) for name in names] for names in intensities]
    colour: Colour = segment.rgb if segment is not None else default_colour(max(1, row.number))
    return {
        "number": row.number,
        "label": row.label,
        "colour": "#{:02x}{:02x}{:02x}".format(*colour),
        "is_lesion": is_lesion(segment or Segment(max(1, row.number), row.label)),
        "volume": None if volume is None else format_volume(volume),
        "volume_sort": volume,
        "share": round(100 * volume / largest, 1) if volume and largest else 0,
        "interval": "–".join(format_volume(value) for value in interval) if interval else "",
        "whisker": _whisker(volume, interval, widest),
        "parts": _parts(row),
        "values": [(_together(names, parts), parts[0]) for names, parts in zip(intensities, values, strict=True)],
        "shell": "" if shell is None else format_volume(shell),
        "voxels": f"{row.voxel_count:,}",
        "voxels_sort": row.voxel_count,
        "centroid": [] if row.centroid_mm is None else [_side(value, letter) for value, letter in zip(row.centroid_mm, "RAS", strict=True)],
        "status": status_words(row),
        "status_class": _STATUS_CLASSES.get(row.status, "bad" if row.status is Status.FAILED else "caution"),
        "reason": reason_of(row),
    }


def _whisker(volume: float | None, interval: tuple[float, float] | None, widest: float) -> dict[str, float] | None:
    """Where the interval begins and how wide it is on a scale of ± `widest` percent, in percent of the drawing."""
    if not volume or interval is None or not widest:
        return None
    low, high = (max(-1.0, min(1.0, 100 * (bound - volume) / volume / widest)) for bound in interval)
    return {"left": round(50 + 50 * low, 2), "width": round(50 * (high - low), 2)}


def _parts(row: SegmentRow) -> list[dict[str, Any]]:
    """The standard deviations an interval is made of, with their shares of the variance."""
    parts = row.measurements["volume"].parts
    total = sum(sd * sd for sd in parts.values())
    order = [*(name for name in _PART_NAMES if name in parts), *(name for name in parts if name not in _PART_NAMES)]
    return [
        {"name": name, "sd": format_volume(parts[name]), "share": round(100 * parts[name] ** 2 / total, 1) if total else 0}
        for name in order
    ]


def _together(names: tuple[str, ...], parts: list[float | None]) -> str:
    """Mean ± SD, or least to most, in one cell; empty where any part is not defined."""
    texts = [format_number(value) for value in parts if value is not None]
    return (" ± " if names[0] == "mean" else " to ").join(texts) if len(texts) == len(names) else ""


def _side(value: float, letter: str) -> str:
    return f"{letter if value >= 0 else OPPOSITE[letter]} {abs(value):.1f}"


def _further(table: MeasurementTable) -> dict[str, Any]:
    """Quantities beyond volume and plain intensities (shape, percentiles …): one row a quantity, one column a segment."""
    known = {"volume", *(name for _, names in _INTENSITIES for name in names)}
    names = list(dict.fromkeys(name for row in table for name in row.measurements if name not in known))[:_FURTHER_SHOWN]
    labels = [row.label for row in table]
    rows = []
    for name in names:
        values = [value_of(row, name) for row in table]
        rows.append((name, ["" if value is None else format_number(value) for value in values]))
    return {"labels": labels, "rows": rows}


def _statements(table: MeasurementTable, rows: list[dict[str, Any]]) -> list[Statement]:
    """The figures of each row beside the document of that very segment."""
    documents = {int(entry["number"]): entry for entry in table.to_dict()["segments"]}
    found = []
    for row in rows:
        document = documents[row["number"]]
        centroid = [abs(value) for value in document["centroid_ras_mm"] or ()]
        shown = [
            row["volume"] or "",
            row["interval"].replace("–", " to "),
            *(part["sd"] for part in row["parts"]),
            row["shell"],
            row["voxels"],
        ]
        shown += [text for text, _ in row["values"]] + row["centroid"]
        found.append(Statement(f"{row['label']}: {'; '.join(text for text in shown if text)}", {"row": document, "distance_mm": centroid}))
    return found
