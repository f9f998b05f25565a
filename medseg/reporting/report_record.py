"""What surrounds the numbers of a report: the verdict of the checks, the scan, the comparison, and what ran."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.measurement import MeasurementTable
from medseg.core.provenance import Provenance
from medseg.reporting.methods_text import MethodsText
from medseg.reporting.scores import Scores, format_score, score_columns, score_title
from medseg.reporting.table import compare_with_truth
from medseg.reporting.wording import format_volume, plain, without_path

_DIRECTIONS = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}
_GRAVITY = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
# What a reader asks of a model, in this order; the rest of its card follows. Where it lies on a disk is nobody's business.
_MODEL_KEYS = ("name", "version", "intended_use", "licence", "license", "labels", "training_data", "limitations", "sha256")
_PRIVATE_KEYS = ("path", "folder", "file", "files", "directory", "root", "host", "user")
_MARK = re.compile(r" ?\[(@[^\]]+)\]")


def scan_context(geometry: Geometry | None, modality: str, unit: str) -> list[tuple[str, str]]:
    """Return the facts of a scan's grid as names and values."""
    facts = [("Modality", modality or "not stated"), ("Intensity unit", unit or "none (the scanner's own numbers)")]
    if geometry is None:
        return facts
    spacing = " × ".join(f"{value:.4g}" for value in geometry.spacing_mm)
    extent = " × ".join(f"{n * step:.0f}" for n, step in zip(geometry.shape, geometry.spacing_mm, strict=True))
    axes = ", ".join(f"{axis} to {_DIRECTIONS[code]}" for axis, code in zip("ijk", geometry.orientation, strict=True))
    grid = []
    if geometry.is_oblique:
        grid.append(f"oblique by {geometry.obliqueness_degrees:.1f}°")
    if geometry.is_sheared:
        grid.append(f"sheared by {geometry.shear_degrees:.1f}° (gantry tilt)")
    return [
        *facts,
        ("Voxels", " × ".join(str(n) for n in geometry.shape)),
        ("Spacing", f"{spacing} mm"),
        ("Extent", f"{extent} mm"),
        ("Voxel volume", f"{geometry.voxel_volume_mm3:.4g} mm³"),
        ("Orientation", f"{geometry.orientation} ({axes})"),
        ("Grid", ", ".join(grid) or "along the patient axes"),
    ]


def findings_context(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
    """Return the findings, the gravest first, without anything private in their details."""
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


def verdict(findings: tuple[Finding, ...]) -> tuple[str, str]:
    """Return the class and the sentence that open the report."""
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


def truth_context(table: MeasurementTable, truth: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the rows that put measured beside known volumes."""
    if truth is None:
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
        for row in compare_with_truth(table, truth)
    ]


def scores_context(scores: Scores | None) -> dict[str, Any] | None:
    """Return the scores of `medseg evaluate` as the template shows them."""
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


def provenance_context(provenance: Provenance) -> dict[str, Any]:
    """Return what ran, for people: steps, inputs by hash, model card, run and versions."""
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


def methods_context(text: MethodsText) -> dict[str, Any]:
    """Return the text for a paper with numbered references; raises ReportNumberError for a number that is not in the data."""
    text.check()
    numbers = {entry.key: n for n, entry in enumerate(text.citations, start=1)}

    def numbered(match: re.Match[str]) -> str:
        keys = [key.strip().removeprefix("@") for key in match.group(1).split(";")]
        return " [" + ", ".join(str(numbers[key]) for key in keys if key in numbers) + "]"

    return {
        "paragraph": _MARK.sub(numbered, text.paragraph),
        "result": text.result,
        "references": [{"text": entry.text, "address": entry.address} for entry in text.citations],
        "licences": [one.to_dict() for one in text.licences],
        "bibtex": text.bibtex,
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
