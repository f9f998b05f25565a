"""Segments as DICOM segmentations (SEG) that refer to the scan they were made on (PS3.3, A.51)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, InputError, MedsegError, OutputError, OutputVerificationError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, ProbabilityMap
from medseg.core.layers import check_layers, segments_of
from medseg.core.segment import Segment
from medseg.core.terminology import described
from medseg.core.volume import Volume
from medseg.io.atomic import write_verified
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg_build import LARGEST_FRACTION, FrameSpec, add_frames, describe_frames, filled_planes, new_dataset
from medseg.io.dicom.seg_check import Extent, compare
from medseg.io.dicom.seg_describe import background_item, describe_series, segment_items, stored_labels
from medseg.io.dicom.seg_read import is_seg, read_fractions, read_native_slices, read_seg, read_seg_layers
from medseg.io.dicom.seg_source import source_series, with_patient_and_study

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Segments = LabelMap | ProbabilityMap | Sequence[LabelMap]
Fractional = Literal["PROBABILITY", "OCCUPANCY"]

MOST_SEGMENTS = 65_535
IN_PLANE_DEGREES = 0.01  # rows and columns of a DICOM image are at right angles

__all__ = ["is_seg", "read_fractions", "read_native_slices", "read_seg", "read_seg_layers", "write_seg"]


def write_seg(
    segments: Segments,
    path: str | os.PathLike[str],
    source: Volume,
    *,
    labelmap: bool = False,
    fractional: Fractional = "PROBABILITY",
    overwrite: bool = False,
) -> Path:
    """Write segments as a DICOM SEG that refers to the images of `source`, the scan read from DICOM.

    A LabelMap, or layers of them whose segments may share voxels, become BINARY frames (empty ones are left out, except on
    the first and last plane, so that the grid comes back whole); with `labelmap` one LABELMAP frame a plane, which few
    programs read yet. A ProbabilityMap becomes a FRACTIONAL SEG of the kind `fractional`, in steps of 1/255.

    Patient and study are copied from the scan's files, as a picture archive needs it. Segments are numbered 1, 2, ... in the
    order of their numbers; one without codes gets those of its label, else "Anatomical Structure"; the side is the modifier
    of the type. Planes without an image of their own (gaps that were filled, resampled stacks) refer to the series only.
    What is written is decoded again by medseg's reader, voxel by voxel, and measured by pydicom alone (centroid, volume,
    side, codes) before the file gets its name. Raises GeometryMismatchError where the segments are not on the grid of
    `source`, InputError where the source is no DICOM series or its files are gone, OutputExistsError, OutputError,
    OutputVerificationError.
    """
    path = Path(path)
    plan = _plan(segments, labelmap, fractional, source)
    from pydicom.config import disable_value_validation

    # patient and study are copied as they are, and de-identified files often hold values that the standard forbids
    with quiet(), disable_value_validation():
        dataset = _segmentation(plan, source, path)

        def write(temporary: Path) -> None:
            dataset.save_as(temporary, enforce_file_format=True)

        def verify(temporary: Path) -> None:
            _verify(temporary, plan)

        return write_verified(path, write, verify, overwrite)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is to be written: described segments in the order of their new numbers, their grid, and their voxels."""

    kind: str
    fractional: str
    geometry: Geometry
    segments: tuple[Segment, ...]
    layers: tuple[LabelMap, ...]
    fractions: npt.NDArray[np.uint8] | None = None

    def new_numbers(self, layer: LabelMap) -> dict[int, int]:
        """Return old number → new number of a layer's segments."""
        here = {segment.number for segment in layer.segments}
        return {segment.number: new for new, segment in enumerate(self.segments, start=1) if segment.number in here}


