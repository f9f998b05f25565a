"""A spacing that the user gives where the files have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medseg.core.finding import Finding
from medseg.io.dicom.found import error, warning
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.sort import is_sound_orientation, is_sound_position, is_sound_spacing, normal_of

_AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

Given = tuple[list[SliceHeader], tuple[Finding, ...]]


def with_spacing(slices: Sequence[SliceHeader], spacing_mm: tuple[float, float, float]) -> Given:
    """Return the slices placed by a given (i,j,k) spacing where their files do not place them, and what that means.

    Where no slice has a position they are stacked by instance number, without a place in the patient; where positions are
    there and pixel spacings are not, only these are given. Anything else comes back as it is.
    """
    if any("MOSAIC" in header.image_type and header.unusable for header in slices):
        return list(slices), ()  # one picture is many slices, whatever their spacing
    if not any(is_sound_position(header.position) for header in slices):
        return _stacked(slices, spacing_mm)
    if all(is_sound_position(header.position) for header in slices) and not any(
        is_sound_spacing(header.pixel_spacing) for header in slices
    ):
        pixels = (spacing_mm[1], spacing_mm[0])
        text = (
            f"no slice has a pixel spacing; {spacing_mm[0]:g} × {spacing_mm[1]:g} mm are taken, as --spacing says (the distance of the"
            " slices comes from their positions): volumes are right only if that is the true spacing"
        )
        return [replace(header, pixel_spacing=pixels) for header in slices], (warning("SPACING_GIVEN", text, spacing_mm=list(spacing_mm)),)
    return list(slices), ()


def _stacked(slices: Sequence[SliceHeader], spacing_mm: tuple[float, float, float]) -> Given:
    slices = [frame for header in slices for frame in _frames(header, slices)]
    numbers = [(header.instance_number, header.frame) for header in slices]
    if len(set(numbers)) < len(numbers) or any(number is None for number, _ in numbers):
        text = "--spacing cannot place slices whose instance numbers are missing or repeat: their order is unknown too"
        return list(slices), (error("MISSING_GEOMETRY", text, count=len(slices)),)
    orientation = slices[0].orientation
    known = orientation if is_sound_orientation(orientation) and len({header.orientation for header in slices}) == 1 else None
    normal = normal_of(known or _AXIAL)
    placed = []
    for k, header in enumerate(sorted(slices, key=lambda one: (one.instance_number or 0, one.frame))):
        place = tuple(float(x) for x in np.asarray(normal) * k * spacing_mm[2])
        texts = {**header.texts, "frame_of_reference_uid": ""}
        placed.append(
            replace(
                header, position=place, orientation=known or _AXIAL, pixel_spacing=(spacing_mm[1], spacing_mm[0]), texts=texts, unusable=""
            )
        )
    text = (
        f"no slice has a position: {len(placed)} slices were stacked by instance number with the spacing that --spacing gives"
        f" ({spacing_mm[0]:g} × {spacing_mm[1]:g} × {spacing_mm[2]:g} mm). The volume has no place in the patient; missing slices, tilt and"
        " uneven distances cannot be seen, and left and right are a guess"
    )
    return placed, (warning("SPACING_GIVEN", text, spacing_mm=list(spacing_mm)),)


def _frames(header: SliceHeader, slices: Sequence[SliceHeader]) -> list[SliceHeader]:
    """All frames of a multi-frame file that describes none of them; any other slice as it is."""
    is_alone = sum(one.path == header.path for one in slices) == 1
    return [replace(header, frame=n) for n in range(header.frame_count)] if header.frame_count > 1 and is_alone else [header]
