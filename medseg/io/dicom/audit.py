"""What is wrong with the stacks of a series, each fault with a code, a severity and its figures in mm.

An error forbids reading: the stack does not describe one volume on one grid. Everything is judged from headers; pixels are
compared only where slices coincide. `fault_codes.CODES` lists every code with its row of the catalogue of faults.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medseg.core.errors import InputError
from medseg.core.finding import Finding, errors_in
from medseg.core.geometry import Geometry
from medseg.io.dicom import checks_kind, checks_place, checks_positions
from medseg.io.dicom.checks_kind import UNREADABLE_CODES, UNSUPPORTED_CODES
from medseg.io.dicom.find import Series
from medseg.io.dicom.found import error, files_named, warning
from medseg.io.dicom.gaps import Gaps, find_gaps
from medseg.io.dicom.given import with_spacing
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.in_plane import PlaneGrid, common_grid, has_mixed_spacing, on_plane_grid
from medseg.io.dicom.mosaic_names import as_plain_slices
from medseg.io.dicom.sort import StackGeometry, has_geometry, is_sound_spacing, measure_stack, position_groups
from medseg.io.dicom.split import split
from medseg.io.dicom.stack import Stack
from medseg.io.dicom.uneven import Layout, lay_out, layout_affine
from medseg.io.options import ReadOptions

__all__ = ["UNREADABLE_CODES", "UNSUPPORTED_CODES", "AuditedStack", "Placement", "audited_stacks"]


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the slices of a stack lie: their measures, their holes, the grid they are brought onto.

    `plane` is the common grid in plane of slices of mixed pixel spacing, None where they share one.
    """

    stack: StackGeometry
    gaps: Gaps
    layout: Layout
    plane: PlaneGrid | None
    geometry: Geometry


@dataclass(frozen=True)
class AuditedStack:
    """One stack of a series with all that was found.

    `slices` are in the order of the k axis where they can be ordered, `placed` the same ones as they lie on the grid (changed
    where the user gave a spacing or asked for one grid in plane); `placement` is None where no grid can be given. `differs`
    names what tells it from the other stacks; `left_out` is the code of why it is no part of the scan, "" where it is.
    """

    slices: tuple[SliceHeader, ...]
    placed: tuple[SliceHeader, ...]
    findings: tuple[Finding, ...]
    placement: Placement | None = None
    differs: tuple[tuple[str, str], ...] = ()
    description: str = ""
    left_out: str = ""


def audited_stacks(series: Series, options: ReadOptions | None = None) -> tuple[AuditedStack, ...]:
    """Split a series into stacks, sort each along its normal and audit it; broken files beside it count against all.

    Stacks that are no part of the scan come last.
    """
    options = options or ReadOptions()
    slices, given = as_plain_slices(series.slices)
    if options.spacing_mm is not None:
        slices, spaced = with_spacing(slices, options.spacing_mm)
        given = (*given, *spaced)
    stacks, notes = split(slices)
    kept = [stack for stack in stacks if not stack.left_out]
    if len(kept) > 1 and all(_is_flat(stack) for stack in kept):
        kept = [Stack(tuple(header for stack in kept for header in stack.slices))]  # single images: nothing to choose from
    rest = [stack for stack in stacks if stack.left_out]
    repeated = checks_kind.repeated_uids([header for stack in kept for header in stack.slices])
    common = (*_broken(series), *_frames(series.slices), *given, *_folders(series), *repeated, *notes)
    numbers = frozenset(header.instance_number for header in series.slices if header.instance_number is not None)
    return tuple(_audited(stack, common, options, numbers) for stack in (*kept, *rest))


def _is_flat(stack: Stack) -> bool:
    """Whether all slices lie at one position."""
    return len(stack.slices) == 1 or (all(map(has_geometry, stack.slices)) and len(position_groups(stack.slices)) == 1)


def _audited(stack: Stack, notes: tuple[Finding, ...], options: ReadOptions, numbers: frozenset[int]) -> AuditedStack:
    auditor = _Auditor(stack.slices, options, numbers)
    auditor.run()
    return AuditedStack(
        slices=tuple(stack.slices[i] for i in auditor.order),
        placed=tuple(auditor.placed[i] for i in auditor.order),
        findings=(*notes, *stack.findings, *auditor.findings),
        placement=auditor.placement,
        differs=stack.differs,
        description=stack.description,
        left_out=stack.left_out,
    )


