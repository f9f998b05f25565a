"""What is wrong with a stack of slices, each fault with a code, a severity and its figures in mm.

An error forbids reading: the stack does not describe one volume on one grid. Everything is judged from headers.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from medseg.core.finding import Finding, Severity
from medseg.io.dicom.codecs import is_known_encoding, missing_pixel_bytes
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.sort import (
    StackGeometry,
    is_sound_orientation,
    is_sound_position,
    is_sound_spacing,
    measure_stack,
    position_groups,
)

EVEN_MM = 0.01  # a gap this far from the usual one is rounding of the header
EVEN_SHARE = 0.01  # and so is one within this share of the usual gap
UNEVEN_SHARE = 0.05  # a gap beyond this share is not the same gap any more: no affine places the slices
MISSING_SHARE = 0.10  # a gap within this share of a whole multiple of the usual one is a place where slices are missing
MIDWAY_SHARE = 0.5  # a slice this share of a gap away from its even place belongs to a neighbour's place
TILT_DEGREES = 0.05  # a stack that leans more than this from its normal is tilted
TILT_PIXELS = 0.5  # or one that drifts sideways by more than half a pixel from first to last slice
BEND_PIXELS = 0.5  # slices further than this beside the line through first and last are shifted one by one
SPACING_SHARE = 1e-3  # pixel spacings that differ by more than this share are different spacings
THICKNESS_SHARE = 0.01  # slice thickness further than this share from the distance of the slices is a gap or an overlap
FEW_SLICES = 4  # fewer slices make a volume whose ends weigh too much
ORIENTATION_DEGREES = 0.1  # slices turned by more than this against the first are not parallel

_COLOUR = frozenset({"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"})

# Codes of these groups decide which error class a refused read raises
UNREADABLE_CODES = frozenset({"UNREADABLE_FILE", "TRUNCATED_PIXELS"})
UNSUPPORTED_CODES = frozenset({"ENHANCED_MULTIFRAME", "MOSAIC", "COLOUR", "UNKNOWN_ENCODING", "NO_INTENSITIES"})


def is_supported(slices: Sequence[SliceHeader]) -> bool:
    """Whether every file is a single-frame grey image of a known encoding."""
    return not any(finding.code in UNSUPPORTED_CODES for finding in _kind(slices))


def has_geometry(header: SliceHeader) -> bool:
    """Whether a slice has a usable position and orientation."""
    return is_sound_position(header.position) and is_sound_orientation(header.orientation)


def audit(slices: Sequence[SliceHeader]) -> tuple[Finding, ...]:
    """Check one stack, in any order, and return what was found; no error among it means that it can be read."""
    findings = list(_kind(slices))
    if any(finding.code in UNSUPPORTED_CODES for finding in findings):
        return tuple(findings)  # the other fields mean something else in such files
    findings += [*_storage(slices), *_rescale(slices), *_identity(slices)]
    lacking = list(_geometry_tags(slices))
    if lacking:
        return (*findings, *lacking)
    findings += _one_grid(slices)
    if not any(finding.code == "MIXED_ORIENTATION" for finding in findings):
        findings += _positions(slices)
    return tuple(findings)


def _error(code: str, message: str, **details: object) -> Finding:
    return Finding(code, Severity.ERROR, message, details)


def _warning(code: str, message: str, **details: object) -> Finding:
    return Finding(code, Severity.WARNING, message, details)


def _info(code: str, message: str, **details: object) -> Finding:
    return Finding(code, Severity.INFO, message, details)


def _which(slices: Sequence[SliceHeader], is_bad: Callable[[SliceHeader], bool]) -> list[str]:
    return [os.path.basename(header.path) for header in slices if is_bad(header)]


def _named(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _kind(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Is this a stack of single-frame grey images at all."""
    if any(header.is_enhanced for header in slices):
        frames = max(header.frame_count for header in slices)
        text = f"an enhanced multi-frame file ({frames} frames): only one file a slice is read so far; convert it with dcm2niix"
        yield _error("ENHANCED_MULTIFRAME", text, frames=frames)
    if any("MOSAIC" in header.image_type for header in slices):
        yield _error("MOSAIC", "Siemens mosaic: many slices in one picture; convert it with dcm2niix")
    if any(header.samples > 1 or header.photometric in _COLOUR for header in slices):
        yield _error("COLOUR", "colour images, not CT or MR intensities", photometric=slices[0].photometric)
    if any(header.pixels.tag != 0x7FE00010 or header.bits_allocated not in (8, 16, 32) for header in slices):
        yield _error("NO_INTENSITIES", "pixels are bits or floating-point numbers, which are not read", bits=slices[0].bits_allocated)
    unknown = sorted({header.transfer_syntax for header in slices if not is_known_encoding(header.transfer_syntax)})
    if unknown:
        yield _error("UNKNOWN_ENCODING", f"transfer syntax {', '.join(unknown)} is not read", transfer_syntaxes=unknown)
    if any(header.texts["anatomical_orientation_type"] == "QUADRUPED" for header in slices):
        yield _error("QUADRUPED", "positions are given in an animal's body axes, which are not read as a patient's")
    if any(header.photometric == "MONOCHROME1" for header in slices):
        yield _warning("MONOCHROME1", "shown inverted by viewers; the intensities are kept as stored")
    lossy = sum(header.texts["lossy"] == "01" for header in slices)
    if lossy:
        yield _warning("LOSSY_COMPRESSION", f"{lossy} slices were compressed with loss at some time", count=lossy)


