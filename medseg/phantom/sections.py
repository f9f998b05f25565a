"""Known in-plane diameters: sections of a solid with the slices of a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.measurement.diameters import plane_name
from medseg.phantom.solids import FloatArray, Kind, Solid

SLICE_AXIS = 2  # phantoms are written as DICOM series: slices lie across k
_ROWS, _COLUMNS = 180, 240  # of the surface mesh: chords of a 100 mm solid to about 0.01 mm


def in_plane_diameters(solid: Solid, geometry: Geometry) -> dict[str, Any] | None:
    """Return the longest diameter on any slice of a grid and the longest at right angles to it on that slice, in mm.

    Exact for an ellipsoid, whose sections are ellipses. For any other closed solid from a fine mesh of its surface: to
    0.01 mm, and 0.2 mm for the perpendicular, as the direction of the longest is less sure. None where no slice meets the
    solid, or it is not closed.

    >>> grid = Geometry((64, 64, 9), np.diag([1.0, 1.0, 5.0, 1.0]))
    >>> found = in_plane_diameters(Solid((30.0, 30.0, 20.0), (10.0, 8.0, 7.0)), grid)
    >>> found["longest_diameter_mm"], found["perpendicular_diameter_mm"], found["slice_index"]
    (20.0, 16.0, 4)
    """
    if solid.kind is not Kind.CLOSED:
        return None
    steps = geometry.affine[:3, :3]
    normal = np.cross(steps[:, 0], steps[:, 1])
    normal /= np.linalg.norm(normal)
    heights = (geometry.affine[:3, 3] + np.arange(geometry.shape[SLICE_AXIS])[:, None] * steps[:, SLICE_AXIS]) @ normal
    found = _ellipse(solid, normal, heights) if solid.is_ellipsoid else _sections(solid, normal, heights)
    if found is None:
        return None
    index, longest, perpendicular = found
    return {
        "slice_axis": "ijk"[SLICE_AXIS],
        "slice_plane": plane_name(geometry, SLICE_AXIS),
        "slice_index": index,
        "longest_diameter_mm": longest,
        "perpendicular_diameter_mm": perpendicular,
        "method": "axes of the elliptic section" if solid.is_ellipsoid else "section of a fine mesh",
    }


def _plane_axes(normal: FloatArray) -> FloatArray:
    """Two unit vectors at right angles to a normal and to each other, as columns."""
    first = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first)], axis=1)


def _ellipse(solid: Solid, normal: FloatArray, heights: FloatArray) -> tuple[int, float, float] | None:
    rotation = np.asarray(solid.rotation)
    form = rotation @ np.diag(1 / np.square(solid.semi_axes_mm)) @ rotation.T  # x' form x = 1
    axes = _plane_axes(normal)
    inner, mixed = axes.T @ form @ axes, axes.T @ form @ normal
    offsets = heights - np.asarray(solid.centre_mm) @ normal
    left = 1 - offsets**2 * (normal @ form @ normal - mixed @ np.linalg.solve(inner, mixed))
    index = int(left.argmax())
    if left[index] <= 0:
        return None
    short, long = 2 * np.sqrt(left[index] / np.linalg.eigvalsh(inner)[::-1])
    return index, float(long), float(short)


def _sections(solid: Solid, normal: FloatArray, heights: FloatArray) -> tuple[int, float, float] | None:
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import cdist

    triangles = _triangles(solid)
    level = triangles @ normal
    low, high = level.min(axis=1), level.max(axis=1)
    axes = _plane_axes(normal)
    best: tuple[float, int, FloatArray, FloatArray] | None = None
    for index in np.flatnonzero((heights > low.min()) & (heights < high.max())).tolist():
        hit = (low < heights[index]) & (high > heights[index])
        if int(hit.sum()) < 3:
            continue
        segments = _cut(triangles[hit], level[hit], float(heights[index])) @ axes
        points = segments.reshape(-1, 2)
        corners = points[ConvexHull(points).vertices]
        apart = cdist(corners, corners)
        if best is None or apart.max() > best[0]:
            one, other = np.unravel_index(int(apart.argmax()), apart.shape)
            best = float(apart.max()), index, segments, corners[other] - corners[one]
    return None if best is None else (best[1], best[0], _widest(best[2], best[3]))


def _triangles(solid: Solid) -> FloatArray:
    """The side of a solid as triangles (n, 3, 3), RAS+ mm; its ends shrink to points or are left open."""
    t, angle = np.meshgrid(np.linspace(0, np.pi, _ROWS), np.linspace(0, 2 * np.pi, _COLUMNS, endpoint=False), indexing="ij")
    points = solid.surface_points(-np.cos(t.ravel()), angle.ravel()).reshape(_ROWS, _COLUMNS, 3)
    here, there = points, np.roll(points, -1, axis=1)
    quads = np.stack([here[:-1], there[:-1], there[1:], here[1:]], axis=2).reshape(-1, 4, 3)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _cut(triangles: FloatArray, level: FloatArray, height: float) -> FloatArray:
    """The segments (n, 2, 3) in which a plane cuts triangles that it meets."""
    # a corner exactly on the plane counts as above, so that two edges of each triangle are crossed
    above = level >= height
    alone = np.where(above.sum(axis=1) == 1, above.argmax(axis=1), (~above).argmax(axis=1))
    rows = np.arange(len(triangles))
    apex, apex_level = triangles[rows, alone], level[rows, alone]
    ends = []
    for step in (1, 2):
        other = (alone + step) % 3
        part = (height - apex_level) / (level[rows, other] - apex_level)
        ends.append(apex + part[:, None] * (triangles[rows, other] - apex))
    return np.stack(ends, axis=1)


def _widest(segments: FloatArray, chord: npt.NDArray[np.float64]) -> float:
    """The longest line at right angles to a chord from the first to the last of the segments (n, 2, 2) that it meets."""
    along = chord / np.linalg.norm(chord)
    across = np.array([-along[1], along[0]])
    t, u = segments @ along, segments @ across
    first, last = t.min(axis=1), t.max(axis=1)
    best = 0.0
    for place in np.unique(t.ravel())[1:-1]:
        met = (first <= place) & (last >= place)
        spread = t[met, 1] - t[met, 0]
        part = np.divide(place - t[met, 0], spread, out=np.zeros_like(spread), where=np.abs(spread) > 1e-12)
        best = max(best, float(np.ptp(u[met, 0] + np.clip(part, 0, 1) * (u[met, 1] - u[met, 0]))))
    return best
