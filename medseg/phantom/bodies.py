"""Random bodies of exactly known volume on a voxel grid: spheres, ellipsoids and lobulated tumours, at any position and angle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment

FloatArray = npt.NDArray[np.float64]
Kind = Literal["sphere", "ellipsoid", "lobulated"]
KINDS: tuple[Kind, ...] = ("sphere", "ellipsoid", "lobulated")

_LONGEST_LOG = 0.35  # half-axes of ellipsoids lie within exp(±0.35) of their mean: up to two to one
_LOBED_LOG = 0.2
_FEWEST_LOBES, _MOST_LOBES = 4, 8
_MARGIN = 1.02  # of the box: directions on which it is measured are not all there are


@dataclass(frozen=True, eq=False)
class Body:
    """A star-shaped body: unit ball with `lobes` (n,5), brought to mm by `matrix` (3,3); its volume is known exactly."""

    kind: Kind
    matrix: FloatArray
    lobes: FloatArray
    volume_mm3: float

    @property
    def radii(self) -> FloatArray:
        """Radius along the directions of the quadrature, in the body's own units."""
        return _radii(self.lobes, _quadrature()[0])


def random_body(kind: Kind, diameter_mm: float, rng: np.random.Generator) -> Body:
    """Return a body with the volume of a ball of `diameter_mm`, of random axes, lobes and orientation.

    The volume of a lobulated body is ∫ r³/3 over all directions by Gauss-Legendre quadrature, exact to 1e-6.

    >>> body = random_body("ellipsoid", 10.0, np.random.default_rng(1))
    >>> round(body.volume_mm3, 3)
    523.599
    """
    spread = {"sphere": 0.0, "ellipsoid": _LONGEST_LOG, "lobulated": _LOBED_LOG}[kind]
    axes = np.exp(rng.uniform(-spread, spread, 3)) if spread else np.ones(3)
    axes /= np.prod(axes) ** (1 / 3)
    lobes = _random_lobes(rng) if kind == "lobulated" else np.zeros((0, 5))
    directions, weights = _quadrature()
    own_volume = float((weights * _radii(lobes, directions) ** 3).sum() / 3)
    volume_mm3 = math.pi * diameter_mm**3 / 6
    scale = (volume_mm3 / own_volume) ** (1 / 3)
    return Body(kind, _random_rotation(rng) @ np.diag(axes) * scale, lobes, volume_mm3)


def place(
    body: Body,
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    by_share: bool = False,
    noise: float = 0.0,
) -> LabelMap:
    """Return the label map (segment 1, "body") of a body at a random position between the voxels of a grid.

    `spacing_mm` is along i, j, k. A voxel belongs to the body where its centre is inside, or with `by_share` where at least
    half of it is (a threshold halfway between two materials). `noise`, the standard deviation of the noise over the contrast,
    flips voxels at the border. The map ends at least two voxels from the body.
    """
    from medseg.kernels.star_bodies import fill_body

    steps = np.array(spacing_mm[::-1])  # k, j, i
    to_mm = body.matrix[::-1]  # rows: mm along k, j, i
    radii, directions = body.radii, _quadrature()[0]
    outline = (directions * radii[:, None]) @ to_mm.T
    low, high = (outline.min(axis=0) * _MARGIN / steps, outline.max(axis=0) * _MARGIN / steps)
    shift = rng.uniform(0, 1, 3)
    first, last = np.floor(low + shift).astype(int) - 2, np.ceil(high + shift).astype(int) + 2
    size = last - first + 1
    mask = fill_body(
        np.asarray(np.linalg.inv(to_mm) @ np.diag(steps), np.float64),
        shift - first,
        body.lobes,
        float(radii.max()) * _MARGIN,
        (int(size[0]), int(size[1]), int(size[2])),
        by_share=by_share,
        noise=noise,
        seed=int(rng.integers(1 << 31)),
    )
    grid = Geometry(mask.shape[::-1], np.diag([*spacing_mm, 1.0]))
    return LabelMap(mask.T, grid, (Segment(1, "body"),))


def _random_lobes(rng: np.random.Generator) -> FloatArray:
    lobes = np.zeros((int(rng.integers(_FEWEST_LOBES, _MOST_LOBES + 1)), 5))
    directions = rng.normal(size=(len(lobes), 3))
    lobes[:, :3] = directions / np.linalg.norm(directions, axis=1)[:, None]
    lobes[:, 3], lobes[:, 4] = rng.uniform(0.1, 0.35, len(lobes)), rng.uniform(4, 12, len(lobes))
    return lobes


def _random_rotation(rng: np.random.Generator) -> FloatArray:
    """Return a rotation drawn evenly from all (a random unit quaternion)."""
    w, x, y, z = (quaternion := rng.normal(size=4)) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _radii(lobes: FloatArray, directions: FloatArray) -> FloatArray:
    return np.asarray(1 + (lobes[:, 3] * np.exp(lobes[:, 4] * (directions @ lobes[:, :3].T - 1))).sum(axis=1))


@lru_cache(maxsize=1)
def _quadrature() -> tuple[FloatArray, FloatArray]:
    """Return unit vectors and weights that integrate over the sphere."""
    heights, weights = np.polynomial.legendre.leggauss(40)
    angles = (np.arange(80) + 0.5) * (2 * np.pi / 80)
    rings = np.sqrt(1 - heights**2)
    vectors = np.stack([np.outer(rings, np.cos(angles)), np.outer(rings, np.sin(angles)), np.outer(heights, np.ones(80))], axis=-1)
    return vectors.reshape(-1, 3), np.outer(weights, np.full(80, 2 * np.pi / 80)).ravel()
