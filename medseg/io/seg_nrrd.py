"""Segmentations of 3D Slicer (.seg.nrrd): an NRRD whose key/value pairs name, colour and code the segments.

Slicer keeps segments that do not overlap in one layer (a 3D label image) and others in further layers along a list axis.
Field names: 3D Slicer developer guide, "Segmentations", https://slicer.readthedocs.io.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg.core.codes import Code
from medseg.core.errors import OverlappingSegmentsError, SegmentError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, present_numbers, smallest_unsigned
from medseg.core.segment import Colour, Segment
from medseg.core.volume import Source
from medseg.io.nrrd import parse, read_voxels, write_nrrd
from medseg.io.nrrd_header import geometry_of
from medseg.io.stored import complete_segments
from medseg.io.values import Array, as_label_array
from medseg.io.voxels import count_voxels

_SEGMENT_KEY = re.compile(r"^Segment(\d+)_(.+)$")
_OFFSET_KEY = "Segmentation_ReferenceImageExtentOffset"
_PARAMETERS_KEY = "Segmentation_ConversionParameters"
_REFERENCE_NAME = "Reference image geometry"  # a conversion parameter, name|value|description, each ended by &
_REFERENCE = re.compile(rf"(?:^|&){_REFERENCE_NAME}\|([^|]*)\|")
_ON_GRID_TOLERANCE = 0.01  # voxels
_CROP_TOLERANCE_MM = 0.01
_CATEGORY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGION_CONTEXT = "Anatomic codes - DICOM master list"
_RESERVED = re.compile(r"[|~^\r\n]")  # separators of Slicer's tags and terminology strings


@dataclass(frozen=True)
class _Entry:
    """A segment as the header has it: the number of the layer, its value there, and the segment itself."""

    layer: int
    value: int
    segment: Segment


def is_segmentation(path: str | Path) -> bool:
    """Whether an NRRD file describes segments, whatever its name."""
    return any(key.startswith(("Segment0_", "Segmentation_")) for key in parse(Path(path)).keys)


def read_segmentation(path: str | Path) -> LabelMap:
    """Read segments with their names, colours and codes.

    A layer's values are kept; where values of two layers collide, the later segment gets the next free number and a
    finding says so. A file that Slicer cropped to its segments is put back on the grid of the scan if it names it.
    Raises OverlappingSegmentsError where a voxel belongs to two segments.
    """
    path = Path(path)
    header = parse(path)
    geometry, axes, findings = geometry_of(header)
    others = [axis for axis in range(len(header.sizes)) if axis not in axes]
    if len([axis for axis in others if header.sizes[axis] > 1]) > 1:
        raise UnsupportedFormatError(
            f"{path.name} has more than one axis besides space (sizes {header.sizes}); write it again with 3D Slicer"
        )
    stored, _ = read_voxels(path, header)
    stacked = np.moveaxis(stored, others, range(len(others))).reshape((-1, *geometry.shape), order="F") if others else stored[None]
    layers = [as_label_array(np.asfortranarray(layer), path.name) for layer in stacked]
    array, segments, merged = _merge(layers, _entries(header.keys, path.name), path.name)
    segments, renamed = complete_segments(segments, present_numbers(array))
    array, geometry, cropped = _on_reference_grid(array, geometry, header.keys)
    findings = (*findings, *merged, *renamed, *cropped)
    return LabelMap(array, geometry, segments, Source(str(path), "seg.nrrd", files=(str(path),)), findings)


def _entries(keys: Mapping[str, str], name: str) -> list[_Entry]:
    fields: dict[int, dict[str, str]] = {}
    for key, text in keys.items():
        if match := _SEGMENT_KEY.match(key):
            fields.setdefault(int(match[1]), {})[match[2]] = text
    entries = []
    for index, entry in sorted(fields.items()):
        try:  # files of old versions of Slicer have one layer a segment, all with the value 1
            layer, value = int(entry.get("Layer", index)), int(entry.get("LabelValue", 1))
        except ValueError as err:
            raise SegmentError(
                f"{name}: layer or label value of segment {index} is no whole number; write it again with 3D Slicer"
            ) from err
        if value < 1 or layer < 0:
            raise SegmentError(f"{name}: segment {index} has label value {value} in layer {layer}; write it again with 3D Slicer")
        label = entry.get("Name", "").strip() or entry.get("ID", "").strip() or f"segment_{value}"
        segment = Segment(value, label, colour=_colour(entry.get("Color", entry.get("DefaultColor", ""))))
        entries.append(_Entry(layer, value, _with_codes(segment, _tags(entry.get("Tags", "")).get("TerminologyEntry", ""))))
    return entries


def _merge(layers: list[Array], entries: list[_Entry], name: str) -> tuple[Array, tuple[Segment, ...], tuple[Finding, ...]]:
    """Bring all layers into one, each voxel with one number."""
    if len(layers) == 1:
        return layers[0], tuple(entry.segment for entry in entries if entry.layer == 0), ()
    present = [(layer, value) for layer, labels in enumerate(layers) for value in present_numbers(labels)]
    known = {(entry.layer, entry.value) for entry in entries}
    entries = [
        *entries,
        *(_Entry(layer, value, Segment(value, f"segment_{value}")) for layer, value in present if (layer, value) not in known),
    ]
    numbers, renumbered = _numbers(entries)
    labels_of = {numbers[entry.layer, entry.value]: entry.segment.label for entry in entries}
    merged = np.zeros(layers[0].shape, smallest_unsigned(max(labels_of, default=1)), order="F")
    for layer, value in present:
        mask = layers[layer] == value
        number = numbers[layer, value]
        taken = present_numbers(merged[mask].reshape(-1, 1, 1))
        if taken:
            others = ", ".join(repr(labels_of[other]) for other in taken[:5])
            raise OverlappingSegmentsError(
                f"{name}: {labels_of[number]!r} overlaps {others} in {int(np.count_nonzero(merged[mask])):,} voxels; "
                "a label map holds one segment a voxel: remove the overlap in 3D Slicer"
            )
        merged[mask] = number
    segments = tuple(replace(entry.segment, number=numbers[entry.layer, entry.value]) for entry in entries)
    if not renumbered:
        return merged, segments, ()
    message = f"segments of different layers share values: {', '.join(renumbered[:5])} got new numbers"
    return merged, segments, (Finding("SEGMENTS_RENUMBERED", Severity.INFO, message, {"segments": renumbered}),)


def _numbers(entries: list[_Entry]) -> tuple[dict[tuple[int, int], int], list[str]]:
    """Give each (layer, value) a number of its own: the value, or the next free one where that is taken."""
    numbers: dict[tuple[int, int], int] = {}
    renumbered = []
    wanted = {entry.value for entry in entries}
    taken: set[int] = set()
    for entry in entries:
        number = entry.value
        if number in taken:
            number = next(free for free in range(1, len(entries) + max(wanted) + 1) if free not in taken | wanted)
            renumbered.append(entry.segment.label)
        taken.add(number)
        numbers[entry.layer, entry.value] = number
    return numbers, renumbered


def _on_reference_grid(array: Array, geometry: Geometry, keys: Mapping[str, str]) -> tuple[Array, Geometry, tuple[Finding, ...]]:
    """Undo Slicer's cropping to the segments where the file names the grid of the scan and the voxels lie on it."""
    reference = _reference_grid(keys.get(_PARAMETERS_KEY, ""))
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
    offset = keys.get(_OFFSET_KEY, "").split()
    if not any(part not in ("0", "") for part in offset):
        return array, geometry, ()
    message = f"3D Slicer cropped this segmentation: its first voxel is voxel ({', '.join(offset)}) of the scan; its own grid is used"
    return array, geometry, (Finding("CROPPED_GRID", Severity.INFO, message, {"offset": offset}),)