def _plan(segments: Segments, labelmap: bool, fractional: str, source: Volume) -> _Plan:
    if isinstance(segments, ProbabilityMap):
        array = np.asarray(segments.array)
        if not np.isfinite(array).all() or array.min(initial=0) < 0 or array.max(initial=0) > 1:
            raise InputError("fractions must lie from 0 to 1; a ProbabilityMap with other values cannot be written as FRACTIONAL")
        stored = np.rint(array.transpose(0, 3, 2, 1) * LARGEST_FRACTION).astype(np.uint8)
        plan = _Plan("FRACTIONAL", fractional, segments.geometry, tuple(map(described, segments.segments)), (), stored)
    else:
        layers = check_layers(segments)
        kind = "LABELMAP" if labelmap else "BINARY"
        if labelmap and len(layers) > 1:
            raise InputError("segments that share voxels cannot be written as a LABELMAP; write BINARY frames (labelmap=False)")
        plan = _Plan(kind, "", layers[0].geometry, tuple(map(described, segments_of(layers))), layers)
    if not plan.segments:
        raise InputError("the label map has no segment: a DICOM SEG describes at least one")
    if len(plan.segments) > MOST_SEGMENTS:
        raise InputError(f"{len(plan.segments)} segments are more than a DICOM SEG can number ({MOST_SEGMENTS})")
    if not plan.geometry.matches(source.geometry):
        raise GeometryMismatchError(
            f"the label map ({plan.geometry.shape}) is not on the grid of the source scan ({source.geometry.shape}),"
            f" corners are {plan.geometry.distance_mm(source.geometry):.4g} mm apart: bring it back to the source grid first",
            source.geometry,
            plan.geometry,
        )
    i_axis, j_axis = plan.geometry.direction[:, 0], plan.geometry.direction[:, 1]
    if abs(np.degrees(np.arcsin(float(i_axis @ j_axis)))) > IN_PLANE_DEGREES:
        raise InputError("rows and columns of this grid are not at right angles, which no DICOM image can be: resample the scan first")
    return plan


def _segmentation(plan: _Plan, source: Volume, path: Path) -> Dataset:
    series = source_series(source)
    made = new_dataset(plan.kind)
    try:
        with_patient_and_study(made, series.header, path)
        describe_series(made, plan.layers)
        items = segment_items(plan.segments, plan.layers)
        made.SegmentSequence = [background_item(), *items] if plan.kind == "LABELMAP" else items
        if not all(str(item.SegmentLabel).isascii() for item in items):
            made.SpecificCharacterSet = "ISO_IR 192"
        made.SegmentsOverlap = "NO" if plan.kind == "LABELMAP" or len(plan.layers) == 1 else "YES" if plan.layers else "UNDEFINED"
        if plan.kind == "FRACTIONAL":
            made.SegmentationFractionalType = plan.fractional
            made.MaximumFractionalValue = LARGEST_FRACTION
        elif plan.kind == "LABELMAP":
            made.PixelPaddingValue = 0
        frames = _frames(plan)
        add_frames(made, frames, plan.geometry, plan.kind, path)
        describe_frames(made, frames, plan.geometry, series)
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    except MedsegError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, OSError) as err:
        # the text of these errors may quote the patient's header, so it is not passed on
        raise OutputError(
            f"{path}: no DICOM SEG can be made of these source files ({type(err).__name__}); write .seg.nrrd instead"
        ) from None
    return made


def _frames(plan: _Plan) -> list[FrameSpec]:
    """Return the frames to store: segment by segment, plane by plane."""
    last = plan.geometry.shape[2] - 1
    if plan.kind == "LABELMAP":
        table = _table(plan, plan.layers[0])
        return [FrameSpec(0, k, _looked_up(table, plane)) for k, plane in enumerate(plan.layers[0].array.T)]
    found: dict[tuple[int, int], Any] = {}
    if plan.fractions is not None:
        for number, volume in enumerate(plan.fractions, start=1):
            found.update({(number, k): _itself(plane) for k, plane in enumerate(volume) if plane.any()})
    for layer in plan.layers:
        numbers = plan.new_numbers(layer)
        array = layer.array.T
        for k, here in filled_planes(array):
            found.update({(numbers[number], k): _equal_to(array[k], number) for number in here})
    blank = np.zeros(plan.geometry.shape[1::-1], dtype=np.uint8)
    # the first and last plane say how far the grid reaches; a segment without voxels is there with one empty frame
    wanted = {(1, 0), (1, last)} | {(number, 0) for number in range(1, len(plan.segments) + 1)} - {(number, 0) for number, _ in found}
    for key in wanted:
        found.setdefault(key, _itself(blank))
    return [FrameSpec(number, k, pixels) for (number, k), pixels in sorted(found.items(), key=lambda entry: entry[0])]


