"""What is done with the rows of a measured table: features added, segments chosen, and volumes that need care pointed out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medseg.core.errors import ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow, Status
from medseg.core.volume import Volume
from medseg.measurement.volume import DISAGREEMENT_PERCENT

UNCERTAIN_PERCENT = 10.0
_NAMED = 4  # segments that a finding names; its details hold all


def with_features(
    table: MeasurementTable, label_map: LabelMap, volume: Volume | None, features: Sequence[str], *, bin_width: float = 25.0
) -> MeasurementTable:
    """Return the table with the features of each segment: "shape", and "intensity" which needs the scan.

    What the table has already stays as it is. Raises ParameterError where intensity is asked for without a scan.
    """
    rows = list(table.rows)
    for name in features:
        if name == "intensity":
            from medseg.measurement.intensity import intensity_features

            if volume is None:
                raise ParameterError("intensity features are those of a scan: give it too (--image)")
            found = intensity_features(label_map, volume, bin_width)
        else:
            from medseg.measurement.shape import shape_features

            found = shape_features(label_map, volume)
        rows = [replace(row, measurements=found[row.number] | row.measurements | {"volume": row.measurements["volume"]}) for row in rows]
    return replace(table, rows=tuple(replace(row, measurements=_volume_first(row)) for row in rows)) if features else table


def _volume_first(row: SegmentRow) -> dict[str, Measurement]:
    return {"volume": row.measurements["volume"]} | row.measurements


def chosen_rows(table: MeasurementTable, labels: Sequence[str]) -> MeasurementTable:
    """Return the rows of these labels in this order; one that the segmentation does not name is `not_attempted`."""
    rows = {row.label: row for row in table}
    free = 1 + max((row.number for row in table), default=0)
    chosen = []
    for label in labels:
        if label in rows:
            chosen.append(rows[label])
            continue
        reason = "the segmentation has no segment of this name"
        volume = Measurement(label, "volume", None, "ml", status=Status.NOT_ATTEMPTED, reason=reason)
        chosen.append(SegmentRow(free, label, Status.NOT_ATTEMPTED, reason, {"volume": volume}, 0))
        free += 1
    return replace(table, rows=tuple(chosen))


def volume_findings(table: MeasurementTable) -> list[Finding]:
    """Return what is to be said of the volumes: wide intervals (VOLUME_UNCERTAIN), ways of counting that differ (VOLUMES_DIFFER)."""
    found = []
    wide = {row.label: half for row in table if (half := _half_width_percent(row)) is not None and half > UNCERTAIN_PERCENT}
    if wide:
        named = _named({label: f"± {half:.0f} %" for label, half in wide.items()})
        text = f"few voxels or thick slices: even a perfect mask leaves the volume open by more than {UNCERTAIN_PERCENT:g} % ({named})"
        found.append(Finding("VOLUME_UNCERTAIN", Severity.WARNING, text, {"half_width_percent": wide}))
    differ = {row.label: percent for row in table if (percent := _difference_percent(row)) > DISAGREEMENT_PERCENT}
    if differ:
        named = _named({label: f"{percent:.1f} %" for label, percent in differ.items()})
        text = f"voxel, mesh and probability volume differ by more than {DISAGREEMENT_PERCENT:g} % ({named})"
        found.append(Finding("VOLUMES_DIFFER", Severity.INFO, text, {"percent": differ}))
    return found


def _half_width_percent(row: SegmentRow) -> float | None:
    volume = row.measurements["volume"]
    if volume.interval is None or not volume.value:
        return None
    return 50 * (volume.interval[1] - volume.interval[0]) / volume.value


def _difference_percent(row: SegmentRow) -> float:
    measured = row.measurements.get("volumes_differ_percent")
    return measured.value or 0.0 if measured is not None else 0.0


def _named(values: dict[str, str]) -> str:
    shown = ", ".join(f"{label} {value}" for label, value in list(values.items())[:_NAMED])
    return shown if len(values) <= _NAMED else f"{shown} and {len(values) - _NAMED} more"
