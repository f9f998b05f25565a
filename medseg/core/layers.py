"""Segments that share voxels: several label maps on one grid, none of which holds an overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, OverlappingSegmentsError, SegmentError
from medseg.core.label_map import LabelMap, present_numbers, smallest_unsigned
from medseg.core.segment import Segment

LabelArray = npt.NDArray[np.unsignedinteger[Any]]

_SLAB_VOXELS = 1 << 20  # comparing a slab at a time keeps the masks in the cache


def check_layers(layers: LabelMap | Sequence[LabelMap]) -> tuple[LabelMap, ...]:
    """Return layers as a tuple after a look whether they belong together.

    Raises SegmentError where there is none, or a number or label stands in two of them; GeometryMismatchError where their
    grids differ.
    """
    found = (layers,) if isinstance(layers, LabelMap) else tuple(layers)
    if not found:
        raise SegmentError("no layer of segments was given")
    numbers: set[int] = set()
    labels: set[str] = set()
    for layer in found:
        if not layer.geometry.matches(found[0].geometry):
            raise GeometryMismatchError("the layers of one segmentation lie on different grids", found[0].geometry, layer.geometry)
        for segment in layer.segments:
            if segment.number in numbers or segment.label in labels:
                raise SegmentError(f"two layers hold a segment with number {segment.number} or label {segment.label!r}: give each its own")
            numbers.add(segment.number)
            labels.add(segment.label)
    return found


def segments_of(layers: Iterable[LabelMap]) -> tuple[Segment, ...]:
    """Return the segments of all layers in the order of their numbers."""
    return tuple(sorted((segment for layer in layers for segment in layer.segments), key=lambda segment: segment.number))


def joined(layers: LabelMap | Sequence[LabelMap]) -> LabelMap:
    """Return one label map with the segments of all layers; OverlappingSegmentsError where two share a voxel.

    >>> from medseg.core.geometry import Geometry
    >>> grid = Geometry((2, 1, 1), np.eye(4))
    >>> left = LabelMap(np.array([[[1]], [[0]]], np.uint8), grid, (Segment(1, "left"),))
    >>> right = LabelMap(np.array([[[0]], [[2]]], np.uint8), grid, (Segment(2, "right"),))
    >>> joined((left, right)).array.ravel().tolist()
    [1, 2]
    """
    first, *others = check_layers(layers)
    if not others:
        return first
    segments = segments_of((first, *others))
    merged = first.array.astype(smallest_unsigned(segments[-1].number if segments else 1), order="F")
    for layer in others:
        if overlaps(merged.T, layer.array.T):
            raise OverlappingSegmentsError(f"{describe_overlap(merged.T, layer.array.T, segments)}; a label map holds one segment a voxel")
        np.maximum(merged, layer.array, out=merged, casting="unsafe")
    findings = tuple(dict.fromkeys(id(finding) for layer in (first, *others) for finding in layer.findings))
    by_id = {id(finding): finding for layer in (first, *others) for finding in layer.findings}
    return LabelMap(merged, first.geometry, segments, first.source, tuple(by_id[one] for one in findings), first.provenance)


def packed(arrays: Iterable[LabelArray]) -> list[LabelArray]:
    """Bring label arrays (k,j,i), whose numbers are unique over all, into few layers: each goes into the first that has room.

    An array goes in whole where it fits, segment by segment otherwise. The arrays given may be changed.
    """
    layers: list[LabelArray] = []
    for array in arrays:
        home = next((layer for layer in layers if not overlaps(layer, array)), None)
        if home is not None:
            np.maximum(home, array, out=home)
        elif not layers:
            layers.append(array)
        else:
            for number in present_numbers(array.T):
                _place(layers, np.where(array == number, array.dtype.type(number), array.dtype.type(0)))
    return layers


def _place(layers: list[LabelArray], array: LabelArray) -> None:
    for layer in layers:
        if not overlaps(layer, array):
            np.maximum(layer, array, out=layer)
            return
    layers.append(array)


def overlaps(one: LabelArray, other: LabelArray) -> bool:
    """Whether two label arrays (k,j,i) share a voxel that is not background."""
    first, second = one.reshape(-1), other.reshape(-1)
    for start in range(0, first.size, _SLAB_VOXELS):
        a, b = first[start : start + _SLAB_VOXELS], second[start : start + _SLAB_VOXELS]
        if np.logical_and(a, b).any():
            return True
    return False


def describe_overlap(one: LabelArray, other: LabelArray, segments: Iterable[Segment]) -> str:
    """Say which segment of `other` shares how many voxels with which of `one`: the first such segment."""
    names = {segment.number: segment.label for segment in segments}
    shared = np.logical_and(one, other)
    number = int(other[shared].min())
    shared &= other == number
    hit = present_numbers(one[shared].reshape(1, 1, -1))
    others = ", ".join(repr(names.get(value, value)) for value in hit[:5])
    return f"{names.get(number, number)!r} overlaps {others} in {int(np.count_nonzero(shared)):,} voxels"