def _reference_grid(parameters: str) -> Geometry | None:
    """The grid of the scan: 16 numbers of the index-to-RAS matrix and the first and last index of each axis."""
    match = _REFERENCE.search(parameters)
    parts = [part for part in match[1].split(";") if part.strip()] if match else []
    if len(parts) != 22:
        return None
    try:
        first, last = [int(part) for part in parts[16::2]], [int(part) for part in parts[17::2]]
        shape = [end - start + 1 for start, end in zip(first, last, strict=True)]
        count_voxels(shape, "the grid of the scan")
        return Geometry((1, 1, 1), np.array([float(part) for part in parts[:16]]).reshape(4, 4)).cropped(first, shape)
    except (ValueError, OverflowError, UnreadableFileError):
        return None


def _reference_text(geometry: Geometry) -> str:
    i, j, k = (n - 1 for n in geometry.shape)
    numbers = [*(repr(float(value)) for value in geometry.affine.ravel()), "0", str(i), "0", str(j), "0", str(k)]
    return f"{_REFERENCE_NAME}|{''.join(f'{number};' for number in numbers)}|Grid of the scan that was segmented.&"


def _colour(text: str) -> Colour | None:
    try:
        red, green, blue = (min(max(round(255 * float(part)), 0), 255) for part in text.split())
    except (ValueError, OverflowError):
        return None
    return red, green, blue


