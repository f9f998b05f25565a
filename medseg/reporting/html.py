"""The report: one HTML file that holds everything it shows, and says what is wrong before it says a number."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from types import ModuleType
from typing import Any

from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable, SegmentRow, Status
from medseg.core.provenance import Provenance
from medseg.core.segment import default_colour
from medseg.core.volume import Volume
from medseg.reporting.dependencies import load
from medseg.reporting.methods_text import methods_text, references
from medseg.reporting.planes import OPPOSITE
from medseg.reporting.table import Scores, compare_with_truth, format_score, score_columns, score_title
from medseg.reporting.wording import format_number, format_volume, interval_of, plain, reason_of, status_words, value_of, without_path

_DIRECTIONS = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}
_INTENSITIES = (("Mean ± SD", ("mean", "std")), ("Range", ("min", "max")), ("Median", ("median",)))
_STATUS_CLASSES = {Status.MEASURED: "good", Status.ABSENT: "quiet", Status.NOT_ATTEMPTED: "quiet"}
_GRAVITY = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
# What a reader asks of a model, in this order; the rest of its card follows. Where it lies on a disk is nobody's business.
_MODEL_KEYS = ("name", "version", "intended_use", "licence", "license", "labels", "training_data", "limitations", "sha256")
_PRIVATE_KEYS = ("path", "folder", "file", "files", "directory", "root", "host", "user")


@dataclass(frozen=True)
class Picture:
    """A PNG with its file name (without suffix) and its caption."""

    name: str
    caption: str
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class ReportContent:
    """Everything a report shows; `truth` (label → ml, or a truth document) and `scores` add a comparison."""

    title: str
    volume: Volume
    label_map: LabelMap
    table: MeasurementTable
    findings: tuple[Finding, ...] = ()
    provenance: Provenance | None = None
    pictures: tuple[Picture, ...] = ()
    scores: Scores | None = None
    truth: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def report_html(content: ReportContent) -> str:
    """Return the report as one self-contained HTML document: styles and pictures inside, readable without scripts.

    Findings stand before every number. Every value is escaped; no path and no patient attribute is written. Raises
    MissingDependencyError without the extra `report`, ParameterError for a truth without volumes.
    """
    jinja2 = load("jinja2")
    folder = resources.files("medseg.reporting") / "templates"
    sources = {name: (folder / name).read_text(encoding="utf-8") for name in ("report.html.j2", "report.css", "report.js")}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(sources), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    # Names such as lung_lower_lobe_left have no space to break at
    environment.filters["breakable"] = lambda label: _breakable(load("markupsafe"), str(label))
    provenance = content.provenance
    return str(
        environment.get_template("report.html.j2").render(
            title=content.title,
            style=sources["report.css"],
            script=sources["report.js"],
            scan=_scan(content.volume),
            findings=_findings(content.findings),
            verdict=_verdict(content.findings),
            measurements=_measurements(content),
            truth=_truth(content),
            scores=_scores(content.scores),
            pictures=[_picture(picture) for picture in content.pictures],
            notes=content.notes,
            provenance=_provenance(provenance) if provenance else None,
            methods=methods_text(provenance) if provenance else "",
            references=references(provenance) if provenance else (),
        )
    )


def _breakable(markupsafe: ModuleType, label: str) -> Any:
    """The label escaped, with a place to break after each underscore."""
    return markupsafe.Markup("_<wbr>").join(markupsafe.escape(part) for part in label.split("_"))


def _scan(volume: Volume) -> list[tuple[str, str]]:
    geometry = volume.geometry
    spacing = " × ".join(f"{value:.4g}" for value in geometry.spacing_mm)
    extent = " × ".join(f"{n * step:.0f}" for n, step in zip(geometry.shape, geometry.spacing_mm, strict=True))
    axes = ", ".join(f"{axis} to {_DIRECTIONS[code]}" for axis, code in zip("ijk", geometry.orientation, strict=True))
    grid = []
    if geometry.is_oblique:
        grid.append(f"oblique by {geometry.obliqueness_degrees:.1f}°")
    if geometry.is_sheared:
        grid.append(f"sheared by {geometry.shear_degrees:.1f}° (gantry tilt)")
    return [
        ("Modality", volume.modality or "not stated"),
        ("Intensity unit", volume.unit or "none (the scanner's own numbers)"),
        ("Voxels", " × ".join(str(n) for n in geometry.shape)),
        ("Spacing", f"{spacing} mm"),
        ("Extent", f"{extent} mm"),
        ("Voxel volume", f"{geometry.voxel_volume_mm3:.4g} mm³"),
        ("Orientation", f"{geometry.orientation} ({axes})"),
        ("Grid", ", ".join(grid) or "along the patient axes"),
    ]


def _findings(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
    ranked = sorted(findings, key=lambda finding: _GRAVITY[finding.severity])
    return [
        {
            "severity": finding.severity.value,
            "code": finding.code,
            "message": finding.message,
            "details": [
                (name.replace("_", " "), plain(value)) for name, value in finding.details.items() if name.lower() not in _PRIVATE_KEYS
            ],
        }
        for finding in ranked
    ]


def _verdict(findings: tuple[Finding, ...]) -> tuple[str, str]:
    """The class and the sentence that open the report."""
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    if errors:
        return "error", f"{_count(errors, 'error')}: the volumes below must not be reported before this is resolved."
    if warnings:
        return "warning", f"{_count(warnings, 'warning')}: read before using the volumes below."
    if findings:
        return "good", "No errors and no warnings. Remarks follow."
    return "good", "No findings: the checks of the geometry noticed nothing wrong."


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _measurements(content: ReportContent) -> dict[str, Any]:
    table = content.table
    colours = {segment.label: segment.rgb for segment in content.label_map.segments}
    largest = max((value_of(row, "volume") or 0.0 for row in table), default=0.0)
    columns = [(title, names) for title, names in _INTENSITIES if any(value_of(row, names[0]) is not None for row in table)]
    return {
        "unit": table.unit,
        "intensities": [title for title, _ in columns],
        "has_interval": any(interval_of(row) for row in table),
        "rows": [
            _row(row, colours.get(row.label, default_colour(max(1, row.number))), largest, [names for _, names in columns]) for row in table
        ],
    }


def _row(row: SegmentRow, colour: tuple[int, int, int], largest: float, intensities: list[tuple[str, ...]]) -> dict[str, Any]:
    volume, interval = value_of(row, "volume"), interval_of(row)
    values = [[value_of(row, name) for name in names] for names in intensities]
    centroid = row.centroid_mm
    return {
        "label": row.label,
        "colour": "#{:02x}{:02x}{:02x}".format(*colour),
        "volume": None if volume is None else format_volume(volume),
        "volume_sort": volume,
        "share": round(100 * volume / largest, 1) if volume and largest else 0,
        "interval": "–".join(format_volume(value) for value in interval) if interval else "",
        "values": [(_together(names, parts), parts[0]) for names, parts in zip(intensities, values, strict=True)],
        "voxels": f"{row.voxel_count:,}",
        "voxels_sort": row.voxel_count,
        "centroid": [] if centroid is None else [_side(value, letter) for value, letter in zip(centroid, "RAS", strict=True)],
        "status": status_words(row),
        "status_class": _STATUS_CLASSES.get(row.status, "bad" if row.status is Status.FAILED else "caution"),
        "reason": reason_of(row),
    }


def _together(names: tuple[str, ...], parts: list[float | None]) -> str:
    """Mean ± SD, or least to most, in one cell; empty where any part is not defined."""
    texts = [format_number(value) for value in parts if value is not None]
    return (" ± " if names[0] == "mean" else " to ").join(texts) if len(texts) == len(names) else ""


def _side(value: float, letter: str) -> str:
    return f"{letter if value >= 0 else OPPOSITE[letter]} {abs(value):.1f}"


def _truth(content: ReportContent) -> list[dict[str, Any]]:
    if content.truth is None:
        return []
    return [
        {
            "label": row.label,
            "volume": "" if row.volume_ml is None else format_volume(row.volume_ml),
            "truth": format_volume(row.truth_ml),
            "error": "not defined" if row.error_percent is None else f"{row.error_percent:+.2f}",
            "status_class": "good" if row.is_within(1.0) else "caution" if row.is_within(5.0) else "bad",
            "reason": row.reason,
        }
        for row in compare_with_truth(content.table, content.truth)
    ]


def _scores(scores: Scores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    document = scores if isinstance(scores, Mapping) else scores.to_dict()
    segments = document["segments"]
    columns = [key for key in score_columns(segments) if not key.endswith(("_voxels", "_volume_ml"))]
    rows = [
        {
            "label": row["label"],
            "values": [format_score(key, row.get(key)) for key in columns],
            "note": "; ".join(str(row[key]) for key in ("reason", "note") if row.get(key)),
        }
        for row in segments
    ]
    summary = [
        (score_title(key), format_score(key, value)) for key, value in document.get("summary", {}).items() if isinstance(value, float)
    ]
    rule = document.get("summary", {}).get("rule", "")
    return {"columns": [score_title(key) for key in columns], "rows": rows, "summary": summary, "rule": rule}


def _picture(picture: Picture) -> dict[str, Any]:
    # Width and height stand in the PNG's header; given in the page they keep the text from jumping while it loads
    width, height = (int.from_bytes(picture.png[start : start + 4], "big") for start in (16, 20))
    data = base64.b64encode(picture.png).decode("ascii")
    return {"name": picture.name, "caption": picture.caption, "data": data, "width": width, "height": height}


def _provenance(provenance: Provenance) -> dict[str, Any]:
    model = provenance.model or {}
    keys = [key for key in _MODEL_KEYS if model.get(key)]
    keys += [key for key in model if key not in keys and key.lower() not in _PRIVATE_KEYS and model[key] not in (None, "", [], {})]
    run = [
        ("Started", _moment(provenance.started)),
        ("Finished", _moment(provenance.finished)),
        ("Duration", _duration(provenance.started, provenance.finished)),
        ("Device", provenance.device),
        ("Random seed", "" if provenance.seed is None else str(provenance.seed)),
    ]
    return {
        "inputs": [vars(record) for record in provenance.inputs],
        "steps": [
            {
                "method": step.method,
                "stage": step.stage,
                "parameters": [(name.replace("_", " "), plain(value)) for name, value in step.parameters.items()],
                "seconds": "" if step.seconds is None else f"{step.seconds:.2f}",
            }
            for step in provenance.steps
        ],
        "model": [("SHA-256" if key == "sha256" else key.replace("_", " "), plain(model[key])) for key in keys],
        "run": [(name, value) for name, value in run if value],
        "versions": list(provenance.versions.items()),
        "notes": [without_path(note) for note in provenance.notes],
    }


def _moment(stamp: str) -> str:
    try:
        moment = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        return stamp
    return moment.strftime("%Y-%m-%d %H:%M:%S ") + (moment.tzname() or "")


def _duration(started: str, finished: str) -> str:
    try:
        seconds = (
            datetime.fromisoformat(finished.replace("Z", "+00:00")) - datetime.fromisoformat(started.replace("Z", "+00:00"))
        ).total_seconds()
    except (ValueError, TypeError):
        return ""
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
