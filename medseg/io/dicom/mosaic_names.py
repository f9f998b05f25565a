"""Plain slices that call themselves mosaics, as newer Siemens scanners leave the word on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medseg.core.finding import Finding
from medseg.io.dicom.found import info
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.sort import is_even, is_sound_orientation, is_sound_position, position_groups

SMALLEST_STACK = 4  # fewer pictures than this prove nothing


def as_plain_slices(slices: Sequence[SliceHeader]) -> tuple[list[SliceHeader], tuple[Finding, ...]]:
    """Take pictures that cannot be cut as the slices they are, where they lie one by one at even positions.

    Mosaics never do: each holds all slices, and those of a series have one and the same position.
    """
    doubtful = [header for header in slices if header.unusable and "MOSAIC" in header.image_type]
    if len(doubtful) < SMALLEST_STACK or len(doubtful) < len(slices):
        return list(slices), ()
    if not all(is_sound_position(header.position) and is_sound_orientation(header.orientation) for header in doubtful):
        return list(slices), ()
    is_one_size = len({(header.rows, header.columns, header.orientation, header.pixel_spacing) for header in doubtful}) == 1
    if not is_one_size or max(map(len, position_groups(doubtful))) > 1 or not is_even(doubtful):
        return list(slices), ()
    text = f"{len(doubtful)} images call themselves mosaics, but lie one by one at even positions: they were read as the slices they are"
    return [replace(header, unusable="") for header in slices], (info("MOSAIC_IN_NAME", text, count=len(doubtful)),)
