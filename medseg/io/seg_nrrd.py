"""Segmentations of 3D Slicer (.seg.nrrd): an NRRD whose key/value pairs name, colour and code the segments.

Slicer keeps segments that do not overlap in one layer (a 3D label image) and others in further layers along a list axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.core.errors import OutputVerificationError, OverlappingSegmentsError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, present_numbers, smallest_unsigned
from medseg.core.layers import check_layers, describe_overlap, packed, segments_of
from medseg.core.segment import Segment
from medseg.core.volume import Source
from medseg.io.atomic import write_verified
from medseg.io.nrrd import parse, read_voxels, write_nrrd
from medseg.io.nrrd_header import geometry_of, header_text
from medseg.io.seg_nrrd_terms import FRACTIONAL, OFFSET_KEY, PARAMETERS_KEY, SOURCE_KEYS, Entry, entries_of, header_keys, reference_grid
from medseg.io.stored import complete_segments
from medseg.io.stream import differs_from, open_stream, write_gzipped
from medseg.io.values import Array, as_label_array

_ON_GRID_TOLERANCE = 0.01  # voxels
_CROP_TOLERANCE_MM = 0.01
_LARGEST_TABLE = 1 << 16  # numbers below this are looked up in a table


def is_segmentation(path: str | Path) -> bool:
    """Whether an NRRD file describes segments, whatever its name."""
    return any(key.startswith(("Segment0_", "Segmentation_")) for key in parse(Path(path)).keys)


def read_segmentation(path: str | Path) -> LabelMap:
    """Read segments with their names, colours and codes.

    A layer's values are kept; where values of two layers collide, the later segment gets the next free number and a
    finding says so. A file that Slicer cropped to its segments is put back on the grid of the scan if it names it.
    Raises OverlappingSegmentsError where a voxel belongs to two segments, UnsupportedFormatError for fractional label maps.
    """
    layers = read_segmentation_layers(path)
    if len(layers) == 1:
        return layers[0]
    one, other = layers[0].array.T, layers[1].array.T
    raise OverlappingSegmentsError(
        f"{Path(path).name}: {describe_overlap(one, other, segments_of(layers))}; a label map holds one segment a voxel:"
        " read it in layers (read_layers), or remove the overlap in 3D Slicer"
    )


def read_segmentation_layers(path: str | Path) -> tuple[LabelMap, ...]:
    """Read segments that may share voxels as few layers as they need; numbers and labels are unique over all of them."""
    path = Path(path)
    header = parse(path)
    geometry, axes, findings = geometry_of(header)
    others = [axis for axis in range(len(header.sizes)) if axis not in axes]
    if len([axis for axis in others if header.sizes[axis] > 1]) > 1:
        raise UnsupportedFormatError(
            f"{path.name} has more than one axis besides space (sizes {header.sizes}); write it again with 3D Slicer"
        )
    if any(header.keys.get(key) == FRACTIONAL for key in SOURCE_KEYS):
        raise UnsupportedFormatError(
            f"{path.name} holds fractions of segments (a fractional labelmap); export it from 3D Slicer as a binary labelmap"
        )
    stored, _ = read_voxels(path, header)
    stacked = np.moveaxis(stored, others, range(len(others))).reshape((-1, *geometry.shape), order="F") if others else stored[None]
    arrays = [as_label_array(np.asfortranarray(layer), path.name) for layer in stacked]
    del stored, stacked
    entries = entries_of(header.keys, len(arrays), path.name)
    outside = _outside_extents(arrays, entries)
    layers, segments, merged = _merge(arrays, entries)
    segments, renamed = complete_segments(segments, sorted({number for layer in layers for number in present_numbers(layer.T)}))
    grid = geometry
    cropped: tuple[Finding, ...] = ()
    for place, layer in enumerate(layers):
        whole, grid, cropped = _on_reference_grid(layer.T, geometry, header.keys)
        layers[place] = whole.T
    findings = (*findings, *outside, *merged, *renamed, *cropped)
    source = Source(str(path), "seg.nrrd", files=(str(path),))
    return _label_maps(layers, grid, segments, source, findings)


def _label_maps(
    layers: list[Array], grid: Geometry, segments: tuple[Segment, ...], source: Source, findings: tuple[Finding, ...]
) -> tuple[LabelMap, ...]:
    """Give each layer its segments; those without a voxel go with the first."""
    members = [set(present_numbers(layer.T)) for layer in layers]
    later = {number for numbers in members[1:] for number in numbers}
    members[0] |= {segment.number for segment in segments} - later
    return tuple(
        LabelMap(layer.T, grid, tuple(segment for segment in segments if segment.number in numbers), source, findings)
        for layer, numbers in zip(layers, members, strict=True)
    )


def _merge(arrays: list[Array], entries: list[Entry]) -> tuple[list[Array], tuple[Segment, ...], tuple[Finding, ...]]:
    """Give each segment a number of its own and bring all layers (i,j,k) into as few (k,j,i) as they need."""
    present = [(layer, value) for layer, labels in enumerate(arrays) for value in present_numbers(labels)]
    known = {(entry.layer, entry.value) for entry in entries}
    entries = [
        *entries,
        *(Entry(layer, value, Segment(value, f"segment_{value}")) for layer, value in present if (layer, value) not in known),
    ]
    numbers, renumbered = _numbers(entries)
    dtype = np.result_type(smallest_unsigned(max(numbers, default=1)), *{array.dtype for array in arrays})
    renamed = [
        _renumbered(
            array,
            {entry.value: number for entry, number in zip(entries, numbers, strict=True) if entry.layer == layer},
            dtype,
        )
        for layer, array in enumerate(arrays)
    ]
    segments = tuple(replace(entry.segment, number=number) for entry, number in zip(entries, numbers, strict=True))
    layers = packed(renamed)
    if not renumbered:
        return layers, segments, ()
    message = f"segments of different layers share values: {', '.join(renumbered[:5])} got new numbers"
    return layers, segments, (Finding("SEGMENTS_RENUMBERED", Severity.INFO, message, {"segments": renumbered}),)


def _renumbered(array: Array, numbers: dict[int, int], dtype: np.dtype) -> Array:
    """Return a layer (k,j,i) with new numbers."""
    labels = array.T
    if all(old == new for old, new in numbers.items()):
        return labels.astype(dtype, copy=False)
    if max(numbers) < _LARGEST_TABLE and int(labels.max(initial=0)) < _LARGEST_TABLE:
        table = np.zeros(_LARGEST_TABLE, dtype)
        table[list(numbers)] = list(numbers.values())
        return table[labels]
    result = np.zeros(labels.shape, dtype)
    for old, new in numbers.items():
        result[labels == old] = new
    return result


def _numbers(entries: list[Entry]) -> tuple[list[int], list[str]]:
    """Give each entry a number of its own: its value, or the next free one where that is taken."""
    numbers: list[int] = []
    renumbered: list[str] = []
    wanted = {entry.value for entry in entries}
    taken: set[int] = set()
    free = 1
    for entry in entries:
        number = entry.value
        if number in taken:
            while free in taken or free in wanted:
                free += 1
            number = free
            renumbered.append(entry.segment.label)
        taken.add(number)
        numbers.append(number)
    return numbers, renumbered


def _outside_extents(arrays: list[Array], entries: list[Entry]) -> tuple[Finding, ...]:
    """Say where 3D Slicer shows less than there is: it clips a layer to the box around the extents of its segments."""
    cut = []
    for layer, array in enumerate(arrays):
        extents = [entry.extent for entry in entries if entry.layer == layer]
        if not extents or None in extents:  # a segment without an extent reaches over the whole layer
            continue
        boxes = [extent for extent in extents if extent is not None and all(extent[2 * axis] <= extent[2 * axis + 1] for axis in range(3))]
        inside = (
            tuple(slice(max(min(box[2 * axis] for box in boxes), 0), max(box[2 * axis + 1] for box in boxes) + 1) for axis in range(3))
            if boxes
            else (slice(0, 0),)
        )
        lost = int(np.count_nonzero(array)) - int(np.count_nonzero(array[inside]))
        if lost:
            cut.append({"layer": layer, "voxels": lost})
    if not cut:
        return ()
    count = sum(entry["voxels"] for entry in cut)
    message = f"{count:,} voxels lie outside the extents the file gives its segments; they are kept here, 3D Slicer drops them"
    return (Finding("OUTSIDE_EXTENT", Severity.WARNING, message, {"layers": cut}),)


def _on_reference_grid(array: Array, geometry: Geometry, keys: Mapping[str, str]) -> tuple[Array, Geometry, tuple[Finding, ...]]:
    """Undo Slicer's cropping to the segments where the file names the grid of the scan and the voxels lie on it."""
    reference = reference_grid(keys.get(PARAMETERS_KEY, ""))
    if reference is not None and reference.shape != geometry.shape:
        first = reference.world_to_index(geometry.origin_mm)
        start = np.rint(first).astype(int)
        stop = start + geometry.shape
        fits = np.abs(first - start).max() < _ON_GRID_TOLERANCE and (start >= 0).all() and (stop <= reference.shape).all()
        if fits and geometry.matches(reference.cropped(start.tolist(), geometry.shape), _CROP_TOLERANCE_MM):
            whole = np.zeros(reference.shape, array.dtype, order="F")
            whole[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]] = array
            message = f"3D Slicer cropped this segmentation to {geometry.shape}; it was put back on the grid of its scan, {reference.shape}"
            return whole, reference, (Finding("CROPPING_UNDONE", Severity.INFO, message, {"start": start.tolist()}),)
    offset = keys.get(OFFSET_KEY, "").split()
    if not any(part not in ("0", "") for part in offset):
        return array, geometry, ()
    message = f"3D Slicer cropped this segmentation: its first voxel is voxel ({', '.join(offset)}) of the scan; its own grid is used"
    return array, geometry, (Finding("CROPPED_GRID", Severity.INFO, message, {"offset": offset}),)


