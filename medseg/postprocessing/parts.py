"""The parts of segments: connected pieces, split at their waists, in an order that does not depend on how the scan is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.kernels.arrays import Connectivity
from medseg.postprocessing.selection import hull_of, selected
from medseg.preprocessing.crop import Box
from medseg.preprocessing.distances import depth_mm, reach_mm
from medseg.preprocessing.orientation import Turn, turn_between

_CANONICAL = "RAS"
_PLACE_MM = 0.01  # centres nearer than this along an axis count as level: file formats round affines


@dataclass(frozen=True)
class Part:
    """One part of a segment: its rank among the parts of that segment (1: the largest), its voxels and its centre (RAS+ mm)."""

    segment: Segment
    rank: int
    voxels: int
    centre_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts in order: by the segment's number, then the largest first.

    `array` (i,j,k) holds 1 for the first of them, 2 for the second, ..., in `box` of the grid. `splits` says how many pieces
    were split, `left_out` how many parts were too small.
    """

    parts: tuple[Part, ...]
    array: npt.NDArray[np.uint32]
    box: Box
    splits: int = 0
    left_out: int = 0


def find_parts(
    label_map: LabelMap,
    labels: Iterable[str] | None,
    *,
    least_waist_mm: float | None,
    connectivity: Connectivity = 26,
    keep_at_least_mm3: float = 0.0,
) -> Parts | None:
    """Return the parts of the named segments (or all); None where these have no voxel.

    Two lumps of a piece are two parts where the way between them is narrower, in radius, by `least_waist_mm` than the
    smaller lump (None: pieces are not split). The work is done on axes turned to RAS, so that a scan stored in another
    order gives the same parts. Equal volumes are ordered from head to feet, front to back, right to left.
    """
    chosen = selected(label_map, labels)
    if not chosen:
        return None
    grid = label_map.geometry
    box = hull_of([box for _, box in chosen]).widened(grid, reach_mm(grid))
    numbers = [segment.number for segment, _ in chosen]
    array = label_map.array[box.slices]
    array = np.where(np.isin(array, numbers), array, array.dtype.type(0))
    turn = turn_between(grid.orientation, _CANONICAL)
    turned_grid = turn.geometry(grid.cropped(box.start, box.shape))
    turned = np.ascontiguousarray(turn.array(array).T)
    pieces, splits = _pieces(turned, turned_grid, least_waist_mm, connectivity)
    ordered, parts, left_out = _ordered(pieces, turned, turned_grid, {s.number: s for s, _ in chosen}, keep_at_least_mm3)
    return Parts(parts, np.asarray(_back(turn, ordered.T), order="F"), box, splits, left_out)


def _pieces(
    labels: npt.NDArray[Any], grid: Geometry, least_waist_mm: float | None, connectivity: Connectivity
) -> tuple[npt.NDArray[np.uint32], int]:
    """Number the pieces (k,j,i) of each label, split at waists; how many were split."""
    from medseg.kernels.instances import find_instances
    from medseg.kernels.peaks import split_at_waists
    from medseg.kernels.statistics import label_statistics

    found = find_instances(labels, connectivity)
    count = int(found.voxels.size)
    pieces: npt.NDArray[np.uint32] = found.painted(np.arange(1, count + 1, dtype=np.uint32))
    if least_waist_mm is None:
        return pieces, 0
    splits = 0
    places = label_statistics(pieces)
    margin = _margin(grid)
    for number, first, last in zip(places.numbers.tolist(), places.first, places.last, strict=True):
        if _most_depth_mm(first, last, pieces.shape, grid) <= least_waist_mm:
            continue  # too thin to have a waist: specks by the thousand need no distances
        slices = tuple(slice(max(int(low) - add, 0), int(high) + 1 + add) for low, high, add in zip(first, last, margin, strict=True))
        part = pieces[slices]
        mask = np.ascontiguousarray(part == number)
        lumps = split_at_waists(np.minimum(depth_mm(mask, grid), _deepest(grid)), mask, least_waist_mm)
        most = int(lumps.max())
        if most > 1:
            splits += 1
            more = lumps > 1
            part[more] = lumps[more] - 2 + count + 1
            count += most - 1
    return pieces, splits


def _most_depth_mm(first: npt.NDArray[np.int64], last: npt.NDArray[np.int64], shape: tuple[int, ...], grid: Geometry) -> float:
    """A bound of how deep a piece in a box (k,j,i) can be: half of the box, along axes on which it ends inside the scan."""
    steps = (last - first + 2) // 2
    ends = (first > 0) & (last < np.array(shape) - 1)
    return float(np.where(ends, steps * np.array(grid.spacing_mm[::-1]), np.inf).min())


def _margin(grid: Geometry) -> list[int]:
    """Voxels along k, j, i around a piece among which the nearest outside one lies."""
    widths = np.linalg.norm(np.linalg.inv(grid.affine[:3, :3]), axis=1)
    return [int(n) for n in np.ceil(reach_mm(grid) * widths - 1e-6)[::-1]]


def _deepest(grid: Geometry) -> np.float32:
    """A depth beyond all: a piece that fills the scan has no outside, and its depth would be infinite."""
    return np.float32(np.linalg.norm(np.array(grid.shape) * grid.spacing_mm))


def _ordered(
    pieces: npt.NDArray[np.uint32], labels: npt.NDArray[Any], grid: Geometry, segments: dict[int, Segment], keep_mm3: float
) -> tuple[npt.NDArray[np.uint32], tuple[Part, ...], int]:
    """Number the pieces in their final order; those below the least volume become 0."""
    from medseg.kernels.statistics import label_statistics

    found = label_statistics(pieces)
    first = np.zeros(int(pieces.max()) + 1, np.int64)
    first[pieces.reshape(-1)] = labels.reshape(-1)
    owners = first[found.numbers.astype(np.int64)]
    centres = grid.index_to_world(found.centroid[:, ::-1])
    least = keep_mm3 / grid.voxel_volume_mm3 * (1 - 1e-9)
    level = np.rint(centres / _PLACE_MM)
    order = np.lexsort((-level[:, 0], -level[:, 1], -level[:, 2], -found.voxels, owners))
    kept = [int(n) for n in order if found.voxels[n] >= least]
    table = np.zeros(len(first), np.uint32)
    table[found.numbers[kept].astype(np.int64)] = np.arange(1, len(kept) + 1)
    ranks: dict[int, int] = {}
    parts = []
    for n in kept:
        owner = int(owners[n])
        ranks[owner] = ranks.get(owner, 0) + 1
        r, a, s = centres[n].tolist()
        parts.append(Part(segments[owner], ranks[owner], int(found.voxels[n]), (r, a, s)))
    return table[pieces], tuple(parts), len(order) - len(kept)


def _back(turn: Turn, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Undo a turn of axes."""
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in turn.flips)
    return array[steps].transpose(np.argsort(turn.axes))


def part_names(parts: Sequence[Part], taken: Iterable[str]) -> list[str]:
    """Return a name for each part, "tumour-1", "tumour-2", ...; a name that is taken gets a dash more.

    >>> part_names([Part(Segment(2, "tumour"), 1, 9, (0, 0, 0)), Part(Segment(2, "tumour"), 2, 5, (0, 0, 9))], ["tumour-2"])
    ['tumour-1', 'tumour-2-']
    """
    used = set(taken)
    names = []
    for part in parts:
        name = f"{part.segment.label}-{part.rank}"
        while name in used:
            name += "-"
        used.add(name)
        names.append(name)
    return names
