"""The scans of `medseg change`: read, dated, registered to base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.lesions import chosen_segments as lesion_segments
from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity

if TYPE_CHECKING:
    from medseg.core.volume import Volume
    from medseg.io.lesion_files import LesionScan
    from medseg.io.options import ReadOptions
    from medseg.measurement.change import TimePoint
    from medseg.preprocessing.registration import Registration

_IN_FOLDER = ("segmentation.seg.nrrd", "segmentation.nii.gz", "segmentation.nii", "segmentation.nrrd", "segmentation.dcm")
_IN_LESIONS = ("lesions.seg.nrrd", "lesions.nii.gz", "lesions.nrrd", "instances.seg.nrrd", "instances.nii.gz")


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line, one place for the many options of reading lesions."""

    images: tuple[str, ...] = ()
    organs: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    days: tuple[float, ...] = ()
    registration: str = "auto"
    keep_at_least_mm3: float = 0.0
    plane: str = "acquired"
    is_whole: bool = False


def read_time_points(paths: Sequence[str], wishes: Wishes, reading: ReadOptions) -> tuple[list[TimePoint], list[Finding]]:
    """Return the time points, base first, and what was found on the way; raises what reading and registering raise."""
    from medseg.measurement.change import TimePoint
    from medseg.measurement.lesions import lesions

    _check(paths, wishes)
    files = [_segmentation_in(path) for path in paths]
    scans = []
    findings: list[Finding] = []
    points: list[TimePoint] = []
    for n, file in enumerate(files):
        scan = _read(file, wishes, n, reading)
        chosen, others, notes = lesion_segments(scan.layers, wishes.segments, wishes.nodes)
        name = "base" if n == 0 else f"follow-up {n}"
        table = lesions(
            scan.layers,
            scan.volume,
            segments=chosen,
            organs=scan.organs or others or None,
            connectivity=None if wishes.is_whole else 26,
            keep_at_least_mm3=wishes.keep_at_least_mm3,
            plane=wishes.plane,  # type: ignore[arg-type]
            nodes=wishes.nodes,
        )
        findings += [_of(name, finding) for finding in (*scan.findings, *notes, *table.findings)]
        scans.append(scan)
        points.append(TimePoint(replace(table, findings=()), name=name, volume=scan.volume))
    days, notes = _days(scans, files, wishes)
    findings += notes
    points = [replace(point, days=day) for point, day in zip(points, days, strict=True)]
    return _aligned(points, wishes.registration, findings)


def _check(paths: Sequence[str], wishes: Wishes) -> None:
    if len(paths) < 2:
        raise InputError("a change needs two scans at least: give the base and one or more follow-ups")
    for name, given, wanted in (
        ("--image", wishes.images, len(paths)),
        ("--organs", wishes.organs, len(paths)),
        ("--date", wishes.dates, len(paths)),
        ("--days", wishes.days, len(paths) - 1),
    ):
        if given and len(given) != wanted:
            what = "follow-up" if name == "--days" else "scan, base first"
            raise click.UsageError(f"{name} is given once for each {what}: {wanted} times, not {len(given)}")
    if wishes.dates and wishes.days:
        raise click.UsageError("--date and --days say the same: give one of them")
    if wishes.registration in ("rigid", "deformable") and not wishes.images:
        raise click.UsageError(f"--registration {wishes.registration} needs the scans: give --image once for each")


def _segmentation_in(path: str) -> str:
    """The segmentation a folder of `medseg run` or `medseg lesions` holds; any other path is taken as it is."""
    folder = Path(path)
    if not folder.is_dir():
        return path
    for name in (*_IN_FOLDER, *_IN_LESIONS):
        if (folder / name).is_file():
            return str(folder / name)
    return path


def _read(file: str, wishes: Wishes, n: int, reading: ReadOptions) -> LesionScan:
    from medseg.io.lesion_files import read_lesion_scan

    image = wishes.images[n] if wishes.images else None
    organs = wishes.organs[n] if wishes.organs else None
    return read_lesion_scan(file, image, reading, organs=organs)


def _days(scans: Sequence[LesionScan], files: Sequence[str], wishes: Wishes) -> tuple[list[float | None], list[Finding]]:
    """Days since base from the options, else from the headers; the dates themselves go no further."""
    from medseg.io.dicom.visit import day_of, days_between, visit_of

    if wishes.days:
        return [0.0, *wishes.days], []
    visits = [visit_of(scan.volume, file) for scan, file in zip(scans, files, strict=True)]
    findings = []
    people = {visit.patient for visit in visits if visit.patient is not None}
    if len(people) > 1:
        text = (
            "the headers of these scans name different patients: make sure that all are of one person "
            "(de-identified copies may carry different numbers)"
        )
        findings.append(Finding("DIFFERENT_PATIENTS", Severity.WARNING, text, {"patients": len(people)}))
    days = days_between([day_of(date) for date in wishes.dates] if wishes.dates else [visit.day for visit in visits])
    if any(day is None for day in days):
        text = "the date of a scan is not known, so there are no doubling times: give --date for each scan or --days for each follow-up"
        findings.append(Finding("DAYS_UNKNOWN", Severity.INFO, text))
    return days, findings


def _aligned(points: Sequence[TimePoint], wanted: str, findings: list[Finding]) -> tuple[list[TimePoint], list[Finding]]:
    """Every follow-up with the way between it and base."""
    from medseg.preprocessing.registration import refuse_failed

    base = points[0]
    made = [base]
    for n, point in enumerate(points[1:], start=1):
        kind, note = _kind(base, point, wanted)
        findings += [_of(point.name, note)] if note else []
        if kind == "none":
            made.append(replace(point, registration={"kind": "none"}))
            continue
        registration = _register(base.volume, point.volume, kind)
        refuse_failed([registration])
        findings += [_of(f"follow-up {n}", finding) for finding in registration.findings]
        made.append(replace(point, to_here=registration.to_moving, to_base=registration.to_fixed, registration=registration.to_dict()))
    return made, findings


def _kind(base: TimePoint, point: TimePoint, wanted: str) -> tuple[str, Finding | None]:
    """Which registration is done, and what a reader must know about that."""
    from medseg.preprocessing.registration import already_aligned

    if wanted != "auto":
        return wanted, None
    if already_aligned(base.lesions.layers[0].geometry, point.lesions.layers[0].geometry):
        text = "names the same frame of reference as base: positions are compared as they are"
        return "none", Finding("SAME_FRAME_OF_REFERENCE", Severity.INFO, text)
    if base.volume is not None and point.volume is not None:
        return "rigid", None
    text = (
        "is compared with base as the positions are, without registration, because the scans were not given: where the patient lay "
        "differently, lesions look new and gone. Give --image for each scan, or say --registration none where they lie in one frame"
    )
    return "none", Finding("NOT_REGISTERED", Severity.WARNING, text)


def _register(fixed: Volume | None, moving: Volume | None, kind: str) -> Registration:
    from medseg.preprocessing.registration import register

    if fixed is None or moving is None:
        raise click.UsageError(f"--registration {kind} needs the scans: give --image once for each")
    return register(fixed, moving, deformable=kind == "deformable")


def _of(name: str, finding: Finding) -> Finding:
    return replace(finding, message=f"{name}: {finding.message}")
