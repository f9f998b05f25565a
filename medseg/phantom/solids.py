"""Solids whose volume is a closed formula, whatever their bends and lobes.

A solid lies along its local axis z, with s = z/c from -1 to 1. Its cross-section at s is a superellipse with semi-axes
a·√P(s) and b·√P(s), P being a polynomial: P = 1 - s² gives an ellipsoid, P = 1 a cylinder. Two things then change
its form and not its volume:

* lobes: the squared radius in direction φ is multiplied by 1 + (1 - s²)·Σ α·cos(nφ - phase - twist·s), whose mean over
  φ is 1, so every elliptic cross-section keeps its area;
* shears: one coordinate is moved by a function of the other two, a map whose Jacobian determinant is 1.

So the volume is A·a·b·c·∫P(s)ds, with A = 4Γ(1+1/m)²/Γ(1+2/m) for the exponent m (π for m = 2).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import IntEnum
from math import gamma, pi

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError

FloatArray = npt.NDArray[np.float64]

ELLIPSOID = (1.0, 0.0, -1.0)  # P(s) of an ellipsoid
CYLINDER = (1.0,)
FAR_MM = 2000.0  # open solids run this far along their axis: beyond every scan

_AXIS_NODES, _RADIUS_NODES, _ANGLE_NODES = 40, 5, 160


class Kind(IntEnum):
    """How a solid ends along its axis, or repeats."""

    CLOSED = 0  # from s = -1 to 1
    OPEN = 1  # without end; P is constant beyond s = ±1
    STACK = 2  # from s = -1 to 1, in pieces `period_mm` apart of half-height `half_height_mm`; P is taken along a piece
    RINGS = 3  # from s = -1 to 1, hoops of elliptic section on the wall of the solid: `thickness_mm` is half their width


@dataclass(frozen=True)
class Lobe:
    """One lobe term: `count` bulges around the axis of relative size `size`, turned by `phase` and `twist`·s radians."""

    count: int
    size: float
    phase: float = 0.0
    twist: float = 0.0


@dataclass(frozen=True)
class Shear:
    """Move coordinate `axis` by `size_mm`·v^p·w^q, (v, w) the next two coordinates in cyclic order over their semi-axes."""

    axis: int
    size_mm: float
    powers: tuple[int, int]


@dataclass(frozen=True)
class Solid:
    """A solid in RAS+ mm; `rotation` holds the local axes x, y, z as columns, `semi_axes_mm` are a, b, c.

    Raises ParameterError where it would have no inside or a kernel could not hold it.

    >>> round(Solid((0, 0, 0), (10.0, 20.0, 30.0)).volume_mm3, 3)
    25132.741
    """

    centre_mm: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]
    rotation: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    kind: Kind = Kind.CLOSED
    exponent: float = 2.0
    profile: tuple[float, ...] = ELLIPSOID
    lobes: tuple[Lobe, ...] = ()
    shears: tuple[Shear, ...] = ()
    period_mm: float = 1.0
    half_height_mm: float = 1.0
    phase_mm: float = 0.0
    thickness_mm: float = 1.0

    def __post_init__(self) -> None:
        matrix = np.asarray(self.rotation, dtype=np.float64)
        if min(self.semi_axes_mm) <= 0 or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-9):
            raise ParameterError(f"a solid needs three positive semi-axes and a rotation, got {self.semi_axes_mm} and {self.rotation}")
        if len(self.profile) > 6 or len(self.lobes) > 3 or len(self.shears) > 8:
            raise ParameterError("a solid has at most 6 profile terms, 3 lobes and 8 shears")
        if sum(abs(lobe.size) for lobe in self.lobes) >= 1 or (self.lobes and self.exponent != 2):
            raise ParameterError("lobes need the exponent 2 and sizes that sum to less than 1")

    @property
    def is_ellipsoid(self) -> bool:
        """Whether this is an ellipsoid, so that everything about it is a closed formula."""
        return self.kind is Kind.CLOSED and self.profile == ELLIPSOID and self.exponent == 2 and not self.lobes and not self.shears

    @property
    def volume_mm3(self) -> float:
        """The exact volume; infinite where open, NaN for stacks and rings."""
        if self.kind is not Kind.CLOSED:
            return float("inf") if self.kind is Kind.OPEN else float("nan")
        a, b, c = self.semi_axes_mm
        return section_factor(self.exponent) * a * b * c * self.profile_integral

    @property
    def profile_integral(self) -> float:
        """∫P(s)ds from -1 to 1."""
        return float(sum(2.0 * p / (n + 1) for n, p in enumerate(self.profile) if n % 2 == 0))

    @property
    def volume_formula(self) -> str:
        """The formula behind `volume_mm3`, with its numbers."""
        a, b, c = (f"{axis:.6g}" for axis in self.semi_axes_mm)
        if self.profile == ELLIPSOID and self.exponent == 2:
            return f"4/3·π·{a}·{b}·{c} mm³"
        return f"A·a·b·c·∫P(s)ds = {section_factor(self.exponent):.9g}·{a}·{b}·{c}·{self.profile_integral:.9g} mm³"

    def section_radius(self, s: FloatArray, angle: FloatArray) -> FloatArray:
        """Radius of the cross-section at s in direction `angle`, in units of the semi-axes."""
        square = np.clip(np.polynomial.polynomial.polyval(s, self.profile), 0, None)
        if self.lobes:
            square = square * (1 + (1 - s**2) * sum(e.size * np.cos(e.count * angle - e.phase - e.twist * s) for e in self.lobes))
        m = self.exponent
        shape = 1.0 if m == 2 else (np.abs(np.cos(angle)) ** m + np.abs(np.sin(angle)) ** m) ** (-1 / m)
        return np.asarray(np.sqrt(square) * shape)

    def to_world(self, local: FloatArray) -> FloatArray:
        """Bend and place points (..., 3) of the straight solid, local mm."""
        points = np.array(local, dtype=np.float64)
        for shear in self.shears:
            points[..., shear.axis] += self._shift(shear, points)
        return np.asarray(points @ np.asarray(self.rotation).T + self.centre_mm)

    def to_local(self, points_mm: FloatArray) -> FloatArray:
        """Take points (..., 3) in RAS+ mm back into the straight solid."""
        points = (np.asarray(points_mm, dtype=np.float64) - self.centre_mm) @ np.asarray(self.rotation)
        for shear in reversed(self.shears):
            points[..., shear.axis] -= self._shift(shear, points)
        return np.asarray(points)

    def _shift(self, shear: Shear, points: FloatArray) -> FloatArray:
        p, q = (shear.axis + 1) % 3, (shear.axis + 2) % 3
        first, second = points[..., p] / self.semi_axes_mm[p], points[..., q] / self.semi_axes_mm[q]
        return np.asarray(shear.size_mm * first ** shear.powers[0] * second ** shear.powers[1])

    def contains(self, points_mm: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether points (..., 3) lie inside; only for closed and open solids."""
        local = self.to_local(points_mm) / self.semi_axes_mm
        s = np.clip(local[..., 2], -1, 1)
        radius = self.section_radius(s, np.arctan2(local[..., 1], local[..., 0]))
        inside = np.hypot(local[..., 0], local[..., 1]) < radius
        if self.kind is not Kind.OPEN:
            inside &= np.abs(local[..., 2]) < 1
        return np.asarray(inside)

    def surface_points(self, s: FloatArray, angle: FloatArray) -> FloatArray:
        """Points of the side of the solid at s (n) and angle (n), RAS+ mm."""
        radius = self.section_radius(s, angle)
        a, b, c = self.semi_axes_mm
        return self.to_world(np.stack([a * radius * np.cos(angle), b * radius * np.sin(angle), c * s], axis=-1))

    def surface_cloud(self, rows: int = 48, columns: int = 64) -> FloatArray:
        """Points all over the surface, end caps included, (n, 3) RAS+ mm."""
        # cosine spacing, because a radius changes fastest at the ends
        s = -np.cos(np.linspace(0, pi, rows))
        angle = np.linspace(0, 2 * pi, columns, endpoint=False)
        side = self.surface_points(*(grid.ravel() for grid in np.meshgrid(s, angle, indexing="ij")))
        caps = [side]
        for end in (-1.0, 1.0):
            if self.kind is not Kind.OPEN and self.section_radius(np.array([end]), np.array([0.0]))[0] > 1e-6:
                edge = self.section_radius(np.full(columns, end), angle)
                for part in np.linspace(0, 0.95, 12):
                    x, y = (part * edge * f(angle) * axis for f, axis in ((np.cos, self.semi_axes_mm[0]), (np.sin, self.semi_axes_mm[1])))
                    caps.append(self.to_world(np.stack([x, y, np.full(columns, end * self.semi_axes_mm[2])], axis=-1)))
        return np.concatenate(caps)

    @functools.cached_property
    def centroid_mm(self) -> tuple[float, float, float]:
        """Centre of mass in RAS+ mm: exact for ellipsoids, else by Gauss quadrature of the formula above (to about 1e-5 mm)."""
        if self.is_ellipsoid:
            return self.centre_mm
        points, weights = self.quadrature()
        r, a, s = (weights @ points) / weights.sum()
        return float(r), float(a), float(s)

    def quadrature(self) -> tuple[FloatArray, FloatArray]:
        """Points (n, 3) inside a closed solid in RAS+ mm, and their weights in mm³."""
        s, s_weight = np.polynomial.legendre.leggauss(_AXIS_NODES)
        part, part_weight = np.polynomial.legendre.leggauss(_RADIUS_NODES)
        part, part_weight = (part + 1) / 2, part_weight / 2
        angle = (np.arange(_ANGLE_NODES) + 0.5) * 2 * pi / _ANGLE_NODES
        s_grid, part_grid, angle_grid = np.meshgrid(s, part, angle, indexing="ij")
        edge = self.section_radius(s_grid, angle_grid)
        a, b, c = self.semi_axes_mm
        x, y = a * edge * part_grid * np.cos(angle_grid), b * edge * part_grid * np.sin(angle_grid)
        weights = s_weight[:, None, None] * part_weight[None, :, None] * part_grid * edge**2 * (a * b * c * 2 * pi / _ANGLE_NODES)
        return self.to_world(np.stack([x, y, c * s_grid], axis=-1)).reshape(-1, 3), weights.ravel()

    def local_box(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest local coordinates that the bent solid can reach."""
        s = np.linspace(-1, 1, 201)
        wide = np.polynomial.polynomial.polyval(s, self.profile).max() * (1 + sum(abs(lobe.size) for lobe in self.lobes))
        reach = np.array([*(np.sqrt(wide) * 1.01 * np.array(self.semi_axes_mm[:2])), self.semi_axes_mm[2]])
        if self.kind is Kind.RINGS:
            reach[:2] *= 1.2
        if self.kind is Kind.OPEN:
            reach[2] = FAR_MM
        low, high = -reach, reach.copy()
        for shear in self.shears:
            p, q = (shear.axis + 1) % 3, (shear.axis + 2) % 3
            ends = [
                [side[n] / self.semi_axes_mm[n] for side in (low, high)] + ([0.0] if power % 2 == 0 and power else [])
                for n, power in ((p, shear.powers[0]), (q, shear.powers[1]))
            ]
            shifts = [shear.size_mm * v ** shear.powers[0] * w ** shear.powers[1] for v in ends[0] for w in ends[1]]
            low[shear.axis] += min(shifts)
            high[shear.axis] += max(shifts)
        return low, high


@functools.cache
def section_factor(exponent: float) -> float:
    """Area of the superellipse |u|^m + |v|^m = 1: 4Γ(1+1/m)²/Γ(1+2/m).

    >>> round(section_factor(2.0), 12) == round(pi, 12)
    True
    """
    return pi if exponent == 2 else 4 * gamma(1 + 1 / exponent) ** 2 / gamma(1 + 2 / exponent)


def rotation_about(axis: npt.ArrayLike, degrees: float) -> FloatArray:
    """Return the 3×3 rotation by `degrees` about `axis` (Rodrigues).

    >>> rotation_about((0, 0, 1), 90).round(6).tolist()[0]
    [0.0, -1.0, 0.0]
    """
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def maximum_diameter_mm(solid: Solid) -> float:
    """Largest distance between two points of a closed solid: 2·max(a, b, c) for ellipsoids, else sought over the surface.

    The search starts from all pairs on a grid of the surface and refines the best one to 1e-6 mm.
    """
    if solid.is_ellipsoid:
        return 2.0 * max(solid.semi_axes_mm)
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import cdist

    t, angle = np.meshgrid(np.linspace(0, pi, 31), np.linspace(0, 2 * pi, 36, endpoint=False), indexing="ij")
    where = np.stack([t.ravel(), angle.ravel()], axis=-1)
    points = solid.surface_points(-np.cos(where[:, 0]), where[:, 1])
    corners = ConvexHull(points).vertices
    apart = cdist(points[corners], points[corners])
    first, second = np.unravel_index(int(apart.argmax()), apart.shape)
    ends = where[corners[[first, second]]]
    step, best = 0.15, float(apart.max())
    nudge = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    while step > 1e-5:
        tried = [ends[n] + step * nudge for n in (0, 1)]
        clouds = [solid.surface_points(-np.cos(np.clip(t[:, 0], 0, pi)), t[:, 1]) for t in tried]
        apart = cdist(clouds[0], clouds[1])
        n, m = np.unravel_index(int(apart.argmax()), apart.shape)
        ends = np.stack([tried[0][n], tried[1][m]])
        best = max(best, float(apart.max()))
        step *= 0.6
    return best
