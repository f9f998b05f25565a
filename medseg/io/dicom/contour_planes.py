"""The closed contours of a region plane by plane: which way the planes face, how far apart they lie, what they enclose.

Width of a plane: to the middle of the gap on either side, the first and last one as far outwards as inwards. A gap of more than
1.5 times the usual one (and of the gap next to it) is a hole in the stack, drawn or forgotten: no plane reaches into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from medseg.core.native_slices import slice_widths_mm
from medseg.kernels.polygons import polygon_moments

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SAME_PLANE_MM = 0.01  # contours closer than this lie in one plane,
SAME_PLANE_SHARE = 0.05  # and so do those closer than this share of the usual gap
FLAT_MM = 0.1  # points may leave their plane by this much without a word
SNAP_DEGREES = 0.05  # a normal this near to a patient axis is that axis
SAME_DIRECTION_DEGREES = 3.0  # a small region whose planes face this nearly the way of all others takes the way of all
HOLE_FACTOR = 1.5  # gaps beyond this many usual ones are holes in the stack,
UNEVEN_FACTOR = 4.0  # but up to this many where the neighbouring gap is as wide: slices at uneven distances
_CANCELLED_SHARE = 0.02  # of the square of its size: a ring with less area is a line, or crosses itself
_SMALLEST_STEP_MM = 0.1  # planes nearer than this say nothing about the usual distance


@dataclass(frozen=True, eq=False)
class ContourStack:
    """Closed contours of one region, by plane.

    `axes` rows are unit vectors u, v (in the planes) and n (their normal), RAS; `positions_mm` (p,) rise along n. Ring r has
    `points` (u, v) in mm from `starts[r]` up to `starts[r + 1]`; plane p the rings from `plane_rings[p]` up to
    `plane_rings[p + 1]`. `slabs_mm` (p, 2) is what each plane stands for along n; `moments` (p, 3) area and its moments.
    `step_mm` is the usual distance of planes in the whole structure set. All NaN slabs: one plane, and no distance known.
    """

    axes: FloatArray
    positions_mm: FloatArray
    points: FloatArray
    starts: IntArray
    plane_rings: IntArray
    slabs_mm: FloatArray
    moments: FloatArray
    step_mm: float | None = None

    @property
    def usual_gap_mm(self) -> float | None:
        """The median distance between neighbouring planes (the lower of the middle two), None for one plane."""
        gaps = np.sort(np.diff(self.positions_mm))
        return float(gaps[(len(gaps) - 1) // 2]) if len(gaps) else None

    @property
    def volume_mm3(self) -> float:
        """Sum of area × width over the planes."""
        return float(self.moments[:, 0] @ (self.slabs_mm[:, 1] - self.slabs_mm[:, 0]))

    @property
    def centroid_mm(self) -> FloatArray:
        """Centre of what the slabs hold, RAS mm."""
        widths = self.slabs_mm[:, 1] - self.slabs_mm[:, 0]
        middle = self.slabs_mm.mean(axis=1)
        sums = np.array([self.moments[:, 1] @ widths, self.moments[:, 2] @ widths, (self.moments[:, 0] * widths) @ middle])
        return np.asarray(sums / self.volume_mm3 @ self.axes)

    @property
    def point_planes(self) -> IntArray:
        """The plane of every point, (n,)."""
        rings = np.repeat(np.arange(len(self.positions_mm)), np.diff(self.plane_rings))
        return np.repeat(rings, np.diff(self.starts))

    def points_mm(self) -> FloatArray:
        """All points in RAS mm, flattened onto their planes, (n, 3)."""
        return np.asarray(self.points @ self.axes[:2] + self.positions_mm[self.point_planes, None] * self.axes[2])

    def plane(self, number: int) -> tuple[FloatArray, IntArray]:
        """Return points and ring starts of one plane."""
        starts = self.starts[self.plane_rings[number] : self.plane_rings[number + 1] + 1]
        return self.points[starts[0] : starts[-1]], starts - starts[0]


def open_ring(points: FloatArray) -> FloatArray:
    """Return the points of a closed contour without repeats: of neighbours, of the first point at the end, of the whole way round.

    >>> open_ring(np.array([[0, 0], [0, 0], [1, 0], [1, 1], [0, 0.0]])).tolist()
    [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """
    if len(points) < 2:
        return points
    ring = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    half = len(ring) // 2
    return ring[:half] if half > 2 and len(ring) == 2 * half and np.array_equal(ring[:half], ring[half:]) else ring


def area_vector(ring: FloatArray) -> FloatArray:
    """Return the vector along a ring's normal whose length is its area (Newell's rule); ring (n, 3)."""
    centred = ring - ring.mean(axis=0)
    return np.asarray(0.5 * np.cross(centred, np.roll(centred, -1, axis=0)).sum(axis=0))


def facing(rings: Sequence[FloatArray]) -> FloatArray:
    """Return the (3, 3) sum that tells which way rings face, larger ones weighing more; its first eigenvector is the normal.

    The areas of a ring that crosses itself may cancel: its plane is then the one its points lie nearest to.
    """
    total = np.zeros((3, 3))
    for ring in rings:
        vector = area_vector(ring)
        if np.linalg.norm(vector) < _CANCELLED_SHARE * float((np.ptp(ring, axis=0) ** 2).sum()):
            _, reach, ways = np.linalg.svd(ring - ring.mean(axis=0), full_matrices=False)
            if reach[1] > _CANCELLED_SHARE * reach[0]:
                vector = ways[2] * float(reach[0] * reach[1]) / len(ring)
        length = float(np.linalg.norm(vector))
        if length > 0:
            total += np.outer(vector, vector) / length
    return total


def normal_from(total: FloatArray) -> FloatArray | None:
    """Return the unit normal of a sum made by `facing`, its largest part positive; None where nothing has an area."""
    if not np.isfinite(total).all() or not total.any():
        return None
    normal = np.linalg.eigh(total)[1][:, -1]
    largest = int(np.abs(normal).argmax())
    normal = normal * np.sign(normal[largest])
    if normal[largest] >= np.cos(np.radians(SNAP_DEGREES)):
        return np.eye(3)[largest]
    return np.asarray(normal)


def degrees_between(one: FloatArray, other: FloatArray) -> float:
    """Return the angle between two directions, either way round, 0 to 90."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other)), abs(one @ other))))


