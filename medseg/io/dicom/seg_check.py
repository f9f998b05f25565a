"""A second look at a SEG that was just written, by pydicom alone: centroid, volume, side and codes of every segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.codes import Code
from medseg.core.errors import OutputVerificationError
from medseg.core.segment import Segment

CENTROID_TOLERANCE_MM = 1e-3
VOLUME_TOLERANCE_SHARE = 1e-6


@dataclass
class Extent:
    """What a segment measures: weight (voxels, or sum of fractions) and centroid in RAS+ mm."""

    weight: float
    centroid_mm: tuple[float, float, float] | None
    volume_mm3: float


def measured(file: Path) -> dict[int, Extent]:
    """Measure every segment of a file by its frames alone; nothing here is shared with medseg's reader."""
    from pydicom import dcmread

    dataset = dcmread(file)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    axes = np.array([float(value) for value in shared.PlaneOrientationSequence[0].ImageOrientationPatient]).reshape(2, 3)
    measures = shared.PixelMeasuresSequence[0]
    row_mm, column_mm = (float(value) for value in measures.PixelSpacing)
    slice_mm = float(measures.SpacingBetweenSlices)
    is_map = dataset.SegmentationType == "LABELMAP"
    scale = 1.0 / int(dataset.MaximumFractionalValue) if dataset.SegmentationType == "FRACTIONAL" else 1.0
    sums: dict[int, Any] = {int(item.SegmentNumber): np.zeros(4) for item in dataset.SegmentSequence}
    for plane, groups in zip(_planes(dataset), dataset.PerFrameFunctionalGroupsSequence, strict=True):
        start = np.array([float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient])
        if is_map:
            masks = [(int(number), plane == number) for number in np.unique(plane) if number]
        else:
            masks = [(int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber), plane)]
        for number, mask in masks:
            by_row, by_column = mask.sum(axis=1, dtype=np.float64), mask.sum(axis=0, dtype=np.float64)
            weight = by_row.sum()
            way = axes[0] * column_mm * (by_column @ np.arange(len(by_column))) + axes[1] * row_mm * (by_row @ np.arange(len(by_row)))
            sums[number] += [weight, *(start * weight + way)]
    voxel_mm3 = row_mm * column_mm * slice_mm
    return {number: _extent(total, scale, voxel_mm3) for number, total in sums.items() if number}


def _planes(dataset: Any) -> Iterator[Any]:
    from pydicom.pixels import iter_pixels, unpack_bits

    if dataset.BitsAllocated != 1:
        yield from iter_pixels(dataset, raw=True)
        return
    rows, columns, data = int(dataset.Rows), int(dataset.Columns), dataset.PixelData
    step = rows * columns  # bytes of eight frames; a single frame may begin within a byte, which iter_pixels does not expect
    for first in range(0, int(dataset.NumberOfFrames), 8):
        count = min(8, int(dataset.NumberOfFrames) - first)
        bits = unpack_bits(data[first // 8 * step : first // 8 * step + step])
        yield from bits[: count * rows * columns].reshape(count, rows, columns)


def _extent(total: Any, scale: float, voxel_mm3: float) -> Extent:
    weight = float(total[0])
    if not weight:
        return Extent(0.0, None, 0.0)
    x, y, z = (float(value) for value in total[1:] / weight)
    return Extent(weight * scale, (-x, -y, z), weight * scale * voxel_mm3)


def compare(file: Path, expected: Sequence[Extent], segments: Sequence[Segment], labels: Sequence[str]) -> None:
    """Raise OutputVerificationError where a segment of a file lies elsewhere, is of another size, or is called or coded otherwise."""
    from pydicom import dcmread

    found = measured(file)
    items = {int(item.SegmentNumber): item for item in dcmread(file, stop_before_pixels=True).SegmentSequence}
    items.pop(0, None)
    if sorted(items) != list(range(1, len(segments) + 1)):
        raise OutputVerificationError(f"{len(segments)} segments were written, {len(items)} are there")
    for number, (want, segment, label) in enumerate(zip(expected, segments, labels, strict=True), start=1):
        got, item = found[number], items[number]
        if str(item.SegmentLabel) != label:
            raise OutputVerificationError(f"segment {segment.label!r} came back with another name")
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence") or []
        if _differs(segment.modifier, modifiers[0] if modifiers else None):
            raise OutputVerificationError(f"segment {segment.label!r} came back with another side")
        if segment.type is not None and _differs(segment.type, kind):
            raise OutputVerificationError(f"segment {segment.label!r} came back with another code")
        if abs(got.volume_mm3 - want.volume_mm3) > VOLUME_TOLERANCE_SHARE * max(want.volume_mm3, 1e-9):
            raise OutputVerificationError(
                f"segment {segment.label!r} came back with {got.volume_mm3 / 1000:.6g} ml instead of {want.volume_mm3 / 1000:.6g} ml"
            )
        if want.centroid_mm is not None and got.centroid_mm is not None:
            off = float(np.linalg.norm(np.subtract(got.centroid_mm, want.centroid_mm)))
            if off > CENTROID_TOLERANCE_MM:
                raise OutputVerificationError(f"segment {segment.label!r} came back {off:.4g} mm from its place")


def _differs(code: Code | None, item: Any) -> bool:
    if code is None or item is None:
        return (code is None) != (item is None)
    value = str(item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or "")
    return (str(item.CodingSchemeDesignator), value) != (code.scheme, code.value)
