"""A DICOM series as a Volume, or the reasons why it is none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from medseg.core.errors import InconsistentSeriesError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, errors_in
from medseg.core.geometry import Geometry
from medseg.core.volume import Source, Volume
from medseg.io.dicom.audit import AuditedStack, Placement, audited_stacks
from medseg.io.dicom.checks_kind import UNREADABLE_CODES, UNSUPPORTED_CODES
from medseg.io.dicom.choose import ambiguity, choose_series, choose_stack, errors_elsewhere
from medseg.io.dicom.fields import shown
from medseg.io.dicom.find import Series, find_series, series_of
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.in_plane import resample_in_plane
from medseg.io.dicom.pixels import read_pixels
from medseg.io.dicom.series_report import series_audit
from medseg.io.dicom.sort import FloatArray, stack_affine
from medseg.io.dicom.uneven import Layout, on_grid, slice_origins
from medseg.io.options import ReadOptions
from medseg.io.report import VolumeReport

_PET_UNITS = {"BQML": "Bq/ml", "GML": "g/ml"}
_HOUNSFIELD = frozenset({"", "HU", "US"})  # older scanners write US, unspecified; only multi-energy images hold something else


@dataclass(frozen=True, eq=False)
class NativeStack:
    """The slices of a stack as they were scanned, before anything was resampled: what a fault is priced from.

    `slices` are in the order of k; `positions_mm` (n,) are their places along the normal, rising; `origins_mm` (n,3) their
    first pixels in RAS mm; `plane` maps (i,j,0) of the first slice to RAS mm. `geometry` is the grid that reading gives and
    `layout` how its slices come from these; `is_even` says that they are the same.
    """

    slices: tuple[SliceHeader, ...]
    plane: FloatArray
    origins_mm: FloatArray
    pixel_area_mm2: float
    positions_mm: tuple[float, ...]
    sop_instance_uids: tuple[str, ...]
    usual_gap_mm: float
    is_even: bool
    layout: Layout
    geometry: Geometry
    findings: tuple[Finding, ...] = ()


def read_series(path: str | os.PathLike[str], options: ReadOptions | None = None, threads: int | None = None) -> Volume:
    """Read the DICOM series in a file or below a folder as a Volume.

    `options` chooses among several series or stacks and holds the ways past a refusal. The k axis runs along the slice
    normal; its step comes from the positions, a tilted stack keeps its shear. A stack at uneven distances is resampled along
    the stack on true positions. Raises InputError where a choice is needed, InconsistentSeriesError (with findings) where the
    slices do not form one volume, UnreadableFileError or UnsupportedFormatError where files are damaged or of a kind that
    is not read.
    """
    options = options or ReadOptions()
    series, number, notes = choose_series(find_series(path), options.series, os.fspath(path))
    stack, selected = choose_stack(series, audited_stacks(series, options), options, number)
    return _volume(path, series, stack, (*notes, *selected), threads)


def read_series_files(files: Sequence[str | os.PathLike[str]], options: ReadOptions | None = None, threads: int | None = None) -> Volume:
    """Read exactly these files as one series: none is passed over. Raises what `read_series` raises."""
    options = options or ReadOptions()
    series = series_of(files)
    stack, selected = choose_stack(series, audited_stacks(series, options), options)
    return _volume(series.path, series, stack, selected, threads)


def read_series_volumes(path: str | os.PathLike[str], options: ReadOptions | None = None, threads: int | None = None) -> list[Volume]:
    """Read every stack of a series (time points, echoes, b-values) in order, each as `read_series` does; one for a 3D series.

    A choice among the options is kept. Raises what `read_series` raises.
    """
    options = options or ReadOptions()
    series, number, notes = choose_series(find_series(path), options.series, os.fspath(path))
    stacks = audited_stacks(series, options)
    if number is not None or options.select is not None or options.volume_index is not None:
        stack, selected = choose_stack(series, stacks, options, number)
        return [_volume(path, series, stack, (*notes, *selected), threads)]
    return [_volume(path, series, stack, notes, threads) for stack in stacks if not stack.left_out]


def inspect_series(series: Series, options: ReadOptions | None = None) -> VolumeReport:
    """Report what reading a series would give, from its headers alone (pixels are compared only where slices coincide)."""
    options = options or ReadOptions()
    stacks = audited_stacks(series, options)
    try:
        stack, notes = choose_stack(series, stacks, options)
        chosen: AuditedStack | None = stack
    except InconsistentSeriesError:
        stack, notes, chosen = stacks[0], (ambiguity(series, stacks),), None
    findings = (*notes, *stack.findings, *(errors_elsewhere(stacks) if chosen is None else ()))
    return VolumeReport(
        path=series.folder,
        format="DICOM",
        modality=series.modality,
        series_uid=series.series_uid or None,
        geometry=_reported_geometry(stack),
        findings=findings,
        unit=_unit(stack.slices[0]),
        slice_count=len(stack.slices),
        error="; ".join(finding.message for finding in errors_in(findings)) or None,
        audit=series_audit(series, stacks, chosen, findings),
    )


def native_stack(path_or_series: str | os.PathLike[str] | Series, options: ReadOptions | None = None) -> NativeStack:
    """Return the scanned slices of the stack that `read_series` would read, also where it would refuse missing slices.

    Raises what `read_series` raises for every other error.
    """
    options = options or ReadOptions()
    if isinstance(path_or_series, Series):
        series, number = path_or_series, None
    else:
        series, number, _ = choose_series(find_series(path_or_series), options.series, os.fspath(path_or_series))
    stack, _ = choose_stack(series, audited_stacks(series, options), options, number)
    refuse_errors(series, [finding for finding in stack.findings if finding.code != "MISSING_SLICES"])
    placement = _placement(series, stack)
    rows, columns = stack.placed[0].pixel_spacing or (0.0, 0.0)
    return NativeStack(
        slices=stack.slices,
        plane=stack_affine(stack.placed[:1]),
        origins_mm=slice_origins(stack.placed),
        pixel_area_mm2=rows * columns,
        positions_mm=tuple(float(place) for place in placement.stack.positions_mm),
        sop_instance_uids=tuple(header.sop_instance_uid for header in stack.slices),
        usual_gap_mm=placement.stack.usual_gap_mm,
        is_even=placement.layout.is_native,
        layout=placement.layout,
        geometry=placement.geometry,
        findings=stack.findings,
    )


def stack_geometry(slices: Sequence[SliceHeader]) -> Geometry:
    """Return the grid of even slices in the order of the k axis."""
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
    message = f"{series.folder}: DICOM series {shown(series.series_uid or '(without UID)')} cannot be read as a volume. {reasons}"
    if codes & UNSUPPORTED_CODES:
        raise UnsupportedFormatError(message)
    if codes & UNREADABLE_CODES:
        raise UnreadableFileError(message)
    raise InconsistentSeriesError(message, findings)


def _volume(path: str | os.PathLike[str], series: Series, stack: AuditedStack, notes: Sequence[Finding], threads: int | None) -> Volume:
    refuse_errors(series, stack.findings)
    placement = _placement(series, stack)
    array, padding = read_pixels(stack.slices, threads)
    return Volume(
        _on_grid(array, stack.slices, placement).T,
        placement.geometry,
        modality=series.modality,
        unit=_unit(stack.slices[0]),
        source=Source(
            path=os.fspath(path),
            format="dicom",
            series_uid=series.series_uid or None,
            files=tuple(header.path for header in stack.slices),
            sop_instance_uids=tuple(header.sop_instance_uid for header in stack.slices),
        ),
        findings=(*notes, *stack.findings, *padding),
    )


def _on_grid(array: npt.NDArray[Any], slices: Sequence[SliceHeader], placement: Placement) -> npt.NDArray[Any]:
    if placement.plane is not None:
        array = resample_in_plane(array, slices, placement.plane)
    return on_grid(array, placement.layout)


def _placement(series: Series, stack: AuditedStack) -> Placement:
    if stack.placement is None:  # pragma: no cover - every such stack has an error of its own
        raise InconsistentSeriesError(f"{series.folder}: the slices form no grid", stack.findings)
    return stack.placement


# With one of these no grid is shown, as it would not be that of a volume
_GRIDLESS = frozenset({"MISSING_SLICES", "SIDEWAYS_SHIFT", "QUADRUPED"})


def _reported_geometry(stack: AuditedStack) -> Geometry | None:
    if stack.placement is None or any(finding.code in _GRIDLESS for finding in errors_in(stack.findings)):
        return None
    return stack.placement.geometry


def _unit(header: SliceHeader) -> str:
    if header.modality == "CT":
        kind = header.texts["rescale_type"]
        return "HU" if kind in _HOUNSFIELD else kind
    return _PET_UNITS.get(header.texts["pet_units"], "")
