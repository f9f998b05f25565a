"""Jobs about lesions: each with its diameters, and how they change from one scan to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medseg.core.errors import InputError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.layers import segments_of
from medseg.core.volume import Volume
from medseg.measurement.change import TimePoint
from medseg.measurement.change import change as compare
from medseg.measurement.diameters import PlaneName
from medseg.measurement.lesion_organs import without_segments
from medseg.measurement.lesions import LesionTable
from medseg.measurement.lesions import lesions as measure_lesions
from medseg.measurement.measurable import is_lymph_node
from medseg.slicer_bridge.jobs import Job, LabelsRef, ScanRef
from medseg.slicer_bridge.worker_context import Context
from medseg.slicer_bridge.worker_data import on_grid_of, read_labels, write_layers
from medseg.slicer_bridge.worker_jobs import as_json

PLANES = ("acquired", "axial", "coronal", "sagittal")
REGISTRATIONS = ("auto", "none", "rigid", "deformable")


def lesions(context: Context) -> dict[str, Any]:
    """Return the document of `medseg lesions --json` and the lesions as segments of their own."""
    labels, ref = context.job.labels(), context.job.scan()
    assert labels is not None  # a required field
    base = context.base
    table, volume, findings = _table(context, labels, ref)
    found = (*(volume.findings if volume is not None else ()), *findings)
    context.findings(found)
    document = table.to_dict() | {"findings": as_json(found), "reading": {}}
    masks = write_layers(table.layers, base, labels).to_json() if table.lesions else None
    return {"document": document, "labels": masks}


def change(context: Context) -> dict[str, Any]:
    """Return the document of `medseg change --json`: lesions matched over time, growth told from measurement error."""
    job = context.job
    scans, labels = job.get("scans", ()), job["labels"]
    wanted = job.get("registration", "auto")
    _check(job, scans, labels, wanted)
    points: list[TimePoint] = []
    findings: list[Finding] = []
    for n, ref in enumerate(labels):
        name = "base" if n == 0 else f"follow-up {n}"
        context.progress(f"measuring {name}", n, len(labels))
        table, volume, found = _table(context, ref, scans[n] if scans else None)
        findings += [replace(one, message=f"{name}: {one.message}") for one in (*(volume.findings if volume else ()), *found)]
        days = job.get("days", ())
        points.append(TimePoint(replace(table, findings=()), days=_day(days, n), name=name, volume=volume))
    if not job.get("days"):
        text = "the dates of the scans are not known, so there are no doubling times: give the days since the first scan"
        findings.append(Finding("DAYS_UNKNOWN", Severity.INFO, text))
    points = _aligned(context, points, wanted, findings)
    context.findings(findings)
    context.progress("comparing", 0, 1)
    done = compare(
        points[0],
        points[1:],
        repeatability_percent=job.get("repeatability_percent", 0.0),
        volumetric=job.get("volumetric", False),
    )
    return {"document": done.to_dict() | {"findings": as_json(tuple(findings)), "reading": {}}}


def _day(days: Sequence[float | None], n: int) -> float | None:
    return days[n] if days else 0.0 if n == 0 else None


def _check(job: Job, scans: Sequence[ScanRef], labels: Sequence[LabelsRef], wanted: str) -> None:
    if len(labels) < 2:
        raise InputError("a change needs two scans at least: choose the first one and one or more that followed")
    for name, given in (("scans", scans), ("days", job.get("days", ()))):
        if given and len(given) != len(labels):
            raise InputError(f"{name} are given once for each time point: {len(labels)} times, not {len(given)}")
    if wanted not in REGISTRATIONS:
        raise ParameterError(f"registration is one of {', '.join(REGISTRATIONS)}, not {wanted!r}")
    if wanted in ("rigid", "deformable") and not scans:
        raise InputError(f"registration {wanted} needs the scans: choose one for each segmentation")


def _table(context: Context, labels: LabelsRef, ref: ScanRef | None) -> tuple[LesionTable, Volume | None, tuple[Finding, ...]]:
    job = context.job
    volume = context.scans.get(ref) if ref is not None else None
    layers = read_labels(labels)
    if volume is not None:
        layers = on_grid_of(layers, volume.geometry)
    plane: PlaneName = job.get("plane", "acquired")
    if plane not in PLANES:
        raise ParameterError(f"plane is one of {', '.join(PLANES)}, not {plane!r}")
    nodes = job.get("nodes", ())
    chosen, organs, notes = _chosen(layers, job.get("chosen", ()), nodes)
    table = measure_lesions(
        layers,
        volume,
        segments=chosen,
        organs=organs or None,
        connectivity=None if job.get("whole", False) else 26,
        keep_at_least_mm3=job.get("keep_at_least_mm3", 0.0),
        plane=plane,
        nodes=nodes,
    )
    return table, volume, (*notes, *table.findings)


def _chosen(
    layers: Sequence[LabelMap], names: Sequence[str], nodes: Sequence[str]
) -> tuple[list[str | int], list[LabelMap], tuple[Finding, ...]]:
    """Return the segments that hold lesions, the others as organs, and what was decided where nothing was chosen."""
    from medseg.reporting.places import is_lesion

    known = segments_of(layers)
    if names:
        return [*names, *nodes], without_segments(layers, {*names, *nodes}, set()), ()
    found = [one for one in known if is_lesion(one) or is_lymph_node(one) or one.label in nodes]
    if not found or len(found) == len(known):
        text = f"no segment is named or coded as a lesion: the parts of all {len(known)} are listed. Choose those that hold lesions"
        unnamed = (Finding("LESION_SEGMENTS_UNNAMED", Severity.INFO, text, {"segments": len(known)}),)
        return [one.number for one in known], [], () if found or len(known) < 2 else unnamed
    taken, left = [one.label for one in found], [one.label for one in known if one not in found]
    text = f"lesions are the parts of {_listed(taken)}; taken as organs: {_listed(left)}"
    note = Finding("LESION_SEGMENTS_CHOSEN", Severity.INFO, text, {"lesions": taken, "organs": left})
    return [one.number for one in found], without_segments(layers, (), {one.number for one in found}), (note,)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _aligned(context: Context, points: Sequence[TimePoint], wanted: str, findings: list[Finding]) -> list[TimePoint]:
    """Return every follow-up with the way between it and base."""
    from medseg.preprocessing.registration import already_aligned, refuse_failed, register

    base = points[0]
    made = [base]
    for n, point in enumerate(points[1:], 1):
        kind = wanted
        if wanted == "auto":
            is_one_frame = already_aligned(base.lesions.layers[0].geometry, point.lesions.layers[0].geometry)
            kind = "rigid" if not is_one_frame and base.volume is not None and point.volume is not None else "none"
            if kind == "none":
                findings.append(_unregistered(point.name, is_one_frame))
        if kind == "none" or base.volume is None or point.volume is None:
            made.append(replace(point, registration={"kind": "none"}))
            continue
        context.progress(f"registering {point.name}", n, len(points))
        found = register(base.volume, point.volume, deformable=kind == "deformable")
        refuse_failed([found])
        findings += [replace(one, message=f"{point.name}: {one.message}") for one in found.findings]
        made.append(replace(point, to_here=found.to_moving, to_base=found.to_fixed, registration=found.to_dict()))
    return made


def _unregistered(name: str, is_one_frame: bool) -> Finding:
    if is_one_frame:
        text = f"{name}: names the same frame of reference as base: positions are compared as they are"
        return Finding("SAME_FRAME_OF_REFERENCE", Severity.INFO, text)
    text = (
        f"{name}: is compared with base as the positions are, because the scans were not given: where the patient lay differently,"
        " lesions look new and gone. Choose the scan of each segmentation"
    )
    return Finding("NOT_REGISTERED", Severity.WARNING, text)
