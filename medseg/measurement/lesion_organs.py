"""Which organ a lesion lies in: the share of it inside, else the organ around it, else the nearest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.label_map import LabelMap

SURROUNDED = 0.5  # an organ that makes up this share of the voxels around a lesion surrounds it


@dataclass(frozen=True)
class OrganPlace:
    """The organ of a lesion and how it lies to it: inside, partly_inside, surrounded, touching or near.

    `share` is the part of the lesion's voxels inside the organ; `contact_share` the part of the voxels around the lesion that
    are the organ's, where no voxel is inside; `distance_mm` lies between the nearest voxel centres, for an organ it does not touch.
    """

    label: str
    relation: str
    share: float
    contact_share: float | None = None
    distance_mm: float | None = None


def organs_of(instances: LabelMap, organs: Sequence[LabelMap]) -> dict[int, OrganPlace]:
    """Return the organ of every segment of an instance map by its number; none where the organ maps are empty.

    A lesion that several organs hold gets the one with the greatest share (the lower number where equal). Where a label map
    gives each voxel one label, a tumour is cut out of its organ: it is then `surrounded`.
    """
    places = _inside(instances, organs)
    rest = [segment.number for segment in instances.segments if segment.number not in places]
    boxes = _boxes(instances, rest)
    for number in rest:
        if number in boxes:
            place = _around(instances, number, boxes[number], organs)
            if place is not None:
                places[number] = place
    far = [number for number in rest if number in boxes and number not in places]
    return places | _nearest(instances, far, boxes, organs)


def without_segments(layers: Sequence[LabelMap], labels: Collection[str], numbers: Collection[int] = ()) -> list[LabelMap]:
    """Return the layers without the segments of these labels or numbers; layers that have no other are left out."""
    kept = []
    for layer in layers:
        gone = [segment for segment in layer.segments if segment.label in labels or segment.number in numbers]
        rest = tuple(segment for segment in layer.segments if segment not in gone)
        if not rest:
            continue
        array = layer.array
        if gone:
            array = np.where(np.isin(array, [segment.number for segment in gone]), array.dtype.type(0), array)
        kept.append(layer.with_array(array, segments=rest))
    return kept


def _inside(instances: LabelMap, organs: Sequence[LabelMap]) -> dict[int, OrganPlace]:
    flat = instances.array.reshape(-1, order="F")
    where = np.flatnonzero(flat)
    lesion = flat[where].astype(np.int64)
    sizes = np.bincount(lesion, minlength=1)
    best: dict[int, OrganPlace] = {}
    for layer in organs:
        organ = layer.array.reshape(-1, order="F")[where].astype(np.int64)
        wide = int(organ.max(initial=0)) + 1
        pairs, counts = np.unique(lesion * wide + organ, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            number, value = divmod(pair, wide)
            share = count / int(sizes[number])
            if value and (number not in best or share > best[number].share):
                best[number] = OrganPlace(layer[value].label, "inside" if share >= SURROUNDED else "partly_inside", share)
    return best


def _boxes(instances: LabelMap, numbers: Sequence[int]) -> dict[int, tuple[slice, ...]]:
    """The box (i,j,k) of each number, one voxel wider on every side where the grid allows."""
    if not numbers:
        return {}
    from medseg.kernels.statistics import label_statistics

    found = label_statistics(instances.array.T)
    boxes = {}
    for row, number in enumerate(found.numbers):
        low, high = found.first[row][::-1], found.last[row][::-1]
        boxes[int(number)] = tuple(slice(max(0, int(a) - 1), int(b) + 2) for a, b in zip(low, high, strict=True))
    return {number: boxes[number] for number in numbers if number in boxes}


def _around(instances: LabelMap, number: int, box: tuple[slice, ...], organs: Sequence[LabelMap]) -> OrganPlace | None:
    from scipy.ndimage import binary_dilation

    mask = instances.array[box] == number
    shell = binary_dilation(mask, np.ones((3, 3, 3), bool)) & ~mask
    around = int(shell.sum())
    best: OrganPlace | None = None
    for layer in organs:
        values, counts = np.unique(layer.array[box][shell], return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            share = count / around
            if value and (best is None or share > (best.contact_share or 0)):
                best = OrganPlace(layer[value].label, "surrounded" if share >= SURROUNDED else "touching", 0.0, share, 0.0)
    return best


def _nearest(
    instances: LabelMap, numbers: Sequence[int], boxes: dict[int, tuple[slice, ...]], organs: Sequence[LabelMap]
) -> dict[int, OrganPlace]:
    if not numbers:
        return {}
    from scipy.spatial import cKDTree

    surfaces = [_surface(layer) for layer in organs]
    points = np.concatenate([found[0] for found in surfaces])
    names = np.concatenate([found[1] for found in surfaces])
    owners = np.concatenate([np.full(len(found[1]), n) for n, found in enumerate(surfaces)])
    if not len(points):
        return {}
    tree = cKDTree(points)
    places = {}
    for number in numbers:
        index = np.argwhere(instances.array[boxes[number]] == number) + [part.start for part in boxes[number]]
        distance, nearest = tree.query(instances.geometry.index_to_world(index))
        at = int(nearest[distance.argmin()])
        label = organs[int(owners[at])][int(names[at])].label
        places[number] = OrganPlace(label, "near", 0.0, 0.0, float(distance.min()))
    return places


def _surface(layer: LabelMap) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
    """World positions and numbers of the voxels at the surface of any segment."""
    array = layer.array
    edge = np.zeros(array.shape, bool, order="F")
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        differ = array[tuple(low)] != array[tuple(high)]
        edge[tuple(low)] |= differ
        edge[tuple(high)] |= differ
    edge &= array > 0
    index = np.argwhere(edge)
    return layer.geometry.index_to_world(index), array[edge]
