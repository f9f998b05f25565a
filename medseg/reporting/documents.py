"""The JSON documents of a run read back: measurements, findings and provenance as the values they were written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.core.errors import ParameterError, UnreadableFileError
from medseg.core.finding import Finding, Severity
from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow, Status
from medseg.core.provenance import InputRecord, Provenance, StepRecord

MEASURE = "medseg.measure/"
PROVENANCE = "medseg.provenance/"
ROW_KEYS = frozenset(
    (
        "number",
        "label",
        "status",
        "reason",
        "volume_ml",
        "volume_interval_ml",
        "volume_sd_ml",
        "volume_reason",
        "visible_ml",
        "voxel_count",
        "centroid_ras_mm",
        "bounding_box_ijk",
        "touches_border",
    )
)
_REASON = "_reason"


def table_from_document(document: Mapping[str, Any]) -> MeasurementTable:
    """Return the table a `medseg measure` document was written from; raises UnreadableFileError where it is none.

    >>> row = {"number": 1, "label": "liver", "status": "measured", "reason": "", "volume_ml": 1500.0, "voxel_count": 9}
    >>> table = table_from_document({"schema": "medseg.measure/1", "segments": [row]})
    >>> print(table["liver", "volume"])
    1500.0 ml
    """
    if not str(document.get("schema", "")).startswith(MEASURE):
        raise UnreadableFileError(
            f"this is no table of medseg measure (schema {document.get('schema', 'missing')!r}): give measurements.json of a run, or the "
            ".json that medseg measure -o writes"
        )
    unit = str(document.get("intensity_unit") or "")
    try:
        rows = tuple(_row(entry, unit) for entry in document["segments"])
    except (KeyError, TypeError, ValueError, ParameterError) as err:
        raise UnreadableFileError(f"the measurements are not whole ({type(err).__name__}): measure again (medseg measure)") from err
    return MeasurementTable(rows, str(document.get("modality") or ""), unit)


def _row(entry: Mapping[str, Any], unit: str) -> SegmentRow:
    label, status = str(entry["label"]), Status(entry["status"])
    interval = entry.get("volume_interval_ml")
    value = entry["volume_ml"]
    reason = str(entry.get("volume_reason") or entry.get("reason") or "")
    volume = Measurement(
        label,
        "volume",
        None if value is None else float(value),
        "ml",
        None if interval is None else (float(interval[0]), float(interval[1])),
        status,
        reason or ("" if value is not None else "no reason was written"),
        {str(name): float(sd) for name, sd in (entry.get("volume_sd_ml") or {}).items()},
    )
    measurements = {"volume": volume}
    for name, quantity in entry.items():
        if name in ROW_KEYS or name.endswith(_REASON) or isinstance(quantity, (bool, str, list, Mapping)):
            continue
        why = str(entry.get(name + _REASON) or "")
        if quantity is None and not why:
            continue  # a column of other rows: this one has no such quantity
        one = None if quantity is None else float(quantity)
        kind = Status.MEASURED if one is not None else Status.FAILED
        measurements[name] = Measurement(label, name, one, unit if name in _INTENSITY else "", status=kind, reason=why)
    return SegmentRow(
        number=int(entry["number"]),
        label=label,
        status=status,
        reason=str(entry.get("reason") or ""),
        measurements=measurements,
        voxel_count=int(entry["voxel_count"]),
        centroid_mm=_triple(entry.get("centroid_ras_mm")),
        bounding_box=_box(entry.get("bounding_box_ijk")),
        touches=tuple(str(side) for side in entry.get("touches_border") or ()),
    )


_INTENSITY = ("mean", "std", "min", "max", "median")


def _triple(values: Sequence[float] | None) -> tuple[float, float, float] | None:
    if values is None:
        return None
    r, a, s = (float(value) for value in values)
    return r, a, s


def _box(corners: Sequence[Sequence[int]] | None) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    if corners is None:
        return None
    first, last = ((int(i), int(j), int(k)) for i, j, k in corners)
    return first, last


def findings_from_document(document: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return the findings a document of a run carries; what is no finding is passed over."""
    found = []
    for entry in document.get("findings") or ():
        if isinstance(entry, Mapping) and entry.get("code") and entry.get("severity") in {severity.value for severity in Severity}:
            details = entry.get("details")
            found.append(
                Finding(
                    str(entry["code"]),
                    Severity(entry["severity"]),
                    str(entry.get("message", "")),
                    details if isinstance(details, Mapping) else {},
                )
            )
    return tuple(found)


def provenance_from_document(document: Mapping[str, Any]) -> Provenance:
    """Return the record of a run as it was written; raises UnreadableFileError where it is none."""
    if not str(document.get("schema", "")).startswith(PROVENANCE):
        raise UnreadableFileError(f"this is no provenance of a run (schema {document.get('schema', 'missing')!r})")
    try:
        return Provenance(
            versions={str(name): str(version) for name, version in document["versions"].items()},
            inputs=tuple(InputRecord(**entry) for entry in document.get("inputs") or ()),
            steps=tuple(StepRecord(**entry) for entry in document.get("steps") or ()),
            model=document.get("model"),
            device=str(document.get("device") or "cpu"),
            seed=document.get("seed"),
            started=str(document.get("started") or ""),
            finished=str(document.get("finished") or ""),
            notes=tuple(str(note) for note in document.get("notes") or ()),
        )
    except (KeyError, TypeError, AttributeError) as err:
        raise UnreadableFileError(f"the provenance is not whole ({type(err).__name__}): run again (medseg run)") from err
