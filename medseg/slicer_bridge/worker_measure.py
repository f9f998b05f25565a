"""Jobs that measure: the table of a segmentation, and what the checks say about a scan before any number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg.core.advice import advice_on
from medseg.core.errors import MedsegError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.volume import Volume
from medseg.slicer_bridge.jobs import LabelsRef, ScanRef
from medseg.slicer_bridge.worker_context import Context
from medseg.slicer_bridge.worker_data import on_grid_of, read_labels
from medseg.slicer_bridge.worker_jobs import as_json


def measure(context: Context) -> dict[str, Any]:
    """Return the document of `medseg measure --json`; findings are sent before it."""
    table, findings = measured(context)
    context.findings(findings)
    return {"document": table.to_dict() | {"findings": as_json(findings), "reading": {}}}


def measured(context: Context) -> tuple[MeasurementTable, tuple[Finding, ...]]:
    """Measure the labels of a job on its scan: a scan in files as the command does, which knows its true slices."""
    job = context.job
    labels, ref = job.labels(), job.scan()
    assert labels is not None  # a required field
    if ref is not None and ref.path:
        return _measured_on_files(context, labels, ref)
    volume = context.scans.get(ref) if ref is not None else None
    if volume is not None:
        context.findings(volume.findings)
    layers = read_labels(labels)
    return _measured(context, on_grid_of(layers, volume.geometry) if volume is not None else layers, volume)


def _measured_on_files(context: Context, labels: LabelsRef, ref: ScanRef) -> tuple[MeasurementTable, tuple[Finding, ...]]:
    """Let the command's own function measure a passing file on the scan's files: uneven slices keep their true widths."""
    from medseg.io.measure_options import MeasureOptions
    from medseg.io.measured import measure_file
    from medseg.io.options import ReadOptions
    from medseg.io.write import write

    job = context.job
    passing = Path(f"{context.base}-measured.seg.nrrd")
    options = MeasureOptions(tuple(job.get("percentiles", ())), tuple(job.get("features", ())), tuple(job.get("segments", ())))
    try:
        write(read_labels(labels), passing)
        done = measure_file(passing, ref.path, ReadOptions(series=ref.series), options)
    finally:
        passing.unlink(missing_ok=True)
    return done.table, done.findings


def _measured(context: Context, layers: tuple[LabelMap, ...], volume: Volume | None) -> tuple[MeasurementTable, tuple[Finding, ...]]:
    from medseg.io.measure_options import MeasureOptions
    from medseg.io.measured import measure_layers

    job = context.job
    options = MeasureOptions(tuple(job.get("percentiles", ())), tuple(job.get("features", ())), tuple(job.get("segments", ())))
    done = measure_layers(layers, volume, options)
    return done.table, done.findings


def audit(context: Context) -> dict[str, Any]:
    """Return what the checks of a scan found, each with what to do; a scan that cannot be read has its reason as an error."""
    ref = context.job.scan()
    assert ref is not None  # a required field
    try:
        volume = context.scans.get(ref)
    except MedsegError as err:
        findings = tuple(getattr(err, "findings", ())) or (_refused(err),)
        context.findings(findings)
        return {"usable": False, "reason": str(err), "findings": _advised(findings), "geometry": None}
    findings = (*volume.findings, *grid_findings(volume))
    context.findings(findings)
    usable = not any(finding.severity is Severity.ERROR for finding in findings)
    about = {"modality": volume.modality, "unit": volume.unit}
    return {"usable": usable, "reason": "", "findings": _advised(findings), "geometry": volume.geometry.to_dict() | about}


def _refused(err: MedsegError) -> Finding:
    from medseg.io.file_report import code_of

    return Finding(code_of(err), Severity.ERROR, str(err))


def _advised(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
    return [finding.to_dict() | {"advice": advice_on(finding).to_dict()} for finding in findings]


def grid_findings(volume: Volume) -> tuple[Finding, ...]:
    """Return what the grid of a host's array gives away, where no reader has said it: axes that are not at right angles."""
    grid = volume.geometry
    found = []
    said = {finding.code for finding in volume.findings}
    if grid.is_sheared and not said & {"GANTRY_TILT", "SHEARED_GRID"}:
        text = f"the axes lie {grid.shear_degrees:.1f}° from a right angle (gantry tilt): volumes are counted with the true voxel"
        found.append(Finding("SHEARED_GRID", Severity.INFO, text, {"shear_degrees": grid.shear_degrees}))
    return tuple(found)
