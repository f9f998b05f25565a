"""What 3D Slicer writes about a segment in a .seg.nrrd: terminology strings, tags, colours, and the grid of its scan.

Field names: 3D Slicer developer guide, "Segmentations", https://slicer.readthedocs.io.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medseg.core.errors import SegmentError, UnreadableFileError
from medseg.core.geometry import Geometry
from medseg.core.segment import Colour, Segment
from medseg.core.terminology import described
from medseg.core.terminology_text import TERMINOLOGY_TAG, terminology_text, with_terminology
from medseg.io.voxels import count_voxels

OFFSET_KEY = "Segmentation_ReferenceImageExtentOffset"
PARAMETERS_KEY = "Segmentation_ConversionParameters"
REPRESENTATIONS_KEY = "Segmentation_ContainedRepresentationNames"
SOURCE_KEYS = ("Segmentation_MasterRepresentation", "Segmentation_SourceRepresentation")  # the name before and since 2024
LABELMAP, FRACTIONAL = "Binary labelmap", "Fractional labelmap"

_SEGMENT_KEY = re.compile(r"^Segment(\d+)_(.+)$")
_REFERENCE_NAME = "Reference image geometry"  # a conversion parameter, name|value|description, each ended by &
_REFERENCE = re.compile(rf"(?:^|&){_REFERENCE_NAME}\|([^|]*)\|")

Extent = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Entry:
    """A segment as the header has it: the number of the layer, its value there, its extent (i, j, k first and last), itself."""

    layer: int
    value: int
    segment: Segment
    extent: Extent | None = None


def entries_of(keys: Mapping[str, str], layer_count: int, name: str) -> list[Entry]:
    """Return the segments of a header; raises SegmentError where one has no sound number, or two have the same place."""
    fields: dict[int, dict[str, str]] = {}
    for key, text in keys.items():
        if match := _SEGMENT_KEY.match(key):
            fields.setdefault(int(match[1]), {})[match[2]] = text
    entries: list[Entry] = []
    places: dict[tuple[int, int], str] = {}
    for index, entry in sorted(fields.items()):
        try:  # files of old versions of Slicer have one layer a segment, all with the value 1
            layer, value = int(entry.get("Layer", index if layer_count > 1 else 0)), int(entry.get("LabelValue", 1))
        except ValueError as err:
            raise SegmentError(
                f"{name}: layer or label value of segment {index} is no whole number; write it again with 3D Slicer"
            ) from err
        if value < 1 or layer < 0:
            raise SegmentError(f"{name}: segment {index} has label value {value} in layer {layer}; write it again with 3D Slicer")
        label = entry.get("Name", "").strip() or entry.get("ID", "").strip() or f"segment_{value}"
        if (layer, value) in places and layer < layer_count:
            raise SegmentError(
                f"{name}: segments {places[layer, value]!r} and {label!r} are the same voxels (value {value} of layer {layer});"
                " write it again with 3D Slicer"
            )
        places[layer, value] = label
        segment = Segment(value, label, colour=_colour(entry.get("Color", entry.get("DefaultColor", ""))))
        segment = with_terminology(segment, _tags(entry.get("Tags", "")).get(TERMINOLOGY_TAG, entry.get(TERMINOLOGY_TAG, "")))
        entries.append(Entry(layer, value, segment, _extent(entry.get("Extent", ""))))
    return entries


def _extent(text: str) -> Extent | None:
    try:
        i0, i1, j0, j1, k0, k1 = (int(part) for part in text.split())
    except ValueError:
        return None
    return i0, i1, j0, j1, k0, k1


def _colour(text: str) -> Colour | None:
    try:
        red, green, blue = (min(max(round(255 * float(part)), 0), 255) for part in text.split())
    except (ValueError, OverflowError):
        return None
    return red, green, blue


def _tags(text: str) -> dict[str, str]:
    return {key: value for key, colon, value in (part.partition(":") for part in text.split("|")) if colon}


def reference_grid(parameters: str) -> Geometry | None:
    """Return the grid of the scan: 16 numbers of the index-to-RAS matrix and the first and last index of each axis."""
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


def header_keys(segments: list[tuple[int, Segment]], geometry: Geometry) -> dict[str, str]:
    """Return the key/value pairs of segments, each with the number of its layer, on a grid.

    A segment without codes gets those of its label where they are known: Slicer calls all others "Tissue". Characters that
    Slicer uses as separators (| ~ ^) become spaces inside codes; names keep them.
    """
    i, j, k = (n - 1 for n in geometry.shape)
    keys = {
        REPRESENTATIONS_KEY: f"{LABELMAP}|",
        PARAMETERS_KEY: _reference_text(geometry),
        SOURCE_KEYS[0]: LABELMAP,
        OFFSET_KEY: "0 0 0",
    }
    for index, (layer, plain) in enumerate(segments):
        segment = described(plain)
        entry = {
            "ID": f"Segment_{segment.number}",
            "Name": segment.label.replace("\r", " "),
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{channel / 255:.6g}" for channel in segment.rgb),
            "ColorAutoGenerated": "0",
            "LabelValue": str(segment.number),
            "Layer": str(layer),
            # the whole grid: Slicer clips a layer to the box around the extents of its segments
            "Extent": f"0 {i} 0 {j} 0 {k}",
            "Tags": _tag_text(segment),
        }
        keys.update({f"Segment{index}_{name}": value for name, value in entry.items()})
    return keys


def _tag_text(segment: Segment) -> str:
    tags = {"Segmentation.Status": "inprogress"}
    if terminology := terminology_text(segment):
        tags[TERMINOLOGY_TAG] = terminology
    return "".join(f"{key}:{value}|" for key, value in tags.items())
