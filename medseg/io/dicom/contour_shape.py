"""Shapes between contour planes: the distance to the outline changes evenly from one plane to the next (doi:10.1109/42.61759)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from medseg.io.dicom.contour_planes import ContourStack, IntArray
from medseg.kernels.outlines import trace_field
from medseg.kernels.polygons import polygon_distances, polygon_moments

FloatArray = npt.NDArray[np.float64]

FIELD_POINTS = 160  # the distances of two planes are sampled at about this many points across,
FINEST_FIELD_MM = 0.25  # but no closer than this
WIDEST_HOLE_STEPS = 12  # a gap of more usual steps than this lies between two parts of a structure: it stays empty
ON_PLANE_SHARE = 0.1  # of the usual step: so near to a contour plane its own contours are taken


def interpolated(stack: ContourStack, targets_mm: FloatArray) -> tuple[ContourStack, IntArray]:
    """Return a stack with shapes at the target positions, and which targets (rising, mm along the normal) have one.

    A target on a contour plane gets that plane's contours, one beyond the first or last contour but within its slab too; one
    between two planes, unless they are more than 12 usual steps apart, the shape whose signed distance lies between theirs.
    """
    step = stack.step_mm or stack.usual_gap_mm or 1.0
    rings: list[FloatArray] = []
    plane_rings = [0]
    kept: list[int] = []
    pair: tuple[int, _Between] | None = None
    for place, target in enumerate(targets_mm):
        nearest = int(np.abs(stack.positions_mm - target).argmin())
        before = int(np.searchsorted(stack.positions_mm, target)) - 1
        is_between = 0 <= before < len(stack.positions_mm) - 1
        if abs(stack.positions_mm[nearest] - target) <= ON_PLANE_SHARE * step:
            found = list(_rings(*stack.plane(nearest)))
        elif is_between and stack.positions_mm[before + 1] - stack.positions_mm[before] <= WIDEST_HOLE_STEPS * step:
            if pair is None or pair[0] != before:
                pair = before, _Between(stack, before)
            found = pair[1].at(float(target))
        elif stack.slabs_mm[nearest, 0] <= target < stack.slabs_mm[nearest, 1]:
            found = list(_rings(*stack.plane(nearest)))
        else:
            continue
        if found:
            rings += found
            plane_rings.append(len(rings))
            kept.append(place)
    points = np.concatenate(rings) if rings else np.empty((0, 2))
    starts = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])]).astype(np.int64)
    limits = np.array(plane_rings, dtype=np.int64)
    made = replace(
        stack,
        positions_mm=targets_mm[kept],
        points=points,
        starts=starts,
        plane_rings=limits,
        moments=polygon_moments(points, starts, limits),
        slabs_mm=np.full((len(kept), 2), np.nan),
    )
    return made, np.array(kept, dtype=np.int64)


def _rings(points: FloatArray, starts: IntArray) -> Iterable[FloatArray]:
    return (points[a:b] for a, b in pairwise(starts))


class _Between:
    """The signed distances of two neighbouring planes, sampled at the same points."""

    def __init__(self, stack: ContourStack, before: int) -> None:
        (one, one_starts), (other, other_starts) = stack.plane(before), stack.plane(before + 1)
        both = np.concatenate([one, other])
        reach = float(np.ptp(both, axis=0).max())
        self._pixel = max(FINEST_FIELD_MM, reach / FIELD_POINTS)
        self._origin = both.min(axis=0) - 2 * self._pixel
        columns, rows = (int(np.ceil(n)) + 5 for n in np.ptp(both, axis=0) / self._pixel)
        xs, ys = self._origin[0] + self._pixel * np.arange(columns), self._origin[1] + self._pixel * np.arange(rows)
        self._distances = polygon_distances(one, one_starts, xs, ys), polygon_distances(other, other_starts, xs, ys)
        self._limits = stack.positions_mm[before : before + 2]

    def at(self, position_mm: float) -> list[FloatArray]:
        share = (position_mm - self._limits[0]) / (self._limits[1] - self._limits[0])
        points, starts = trace_field((1 - share) * self._distances[0] + share * self._distances[1])
        return [ring * self._pixel + self._origin for ring in _rings(points, starts) if len(ring) > 2]
