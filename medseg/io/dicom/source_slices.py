"""The slices of a scan read from DICOM, as objects that are drawn on it refer to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.dicom.elements import HeaderError, NotDicomError
from medseg.io.dicom.header import NotAnImageError, SliceHeader, read_headers
from medseg.io.dicom.sort import LPS_TO_RAS, normal_of

ON_SLICE_STEPS = 0.1  # a slice this near to a plane of the grid, in steps, is that plane


@dataclass(frozen=True, eq=False)
class SourceSlices:
    """The grid's planes and the slice at each (None where there is none), and the instances of the series in their order."""

    headers: tuple[SliceHeader | None, ...]
    instances: tuple[tuple[str, str], ...]
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    file: str

    def to_pixel(self, k: int, points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
        """Map RAS mm points to (column, row, mm off the slice) by the slice's own header; None where plane k has no slice."""
        header = self.headers[k]
        if header is None or header.position is None or header.orientation is None or header.pixel_spacing is None:
            return None
        lps = points_mm * (-1.0, -1.0, 1.0) - np.asarray(header.position)
        row_way, column_way = np.asarray(header.orientation[:3]), np.asarray(header.orientation[3:])
        return np.column_stack(
            [lps @ row_way / header.pixel_spacing[1], lps @ column_way / header.pixel_spacing[0], lps @ normal_of(header.orientation)]
        )


def source_slices(geometry: Geometry, source: Volume, kind: str) -> SourceSlices:
    """Find the slice of each plane of a grid among the files of its scan.

    `kind` is what is to be written, for messages. Raises InputError where the source is no DICOM series or its files are gone
    or changed, GeometryMismatchError where the grid is not that of the scan.
    """
    origin = source.source
    if origin is None or not origin.files or not origin.series_uid or not all(origin.sop_instance_uids):
        raise InputError(f"{kind} refers to the files of a DICOM series with UIDs: give the scan read from them as source")
    if not geometry.matches(source.geometry):
        raise GeometryMismatchError(
            f"the segments ({geometry.shape}) are not on the grid of the scan ({source.geometry.shape}): bring them back to it first",
            source.geometry,
            geometry,
        )
    try:
        headers = [header for file in dict.fromkeys(origin.files) for header in read_headers(file)]
    except (OSError, HeaderError, NotDicomError, NotAnImageError) as err:
        raise InputError(f"{origin.path}: a file of the source series cannot be read any more ({type(err).__name__})") from None
    if not set(origin.sop_instance_uids) <= {header.sop_instance_uid for header in headers}:
        raise InputError(f"{origin.path}: the files of the source series have changed since they were read; read them again")
    first = headers[0]
    return SourceSlices(
        headers=_by_plane(headers, geometry),
        instances=tuple(dict.fromkeys((header.sop_class_uid, header.sop_instance_uid) for header in headers)),
        series_uid=first.series_uid,
        study_uid=first.study_uid,
        frame_of_reference_uid=geometry.frame_of_reference_uid or first.frame_of_reference_uid,
        file=origin.files[0],
    )


def _by_plane(headers: Sequence[SliceHeader], geometry: Geometry) -> tuple[SliceHeader | None, ...]:
    found: list[SliceHeader | None] = [None] * geometry.shape[2]
    for header in headers:
        if header.position is None or len(header.position) != 3 or not np.isfinite(header.position).all():
            continue
        index = geometry.world_to_index(LPS_TO_RAS[:3, :3] @ np.asarray(header.position))
        k = round(float(index[2]))
        on_place = bool(np.abs(index - (0, 0, k)).max() <= ON_SLICE_STEPS) and 0 <= k < len(found)
        if on_place and found[k] is None:  # of several frames at one place the first: they differ in time, not in space
            found[k] = header
    return tuple(found)
