"""Scans and segments as they come into the worker and leave it: memory-mapped arrays, the last scans kept."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, InputError, SegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, present_numbers, smallest_unsigned
from medseg.core.layers import segments_of
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.slicer_bridge.array_files import read_array, write_array
from medseg.slicer_bridge.arrays import cropped, geometry_of, volume_of
from medseg.slicer_bridge.job_fields import NOTHING, Extent, is_empty
from medseg.slicer_bridge.jobs import LabelsRef, LayerRef, ScanRef
from medseg.slicer_bridge.terminology import segment_dict, segment_of

KEPT_SCANS = 2
_AXES = 3


class Scans:
    """The scans that were used last, each as the host's file was when it was read: a changed file is read again."""

    def __init__(self, keep: int = KEPT_SCANS) -> None:
        self._keep = keep
        self._kept: OrderedDict[str, tuple[str, Volume]] = OrderedDict()

    def get(self, ref: ScanRef) -> Volume:
        """Return a scan with the findings of its checks; raises what reading it raises."""
        from medseg.io.file_report import contrast_findings

        mark = _mark(ref)
        if mark in self._kept:
            self._kept.move_to_end(mark)
            return self._kept[mark][1]
        self.forget(ref.key)  # another state of this scan, whose file may be gone
        while len(self._kept) >= self._keep:  # before the next one is read: it may need the room
            self._kept.popitem(last=False)
        volume = read_scan(ref)
        volume = replace(volume, findings=(*volume.findings, *contrast_findings(volume)))
        self._kept[mark] = (ref.key, volume)
        return volume

    def forget(self, key: str | None = None) -> int:
        """Let go of a scan, or of all; return how many there were."""
        gone = [mark for mark, (kept, _) in self._kept.items() if key in (None, kept)]
        for mark in gone:
            del self._kept[mark]
        return len(gone)


def _mark(ref: ScanRef) -> str:
    """Name the state of a scan: its reference, and size and time of its file."""
    try:
        state = Path(ref.array or ref.path).stat()
        stamp: tuple[int, ...] = (state.st_size, state.st_mtime_ns)
    except (OSError, ValueError):
        stamp = ()
    return json.dumps([ref.to_json(), stamp])


def read_scan(ref: ScanRef) -> Volume:
    """Return the scan of a reference: its memory-mapped array without a copy, or what `medseg.read` reads at its path."""
    if ref.path:
        from medseg.io.options import ReadOptions
        from medseg.io.read import read_with

        return read_with(ref.path, ReadOptions(series=ref.series))
    array = read_array(ref.array, "the scan")
    assert ref.ijk_to_ras is not None  # checked when the reference was read
    parent = ref.parent_to_world
    return volume_of(array, np.array(ref.ijk_to_ras), parent_to_world=parent, modality=ref.modality, unit=ref.unit)


def grid_of(ref: LabelsRef) -> Geometry:
    """Return the grid that labels lie on."""
    return geometry_of(ref.shape, np.array(ref.ijk_to_ras), ref.parent_to_world)


def read_labels(ref: LabelsRef, region: Extent | None = None) -> tuple[LabelMap, ...]:
    """Return segments as layers on their whole grid, or on the box of it.

    Raises SegmentError for a value without a segment and for segments that are not valid, UnreadableFileError for the file.
    """
    geometry = grid_of(ref)
    if region is not None:
        geometry = boxed(geometry, region)
    segments = tuple(segment_of(entry) for entry in ref.segments)
    single = len(ref.layers) == 1
    layers = []
    for layer in ref.layers:
        array = _placed(layer, geometry, region, segments)
        numbers = set() if single else set(present_numbers(array))
        own = segments if single else tuple(segment for segment in segments if segment.number in numbers)
        layers.append(LabelMap(array, geometry, own))
    return tuple(layers)


