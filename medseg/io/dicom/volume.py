"""A DICOM series as a Volume, or the reasons why it is none."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.core.errors import InconsistentSeriesError, InputError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity, errors_in
from medseg.core.geometry import Geometry
from medseg.core.volume import Source, Volume
from medseg.io.dicom.audit import UNREADABLE_CODES, UNSUPPORTED_CODES, audit, has_geometry
from medseg.io.dicom.find import Series, find_series
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.pixels import read_pixels
from medseg.io.dicom.sort import measure_stack, stack_affine
from medseg.io.dicom.split import Stack, split
from medseg.io.report import VolumeReport

_PET_UNITS = {"BQML": "Bq/ml", "GML": "g/ml"}
_HOUNSFIELD = frozenset({"", "HU", "US"})  # older scanners write US, unspecified; only multi-energy images hold something else
_SELECTION = re.compile(r"(?P<uid>[^#]*)(#(?P<number>\d+))?")
_SPLIT_CODES = {"orientation": "MIXED_ORIENTATION", "size": "MIXED_SIZE"}


@dataclass(frozen=True)
class AuditedStack:
    """One stack of a series with all that was found; `slices` are in the order of the k axis where no error forbids it."""

    slices: tuple[SliceHeader, ...]
    findings: tuple[Finding, ...]
    description: str = ""


def read_series(path: str | os.PathLike[str], series: str | None = None, threads: int = 1) -> Volume:
    """Read the DICOM series in a file or below a folder as a Volume.

    `series` chooses among several: a SeriesInstanceUID, the beginning of one, or UID#n for the n-th stack of a series
    that holds several (phases, echoes). The k axis runs along the slice normal; its step comes from the positions, a
    tilted stack keeps its shear. Raises InputError where a choice is needed, InconsistentSeriesError (with findings)
    where the slices do not form one volume, UnreadableFileError or UnsupportedFormatError where files are damaged or of
    a kind that is not read.
    """
    chosen, number = _choose(find_series(path), series, os.fspath(path))
    stacks = audited_stacks(chosen)
    if number is None and len(stacks) > 1:
        raise InconsistentSeriesError(_several(chosen, stacks), (_ambiguity(chosen, stacks),))
    if number is not None and not 1 <= number <= len(stacks):
        raise InputError(f"series {chosen.series_uid} holds {len(stacks)} stack(s), there is no #{number}")
    stack = stacks[(number or 1) - 1]
    refuse_errors(chosen, stack.findings)
    array, padding = read_pixels(stack.slices, threads)
    return Volume(
        array.T,
        stack_geometry(stack.slices),
        modality=chosen.modality,
        unit=_unit(stack.slices[0]),
        source=Source(
            path=os.fspath(path),
            format="dicom",
            series_uid=chosen.series_uid or None,
            files=tuple(header.path for header in stack.slices),
            sop_instance_uids=tuple(header.sop_instance_uid for header in stack.slices),
        ),
        findings=(*stack.findings, *padding),
    )


def inspect_series(series: Series) -> VolumeReport:
    """Report what reading a series would give, from its headers alone (pixels are compared only where slices coincide)."""
    stacks = audited_stacks(series)
    findings = stacks[0].findings
    if len(stacks) > 1:
        findings = (_ambiguity(series, stacks), *findings)
    geometry = None
    if all(finding.code not in _GRIDLESS for finding in errors_in(findings)):
        geometry = stack_geometry(stacks[0].slices)
    return VolumeReport(
        path=series.folder,
        format="DICOM",
        modality=series.modality,
        series_uid=series.series_uid or None,
        geometry=geometry,
        findings=findings,
        unit=_unit(stacks[0].slices[0]),
        slice_count=len(stacks[0].slices),
        error="; ".join(finding.message for finding in errors_in(findings)) or None,
    )


# With one of these no grid can be given; with other errors the grid of the stack is still shown
_GRIDLESS = UNSUPPORTED_CODES | {
    "MISSING_GEOMETRY", "BAD_ORIENTATION", "BAD_PIXEL_SPACING", "TOO_FEW_SLICES", "AMBIGUOUS_SERIES", "MIXED_ORIENTATION",
    "MIXED_SIZE", "MIXED_PIXEL_SPACING", "MIXED_FRAME_OF_REFERENCE", "QUADRUPED", "MISSING_SLICES", "UNEVEN_SPACING",
    "SIDEWAYS_SHIFT",
}  # fmt: skip


def audited_stacks(series: Series) -> tuple[AuditedStack, ...]:
    """Split a series into stacks, sort each along its normal and audit it; broken files beside it count against all."""
    stacks, notes = split(series.slices)
    if max(len(stack.slices) for stack in stacks) == 1:
        stacks = (Stack(tuple(header for stack in stacks for header in stack.slices)),)  # single images: nothing to choose from
    return tuple(_audited(stack, (*_broken(series), *notes)) for stack in stacks)


def stack_geometry(slices: Sequence[SliceHeader]) -> Geometry:
    """Return the grid of slices in the order of the k axis."""
    shape = (slices[0].columns, slices[0].rows, len(slices))
    frames = [header.frame_of_reference_uid for header in slices if header.frame_of_reference_uid]
    return Geometry(shape, stack_affine(slices), frames[0] if frames else None)


def refuse_errors(series: Series, findings: Sequence[Finding]) -> None:
    """Raise what the errors among findings call for; do nothing where there is none."""
    errors = errors_in(findings)
    if not errors:
        return
    codes = {finding.code for finding in errors}
    reasons = "; ".join(f"{finding.code}: {finding.message}" for finding in errors)
    message = f"{series.folder}: DICOM series {series.series_uid or '(without UID)'} cannot be read as a volume. {reasons}"
    if codes & UNSUPPORTED_CODES:
        raise UnsupportedFormatError(message)
    if codes & UNREADABLE_CODES:
        raise UnreadableFileError(message)
    raise InconsistentSeriesError(message, findings)


def _audited(stack: Stack, notes: tuple[Finding, ...]) -> AuditedStack:
    findings = (*notes, *stack.findings, *audit(stack.slices))
    slices = stack.slices
    if all(has_geometry(header) for header in slices):
        slices = tuple(slices[i] for i in measure_stack(slices).order)
    return AuditedStack(slices, findings, stack.description)


def _broken(series: Series) -> tuple[Finding, ...]:
    if not series.unreadable:
        return ()
    first = series.unreadable[0]
    text = (
        f"{len(series.unreadable)} broken file(s) beside the series, one of its slices may be among them:"
        f" {os.path.basename(first.path)}: {first.reason}; copy them again, or move them away if they are no images"
    )
    return (Finding("UNREADABLE_FILE", Severity.ERROR, text, {"count": len(series.unreadable)}),)


def _choose(found: Sequence[Series], wanted: str | None, path: str) -> tuple[Series, int | None]:
    number: int | None = None
    candidates = list(found)
    if wanted is not None:
        match = _SELECTION.fullmatch(wanted.strip())
        if match is None:
            raise InputError(f"{wanted!r} names no series: give a SeriesInstanceUID, its beginning, or UID#n")
        number = int(match["number"]) if match["number"] else None
        exact = [one for one in found if one.series_uid == match["uid"]]
        candidates = exact or [one for one in found if one.series_uid.startswith(match["uid"])]
        if not candidates:
            raise InputError(f"{path}: no series {wanted!r}; there are:\n{_listed(found)}")
    if len(candidates) > 1:
        raise InputError(
            f"{path}: {len(candidates)} series; choose one with --series UID (its beginning is enough):\n{_listed(candidates)}"
        )
    return candidates[0], number


def _listed(found: Sequence[Series]) -> str:
    return "\n".join(f"  {one.series_uid or '(without UID)'}  {one.modality}  {len(one.slices)} slices" for one in found)


def _several(series: Series, stacks: Sequence[AuditedStack]) -> str:
    rows = "\n".join(
        f"  {series.series_uid}#{n}  {len(stack.slices)} slices  {stack.description}" for n, stack in enumerate(stacks, start=1)
    )
    return f"{series.folder}: {_ambiguity(series, stacks).message}; choose one with --series UID#n:\n{rows}"


def _ambiguity(series: Series, stacks: Sequence[AuditedStack]) -> Finding:
    fields = {part.split(" ")[0] for stack in stacks for part in stack.description.split(", ") if part}
    code = next((_SPLIT_CODES[name] for name in sorted(fields) if name in _SPLIT_CODES), "MIXED_SERIES")
    text = f"DICOM series {series.series_uid or '(without UID)'} holds {len(stacks)} stacks that differ by {', '.join(sorted(fields))}"
    groups = [
        {"select": f"{series.series_uid}#{n}", "slices": len(stack.slices), "differs": stack.description}
        for n, stack in enumerate(stacks, start=1)
    ]
    return Finding(code, Severity.ERROR, text, {"stacks": groups})


def _unit(header: SliceHeader) -> str:
    if header.modality == "CT":
        kind = header.texts["rescale_type"]
        return "HU" if kind in _HOUNSFIELD else kind
    return _PET_UNITS.get(header.texts["pet_units"], "")
