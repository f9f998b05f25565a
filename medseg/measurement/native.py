"""Segments drawn on slices at uneven distances: volumes as the sum of area × slice width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow
from medseg.core.native_slices import NativeSlices
from medseg.core.volume import Volume
from medseg.measurement.measure import measure
from medseg.measurement.pricing import count_slices

_MM3_PER_ML = 1000.0

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScannedSlices:
    """What was scanned: the slices as if they were even (`volume`), and the first pixel of each, `origins_mm` (n,3) RAS.

    The affine of `volume` gives directions and pixel size; its steps along k mean nothing.
    """

    volume: Volume
    origins_mm: FloatArray


def native_volumes_ml(native: NativeSlices) -> dict[int, float]:
    """Return the volume of each segment by its number: Σ area × width over the slices.

    >>> from medseg.core.segment import Segment
    >>> labels = np.ones((3, 10, 10), np.uint8)
    >>> native_volumes_ml(NativeSlices(labels, (Segment(1, "box"),), (0.0, 1.0, 4.0), 1.0))
    {1: 0.6}
    """
    areas = count_slices(native.labels, native.segments) * native.pixel_area_mm2
    volumes = areas @ native.widths_mm / _MM3_PER_ML
    return {segment.number: float(volume) for segment, volume in zip(native.segments, volumes, strict=True)}


def measure_native(native: NativeSlices, scanned: ScannedSlices | None = None, *, percentiles: Sequence[float] = ()) -> MeasurementTable:
    """Measure every segment as `measure` does, with the volume as the sum of area × slice width.

    Intensities are those of the scanned pixels, each counted once. Without `scanned` places are not known: no centroid, and
    sides of the border are those of an upright grid. Raises what `measure` raises.
    """
    if scanned is None:
        grid = Geometry(native.labels.shape[::-1], np.eye(4))
        table = measure(LabelMap(native.labels.T, grid, native.segments))
        centroids: dict[int, tuple[float, float, float] | None] = {}
    else:
        labels = LabelMap(native.labels.T, scanned.volume.geometry, native.segments)
        table = measure(labels, scanned.volume, percentiles=percentiles)
        centroids = {segment.number: _centroid(native, segment.number, scanned) for segment in native.segments}
    volumes = native_volumes_ml(native)
    rows = tuple(_on_true_positions(row, volumes[row.number], centroids.get(row.number)) for row in table)
    return replace(table, rows=rows)


def _on_true_positions(row: SegmentRow, volume_ml: float, centroid_mm: tuple[float, float, float] | None) -> SegmentRow:
    old = row.measurements["volume"]
    if old.value is None:
        return row
    volume = Measurement(row.label, "volume", volume_ml, "ml", status=old.status, reason=old.reason)
    return replace(row, measurements=row.measurements | {"volume": volume}, centroid_mm=centroid_mm)


def _centroid(native: NativeSlices, number: int, scanned: ScannedSlices) -> tuple[float, float, float] | None:
    """Return the centre of mass in RAS mm, each pixel weighing its slice's width; None for a segment without pixels."""
    steps = scanned.volume.geometry.affine[:3, :2]
    total, weight = np.zeros(3), 0.0
    for plane, origin, width in zip(native.labels, scanned.origins_mm, native.widths_mm, strict=True):
        mask: npt.NDArray[Any] = plane == number
        count = int(np.count_nonzero(mask))
        if not count:
            continue
        j, i = (float(np.dot(mask.sum(axis=1 - axis), np.arange(mask.shape[axis]))) / count for axis in (0, 1))
        total += count * width * (origin + steps @ (i, j))
        weight += count * width
    if not weight:
        return None
    r, a, s = total / weight
    return float(r), float(a), float(s)
