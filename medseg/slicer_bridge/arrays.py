"""Volume and segmentation nodes of Slicer ↔ volumes and label maps: grids, cropped extents, layers.

Slicer hands over arrays with axes (k,j,i) and an IJK-to-RAS matrix; a linear transform above the node is a second matrix. A
segment's array is cropped: its first voxel has index (i0,j0,k0) of its own grid, which `extent` (i0,i1,j0,j1,k0,k1) says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, GeometryMismatchError, InputError, SegmentError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, present_numbers, smallest_unsigned
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.slicer_bridge.terminology import colour_of, described_by, unique_labels

Array = npt.NDArray[Any]
Extent = tuple[int, int, int, int, int, int]
_Affine = npt.NDArray[np.float64]

EMPTY_EXTENT: Extent = (0, -1, 0, -1, 0, -1)  # what Slicer gives a segment without voxels
ON_GRID_TOLERANCE = 0.01  # voxels; corners further from the voxels of the scan are on another grid


@dataclass(frozen=True, eq=False, kw_only=True)
class BridgeSegment:
    """A segment as a segmentation node holds it: `array_kji` covers `extent` of the grid `ijk_to_ras`.

    `value` is the segment's number where segments share an array (Slicer's layers); None where every voxel that is not 0
    belongs to it. `colour` is (r, g, b) from 0 to 1. `ijk_to_ras` holds the transforms above the node, as the scan's grid does.
    """

    id: str
    name: str
    array_kji: Array
    extent: Extent
    ijk_to_ras: npt.ArrayLike
    colour: tuple[float, float, float] | None = None
    terminology: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    value: int | None = None


def geometry_of(
    shape_kji: Sequence[int],
    ijk_to_ras: npt.ArrayLike,
    parent_to_world: npt.ArrayLike | None = None,
    frame_of_reference_uid: str | None = None,
) -> Geometry:
    """Return the grid of an array (k,j,i): `shape` is (I,J,K), the transform above the node is part of the affine.

    Raises GeometryError where the array has no voxels or a matrix is none; a transform that bends cannot be given here.

    >>> shift = np.eye(4); shift[0, 3] = 10
    >>> geometry_of((30, 20, 10), np.diag([1, 1, 3, 1]), shift).origin_mm
    (10.0, 0.0, 0.0)
    """
    if len(shape_kji) != 3 or min(shape_kji) < 1:
        raise GeometryError(f"the volume has {_size(shape_kji)} voxels: load a scan with three dimensions")
    affine = _matrix(ijk_to_ras, "the IJK-to-RAS matrix of the volume")
    if parent_to_world is not None:
        affine = _matrix(parent_to_world, "the transform above the volume") @ affine
    k, j, i = (int(n) for n in shape_kji)
    return Geometry((i, j, k), affine, frame_of_reference_uid)


def _matrix(given: npt.ArrayLike, name: str) -> _Affine:
    matrix = np.array(given, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise GeometryError(f"{name} is no linear 4×4 matrix: harden the transform in Slicer (module Transforms), then try again")
    return matrix


def _size(shape: Sequence[int]) -> str:
    return " × ".join(str(int(n)) for n in reversed(shape)) or "no"


def volume_of(
    array_kji: Array, ijk_to_ras: npt.ArrayLike, *, parent_to_world: npt.ArrayLike | None = None, modality: str = "", unit: str = ""
) -> Volume:
    """Return the volume of a node's array (k,j,i), without a copy where it is C-contiguous and in native byte order.

    `modality` ("CT", "MR") and `unit` ("HU") decide which methods accept it. Raises GeometryError or InputError where the
    array is no scan: fewer or more than three dimensions, no voxels, colours.

    >>> scan = np.zeros((4, 3, 2), np.int16)
    >>> volume = volume_of(scan, np.eye(4), modality="CT", unit="HU")
    >>> volume.geometry.shape, np.shares_memory(volume.array, scan)
    ((2, 3, 4), True)
    """
    if array_kji.ndim == 4:
        raise InputError(
            f"the volume holds {array_kji.shape[3]} numbers a voxel (colours, directions or time points): choose a scan with one number"
            " a voxel (module Vector to Scalar Volume, or one frame of the sequence)"
        )
    if array_kji.ndim != 3:
        raise GeometryError(f"the image has {array_kji.ndim} dimensions: load a scan with three")
    return Volume(array_kji.T, geometry_of(array_kji.shape, ijk_to_ras, parent_to_world), modality, unit)


def label_map_of(segments: Sequence[BridgeSegment], reference: Geometry) -> tuple[LabelMap, ...]:
    """Return the segments on the grid of a scan, in as few layers as their overlaps need; the n-th segment gets number n.

    Extents are padded. A grid whose voxels are those of the scan in another order (shifted, axes swapped or reversed) is
    sorted into it, never resampled; GeometryMismatchError where voxels lie elsewhere. Voxels beyond the scan are left out
    with the finding LABELS_OUTSIDE_GRID. Names that occur twice get a count; codes are those of the terminology line.

    >>> cube = BridgeSegment(id="a", name="cube", array_kji=np.ones((1, 2, 2), bool), extent=(3, 4, 1, 2, 0, 0), ijk_to_ras=np.eye(4))
    >>> (layer,) = label_map_of([cube], Geometry((6, 5, 4), np.eye(4)))
    >>> np.argwhere(layer.array)[0].tolist(), int((layer.array == 1).sum()), layer.segments[0].label
    ([3, 1, 0], 4, 'cube')
    """
    named = _named(segments)
    dtype = smallest_unsigned(max(len(named), 1))
    layers: list[Array] = []
    findings: list[Finding] = []
    for group in _groups(segments):
        box, part, outside = _placed(group, segments, reference, dtype)
        findings += [_outside(named[n - 1], count, reference) for n, count in outside.items()]
        if part.size:
            _put(layers, box, part, reference, sorted(group))
    return _label_maps(layers, named, reference, tuple(findings))


def _named(segments: Sequence[BridgeSegment]) -> list[Segment]:
    labels = unique_labels([segment.name.strip() or segment.id.strip() for segment in segments])
    return [
        described_by(Segment(number, label, colour=colour_of(segment.colour)), segment.terminology, segment.tags)
        for number, (label, segment) in enumerate(zip(labels, segments, strict=True), start=1)
    ]


def _groups(segments: Sequence[BridgeSegment]) -> list[dict[int, int | None]]:
    """Return number → value of the segments of each array: those that share one are read in one pass."""
    groups: dict[tuple[Any, ...], dict[int, int | None]] = {}
    for number, segment in enumerate(segments, start=1):
        array = segment.array_kji
        _check(segment)
        shared = (
            array.__array_interface__["data"][0],
            array.shape,
            array.strides,
            segment.extent,
            np.asarray(segment.ijk_to_ras).tobytes(),
        )
        key = (number,) if segment.value is None else shared
        if segment.value is not None and segment.value in groups.get(key, {}).values():
            key = (number,)  # the same voxels as another segment
        groups.setdefault(key, {})[number] = segment.value
    return list(groups.values())


def _check(segment: BridgeSegment) -> None:
    array, extent = segment.array_kji, segment.extent
    size = tuple(max(extent[2 * axis + 1] - extent[2 * axis] + 1, 0) for axis in (2, 1, 0))
    if array.size == 0 and min(size) == 0:
        return
    if array.shape != size:
        raise GeometryError(f"segment {segment.name!r}: its array has {_size(array.shape)} voxels, its extent {_size(size)}")
    if array.dtype.kind not in "biu":
        raise SegmentError(f"segment {segment.name!r} holds {array.dtype}: make it a binary labelmap in Slicer (module Segmentations)")


def _placed(
    group: Mapping[int, int | None], segments: Sequence[BridgeSegment], reference: Geometry, dtype: np.dtype[Any]
) -> tuple[tuple[slice, ...], Array, dict[int, int]]:
    """Return the box of the scan (k,j,i) that an array fills, its numbers there, and how many voxels of which segment lie outside."""
    first = segments[min(group) - 1]
    nothing: Array = np.zeros((0, 0, 0), dtype)
    if first.array_kji.size == 0:
        return (), nothing, {}
    array, start = _in_order(first, reference)
    low = np.maximum(start, 0)
    high = np.minimum(start + array.shape, reference.shape)
    inside = array[tuple(slice(max(a - s, 0), max(b - s, 0)) for a, b, s in zip(low, high, start, strict=True))]
    outside = {}
    if inside.size < array.size:
        outside = {n: count for n, value in group.items() if (count := _count(array, value) - _count(inside, value))}
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))[::-1]
    return box, _numbered(inside.T, group, dtype), outside


def _in_order(segment: BridgeSegment, reference: Geometry) -> tuple[Array, npt.NDArray[np.intp]]:
    """Return the array with the axes (i,j,k) of the scan, and the scan's index of its first voxel."""
    own = np.linalg.inv(reference.affine) @ _matrix(segment.ijk_to_ras, f"the grid of segment {segment.name!r}")
    axes = np.rint(own[:3, :3])
    first, last = np.array(segment.extent[::2]), np.array(segment.extent[1::2])
    corners = np.array([[(first, last)[bit >> axis & 1][axis] for axis in range(3)] for bit in range(8)])
    start = np.rint(corners[0] @ own[:3, :3].T + own[:3, 3] - corners[0] @ axes.T)
    error = np.abs(corners @ (own[:3, :3] - axes).T + own[:3, 3] - start).max()
    if not (np.abs(axes).sum(axis=0) == 1).all() or not (np.abs(axes).sum(axis=1) == 1).all() or error > ON_GRID_TOLERANCE:
        raise GeometryMismatchError(
            f"segment {segment.name!r} lies on another grid than the scan: counting its voxels there would give a wrong volume. In the"
            " Segment Editor press 'Specify geometry' and choose this scan as source (it resamples the segmentation), or choose the scan"
            " it was drawn on",
            reference,
        )
    source = np.abs(axes).argmax(axis=1)
    array = segment.array_kji.T.transpose(source)
    array = array[tuple(slice(None, None, int(axes[axis, source[axis]])) for axis in range(3))]
    placed = corners @ axes.T + start
    return array, placed.min(axis=0).astype(np.intp)


