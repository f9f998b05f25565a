"""Clicks made from a mask: what a classical method found becomes the prompt of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError, SegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.preprocessing.crop import crop_to, segment_boxes
from medseg.preprocessing.distances import away_mm, depth_mm, reach_mm

Point = tuple[float, float, float]

_SAME_MM = 1e-3  # depths nearer than this are equal: the place decides then, not rounding
_SHELL = 0.5  # points outside lie between this share of the distance and the whole


@dataclass(frozen=True)
class PromptPoints:
    """Points inside a structure, the deepest first, and points outside near it; RAS+ mm."""

    inside_mm: tuple[Point, ...]
    outside_mm: tuple[Point, ...]


def points_from(label_map: LabelMap, segment: str | int, *, inside: int = 1, outside: int = 0, distance_mm: float = 8.0) -> PromptPoints:
    """Return clicks for a segment: the voxel deepest inside, then those farthest from all clicks and from the border.

    Depth is the distance in mm to the nearest voxel outside. Points `outside` lie up to `distance_mm` beyond the border (beyond half
    of it where the scan allows), as far from one another as they can. The same structure gives the same points however the scan is
    stored: of equal places that nearest to the head counts, then front, then right. Fewer points than asked are given
    where a structure has fewer voxels, or the scan shows nothing around it. Raises SegmentError for a segment without a
    voxel, UnknownSegmentError, ParameterError for impossible numbers.

    >>> from medseg.core.segment import Segment
    >>> box = np.zeros((9, 9, 9), np.uint8)
    >>> box[2:7, 3:6, 3:6] = 1
    >>> points_from(LabelMap(box, Geometry((9, 9, 9), np.eye(4)), (Segment(1, "liver"),)), "liver", inside=2).inside_mm
    ((5.0, 4.0, 4.0), (3.0, 4.0, 4.0))
    """
    if inside < 0 or outside < 0 or not distance_mm > 0:
        raise ParameterError(f"points_from: {inside} points inside, {outside} outside, {distance_mm} mm: numbers are 0 or more, mm above 0")
    chosen = label_map[segment]
    box = segment_boxes(label_map).get(chosen.number)
    if box is None:
        raise SegmentError(f"{chosen.label} has no voxel: there is no place to click on; leave it out, or segment it first")
    part = crop_to(label_map, box.widened(label_map.geometry, reach_mm(label_map.geometry) + (distance_mm if outside else 0)))
    mask = np.asarray(part.array == chosen.number, order="F").T
    return PromptPoints(_inside(mask, part.geometry, inside), _outside(mask, part.geometry, outside, distance_mm))


def _inside(mask: npt.NDArray[np.bool_], grid: Geometry, count: int) -> tuple[Point, ...]:
    depth = depth_mm(mask, grid)
    places, points = _ordered(mask, grid)
    rest = depth[tuple(places.T)].astype(np.float64)
    return _spread(points, rest, count)


def _outside(mask: npt.NDArray[np.bool_], grid: Geometry, count: int, distance_mm: float) -> tuple[Point, ...]:
    if count == 0:
        return ()
    away = away_mm(mask, grid, distance_mm)
    near = (away > 0) & np.isfinite(away)
    far = near & (away > _SHELL * distance_mm)
    _, points = _ordered(far if far.any() else near, grid)
    if not len(points):
        return ()
    centre = grid.index_to_world(np.argwhere(mask)[:, ::-1].mean(axis=0))
    return _spread(points, np.linalg.norm(points - centre, axis=1), count)


def _ordered(mask: npt.NDArray[np.bool_], grid: Geometry) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The voxels (k,j,i) of a mask and their places in mm, from head to feet, front to back, right to left."""
    places = np.argwhere(mask)
    points = grid.index_to_world(places[:, ::-1])
    level = np.rint(points / _SAME_MM)
    order = np.lexsort((-level[:, 0], -level[:, 1], -level[:, 2]))
    return places[order], points[order]


def _spread(points: npt.NDArray[np.float64], room_mm: npt.NDArray[Any], count: int) -> tuple[Point, ...]:
    """Choose the point with most room, again and again; each takes the room around it."""
    chosen: list[Point] = []
    room = np.minimum(room_mm, 1e9)  # a structure that fills the scan is infinitely deep
    while len(chosen) < min(count, len(points)):
        at = int(np.flatnonzero(room >= room.max() - _SAME_MM)[0])
        if room[at] <= 0:
            break
        r, a, s = points[at].tolist()
        chosen.append((r, a, s))
        room = np.minimum(room, np.linalg.norm(points - points[at], axis=1))
    return tuple(chosen)