def _table(plan: _Plan, layer: LabelMap) -> npt.NDArray[np.uint16]:
    numbers = plan.new_numbers(layer)
    table = np.zeros(max([*numbers, int(layer.array.max(initial=0))]) + 1, dtype=np.uint16)
    table[list(numbers)] = list(numbers.values())
    return table


def _looked_up(table: npt.NDArray[np.uint16], plane: npt.NDArray[Any]) -> Any:
    return lambda: table[plane]


def _equal_to(plane: npt.NDArray[Any], number: int) -> Any:
    return lambda: plane == number


def _itself(plane: npt.NDArray[Any]) -> Any:
    return lambda: plane


def _verify(file: Path, plan: _Plan) -> None:
    """Decode the file by medseg's own reader and compare every voxel; then measure it by pydicom alone."""
    try:
        if plan.fractions is not None:
            _verify_fractions(file, plan, plan.fractions)
        else:
            _verify_layers(file, plan)
    except OutputVerificationError:
        raise
    except MedsegError as err:
        raise OutputVerificationError(f"the segmentation cannot be read back: {err}") from err
    try:
        compare(file, _extents(plan), plan.segments, stored_labels(plan.segments))
    except (AttributeError, LookupError, TypeError, ValueError, OSError) as err:
        raise OutputVerificationError(f"the segmentation cannot be measured again by pydicom ({type(err).__name__})") from None


def _verify_layers(file: Path, plan: _Plan) -> None:
    back = read_seg_layers(file, plan.geometry)
    homes = {segment.number: home for home, layer in enumerate(back) for segment in layer.segments}
    if sorted(homes) != list(range(1, len(plan.segments) + 1)):
        raise OutputVerificationError(f"{len(plan.segments)} segments were written, {len(homes)} are there")
    for layer in plan.layers:
        table = _table(plan, layer)
        numbers = list(plan.new_numbers(layer).values())
        for home, other in enumerate(back):
            kept = np.zeros(len(plan.segments) + 1, dtype=np.uint16)  # of both sides only the segments that share these layers
            members = [number for number in numbers if homes[number] == home]
            kept[members] = members
            for wanted, got in zip(layer.array.T, other.array.T, strict=True):
                ours, theirs = kept[table][wanted], kept[got]
                if not np.array_equal(ours, theirs):
                    number = int(np.maximum(ours, theirs)[ours != theirs].max())
                    raise OutputVerificationError(f"segment {plan.segments[number - 1].label!r} came back with other voxels")


def _verify_fractions(file: Path, plan: _Plan, stored: npt.NDArray[np.uint8]) -> None:
    back = read_fractions(file)
    if len(back) != len(plan.segments):
        raise OutputVerificationError(f"{len(plan.segments)} segments were written, {len(back)} are there")
    for (_, array, geometry), wanted, segment in zip(back, stored, plan.segments, strict=True):
        if not geometry.matches(plan.geometry) or not np.array_equal(np.rint(array * LARGEST_FRACTION), wanted):
            raise OutputVerificationError(f"segment {segment.label!r} came back with other fractions")


def _extents(plan: _Plan) -> list[Extent]:
    """Measure what is to be written, from the label maps alone."""
    sums = np.zeros((len(plan.segments) + 1, 4))
    if plan.fractions is not None:
        for number, volume in enumerate(plan.fractions, start=1):
            sums[number] = _moments(volume)
        sums /= LARGEST_FRACTION
    for layer in plan.layers:
        table = _table(plan, layer)
        for k, plane in enumerate(layer.array.T):
            numbers = table[plane]
            j, i = np.nonzero(numbers)
            values = numbers[j, i]
            for column, weight in enumerate((None, i, j, np.full(len(i), k))):
                sums[:, column] += np.bincount(values, weights=weight, minlength=len(sums))[: len(sums)]
    found = []
    for weight, *moments in sums[1:].tolist():
        centre = plan.geometry.index_to_world(np.divide(moments, weight)).tolist() if weight else None
        found.append(Extent(weight, tuple(centre) if centre else None, weight * plan.geometry.voxel_volume_mm3))
    return found


def _moments(volume: npt.NDArray[np.uint8]) -> list[float]:
    planes, rows, columns = (volume.sum(axis=axes, dtype=np.float64) for axes in ((1, 2), (0, 2), (0, 1)))
    sums = [float(part @ np.arange(len(part))) for part in (columns, rows, planes)]
    return [float(planes.sum()), *sums]
