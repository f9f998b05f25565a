"""Where the segments of a label map are, and which of them a reader wants to see first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from medseg.core.codes import MORPHOLOGICALLY_ABNORMAL_STRUCTURE
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment

Index = tuple[int, int, int]

_LESION_WORDS = ("tumour", "tumor", "lesion", "metasta", "nodule", "carcinoma", "sarcoma", "cyst", "gtv", "neoplasm", "cancer")
_OUTER_WORDS = ("body", "skin", "torso", "trunk", "external", "outline")
_HULL_OPACITY, _OPACITY_AROUND_LESION = 0.08, 0.26  # where the surface faces the viewer


@dataclass(frozen=True)
class Place:
    """One segment that has voxels: how many, their centroid and box (inclusive), all in (i,j,k) indices."""

    segment: Segment
    voxels: int
    centroid: tuple[float, float, float]
    first: Index
    last: Index


def is_lesion(segment: Segment) -> bool:
    """Whether a segment's category or name says that it is a lesion.

    >>> is_lesion(Segment(1, "liver_tumour")), is_lesion(Segment(2, "liver"))
    (True, False)
    """
    return segment.category == MORPHOLOGICALLY_ABNORMAL_STRUCTURE or any(word in segment.label.lower() for word in _LESION_WORDS)


def outer_numbers(places: tuple[Place, ...]) -> frozenset[int]:
    """Return the numbers of segments that enclose (nearly) all others, such as the body outline: shown as a hull."""
    if len(places) < 2:
        return frozenset()
    first = np.min([place.first for place in places], axis=0)
    last = np.max([place.last for place in places], axis=0)
    found = set()
    for place in places:
        extent = (np.array(place.last) - place.first + 1) / (last - first + 1)
        encloses = bool((extent >= 0.9).all()) and place.voxels > max(other.voxels for other in places if other is not place)
        named = any(word in place.segment.label.lower() for word in _OUTER_WORDS) and bool((extent >= 0.6).all())
        if (encloses or named) and not is_lesion(place.segment):
            found.add(place.segment.number)
    return frozenset(found)


def glass_opacity(places: Sequence[Place], outer: Collection[int]) -> dict[int, float]:
    """Return the segments that surfaces are drawn through, and their least opacity: the `outer` ones, and every one around a lesion."""
    found = dict.fromkeys(outer, _HULL_OPACITY)
    lesions = [place for place in places if is_lesion(place.segment)]
    for place in places if lesions else ():
        if place not in lesions and any(_holds(place, lesion) for lesion in lesions):
            found.setdefault(place.segment.number, _OPACITY_AROUND_LESION)
    return found


def _holds(outside: Place, inside: Place) -> bool:
    return all(a <= c and d <= b for a, b, c, d in zip(outside.first, outside.last, inside.first, inside.last, strict=True))


def find_places(label_map: LabelMap) -> tuple[Place, ...]:
    """Return the place of every segment that has voxels, in the order of their numbers."""
    from medseg.kernels.statistics import label_statistics

    found = label_statistics(label_map.array.T)
    places = []
    for row, number in enumerate(found.numbers):
        k, j, i = (float(value) for value in found.centroid[row])
        first, last = found.first[row], found.last[row]
        places.append(
            Place(
                label_map[int(number)],
                int(found.voxels[row]),
                (i, j, k),
                (int(first[2]), int(first[1]), int(first[0])),
                (int(last[2]), int(last[1]), int(last[0])),
            )
        )
    return tuple(places)


def union_box(places: tuple[Place, ...], shape: tuple[int, int, int]) -> tuple[Index, Index]:
    """Return the smallest index box around all places; the whole grid where there is none."""
    if not places:
        return (0, 0, 0), (shape[0] - 1, shape[1] - 1, shape[2] - 1)
    first = np.min([place.first for place in places], axis=0)
    last = np.max([place.last for place in places], axis=0)
    return (int(first[0]), int(first[1]), int(first[2])), (int(last[0]), int(last[1]), int(last[2]))


def point_of_interest(label_map: LabelMap, places: tuple[Place, ...]) -> Index:
    """Return the index to show: in the largest lesion if there is one, else the centre of mass of all segments."""
    lesions = [place for place in places if is_lesion(place.segment)]
    if lesions:
        return _voxel_inside(label_map, max(lesions, key=lambda place: place.voxels))
    if not places:
        i, j, k = (n // 2 for n in label_map.geometry.shape)
        return i, j, k
    weights = [place.voxels for place in places]
    i, j, k = (round(float(c)) for c in np.average([place.centroid for place in places], axis=0, weights=weights))
    return i, j, k


def largest_slice(label_map: LabelMap, place: Place, axis: int) -> int:
    """Return the index along a grid axis at which a segment has most voxels."""
    box = tuple(slice(first, last + 1) for first, last in zip(place.first, place.last, strict=True))
    part = np.moveaxis(label_map.array[box], axis, 0)
    counts = [int(np.count_nonzero(plane == place.segment.number)) for plane in part]
    return place.first[axis] + int(np.argmax(counts))


def _voxel_inside(label_map: LabelMap, place: Place) -> Index:
    """The voxel of a segment nearest to its centroid in mm: a hollow or bent one does not hold its own centroid."""
    box = tuple(slice(first, last + 1) for first, last in zip(place.first, place.last, strict=True))
    voxels = np.argwhere(label_map.array[box] == place.segment.number) + place.first
    offsets = (voxels - np.asarray(place.centroid)) @ label_map.geometry.affine[:3, :3].T
    i, j, k = (int(n) for n in voxels[np.einsum("ij,ij->i", offsets, offsets).argmin()])
    return i, j, k