def _storage(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    short = [(header, lack) for header in slices if (lack := missing_pixel_bytes(header))]
    if short:
        header, (there, needed) = short[0]
        text = f"{len(short)} file(s) end early: {os.path.basename(header.path)} has {there} of {needed} bytes of pixels; copy them again"
        yield _error("TRUNCATED_PIXELS", text, count=len(short), bytes_there=there, bytes_needed=needed)


def _rescale(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    bad = [
        header
        for header in slices
        if (header.slope is not None and (not math.isfinite(header.slope) or header.slope == 0))
        or (header.intercept is not None and not math.isfinite(header.intercept))
    ]
    if bad:
        yield _error("BAD_RESCALE", f"{len(bad)} slices have a rescale slope of 0 or no number: intensities are unknown", count=len(bad))
    lacking = sum(header.slope is None or header.intercept is None for header in slices)
    if lacking and slices[0].modality == "CT":
        text = f"{lacking} of {len(slices)} CT slices have no rescale slope and intercept: the Hounsfield scale is unknown"
        yield _error("MISSING_RESCALE", text, count=lacking)
    kinds = {(header.slope, header.intercept) for header in slices}
    if len(kinds) > 1:
        yield _info("RESCALE_PER_SLICE", f"{len(kinds)} different rescale values; each slice uses its own", count=len(kinds))


def _identity(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    uids = Counter(header.sop_instance_uid for header in slices)
    if "" in uids:
        yield _warning("MISSING_UID", f"{uids['']} slices have no SOP instance UID: results cannot refer to them", count=uids[""])
    repeated = sum(count - 1 for uid, count in uids.items() if uid and count > 1)
    if repeated:
        yield _error("REPEATED_UID", f"{repeated} slices repeat the SOP instance UID of another with other content", count=repeated)
    if slices and not slices[0].series_uid:
        yield _warning("MISSING_SERIES_UID", "the files name no series; those of one folder and study were taken together")
    folders = {os.path.dirname(header.path) for header in slices}
    if len(folders) > 1:
        yield _warning("SEVERAL_FOLDERS", f"the files of the series lie in {len(folders)} folders", count=len(folders))
    announced = max((header.numbers["images_in_acquisition"] or 0 for header in slices), default=0)
    if announced > len(slices) and len({header.texts["acquisition_number"] for header in slices}) == 1:
        text = f"the header announces {announced:g} images, {len(slices)} are there: slices may be missing at the ends"
        yield _warning("ENDS_MAY_BE_MISSING", text, announced=int(announced), there=len(slices))


def _geometry_tags(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Is every slice placed in the patient."""
    unplaced = _which(slices, lambda header: not is_sound_position(header.position) or header.orientation is None)
    if unplaced:
        text = f"{len(unplaced)} of {len(slices)} slices have no usable position or orientation: {_named(unplaced)}"
        yield _error("MISSING_GEOMETRY", text, count=len(unplaced))
    skewed = _which(slices, lambda header: header.orientation is not None and not is_sound_orientation(header.orientation))
    if skewed:
        text = f"{len(skewed)} slices have row and column directions that are not two unit vectors at a right angle: {_named(skewed)}"
        yield _error("BAD_ORIENTATION", text, count=len(skewed))
    unsized = _which(slices, lambda header: not is_sound_spacing(header.pixel_spacing))
    if unsized:
        text = f"{len(unsized)} of {len(slices)} slices have no usable pixel spacing: {_named(unsized)}"
        yield _error("BAD_PIXEL_SPACING", text, count=len(unsized))


def _one_grid(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Do all slices share size, spacing, direction and frame of reference."""
    sizes = sorted({(header.columns, header.rows) for header in slices})
    if len(sizes) > 1:
        yield _error("MIXED_SIZE", f"slices have different sizes: {sizes[:4]}", sizes=[list(size) for size in sizes])
    spacings = np.asarray([header.pixel_spacing for header in slices])
    low, high = spacings.min(axis=0), spacings.max(axis=0)
    if ((high - low) > SPACING_SHARE * low).any():
        text = f"pixel spacing runs from {low.round(4).tolist()} to {high.round(4).tolist()} mm within the series"
        yield _error("MIXED_PIXEL_SPACING", text, lowest_mm=low.tolist(), highest_mm=high.tolist())
    frames = {header.frame_of_reference_uid for header in slices} - {""}
    if len(frames) > 1:
        text = f"{len(frames)} frames of reference: positions of these slices cannot be compared"
        yield _error("MIXED_FRAME_OF_REFERENCE", text, count=len(frames))
    angle = _largest_turn(slices)
    if angle > ORIENTATION_DEGREES:
        yield _error("MIXED_ORIENTATION", f"slices are turned against each other by up to {angle:.2f} degrees", degrees=angle)


def _largest_turn(slices: Sequence[SliceHeader]) -> float:
    axes = np.asarray([header.orientation for header in slices], dtype=np.float64).reshape(-1, 2, 3)
    axes = axes / np.linalg.norm(axes, axis=2, keepdims=True)
    cosines = np.clip((axes * axes[0]).sum(axis=2), -1, 1)
    return float(np.degrees(np.arccos(cosines)).max())


def _positions(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    groups = position_groups(slices)
    if len(groups) == 1:
        text = "one image is not a volume" if len(slices) == 1 else f"{len(slices)} images all at one position are not a volume"
        yield _error("TOO_FEW_SLICES", text, slices=len(slices), positions=1)
        return
    shared = [group for group in groups if len(group) > 1]
    if shared:
        text = (
            f"{len(shared)} of {len(groups)} positions hold several slices with different pixels, and no header field tells"
            " them apart: several phases or echoes mixed in one series"
        )
        yield _error("AMBIGUOUS_SERIES", text, positions=len(shared), most=max(map(len, shared)))
        return
    if len(slices) < FEW_SLICES:
        yield _warning("TOO_FEW_SLICES", f"only {len(slices)} slices: volumes measured on them are rough", slices=len(slices))
    stack = measure_stack(slices)
    yield from _gaps(stack)
    yield from _lean(slices, stack)
    yield from _nominal(slices, stack.usual_gap_mm)


def _gaps(stack: StackGeometry) -> Iterable[Finding]:
    usual = stack.usual_gap_mm
    off = np.abs(stack.gaps_mm - usual)
    odd = np.flatnonzero(off > max(EVEN_MM, UNEVEN_SHARE * usual))
    if odd.size:
        multiples = np.rint(stack.gaps_mm[odd] / usual)
        is_hole = (multiples >= 2) & (np.abs(stack.gaps_mm[odd] - multiples * usual) <= MISSING_SHARE * usual)
        if is_hole.all():
            yield _missing(stack, odd, multiples)
            return
        listed = sorted({round(float(gap), 3) for gap in stack.gaps_mm})
        text = f"distances between slices run from {listed[0]} to {listed[-1]} mm (usually {usual:.3f}): no even grid holds them"
        yield _error("UNEVEN_SPACING", text, usual_gap_mm=usual, gaps_mm=listed[:20], uneven_gaps=int(odd.size))
        return
    if stack.bend_mm[1] > MIDWAY_SHARE * usual:
        text = f"distances between slices change slowly; a slice lies up to {stack.bend_mm[1]:.3f} mm from its even place"
        yield _error("UNEVEN_SPACING", text, usual_gap_mm=usual, largest_shift_mm=stack.bend_mm[1])
    elif (off > max(EVEN_MM, EVEN_SHARE * usual)).any():
        text = f"distances between slices differ by up to {off.max():.3f} mm from the usual {usual:.3f} mm"
        yield _warning("UNEVEN_SPACING", text, usual_gap_mm=usual, largest_difference_mm=float(off.max()))


def _missing(stack: StackGeometry, holes: np.ndarray, multiples: np.ndarray) -> Finding:
    places = [
        {
            "after_mm": round(float(stack.positions_mm[hole]), 4),
            "gap_mm": round(float(stack.gaps_mm[hole]), 4),
            "missing": int(times) - 1,
            "positions_mm": [
                round(float(stack.positions_mm[hole] + step * stack.gaps_mm[hole] / times), 4) for step in range(1, int(times))
            ],
        }
        for hole, times in zip(holes, multiples, strict=True)
    ]
    count = int(multiples.sum()) - len(places)
    where = ", ".join(f"{place['gap_mm']:g} mm after position {place['after_mm']:g} mm" for place in places[:4])
    text = f"{count} slice(s) are missing in {len(places)} place(s): {where}; the usual distance is {stack.usual_gap_mm:g} mm"
    return _error("MISSING_SLICES", text, count=count, usual_gap_mm=stack.usual_gap_mm, gaps=places)


def _lean(slices: Sequence[SliceHeader], stack: StackGeometry) -> Iterable[Finding]:
    pixel = min(slices[0].pixel_spacing or (math.inf,))
    if stack.bend_mm[0] > BEND_PIXELS * pixel:
        text = f"slices are shifted sideways one by one, by up to {stack.bend_mm[0]:.3f} mm from a straight stack"
        yield _error("SIDEWAYS_SHIFT", text, largest_shift_mm=stack.bend_mm[0])
    elif stack.tilt_degrees > TILT_DEGREES or stack.drift_mm > TILT_PIXELS * pixel:
        text = f"gantry tilt of {stack.tilt_degrees:.2f} degrees ({stack.drift_mm:.2f} mm over the stack); the grid keeps its shear"
        yield _warning("GANTRY_TILT", text, degrees=stack.tilt_degrees, drift_mm=stack.drift_mm)


def _nominal(slices: Sequence[SliceHeader], gap: float) -> Iterable[Finding]:
    """Compare what the header calls thickness and spacing with where the slices are; only positions are used."""
    thick = {header.numbers["slice_thickness"] for header in slices} - {None}
    worst = max(thick, key=lambda value: abs((value or 0) - gap), default=None)
    if worst is not None and not abs(worst - gap) <= max(EVEN_MM, THICKNESS_SHARE * gap):
        kind = "overlap" if worst > gap else "have gaps between them"
        yield _info("SLICE_THICKNESS_DIFFERS", f"slices {worst:g} mm thick, {gap:g} mm apart: they {kind}", thickness_mm=worst, gap_mm=gap)
    spacings = {header.numbers["spacing_between_slices"] for header in slices} - {None}
    wrong = [value for value in spacings if value is None or not abs(value - gap) <= max(EVEN_MM, THICKNESS_SHARE * gap)]
    if wrong:
        text = f"the header says {wrong[0]:g} mm between slices, their positions say {gap:g} mm; the positions are used"
        yield _warning("SPACING_BETWEEN_SLICES_WRONG", text, header_mm=wrong[0], gap_mm=gap)