def _placed(layer: LayerRef, geometry: Geometry, region: Extent | None, segments: Sequence[Segment]) -> npt.NDArray[Any]:
    """Return the labels (i,j,k) of a layer on a grid, which is the box `region` of the whole one where given."""
    largest = max((segment.number for segment in segments), default=1)
    whole = np.zeros(geometry.shape[::-1], smallest_unsigned(largest))
    if is_empty(layer.extent):
        return whole.T
    array = read_array(layer.array, "the segments")
    shape = tuple(layer.extent[2 * axis + 1] - layer.extent[2 * axis] + 1 for axis in (2, 1, 0))
    if array.shape != shape:
        raise SegmentError(f"the array of the segments has shape {array.shape}, its extent holds {shape} (k,j,i)")
    if array.dtype.kind == "f" or int(array.min()) < 0 or int(array.max()) > largest:
        raise SegmentError("labels must be whole numbers from 0 on, each the number of a segment")
    offset = (0, 0, 0) if region is None else region[::2]
    to, of = [], []
    for axis in (2, 1, 0):
        low = layer.extent[2 * axis] - offset[axis]
        high = layer.extent[2 * axis + 1] - offset[axis] + 1
        start, stop = max(low, 0), min(high, geometry.shape[axis])
        if start >= stop:
            return whole.T
        to.append(slice(start, stop))
        of.append(slice(start - low, stop - low))
    whole[tuple(to)] = array[tuple(of)]
    return whole.T


def boxed(geometry: Geometry, region: Extent) -> Geometry:
    """Return the grid of a box of voxels; raises InputError where it is empty or leaves the grid."""
    shape = tuple(region[2 * axis + 1] - region[2 * axis] + 1 for axis in range(_AXES))
    inside = all(region[2 * axis] >= 0 and region[2 * axis + 1] < geometry.shape[axis] for axis in range(_AXES))
    if min(shape) < 1 or not inside:
        raise InputError(f"the region {list(region)} is empty or leaves the scan of {geometry.shape} voxels: draw it inside the scan")
    return geometry.cropped(region[::2], shape)


def cut(volume: Volume, region: Extent) -> Volume:
    """Return the part of a scan in a box of voxels."""
    geometry = boxed(volume.geometry, region)
    i, j, k = (slice(region[2 * axis], region[2 * axis + 1] + 1) for axis in range(_AXES))
    return volume.with_array(volume.array[i, j, k], geometry)


def on_grid_of(layers: Iterable[LabelMap], geometry: Geometry) -> tuple[LabelMap, ...]:
    """Return layers that lie on a scan's grid, voxel for voxel; GeometryMismatchError that says what to do where they do not."""
    layers = tuple(layers)
    for layer in layers:
        if not layer.geometry.matches(geometry):
            raise GeometryMismatchError(
                "the segments lie on another grid than the scan: set the scan as the segmentation's reference geometry (resample) first",
                geometry,
                layer.geometry,
            )
    return tuple(replace(layer, geometry=geometry) for layer in layers)


def write_labels(
    label_map: LabelMap, base: Path, ref: ScanRef | LabelsRef | None, whole: tuple[Extent, tuple[int, int, int]] | None = None
) -> LabelsRef:
    """Write a label map, cropped to what is labelled, beside `base` and return its reference on the grid of `ref`.

    `whole` is the box of the whole grid that the label map covers, and the shape (I,J,K) of that grid; None where it is all.
    """
    return write_layers((label_map,), base, ref, whole)


def write_layers(
    layers: Sequence[LabelMap], base: Path, ref: ScanRef | LabelsRef | None, whole: tuple[Extent, tuple[int, int, int]] | None = None
) -> LabelsRef:
    """Write segments that may share voxels as `write_labels` does, each layer into a file of its own."""
    first = layers[0].geometry
    region, shape = whole if whole is not None else (None, first.shape)
    written = []
    for number, layer in enumerate(layers):
        array, extent = cropped(layer)
        path = base.with_name(f"{base.name}-labels{f'-{number}' if number else ''}.npy")
        if region is not None and not is_empty(extent):
            extent = _as_extent([value + region[index - index % 2] for index, value in enumerate(extent)])
        empty = is_empty(extent)
        written.append(LayerRef("", NOTHING) if empty else LayerRef(str(write_array(path, array)), _as_extent(extent)))
    grid = ref.ijk_to_ras if ref is not None else None
    if grid is None:  # a scan that was read from its files; the box of it begins elsewhere
        whole_grid = first if region is None else first.cropped([-start for start in region[::2]], shape)
        grid = tuple(tuple(float(value) for value in row) for row in whole_grid.affine)
    parent = ref.parent_to_world if ref is not None else None
    segments = tuple(segment_dict(segment) for segment in segments_of(layers))
    return LabelsRef(tuple(written), (shape[2], shape[1], shape[0]), grid, segments, parent)


def _as_extent(values: Sequence[int]) -> Extent:
    i0, i1, j0, j1, k0, k1 = (int(value) for value in values)
    return i0, i1, j0, j1, k0, k1
