"""Where the slices of a stack lie: one a position, at even distances, none missing, straight above one another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from medseg.core.finding import Finding
from medseg.io.dicom.fields import disagreements
from medseg.io.dicom.found import error, files_named, warning
from medseg.io.dicom.gaps import Gaps
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.sort import EVEN_MM, StackGeometry, position_groups
from medseg.io.dicom.uneven import Layout

EVEN_SHARE = 0.01  # a gap within this share of the usual one is as good as the usual one
TILT_DEGREES = 0.05  # a stack that leans more than this from its normal is tilted
TILT_PIXELS = 0.5  # or one that drifts sideways by more than half a pixel from first to last slice
BEND_PIXELS = 0.5  # slices further than this beside the line through first and last are shifted one by one
THICKNESS_SHARE = 0.01  # slice thickness further than this share from the distance of the slices is a gap or an overlap
FEW_SLICES = 4  # fewer slices make a volume whose ends weigh too much
MOST_PLACES = 4  # positions that a message lists


def uniqueness(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Does every position hold one slice, and are there several."""
    groups = position_groups(slices)
    if len(groups) == 1:
        text = (
            "one image is not a volume: give the folder of the whole series"
            if len(slices) == 1
            else f"{len(slices)} images all at one position are not a volume: a volume needs slices at different positions"
        )
        yield error("TOO_FEW_SLICES", text, slices=len(slices), positions=1)
        return
    shared = [group for group in groups if len(group) > 1]
    if shared:
        yield _ambiguous(slices, shared, len(groups))
    elif len(slices) < FEW_SLICES:
        text = f"only {len(slices)} slices: volumes measured on them are rough, as the two ends weigh too much"
        yield warning("TOO_FEW_SLICES", text, slices=len(slices))


def _ambiguous(slices: Sequence[SliceHeader], shared: Sequence[Sequence[int]], positions: int) -> Finding:
    tags = disagreements([slices[i] for i in shared[0]])
    told = ", ".join(f"{row['keyword']} {'/'.join(map(str, row['values']))}" for row in tags[:MOST_PLACES])  # type: ignore[call-overload]
    text = (
        f"{len(shared)} of {positions} positions hold several slices with different pixels, such as"
        f" {files_named(slices[i] for i in shared[0])}, and no header field tells them apart"
        + (f" over the whole stack (there they differ by {told})" if told else "")
        + ": several phases or echoes mixed in one series would make a volume of neither; sort the files into one folder each"
    )
    return error("AMBIGUOUS_SERIES", text, positions=len(shared), most=max(map(len, shared)), disagreeing_tags=tags)


def combs(stack: StackGeometry) -> Finding:
    """Two stacks lie interleaved, and nothing says which slice is whose."""
    short, long = float(stack.gaps_mm.min()), float(stack.gaps_mm.max())
    text = (
        f"distances between slices alternate between {short:.4g} and {long:.4g} mm: two acquisitions shifted against each other, and no"
        " header field tells them apart; sort the files into one folder each"
    )
    return error("AMBIGUOUS_SERIES", text, gaps_mm=[short, long])


def missing(slices: Sequence[SliceHeader], stack: StackGeometry, gaps: Gaps, layout: Layout, is_allowed: bool) -> Iterable[Finding]:
    """Are slices missing between others (sorted)."""
    if not gaps.holes:
        return
    rows = [hole.to_dict() for hole in gaps.holes]
    where = ", ".join(
        f"{hole.gap_mm:.6g} mm after position {hole.after_mm:.6g} mm ({files_named(slices[hole.index : hole.index + 1])})"
        for hole in gaps.holes[:MOST_PLACES]
    )
    more = f" and {len(rows) - MOST_PLACES} more" if len(rows) > MOST_PLACES else ""
    text = f"{gaps.missing} slice(s) are missing in {len(rows)} place(s): {where}{more}; the usual distance is {stack.usual_gap_mm:.6g} mm."
    details = {"count": gaps.missing, "usual_gap_mm": stack.usual_gap_mm, "gaps": rows}
    if is_allowed:
        holes = [(hole.after_mm, hole.after_mm + hole.gap_mm) for hole in gaps.holes]
        filled = [
            int(k)
            for k, place in enumerate(layout.places_mm)
            if any(low < place < high for low, high in holes) and k not in layout.native_k
        ]
        text += " They were interpolated on true positions, as --allow-gaps asks: what lies there was never scanned"
        yield warning("GAPS_INTERPOLATED", text, **details, k=filled)
        return
    length = float(stack.positions_mm[-1] - stack.positions_mm[0])
    lost = sum(hole.gap_mm * hole.missing / (hole.missing + 1) for hole in gaps.holes)
    text += (
        f" Stacked as if none were missing, the scan would be {lost:.4g} mm ({100 * lost / length:.1f} %) too short, and an organ would"
        " lose all of its part that lies there. Copy the missing files, or use --allow-gaps to interpolate them"
    )
    yield error("MISSING_SLICES", text, **details)