def write_segmentation(segments: LabelMap | Sequence[LabelMap], path: str | Path, overwrite: bool = False) -> Path:
    """Write segments as 3D Slicer does, gzip, with names, colours, codes; read the file back and compare.

    One label map is a 3D image; layers, whose segments may share voxels, lie along a list axis. Characters that Slicer uses
    as separators (| ~ ^) become spaces inside codes; names keep them.
    """
    layers = check_layers(segments)
    geometry = layers[0].geometry
    placed = [(number, segment) for number, layer in enumerate(layers) for segment in layer.segments]
    keys = header_keys(placed, geometry)
    if len(layers) == 1:
        return write_nrrd(layers[0], path, overwrite, keys)
    dtype = np.result_type(*{layer.array.dtype for layer in layers})
    array = np.empty((len(layers), *geometry.shape), dtype, order="F")
    for number, layer in enumerate(layers):
        array[number] = layer.array
    head = _with_list_axis(header_text(geometry, dtype, keys), len(layers))

    def write(temporary: Path) -> None:
        with temporary.open("xb") as file:
            file.write(head)
            write_gzipped(file, b"", array)

    def verify(temporary: Path) -> None:
        header = parse(temporary)
        grid, axes, _ = geometry_of(header)
        same = np.array_equal(grid.affine, geometry.affine) and grid.shape == geometry.shape and axes == (1, 2, 3)
        with open_stream(temporary, header.encoding, header.data_offset) as stream:
            if not same or dict(header.keys) != keys or header.dtype.newbyteorder("=") != dtype or differs_from(stream, array):
                raise OutputVerificationError(f"{path}: what was read back is not what was written; check the disk and try again")
            stream.finish()

    return write_verified(path, write, verify, overwrite)


def _with_list_axis(head: bytes, count: int) -> bytes:
    """Put a list axis before the three axes of space, as 3D Slicer does for layers."""
    changes = (
        (b"\ndimension: 3\n", b"\ndimension: 4\n"),
        (b"\nsizes: ", f"\nsizes: {count} ".encode("ascii")),
        (b"\nspace directions: ", b"\nspace directions: none "),
        (b"\nkinds: ", b"\nkinds: list "),
    )
    for old, new in changes:
        head = head.replace(old, new, 1)
    return head