def _count(array: Array, value: int | None) -> int:
    return int(np.count_nonzero(array if value is None else array == value))


def _numbered(array_kji: Array, group: Mapping[int, int | None], dtype: np.dtype[Any]) -> Array:
    """Return an array with the segments' numbers in place of its values, slice by slice: what it takes meanwhile stays small."""
    result = np.zeros(array_kji.shape, dtype)
    for number, value in group.items():
        if value is None:
            np.multiply(array_kji != 0, dtype.type(number), out=result, casting="unsafe")
            return result
    values = np.array(list(group.values()))
    table = np.zeros(int(max(values.max(), 0)) + 2, dtype)
    table[values[values > 0]] = np.array(list(group))[values > 0]
    for k, plane in enumerate(array_kji):
        np.take(table, plane.astype(np.int64), mode="clip", out=result[k])  # nobody's values are clipped to entries that are 0
    return result


def _put(layers: list[Array], box: tuple[slice, ...], part: Array, reference: Geometry, numbers: Sequence[int]) -> None:
    """Put a numbered array into the first layer that has room: whole where it fits, segment by segment otherwise."""
    shape = reference.shape[::-1]
    home = next((layer for layer in layers if not _overlap(layer[box], part)), None)
    if home is not None:
        np.maximum(home[box], part, out=home[box])
    elif not layers and part.shape == shape:
        layers.append(part)
    elif not layers or len(numbers) == 1:
        layers.append(np.zeros(shape, part.dtype))
        layers[-1][box] = part
    else:
        for number in numbers:
            _put(layers, box, np.where(part == number, part, part.dtype.type(0)), reference, [number])