def evenness(stack: StackGeometry, gaps: Gaps, layout: Layout) -> Iterable[Finding]:
    """Are the distances even."""
    usual = stack.usual_gap_mm
    off = np.abs(stack.gaps_mm - usual)
    if gaps.is_uneven:
        listed = sorted({round(float(gap), 3) for gap in stack.gaps_mm})
        text = (
            f"distances between slices run from {listed[0]:g} to {listed[-1]:g} mm (usually {usual:.4g}; a slice lies up to"
            f" {gaps.largest_shift_mm:.3f} mm from its even place): no even grid holds them. The volume was resampled on true positions,"
            f" every {layout.step_mm:.4g} mm; for masks drawn on the scanned slices the sum of area × slice width is the volume"
        )
        yield warning(
            "UNEVEN_SPACING",
            text,
            usual_gap_mm=usual,
            gaps_mm=listed[:20],
            largest_shift_mm=gaps.largest_shift_mm,
            positions_mm=[round(float(place), 4) for place in stack.positions_mm],
            step_mm=layout.step_mm,
            resampled=True,
        )
        return
    off[[hole.index for hole in gaps.holes]] = 0
    if off.size and (off > max(EVEN_MM, EVEN_SHARE * usual)).any():
        text = f"distances between slices differ by up to {off.max():.3f} mm from the usual {usual:.3f} mm; the even grid is kept"
        details = {"usual_gap_mm": usual, "largest_difference_mm": float(off.max()), "resampled": False}
        yield warning("UNEVEN_SPACING", text, **details)


def lean(slices: Sequence[SliceHeader], stack: StackGeometry) -> Iterable[Finding]:
    """Do the slices lie straight above one another."""
    pixel = min(slices[0].pixel_spacing or (math.inf,))
    if stack.bend_mm[0] > BEND_PIXELS * pixel:
        text = (
            f"slices are shifted sideways one by one, by up to {stack.bend_mm[0]:.3f} mm from a straight stack: no grid holds them; check"
            " whether slices of another scan are mixed in"
        )
        yield error("SIDEWAYS_SHIFT", text, largest_shift_mm=stack.bend_mm[0])
    elif stack.tilt_degrees > TILT_DEGREES or stack.drift_mm > TILT_PIXELS * pixel:
        stretch = 100 * (1 / math.cos(math.radians(stack.tilt_degrees)) - 1)
        text = (
            f"gantry tilt of {stack.tilt_degrees:.2f} degrees ({stack.drift_mm:.2f} mm sideways over the stack). The grid keeps its shear,"
            f" so volumes are exact; a reader that ignores the tilt may measure {stretch:.1f} % too much"
        )
        yield warning("GANTRY_TILT", text, degrees=stack.tilt_degrees, drift_mm=stack.drift_mm)


def nominal(slices: Sequence[SliceHeader], stack: StackGeometry) -> Iterable[Finding]:
    """Compare what the header calls thickness and spacing with where the slices are; only positions are used."""
    gap = stack.usual_gap_mm
    thick = {header.numbers["slice_thickness"] for header in slices} - {None}
    worst = max(thick, key=lambda value: abs((value or 0) - gap), default=None)
    along = gap / math.cos(math.radians(stack.tilt_degrees))  # a tilted scanner may give its table's steps
    if worst is not None and not min(abs(worst - gap), abs(worst - along)) <= max(EVEN_MM, THICKNESS_SHARE * gap):
        kind = "overlap" if worst > gap else "have gaps between them"
        text = f"slices {worst:g} mm thick, {gap:.6g} mm apart: they {kind}; the distance makes the volume, never the thickness"
        yield warning("SLICE_THICKNESS_DIFFERS", text, thickness_mm=worst, gap_mm=gap)
    spacings = {header.numbers["spacing_between_slices"] for header in slices} - {None}
    wrong = [
        value for value in spacings if value is None or not min(abs(value - gap), abs(value - along)) <= max(EVEN_MM, THICKNESS_SHARE * gap)
    ]
    if wrong:
        text = f"the header says {wrong[0]:g} mm between slices, their positions say {gap:.6g} mm; the positions are used"
        yield warning("SPACING_BETWEEN_SLICES_WRONG", text, header_mm=wrong[0], gap_mm=gap)


def ends(slices: Sequence[SliceHeader], gaps: Gaps, numbers_of_series: frozenset[int]) -> Iterable[Finding]:
    """Does the numbering say that slices before or after the (sorted) stack are not there; geometry cannot tell."""
    announced = max((header.numbers["images_in_acquisition"] or 0 for header in slices), default=0)
    advice = "an organ that touches the end of the stack is then cut off, and its volume a lower bound; copy the missing files"
    if announced > len(slices) + gaps.missing and len({header.texts["acquisition_number"] for header in slices}) == 1:
        text = f"the header announces {announced:g} images, {len(slices)} are there: slices may be missing at the ends; {advice}"
        yield warning("ENDS_MAY_BE_MISSING", text, announced=int(announced), there=len(slices))
        return
    lowest = _first_of_run(slices, gaps)
    if lowest is None or lowest <= 1 or lowest - 1 in numbers_of_series:
        return
    is_first = (slices[0].instance_number or 0) == lowest
    text = (
        f"instance numbers begin with {lowest}: up to {lowest - 1} slices may be missing {'below' if is_first else 'above'} the stack, at"
        f" the end of {files_named([slices[0 if is_first else -1]])}; {advice}, if there are any"
    )
    yield warning("ENDS_MAY_BE_MISSING", text, first_number=lowest, there=len(slices))


def _first_of_run(slices: Sequence[SliceHeader], gaps: Gaps) -> int | None:
    """The lowest instance number where they count the slices without a break, as those of one whole acquisition do."""
    numbers = [header.instance_number for header in slices]
    if len(numbers) < FEW_SLICES or any(number is None for number in numbers):
        return None
    values = np.array(numbers, dtype=np.int64)
    steps = np.diff(values)
    times = np.ones_like(steps)
    for hole in gaps.holes:
        times[hole.index] = hole.missing + 1
    return int(values.min()) if (steps == times).all() or (steps == -times).all() else None
