"""Which lesion of one scan is which of another: one to one, new, gone, merged, split.

Lesions are compared in the world of the later scan, into which the earlier ones were moved. First every lesion looks for
the one it shares most volume with; a link holds where the shared volume is at least `least_overlap` of the smaller of the
two. What is then left over on both sides is paired by distance where the gap between the surfaces is at most `tolerance_mm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap

FloatArray = npt.NDArray[np.float64]

LEAST_OVERLAP = 0.25  # of the smaller lesion: below, two neighbours only brush against each other
TOLERANCE_MM = 5.0  # what breathing and a rigid registration leave between the two places of one lesion
_MOST_POINTS = 60_000
_FEWEST_POINTS = 2_000
_GAP_POINTS = 20_000

Kind = Literal["same", "new", "gone", "merged", "split"]


@dataclass(frozen=True, eq=False)
class Cloud:
    """A lesion as points (n, 3) in RAS+ mm, each of which stands for `point_mm3`."""

    points_mm: FloatArray
    point_mm3: float

    @cached_property
    def centre_mm(self) -> FloatArray:
        """Centre of mass."""
        return np.asarray(self.points_mm.mean(axis=0))

    @property
    def volume_mm3(self) -> float:
        """Volume of all points."""
        return len(self.points_mm) * self.point_mm3


@dataclass(frozen=True)
class Group:
    """Lesions that are one: places in the list of known lesions, numbers of found ones, and how they were linked.

    `overlap` is the shared volume over that of the smaller side, `gap_mm` the distance of the surfaces (0 where they share
    volume), `rule` "overlap" or "distance"; all None or "" for new and gone lesions.
    """

    known: tuple[int, ...]
    found: tuple[int, ...]
    overlap: float | None = None
    centre_distance_mm: float | None = None
    gap_mm: float | None = None
    rule: str = ""

    @property
    def kind(self) -> Kind:
        """What happened; of a group of many and many, "merged" where no more lesions came out than went in."""
        if not self.known:
            return "new"
        if not self.found:
            return "gone"
        if len(self.known) == len(self.found) == 1:
            return "same"
        return "merged" if len(self.found) <= len(self.known) else "split"

    @property
    def is_many_to_many(self) -> bool:
        """Whether more than one lesion stands on both sides."""
        return len(self.known) > 1 and len(self.found) > 1


def cloud_of(label_map: LabelMap, number: int) -> Cloud:
    """Return the voxels of a segment as points; those of small segments are divided, of large ones thinned out evenly.

    >>> from medseg.core.segment import Segment
    >>> one = LabelMap(np.ones((1, 1, 1), np.uint8), Geometry((1, 1, 1), np.diag([2.0, 2.0, 5.0, 1.0])), (Segment(1, "lesion"),))
    >>> cloud = cloud_of(one, 1)
    >>> round(cloud.volume_mm3, 6), bool(abs(cloud.centre_mm).max() < 1e-9)
    (20.0, True)
    """
    index = voxels_of(label_map, number).astype(np.float64)
    voxel_mm3 = label_map.geometry.voxel_volume_mm3
    if not len(index):
        return Cloud(np.empty((0, 3)), voxel_mm3)
    parts = 1 if len(index) >= _FEWEST_POINTS else min(13, int(np.ceil((_FEWEST_POINTS / len(index)) ** (1 / 3))))
    if parts > 1:
        steps = (np.arange(parts) + 0.5) / parts - 0.5
        offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        index = (index[:, None, :] + offsets[None, :, :]).reshape(-1, 3)
    every = max(1, len(index) // _MOST_POINTS)
    kept = index[::every]
    volume_mm3 = len(index) / parts**3 * voxel_mm3
    return Cloud(label_map.geometry.index_to_world(kept), volume_mm3 / len(kept))


def voxels_of(label_map: LabelMap, number: int) -> npt.NDArray[np.int64]:
    """Return the indices (n, 3) of the voxels of a segment."""
    flat = np.flatnonzero(label_map.array.reshape(-1, order="F") == number)
    return np.stack(np.unravel_index(flat, label_map.geometry.shape, order="F"), axis=-1).astype(np.int64)


def share_in_view(points_mm: FloatArray, geometry: Geometry) -> float:
    """Return the part of points (n, 3) that lies on a grid."""
    return float(geometry.contains(geometry.world_to_index(points_mm)).mean()) if len(points_mm) else 0.0


def match(
    known: Sequence[Cloud],
    label_map: LabelMap | Sequence[LabelMap],
    numbers: Sequence[int],
    *,
    tolerance_mm: float = TOLERANCE_MM,
    least_overlap: float = LEAST_OVERLAP,
) -> tuple[Group, ...]:
    """Match known lesions, moved into the world of a scan, with the segments `numbers` of its label map, or of several layers.

    Groups with known lesions come in their order, new lesions last. Each lesion is in exactly one group. Many to many: lesions
    that are linked in a chain are one group, whose volumes are compared as a whole.
    """
    layers = [label_map] if isinstance(label_map, LabelMap) else list(label_map)
    home = {segment.number: layer for layer in layers for segment in layer.segments}
    found = [cloud_of(home[number], number) for number in numbers]
    shared = np.zeros((len(known), len(numbers)))
    for layer in layers:
        shared += _shared_mm3(known, layer, numbers)
    smaller = np.minimum.outer([c.volume_mm3 for c in known], [c.volume_mm3 for c in found]).reshape(shared.shape)
    share = np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0)
    links = _best_links(shared, share, least_overlap)
    groups = [_group(known, found, shared, chain, numbers, "overlap", 0.0) for chain in _chains(links)]
    free_known = [n for n in range(len(known)) if not links[n].any() and len(known[n].points_mm)]
    free_found = [n for n in range(len(found)) if not links[:, n].any()]
    for one, two, gap in _by_distance(known, found, free_known, free_found, tolerance_mm):
        groups.append(_group(known, found, shared, ((one,), (two,)), numbers, "distance", gap))
    taken = {n for group in groups for n in group.known}, {n for group in groups for n in group.found}
    groups += [Group((n,), ()) for n in range(len(known)) if n not in taken[0]]
    groups.sort(key=lambda group: group.known)
    return (*groups, *(Group((), (number,)) for number in numbers if number not in taken[1]))


def _shared_mm3(known: Sequence[Cloud], label_map: LabelMap, numbers: Sequence[int]) -> FloatArray:
    """Volume of each known lesion that lies in each found one."""
    shared = np.zeros((len(known), len(numbers)))
    place = {number: n for n, number in enumerate(numbers)}
    for row, cloud in enumerate(known):
        index = np.rint(label_map.geometry.world_to_index(cloud.points_mm)).astype(np.int64)
        index = index[label_map.geometry.contains(index)]
        hit, counts = np.unique(label_map.array[tuple(index.T)], return_counts=True)
        for number, count in zip(hit.tolist(), counts.tolist(), strict=True):
            if number in place:
                shared[row, place[number]] = count * cloud.point_mm3
    return shared


def _best_links(shared: FloatArray, share: FloatArray, least_overlap: float) -> npt.NDArray[np.bool_]:
    """Each lesion's link to the one it shares most with, from both sides, where that is enough of the smaller."""
    links = np.zeros(shared.shape, bool)
    if not shared.size:
        return links
    rows, columns = np.arange(shared.shape[0]), np.arange(shared.shape[1])
    links[rows, shared.argmax(axis=1)] = True
    links[shared.argmax(axis=0), columns] = True
    return np.asarray(links & (share >= least_overlap) & (shared > 0))


