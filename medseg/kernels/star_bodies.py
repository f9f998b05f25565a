"""Masks of star-shaped bodies: an ellipsoid with round lobes, exactly placed on a voxel grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_GAUSS = 0.5 / 3**0.5  # two-point quadrature of a voxel along each axis
_FINE = 6  # samples of a voxel along each axis where the body is not much larger than it


@njit(cache=True, nogil=True)
def _depth(inverse, lobes, x, y, z):  # type: ignore[no-untyped-def]
    """How far outside the body a point is (index coordinates), in units of its radius; negative inside."""
    p0 = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] * z
    p1 = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] * z
    p2 = inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2] * z
    distance = np.sqrt(p0 * p0 + p1 * p1 + p2 * p2)
    radius = 1.0
    if lobes.shape[0] and distance > 0.1:  # nearer to the middle is inside whatever the lobes
        for n in range(lobes.shape[0]):
            cosine = (p0 * lobes[n, 0] + p1 * lobes[n, 1] + p2 * lobes[n, 2]) / distance
            radius += lobes[n, 3] * np.exp(lobes[n, 4] * (cosine - 1.0))
    return distance - radius


@njit(cache=True, nogil=True)
def _share(inverse, lobes, x, y, z, width, is_small):  # type: ignore[no-untyped-def]
    """The share of a voxel that lies inside: sampled for small bodies, from the mean depth for large ones."""
    if is_small:
        hits = 0
        for a in range(_FINE):
            for b in range(_FINE):
                for c in range(_FINE):
                    p, q, r = x + (a + 0.5) / _FINE - 0.5, y + (b + 0.5) / _FINE - 0.5, z + (c + 0.5) / _FINE - 0.5
                    hits += _depth(inverse, lobes, p, q, r) <= 0.0
        return hits / _FINE**3
    mean = 0.0
    for u in (-_GAUSS, _GAUSS):
        for v in (-_GAUSS, _GAUSS):
            for w in (-_GAUSS, _GAUSS):
                mean += _depth(inverse, lobes, x + u, y + v, z + w) / 8.0
    return 0.5 - mean / width


@njit(cache=True, nogil=True)
def _width(inverse, x, y, z):  # type: ignore[no-untyped-def]
    """How much the depth varies over the voxel at a point."""
    p0 = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] * z
    p1 = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] * z
    p2 = inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2] * z
    distance = max(np.sqrt(p0 * p0 + p1 * p1 + p2 * p2), 1e-9)
    total = 0.0
    for axis in range(3):
        total += abs(inverse[0, axis] * p0 + inverse[1, axis] * p1 + inverse[2, axis] * p2) / distance
    return max(total, 1e-9)


@njit(cache=True, nogil=True)
def _fill(inverse, centre, lobes, largest, by_share, noise, seed, out):  # type: ignore[no-untyped-def]
    np.random.seed(seed)
    reach = 0.0
    for axis in range(3):
        reach += 0.5 * np.sqrt(inverse[0, axis] ** 2 + inverse[1, axis] ** 2 + inverse[2, axis] ** 2)
    is_small = reach > 0.2
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                x, y, z = k - centre[0], j - centre[1], i - centre[2]
                p0 = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] * z
                p1 = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] * z
                p2 = inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2] * z
                distance = np.sqrt(p0 * p0 + p1 * p1 + p2 * p2)
                if distance > largest + 1.5 * reach:
                    continue
                if distance < 1.0 - 1.5 * reach:
                    out[k, j, i] = 1
                    continue
                if not by_share and noise == 0.0:
                    out[k, j, i] = _depth(inverse, lobes, x, y, z) <= 0.0
                    continue
                width = _width(inverse, x, y, z)
                if by_share:
                    share = _share(inverse, lobes, x, y, z, width, is_small)
                else:
                    share = 0.5 - _depth(inverse, lobes, x, y, z) / width
                if 0.0 < share < 1.0 and noise > 0.0:
                    share += noise * np.random.randn()
                out[k, j, i] = share >= 0.5


def fill_body(
    inverse: NDArray[np.float64],
    centre: NDArray[np.float64],
    lobes: NDArray[np.float64],
    largest: float,
    shape: tuple[int, int, int],
    *,
    by_share: bool = False,
    noise: float = 0.0,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """The mask (k, j, i) of a body whose radius along a unit vector u is 1 + Σ height · exp(sharpness · (u · lobe - 1)).

    ``inverse`` (3, 3) turns index steps (k, j, i) from ``centre`` into the body's own units; ``lobes`` (n, 5) hold direction,
    height and sharpness; ``largest`` is the largest radius. A voxel belongs to the body where its centre is inside, or with
    ``by_share`` where half of it is; ``noise`` (of the share) flips voxels at the border, the same for the same ``seed``.

    >>> ball = fill_body(np.eye(3) / 2.2, np.full(3, 3.0), np.zeros((0, 5)), 1.0, (7, 7, 7))
    >>> int(ball.sum()), int(ball[3, 3].sum())
    (33, 5)
    """
    out = np.zeros(shape, np.uint8)
    arguments: tuple[Any, ...] = (np.ascontiguousarray(inverse, np.float64), np.asarray(centre, np.float64), np.ascontiguousarray(lobes))
    _fill(*arguments, float(largest), by_share, float(noise), int(seed), out)
    return out