def axes_for(normal: FloatArray) -> FloatArray:
    """Return rows u, v, n with n the given normal and u as near to a patient axis as can be."""
    towards = np.eye(3)[1 if abs(normal[0]) > 0.8 else 0]
    u = towards - normal * (towards @ normal)
    u /= np.linalg.norm(u)
    return np.array([u, np.cross(normal, u), normal])


def unevenness_mm(rings: Sequence[FloatArray], normal: FloatArray) -> FloatArray:
    """Return how far the points of each ring leave its plane, (rings,) mm."""
    return np.array([np.abs(ring @ normal - (ring @ normal).mean()).max() for ring in rings])


def build_stack(rings: Sequence[FloatArray], normal: FloatArray) -> tuple[ContourStack, int]:
    """Sort rings (n, 3), RAS mm, into the planes across `normal`; return the stack without slabs, and exact copies dropped."""
    axes = axes_for(normal)
    local = [np.asarray(ring @ axes.T) for ring in rings]
    heights = np.array([ring[:, 2].mean() for ring in local])
    order = np.argsort(heights, kind="stable")
    plane_of = _planes(heights[order], float(unevenness_mm(rings, normal).max()))
    positions: list[float] = []
    kept: list[FloatArray] = []
    plane_rings = [0]
    copies = 0
    for plane in range(plane_of[-1] + 1):
        members = order[plane_of == plane]
        seen: set[bytes] = set()
        for ring in members:
            key = _key(local[ring][:, :2])
            if key in seen:
                copies += 1
                continue
            seen.add(key)
            kept.append(local[ring][:, :2])
        plane_rings.append(len(kept))
        positions.append(float(heights[members].mean()))
    points = np.ascontiguousarray(np.concatenate(kept))
    starts = np.concatenate([[0], np.cumsum([len(ring) for ring in kept])]).astype(np.int64)
    of_planes = np.array(plane_rings, dtype=np.int64)
    nothing = np.full((len(positions), 2), np.nan)
    return ContourStack(axes, np.array(positions), points, starts, of_planes, nothing, polygon_moments(points, starts, of_planes)), copies