def _chains(links: npt.NDArray[np.bool_]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Connected groups of linked lesions: (known, found)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.nonzero(links)
    count = sum(links.shape)
    if not len(rows):
        return []
    graph = coo_array((np.ones(len(rows)), (rows, columns + links.shape[0])), shape=(count, count))
    _, of = connected_components(graph, directed=False)
    chains = []
    for component in dict.fromkeys(of[rows].tolist()):
        members = np.flatnonzero(of == component)
        split = members < links.shape[0]
        chains.append((tuple(members[split].tolist()), tuple((members[~split] - links.shape[0]).tolist())))
    return chains


def _by_distance(
    known: Sequence[Cloud], found: Sequence[Cloud], left: list[int], right: list[int], tolerance_mm: float
) -> list[tuple[int, int, float]]:
    """Pair what shares no volume: the pairing of least centre distance among those whose gap is within the tolerance."""
    if not left or not right:
        return []
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial import cKDTree

    trees = {n: cKDTree(_thinned(found[n].points_mm)) for n in right}
    gaps = np.full((len(left), len(right)), np.inf)
    far = 1e6
    cost = np.full(gaps.shape, far)
    for row, one in enumerate(left):
        points = _thinned(known[one].points_mm)
        for column, two in enumerate(right):
            near = float(trees[two].query(points, distance_upper_bound=tolerance_mm + 1e-9)[0].min())
            if near <= tolerance_mm:
                gaps[row, column] = near
                cost[row, column] = np.linalg.norm(known[one].centre_mm - found[two].centre_mm)
    rows, columns = linear_sum_assignment(cost)
    return [(left[r], right[c], float(gaps[r, c])) for r, c in zip(rows, columns, strict=True) if cost[r, c] < far]


def _thinned(points: FloatArray) -> FloatArray:
    return points[:: max(1, len(points) // _GAP_POINTS)]


def _group(
    known: Sequence[Cloud],
    found: Sequence[Cloud],
    shared: FloatArray,
    chain: tuple[tuple[int, ...], tuple[int, ...]],
    numbers: Sequence[int],
    rule: str,
    gap: float,
) -> Group:
    before, after = [known[n] for n in chain[0]], [found[n] for n in chain[1]]
    volumes = sum(c.volume_mm3 for c in before), sum(c.volume_mm3 for c in after)
    overlap = float(shared[np.ix_(chain[0], chain[1])].sum()) / min(volumes)
    apart = float(np.linalg.norm(_centre(before) - _centre(after)))
    return Group(chain[0], tuple(numbers[n] for n in chain[1]), min(1.0, overlap), apart, gap, rule)


def _centre(clouds: Sequence[Cloud]) -> FloatArray:
    weights = np.array([cloud.volume_mm3 for cloud in clouds])
    return np.asarray(weights @ np.array([cloud.centre_mm for cloud in clouds]) / weights.sum())