class _Auditor:
    """Checks one stack step by step; a step that needs what an earlier one found missing is not taken."""

    def __init__(self, slices: Sequence[SliceHeader], options: ReadOptions, numbers: frozenset[int]) -> None:
        self.slices = slices
        self.options = options
        self.numbers = numbers
        self.placed = list(slices)
        self.order = tuple(range(len(slices)))
        self.findings: list[Finding] = []
        self.placement: Placement | None = None

    def run(self) -> None:
        """Fill `findings`, `order` and `placement`."""
        self.findings += checks_kind.kind(self.slices)
        if errors_in(self.findings):
            return  # the other fields mean something else in such files
        for check in (
            checks_kind.remarks,
            checks_kind.storage,
            lambda slices: checks_kind.rescale(slices, self.options.assume_hu),
            checks_kind.identities,
            checks_place.places,
        ):  # type: Callable[[Sequence[SliceHeader]], Iterable[Finding]]
            self.findings += check(self.slices)
        if not all(has_geometry(header) for header in self.slices):
            return
        self.order = measure_stack(self.slices).order
        if not all(is_sound_spacing(header.pixel_spacing) for header in self.slices):
            return
        wrong = list(checks_place.one_grid(self.slices, self.options.resample_mixed))
        self.findings += wrong
        if any(finding.code == "MIXED_ORIENTATION" for finding in wrong):
            return
        self._positions(has_one_grid=not wrong)

    def _positions(self, has_one_grid: bool) -> None:
        self.findings += checks_positions.uniqueness(self.slices)
        if max(map(len, position_groups(self.slices))) > 1 or len(self.slices) == 1:
            return
        plane = self._plane() if has_one_grid else None
        slices = [self.slices[i] for i in self.order]
        placed = [self.placed[i] for i in self.order]
        stack = measure_stack(placed)
        gaps = find_gaps(stack, [header.numbers["slice_thickness"] for header in slices])
        layout = lay_out(stack, gaps)
        if gaps.are_combs:
            self.findings.append(checks_positions.combs(stack))
            return
        self.findings += checks_positions.missing(slices, stack, gaps, layout, self.options.allow_gaps)
        self.findings += checks_positions.evenness(stack, gaps, layout)
        if has_one_grid:  # corners of slices of different spacing do not lie above one another
            self.findings += checks_positions.lean(placed, stack)
        if not gaps.is_uneven:
            self.findings += checks_positions.nominal(slices, stack)
        self.findings += checks_positions.ends(slices, gaps, self.numbers)
        if has_one_grid:
            geometry = _geometry(placed, layout)
            self.placement = Placement(stack, gaps, layout, plane, geometry)

    def _plane(self) -> PlaneGrid | None:
        """The common grid of slices whose pixel spacing differs, where the user asked for one."""
        if not self.options.resample_mixed or not has_mixed_spacing(self.slices, checks_place.SPACING_SHARE):
            return None
        try:
            plane = common_grid(self.slices)
        except InputError as err:
            self.findings.append(error("MIXED_PIXEL_SPACING", str(err)))
            return None
        self.placed = on_plane_grid(self.slices, plane)
        i_mm, j_mm = plane.spacing_mm
        text = (
            f"slices of different pixel spacing were resampled in plane onto {plane.columns} × {plane.rows} pixels of {i_mm:.5g} ×"
            f" {j_mm:.5g} mm, as --resample-mixed asks; what a slice does not cover holds the lowest value"
        )
        self.findings.append(warning("MIXED_SPACING_RESAMPLED", text, spacing_mm=[i_mm, j_mm], columns=plane.columns, rows=plane.rows))
        return plane


def _geometry(placed: Sequence[SliceHeader], layout: Layout) -> Geometry:
    frames = [header.frame_of_reference_uid for header in placed if header.frame_of_reference_uid]
    shape = (placed[0].columns, placed[0].rows, len(layout.places_mm))
    return Geometry(shape, layout_affine(placed, layout), frames[0] if frames else None)


def _broken(series: Series) -> tuple[Finding, ...]:
    if not series.unreadable:
        return ()
    first = series.unreadable[0]
    text = (
        f"{len(series.unreadable)} broken file(s) beside the series, one of its slices may be among them:"
        f" {os.path.basename(first.path)}: {first.reason}; copy them again, or move them away if they are no images"
    )
    return (error("UNREADABLE_FILE", text, count=len(series.unreadable)),)


def _frames(slices: Sequence[SliceHeader]) -> tuple[Finding, ...]:
    """Multi-frame files that do not describe each of their frames."""
    frames: dict[str, set[int]] = {}
    for header in slices:
        frames.setdefault(header.path, set()).add(header.frame)
    short = [header for header in slices if not header.unusable and len(frames[header.path]) < header.frame_count]
    if not short:
        return ()
    first = replace(short[0], frame_count=1)
    text = (
        f"{files_named([first])} holds {short[0].frame_count} frames and describes {len(frames[first.path])}: where the others lie is"
        " unknown; export it again"
    )
    return (error("FRAMES_INCOMPLETE", text, count=len({header.path for header in short})),)


def _folders(series: Series) -> tuple[Finding, ...]:
    folders = {os.path.dirname(path) for path in series.files}
    if len(folders) < 2:
        return ()
    text = f"the files of the series lie in {len(folders)} folders and were taken together, as they name one series"
    return (warning("SEVERAL_FOLDERS", text, count=len(folders)),)
