"""Is every slice placed in the patient, and do all slices share one grid: size, spacing, direction, frame of reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from medseg.core.finding import Finding
from medseg.io.dicom.found import error, files_named
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.in_plane import has_mixed_spacing
from medseg.io.dicom.sort import is_sound_orientation, is_sound_position, is_sound_spacing

SPACING_SHARE = 1e-3  # pixel spacings that differ by more than this share are different spacings
ORIENTATION_DEGREES = 0.1  # slices turned by more than this against the first are not parallel


def places(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Has every slice a position, an orientation and a pixel spacing."""
    unplaced = [header for header in slices if not is_sound_position(header.position) or header.orientation is None]
    if unplaced:
        way_on = (
            "export the series again from its source, or give the true --spacing to stack them by instance number"
            if len(unplaced) == len(slices)
            else "copy these files again, or move them away if they are no part of the scan"
        )
        text = (
            f"{len(unplaced)} of {len(slices)} slices have no usable position or orientation: {files_named(unplaced)}; where they lie, and"
            f" how far apart, cannot be known: {way_on}"
        )
        yield error("MISSING_GEOMETRY", text, count=len(unplaced))
    skewed = [header for header in slices if header.orientation is not None and not is_sound_orientation(header.orientation)]
    if skewed:
        text = (
            f"{len(skewed)} slices have row and column directions that are not two unit vectors at a right angle: {files_named(skewed)};"
            " the direction of the stack is unknown: export the series again"
        )
        yield error("BAD_ORIENTATION", text, count=len(skewed))
    unsized = [header for header in slices if not is_sound_spacing(header.pixel_spacing)]
    if unsized:
        text = (
            f"{len(unsized)} of {len(slices)} slices have no usable pixel spacing: {files_named(unsized)}; the volume would be wrong by an"
            " unknown factor: export the series again, or give the true --spacing"
        )
        yield error("BAD_PIXEL_SPACING", text, count=len(unsized))


def one_grid(slices: Sequence[SliceHeader], is_spacing_mixed_allowed: bool) -> Iterable[Finding]:
    """Do all slices share size, spacing, direction and frame of reference."""
    sizes = sorted({(header.columns, header.rows) for header in slices})
    if len(sizes) > 1:
        text = f"slices have different sizes ({sizes[:4]}) and none is the usual one: move away what is no part of the scan"
        yield error("MIXED_SIZE", text, sizes=[list(size) for size in sizes])
    if not is_spacing_mixed_allowed and has_mixed_spacing(slices, SPACING_SHARE):
        spacings = np.asarray([header.pixel_spacing for header in slices])
        low, high = spacings.min(axis=0), spacings.max(axis=0)
        text = (
            f"pixel spacing runs from {low.round(4).tolist()} to {high.round(4).tolist()} mm within the series: one spacing for all would"
            f" put the volume off by up to {100 * (float((high / low).prod()) - 1):.0f} %; split the series, or use --resample-mixed"
        )
        yield error("MIXED_PIXEL_SPACING", text, lowest_mm=low.tolist(), highest_mm=high.tolist())
    frames = {header.frame_of_reference_uid for header in slices} - {""}
    if len(frames) > 1:
        text = (
            f"{len(frames)} frames of reference: positions of these slices cannot be compared, as the patient was placed anew between them;"
            " read them as separate series"
        )
        yield error("MIXED_FRAME_OF_REFERENCE", text, count=len(frames))
    angle = _largest_turn(slices)
    if angle > ORIENTATION_DEGREES:
        text = (
            f"slices are turned against each other by up to {angle:.2f} degrees: they are no stack of parallel slices; export or move away"
            " what was scanned in another direction"
        )
        yield error("MIXED_ORIENTATION", text, degrees=angle)


def _largest_turn(slices: Sequence[SliceHeader]) -> float:
    axes = np.asarray([header.orientation for header in slices], dtype=np.float64).reshape(-1, 2, 3)
    axes = axes / np.linalg.norm(axes, axis=2, keepdims=True)
    cosines = np.clip((axes * axes[0]).sum(axis=2), -1, 1)
    return float(np.degrees(np.arccos(cosines)).max())