def _overlap(one: Array, other: Array) -> bool:
    return any(bool(np.logical_and(a, b).any()) for a, b in zip(one, other, strict=True))


def _outside(segment: Segment, count: int, reference: Geometry) -> Finding:
    lost_ml = count * reference.voxel_volume_mm3 / 1000
    message = (
        f"{count:,} voxels of {segment.label!r} ({lost_ml:.3g} ml) lie outside the scan and are not counted; measure it on the scan it was"
        " drawn on"
    )
    return Finding("LABELS_OUTSIDE_GRID", Severity.WARNING, message, {"segment": segment.label, "voxels": count, "volume_ml": lost_ml})


def _label_maps(layers: list[Array], named: Sequence[Segment], reference: Geometry, findings: tuple[Finding, ...]) -> tuple[LabelMap, ...]:
    """Give each layer its segments; those without a voxel go with the first."""
    dtype = smallest_unsigned(max(len(named), 1))
    layers = layers or [np.zeros(reference.shape[::-1], dtype)]
    homes = dict.fromkeys((segment.number for segment in named), 0)
    for place, layer in enumerate(layers[1:], start=1):
        homes |= dict.fromkeys(present_numbers(layer.T), place)
    return tuple(
        LabelMap(layer.T, reference, tuple(segment for segment in named if homes[segment.number] == place), findings=findings)
        for place, layer in enumerate(layers)
    )


