"""One row a segment: volume, place, intensity and status, from one pass over the label map and its scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, ProbabilityMap
from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow, Status
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.volume import Volumes

if TYPE_CHECKING:
    from medseg.kernels.statistics import LabelStatistics

_SIDES = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}


def measure(
    label_map: LabelMap,
    volume: Volume | None = None,
    *,
    percentiles: Sequence[float] = (),
    probabilities: ProbabilityMap | None = None,
    replicates: Sequence[LabelMap] = (),
) -> MeasurementTable:
    """Measure every segment: volume in ml, centroid, bounding box, border contact, and intensities where a scan is given.

    The volume is the number of voxels times |det| of the affine, so tilted and oblique grids are right. Its 95 % interval
    and the standard deviations it is made of are those of `measurement.uncertainty`: grid, boundary, and model where
    `replicates` by other folds or augmentations are given or the label map has a `model_spread`. `voxel_ml`, `mesh_ml`
    (IBSI) and `probability_ml` (the sum of class `probabilities`) stand beside it. A segment without voxels is `absent`
    and has no volume; one that touches the border of the field of view is `cut_by_field_of_view` and keeps the volume of
    its visible part. `std` divides by the number of voxels; intensities leave out NaN and infinity and are None where
    nothing is left.
    `percentiles` (0 to 100) cost a second pass. Raises GeometryMismatchError where grids differ, ParameterError for an
    impossible percentile.

    >>> from medseg.core.geometry import Geometry
    >>> grid = Geometry((4, 4, 4), np.diag([1.0, 1.0, 2.5, 1.0]))
    >>> array = np.zeros((4, 4, 4), np.uint8); array[1:3, 1:3, 1:3] = 1
    >>> measure(LabelMap(array, grid, (Segment(1, "cube"),)))["cube", "volume"].value
    0.02
    """
    from medseg.kernels.statistics import label_percentiles, label_statistics

    if volume is not None and not label_map.geometry.matches(volume.geometry):
        raise mismatch(label_map.geometry, volume.geometry)
    if any(not 0 <= p <= 100 for p in percentiles):
        raise ParameterError(f"percentiles lie between 0 and 100, got {list(percentiles)}")
    image = None if volume is None else volume.array.T
    found = label_statistics(label_map.array.T, image)
    rows_of = {int(number): row for row, number in enumerate(found.numbers)}
    quantiles = None
    if image is not None and percentiles:
        values = label_percentiles(label_map.array.T, image, percentiles, found)
        quantiles = {int(number): dict(zip(percentiles, value, strict=True)) for number, value in zip(found.numbers, values, strict=True)}
    unit = "" if volume is None else volume.unit
    volumes = Volumes(label_map, found, probabilities, replicates)
    rows = []
    for segment in label_map.segments:
        row = rows_of.get(segment.number)
        if row is None:
            rows.append(_absent_row(segment))
            continue
        extra = {} if quantiles is None else quantiles[segment.number]
        intensities = {} if volume is None else _intensities(segment.label, found, row, unit, extra)
        rows.append(_row(segment, label_map.geometry, found, row, volumes, intensities))
    return MeasurementTable(tuple(rows), modality="" if volume is None else volume.modality, unit=unit)


def mismatch(expected: Geometry, got: Geometry) -> GeometryMismatchError:
    """Return the error that says how two grids differ."""
    if expected.shape != got.shape:
        what = f"shapes {expected.shape} and {got.shape} differ"
    elif expected.distance_mm(got) > 1e-3:
        what = f"corners lie {expected.distance_mm(got):.3f} mm apart"
    else:
        what = "they name different frames of reference"
    return GeometryMismatchError(
        f"the segmentation and the scan are not on one grid: {what}; resample the segmentation onto the scan first "
        "(medseg convert SEG OUT --like IMAGE)",
        expected,
        got,
    )


def border_sides(geometry: Geometry, faces: Sequence[int]) -> tuple[str, ...]:
    """Name the patient sides of the touched faces; `faces` counts voxels on k-, k+, j-, j+, i-, i+.

    >>> border_sides(Geometry((2, 2, 2), np.diag([-1, 1, 1, 1])), [0, 3, 0, 0, 5, 0])
    ('superior', 'right')
    """
    codes = geometry.orientation[::-1]
    sides = []
    for face, count in enumerate(faces):
        if count:
            code = codes[face // 2]
            sides.append(_SIDES[code if face % 2 else _OPPOSITE[code]])
    return tuple(sides)


def _absent_row(segment: Segment) -> SegmentRow:
    reason = "no voxel has this segment's number"
    volume = Measurement(segment.label, "volume", None, "ml", status=Status.ABSENT, reason=reason)
    return SegmentRow(segment.number, segment.label, Status.ABSENT, reason, {"volume": volume}, 0)


def _row(
    segment: Segment, geometry: Geometry, found: LabelStatistics, row: int, volumes: Volumes, intensities: dict[str, Measurement]
) -> SegmentRow:
    sides = border_sides(geometry, [int(n) for n in found.border[row]])
    status = Status.CUT_BY_FIELD_OF_VIEW if sides else Status.MEASURED
    reason = f"touches the border of the field of view ({', '.join(sides)}): the volume is that of the visible part" if sides else ""
    centroid = geometry.index_to_world(found.centroid[row][::-1])
    first, last = found.first[row][::-1], found.last[row][::-1]
    return SegmentRow(
        number=segment.number,
        label=segment.label,
        status=status,
        reason=reason,
        measurements=volumes.measurements(segment, row, status, reason) | intensities,
        voxel_count=int(found.voxels[row]),
        centroid_mm=(float(centroid[0]), float(centroid[1]), float(centroid[2])),
        bounding_box=((int(first[0]), int(first[1]), int(first[2])), (int(last[0]), int(last[1]), int(last[2]))),
        touches=sides,
    )


def _intensities(label: str, found: LabelStatistics, row: int, unit: str, quantiles: dict[float, float]) -> dict[str, Measurement]:
    values = {"mean": found.mean[row], "std": found.std[row], "min": found.minimum[row], "max": found.maximum[row]}
    values |= {("median" if p == 50 else f"percentile_{p:g}"): value for p, value in quantiles.items()}
    return {name: _intensity(label, name, float(value), unit, int(found.non_finite[row])) for name, value in values.items()}


def _intensity(label: str, name: str, value: float, unit: str, non_finite: int) -> Measurement:
    if not np.isfinite(value):
        return Measurement(label, name, None, unit, status=Status.FAILED, reason="no voxel of the segment has a finite intensity")
    reason = f"{non_finite} voxels without a finite intensity are left out" if non_finite else ""
    return Measurement(label, name, value, unit, reason=reason)