def _planes(heights: FloatArray, unevenness: float) -> IntArray:
    """The plane of each rising height."""
    gaps = np.diff(heights)
    steps = gaps[gaps > _SMALLEST_STEP_MM]
    usual = float(np.median(steps)) if steps.size else 0.0
    apart = max(SAME_PLANE_MM, SAME_PLANE_SHARE * usual, min(2 * unevenness, 0.5 * usual))
    return np.concatenate([[0], np.cumsum(gaps > apart)]).astype(np.int64)


def _key(ring: FloatArray) -> bytes:
    rounded = np.round(ring, 3) + 0.0
    return rounded[np.lexsort(rounded.T)].tobytes()


def usual_step_mm(stacks: Sequence[ContourStack]) -> float | None:
    """Return the distance between planes that a structure set was drawn with: the smallest usual one of its regions."""
    for least_planes in (3, 2):
        found = [stack.usual_gap_mm for stack in stacks if len(stack.positions_mm) >= least_planes]
        if found:
            return min(gap for gap in found if gap is not None)
    return None


def with_slabs(stack: ContourStack, step_mm: float | None) -> ContourStack:
    """Return the stack with the slab that each plane stands for; `step_mm` is the usual step of all regions."""
    positions = stack.positions_mm
    usual = stack.usual_gap_mm or step_mm
    if usual is None:
        return replace(stack, step_mm=step_mm)
    if step_mm is not None and len(positions) < 4 and usual > HOLE_FACTOR * step_mm:
        usual = step_mm  # two or three planes far apart are parts, not a stack of thick slices
    ends = [0, *(np.flatnonzero(~_is_bridged(np.diff(positions), usual)) + 1).tolist(), len(positions)]
    slabs = np.empty((len(positions), 2))
    for first, stop in pairwise(ends):
        part = positions[first:stop]
        widths = slice_widths_mm(part) if len(part) > 1 else np.array([usual])
        middles = (part[1:] + part[:-1]) / 2
        slabs[first:stop, 0] = np.concatenate([[part[0] - widths[0] / 2], middles])
        slabs[first:stop, 1] = np.concatenate([middles, [part[-1] + widths[-1] / 2]])
    return replace(stack, slabs_mm=slabs, step_mm=step_mm or usual)


def _is_bridged(gaps: FloatArray, usual: float) -> npt.NDArray[np.bool_]:
    """Whether the planes beside each gap reach to its middle."""
    bridged = gaps <= HOLE_FACTOR * usual
    neighbours = np.maximum(np.concatenate([[0], gaps[:-1]]), np.concatenate([gaps[1:], [0]]))
    return np.asarray(bridged | ((gaps <= HOLE_FACTOR * neighbours) & (gaps <= UNEVEN_FACTOR * usual)))


def holes_in(stack: ContourStack) -> list[tuple[int, int]]:
    """Return (plane before it, planes missing) for every gap that is wider than the usual step of the structure set."""
    if stack.step_mm is None or len(stack.positions_mm) < 2:
        return []
    gaps = np.diff(stack.positions_mm)
    return [(int(n), round(float(gaps[n] / stack.step_mm)) - 1) for n in np.flatnonzero(gaps > HOLE_FACTOR * stack.step_mm)]


def filled_volume_mm3(stack: ContourStack) -> float:
    """Return about what the volume would be with every hole bridged: areas change evenly from plane to plane."""
    areas, positions = stack.moments[:, 0], stack.positions_mm
    between = float(((areas[1:] + areas[:-1]) / 2) @ np.diff(positions))
    ends = areas[0] * (positions[0] - stack.slabs_mm[0, 0]) + areas[-1] * (stack.slabs_mm[-1, 1] - positions[-1])
    return between + float(ends)