def cropped(label_map: LabelMap) -> tuple[Array, Extent]:
    """Return the box around all labelled voxels as a view (k,j,i) and its extent; the empty extent where there is none.

    >>> array = np.zeros((5, 4, 3), np.uint8); array[2:4, 1, 0:2] = 1
    >>> box, extent = cropped(LabelMap(array, Geometry((5, 4, 3), np.eye(4)), (Segment(1, "a"),)))
    >>> box.shape, extent
    ((2, 1, 2), (2, 3, 1, 1, 0, 1))
    """
    array = label_map.array.T
    ks = np.flatnonzero(array.reshape(len(array), -1).max(axis=1))
    if not ks.size:
        return array[:0, :0, :0], EMPTY_EXTENT
    k0, k1 = int(ks[0]), int(ks[-1])
    plane = np.bitwise_or.reduce(array[k0 : k1 + 1], axis=0)
    (js,), (is_,) = np.nonzero(plane.any(axis=1)), np.nonzero(plane.any(axis=0))
    j0, j1, i0, i1 = int(js[0]), int(js[-1]), int(is_[0]), int(is_[-1])
    return array[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1], (i0, i1, j0, j1, k0, k1)


def padded(array_kji: Array, extent: Extent, shape_kji: Sequence[int]) -> Array:
    """Return a cropped array put back into an array of the whole grid: the way back of `cropped`.

    Raises GeometryError where array, extent and grid do not fit.

    >>> padded(np.ones((1, 1, 2), np.uint8), (1, 2, 0, 0, 1, 1), (2, 1, 3)).tolist()
    [[[0, 0, 0]], [[0, 1, 1]]]
    """
    size = tuple(max(extent[2 * axis + 1] - extent[2 * axis] + 1, 0) for axis in (2, 1, 0))
    whole = np.zeros(tuple(int(n) for n in shape_kji), array_kji.dtype)
    if array_kji.size == 0 and min(size) == 0:
        return whole
    box = tuple(slice(int(extent[2 * axis]), int(extent[2 * axis + 1]) + 1) for axis in (2, 1, 0))
    if array_kji.shape != size or any(part.start < 0 or part.stop > n for part, n in zip(box, whole.shape, strict=True)):
        raise GeometryError(
            f"an array of {_size(array_kji.shape)} voxels does not fill the extent {extent} of a grid of {_size(whole.shape)} voxels"
        )
    whole[box] = array_kji
    return whole