def _tags(text: str) -> dict[str, str]:
    return {key: value for key, colon, value in (part.partition(":") for part in text.split("|")) if colon}


def _with_codes(segment: Segment, terminology: str) -> Segment:
    """Take the codes of a string such as `context~category~type~modifier~context~region~modifier`, each `scheme^value^meaning`."""
    parts = terminology.split("~")
    if len(parts) < 3:
        return segment
    codes = [_code(part) for part in (*parts[1:4], *parts[5:7])] + [None] * 5
    category, kind, modifier, region, region_modifier = codes[:5]
    return replace(segment, category=category, type=kind, modifier=modifier, region=region, region_modifier=region_modifier)


def _code(text: str) -> Code | None:
    parts = [part.strip() for part in text.split("^")]
    return Code(parts[0], parts[1], parts[2]) if len(parts) == 3 and parts[0] and parts[1] else None


def write_segmentation(label_map: LabelMap, path: str | Path, overwrite: bool = False) -> Path:
    """Write segments as 3D Slicer does: one layer, gzip, with names, colours, codes; read it back and compare.

    Characters that Slicer uses as separators (| ~ ^) become spaces inside codes; names keep them.
    """
    i, j, k = (n - 1 for n in label_map.geometry.shape)
    keys = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        _PARAMETERS_KEY: _reference_text(label_map.geometry),
        "Segmentation_MasterRepresentation": "Binary labelmap",
        _OFFSET_KEY: "0 0 0",
    }
    for index, segment in enumerate(label_map.segments):
        entry = {
            "ID": f"Segment_{segment.number}",
            "Name": segment.label.replace("\r", " "),
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{channel / 255:.6g}" for channel in segment.rgb),
            "ColorAutoGenerated": "0",
            "LabelValue": str(segment.number),
            "Layer": "0",
            # the whole grid: Slicer clips a layer to the extent of its first segment, so a tight one would cut the others
            "Extent": f"0 {i} 0 {j} 0 {k}",
            "Tags": _tag_text(segment),
        }
        keys.update({f"Segment{index}_{name}": value for name, value in entry.items()})
    return write_nrrd(label_map, path, overwrite, keys)


def _tag_text(segment: Segment) -> str:
    tags = {"Segmentation.Status": "inprogress"}
    if segment.category is not None and segment.type is not None:
        tags["TerminologyEntry"] = "~".join(
            (
                _CATEGORY_CONTEXT,
                _code_text(segment.category),
                _code_text(segment.type),
                _code_text(segment.modifier),
                _REGION_CONTEXT,
                _code_text(segment.region),
                _code_text(segment.region_modifier),
            )
        )
    return "".join(f"{key}:{value}|" for key, value in tags.items())


def _code_text(code: Code | None) -> str:
    return "^".join(_RESERVED.sub(" ", part) for part in (code.scheme, code.value, code.meaning)) if code else "^^"
