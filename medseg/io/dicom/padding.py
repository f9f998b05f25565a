"""Voxels that a scanner filled in outside the scan: found, named, and kept from reading as tissue (PS3.3, C.7.5.1.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.layout import PixelArray
from medseg.io.dicom.rescale import rescale

_AIR_HU = -1000
_BODY_HU = -200  # declared padding above this would count as body
_METAL_HU = 4000  # no tissue and no 12-bit scale is as dense
_WRAP = 1 << 16


def is_wrapped_padding(header: SliceHeader) -> bool:
    """Whether a negative padding value was stored in unsigned pixels, such as 63536 for -2000."""
    top_half = 1 << (header.bits_allocated - 1)
    return (
        header.padding is not None
        and header.modality == "CT"
        and not header.is_signed
        and header.bits_stored == header.bits_allocated == 16
        and header.padding >= top_half
    )


def true_values(stored: PixelArray, header: SliceHeader) -> PixelArray:
    """Return stored values with wrapped padding as its writer meant it."""
    if not is_wrapped_padding(header):
        return stored
    return np.asarray(np.where(stored == header.padding, stored.astype(np.int32) - _WRAP, stored))


def padding_findings(array: npt.NDArray[Any], slices: Sequence[SliceHeader], voxels: Sequence[int]) -> tuple[Finding, ...]:
    """Say what is padding; in a CT, padding that would count as body becomes air in the array (k,j,i), in place.

    `voxels` counts the declared padding of each slice.
    """
    in_corners = _corner_findings(array, slices) if slices[0].modality == "CT" else []
    if any(finding.code == "PADDING_AS_AIR" for finding in in_corners):
        return tuple(in_corners)
    return (*_declared(slices, voxels), *in_corners)


def _declared(slices: Sequence[SliceHeader], voxels: Sequence[int]) -> tuple[Finding, ...]:
    count = sum(voxels)
    if not count:
        return ()
    first = next(header for header, number in zip(slices, voxels, strict=True) if number)
    slope, intercept = rescale(first)
    stored = first.padding or 0
    if is_wrapped_padding(first):
        value = (stored - _WRAP) * slope + intercept
        text = f"{count} padding voxels were stored as {stored} in unsigned pixels; they are read as {value:g}, as the writer meant"
        return (Finding("PADDING_WRAPPED", Severity.WARNING, text, {"voxels": count, "stored": stored, "value": value}),)
    value = stored * slope + intercept
    text = f"{count} voxels are padding outside the scan, value {value:g}; they are left as stored"
    return (Finding("PIXEL_PADDING", Severity.INFO, text, {"voxels": count, "value": value}),)


def _declared_range(header: SliceHeader) -> tuple[float, float]:
    """Return the lowest and highest intensity that the header declares as padding; an empty range where it declares none."""
    if header.padding is None or is_wrapped_padding(header):
        return np.inf, -np.inf
    slope, intercept = rescale(header)
    ends = sorted(
        stored * slope + intercept for stored in (header.padding, header.padding if header.padding_limit is None else header.padding_limit)
    )
    return ends[0], ends[1]


def _corner_findings(array: npt.NDArray[Any], slices: Sequence[SliceHeader]) -> list[Finding]:
    """Corners brighter than air are padding where they hold what is declared (a value or a range): air then, else only named."""
    corners = array[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    turned, suspect = 0, []
    for k in np.flatnonzero((corners > _BODY_HU).all(axis=1)).tolist():
        lowest, highest = _declared_range(slices[k])
        if ((corners[k] >= lowest) & (corners[k] <= highest)).all():
            outside = (array[k] >= lowest) & (array[k] <= highest)
            turned += int(np.count_nonzero(outside))
            array[k][outside] = _AIR_HU
        elif (corners[k] == corners[k, 0]).all() and corners[k, 0] > _METAL_HU:
            suspect.append(float(corners[k, 0]))
    findings = []
    if turned:
        text = f"{turned} voxels are padding with a value that would count as body; they are read as air, {_AIR_HU} HU"
        findings.append(Finding("PADDING_AS_AIR", Severity.WARNING, text, {"voxels": turned, "value": _AIR_HU}))
    if suspect:
        text = (
            f"the corners of {len(suspect)} of {len(slices)} slices hold {suspect[0]:g} HU, denser than any tissue: padding, most"
            " likely, that the file does not declare; a threshold counts it as body, so measure inside the patient only"
        )
        findings.append(Finding("PADDING_SUSPECTED", Severity.WARNING, text, {"slices": len(suspect), "value": suspect[0]}))
    return findings
