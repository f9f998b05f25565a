"""The best closed surface around a point: one radius a ray, by tree-reweighted message passing on a sphere of rays."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

LABELS_APART = 4  # neighbouring rays differ by at most this many radii: a surface without tears
_MAP = 48  # nodes along an edge of the octahedral map of directions, less one
_SAME = np.float32(0.5)  # weight of a neighbouring ray when rays are smoothed


class Sphere(NamedTuple):
    """Rays spread evenly over all directions, and which of them are neighbours.

    `directions` (V, 3) unit vectors, `neighbours` (V, 6) with -1 where there are only five, `back` the place of a ray in the
    list of its neighbour. `near` (N, 3) and `share` (N, 3): the rays nearest to each node of an octahedral map of directions
    and their weights, so that values of rays can be looked up for any direction.
    """

    directions: NDArray[np.float64]
    neighbours: NDArray[np.int32]
    back: NDArray[np.int32]
    near: NDArray[np.int32]
    share: NDArray[np.float32]


@lru_cache(maxsize=4)
def sphere(subdivisions: int) -> Sphere:
    """An icosahedron whose faces are cut in four `subdivisions` times: 12, 42, 162, 642 rays.

    >>> len(sphere(2).directions)
    162
    """
    points, faces = _icosahedron()
    for _ in range(subdivisions):
        points, faces = _subdivided(points, faces)
    around: list[set[int]] = [set() for _ in points]
    for a, b, c in faces:
        around[a] |= {b, c}
        around[b] |= {a, c}
        around[c] |= {a, b}
    lists = [sorted(others) for others in around]
    neighbours = np.full((len(points), 6), -1, np.int32)
    back = np.zeros((len(points), 6), np.int32)
    for ray, others in enumerate(lists):
        for place, other in enumerate(others):
            neighbours[ray, place] = other
            back[ray, place] = lists[other].index(ray)
    directions = np.array(points)
    near, share = _nearest_rays(directions)
    return Sphere(directions, neighbours, back, near, share)


def _icosahedron() -> tuple[list[NDArray[np.float64]], list[tuple[int, int, int]]]:
    t = (1 + 5**0.5) / 2
    corners: list[tuple[float, float, float]] = [(-1, t, 0), (1, t, 0), (-1, -t, 0), (1, -t, 0), (0, -1, t), (0, 1, t)]
    corners += [(0, -1, -t), (0, 1, -t), (t, 0, -1), (t, 0, 1), (-t, 0, -1), (-t, 0, 1)]
    points = [np.array(corner) / np.sqrt(1 + t * t) for corner in corners]
    rings = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6), (7, 1, 8)]
    rings += [(3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)]
    return points, rings


def _subdivided(
    points: list[NDArray[np.float64]], faces: list[tuple[int, int, int]]
) -> tuple[list[NDArray[np.float64]], list[tuple[int, int, int]]]:
    points, middles, finer = list(points), {}, []

    def middle(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in middles:
            total = points[a] + points[b]
            points.append(total / np.linalg.norm(total))
            middles[key] = len(points) - 1
        return middles[key]

    for a, b, c in faces:
        ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
        finer += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return points, finer


def _nearest_rays(directions: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """For each node of the octahedral map: three nearest rays and weights that fall with the angle."""
    steps = np.linspace(-1, 1, _MAP + 1)
    u, v = np.meshgrid(steps, steps, indexing="ij")
    w = 1 - np.abs(u) - np.abs(v)
    folded_u = np.where(w < 0, (1 - np.abs(v)) * np.where(u >= 0, 1, -1), u)
    folded_v = np.where(w < 0, (1 - np.abs(u)) * np.where(v >= 0, 1, -1), v)
    nodes = np.stack([folded_u, folded_v, w], axis=-1).reshape(-1, 3)
    nodes /= np.linalg.norm(nodes, axis=1)[:, None]
    cosines = nodes @ directions.T
    near = np.argpartition(-cosines, 3, axis=1)[:, :3]
    angles = np.sqrt(np.maximum(2 - 2 * np.take_along_axis(cosines, near, axis=1), 0))
    share = 1 / np.maximum(angles, 1e-6)
    return near.astype(np.int32), np.asarray(share / share.sum(axis=1, keepdims=True), np.float32)


@njit(cache=True, nogil=True)
def _value(image, k, j, i):  # type: ignore[no-untyped-def]
    """Linear interpolation; outside the image the border counts."""
    k, j, i = min(max(k, 0.0), image.shape[0] - 1.0), min(max(j, 0.0), image.shape[1] - 1.0), min(max(i, 0.0), image.shape[2] - 1.0)
    k0, j0, i0 = int(k), int(j), int(i)
    k1, j1, i1 = min(k0 + 1, image.shape[0] - 1), min(j0 + 1, image.shape[1] - 1), min(i0 + 1, image.shape[2] - 1)
    a, b, c = np.float32(k - k0), np.float32(j - j0), np.float32(i - i0)
    low = (image[k0, j0, i0] * (1 - c) + image[k0, j0, i1] * c) * (1 - b) + (image[k0, j1, i0] * (1 - c) + image[k0, j1, i1] * c) * b
    top = (image[k1, j0, i0] * (1 - c) + image[k1, j0, i1] * c) * (1 - b) + (image[k1, j1, i0] * (1 - c) + image[k1, j1, i1] * c) * b
    return low * (1 - a) + top * a


@njit(cache=True, nogil=True)
def _sample(image, centre, steps, radii, out, first, last):  # type: ignore[no-untyped-def]
    for ray in range(steps.shape[0]):
        for m in range(first, last):
            r = radii[ray, m]
            out[ray, m] = _value(image, centre[0] + r * steps[ray, 0], centre[1] + r * steps[ray, 1], centre[2] + r * steps[ray, 2])


def sample_rays(
    image: NDArray[np.float32],
    centre: NDArray[np.float64],
    steps: NDArray[np.float64],
    radii: NDArray[np.float64],
    out: NDArray[np.float32],
    first: int,
) -> None:
    """Fill ``out`` (V, M) from column ``first`` with the image (k, j, i) at ``centre`` + radius * step.

    ``centre`` and ``steps`` (V, 3) are in voxels (k, j, i), a step for each mm; ``radii`` (V, M) in mm. Linear
    interpolation; outside the image its border counts.
    """
    _sample(image, centre, steps, radii, out, first, out.shape[1])


@njit(cache=True, nogil=True)
def smooth_over_rays(values, neighbours):  # type: ignore[no-untyped-def]
    """The mean of each ray (weight 1) and its neighbours (weight 1/2), (V, M)."""
    out = np.empty_like(values)
    for ray in range(values.shape[0]):
        weight = np.float32(1.0)
        for m in range(values.shape[1]):
            out[ray, m] = values[ray, m]
        for place in range(6):
            other = neighbours[ray, place]
            if other >= 0:
                weight += _SAME
                for m in range(values.shape[1]):
                    out[ray, m] += _SAME * values[other, m]
        for m in range(values.shape[1]):
            out[ray, m] /= weight
    return out


@njit(cache=True, nogil=True)
def _message(here, stiffness, out):  # type: ignore[no-untyped-def]
    """Least cost for each radius of a neighbour: the cost here plus stiffness * (labels apart) squared."""
    count = here.size
    for m in range(count):
        out[m] = here[m]
    for apart in range(1, LABELS_APART + 1):
        extra = np.float32(stiffness * apart * apart)
        for m in range(count - apart):
            out[m] = min(out[m], here[m + apart] + extra)
        for m in range(apart, count):
            out[m] = min(out[m], here[m - apart] + extra)
    least = out[0]
    for m in range(1, count):
        least = min(least, out[m])
    for m in range(count):
        out[m] -= least


@njit(cache=True, nogil=True)
def _sweep(cost, messages, neighbours, back, stiffness, forward):  # type: ignore[no-untyped-def]
    rays, count = cost.shape
    total, here = np.empty(count, np.float32), np.empty(count, np.float32)
    for step in range(rays):
        ray = step if forward else rays - 1 - step
        for m in range(count):
            total[m] = cost[ray, m]
        before = after = 0
        for place in range(6):
            other = neighbours[ray, place]
            if other < 0:
                continue
            before += other < ray
            after += other > ray
            for m in range(count):
                total[m] += messages[ray, place, m]
        share = np.float32(1.0 / max(before, after))
        for place in range(6):
            other = neighbours[ray, place]
            if other < 0 or (other > ray) != forward:
                continue
            for m in range(count):
                here[m] = share * total[m] - messages[ray, place, m]
            _message(here, stiffness, messages[other, back[ray, place]])


@njit(cache=True, nogil=True)
def _read_out(cost, messages, neighbours, stiffness, labels):  # type: ignore[no-untyped-def]
    rays, count = cost.shape
    total = np.empty(count, np.float32)
    for ray in range(rays):
        for m in range(count):
            total[m] = cost[ray, m]
        for place in range(6):
            other = neighbours[ray, place]
            if other < 0:
                continue
            if other > ray:
                for m in range(count):
                    total[m] += messages[ray, place, m]
            else:
                for m in range(count):
                    apart = abs(m - labels[other])
                    total[m] += np.float32(stiffness * apart * apart + (1e3 * (apart - LABELS_APART) if apart > LABELS_APART else 0.0))
        best = 0
        for m in range(1, count):
            if total[m] < total[best]:
                best = m
        labels[ray] = best


@njit(cache=True, nogil=True)
def best_surface(cost, neighbours, back, stiffness, sweeps):  # type: ignore[no-untyped-def]
    """The radius number of each ray that makes sum of cost + stiffness * (difference of neighbours) ** 2 (nearly) least.

    ``cost`` (V, M) float32; TRW-S (doi:10.1109/TPAMI.2006.200) with ``sweeps`` passes there and back. Memory: 6 floats a
    radius and ray for the messages.
    """
    messages = np.zeros((cost.shape[0], 6, cost.shape[1]), np.float32)
    labels = np.zeros(cost.shape[0], np.int64)
    for _ in range(sweeps):
        _sweep(cost, messages, neighbours, back, stiffness, True)
        _sweep(cost, messages, neighbours, back, stiffness, False)
    _read_out(cost, messages, neighbours, stiffness, labels)
    return labels


@njit(cache=True, nogil=True)
def _look_up(near, share, rays, x, y, z, out):  # type: ignore[no-untyped-def]
    """The values of the rays (V, N) in the direction (x, y, z), which need not have length 1."""
    total = abs(x) + abs(y) + abs(z)
    u, v = x / total, y / total
    if z < 0:
        u, v = (1 - abs(v)) * (1.0 if u >= 0 else -1.0), (1 - abs(u)) * (1.0 if v >= 0 else -1.0)
    a, b = (u + 1) * 0.5 * _MAP, (v + 1) * 0.5 * _MAP
    a0, b0 = min(int(a), _MAP - 1), min(int(b), _MAP - 1)
    out[:] = 0.0
    for da in range(2):
        for db in range(2):
            weight = (a - a0 if da else 1 - a + a0) * (b - b0 if db else 1 - b + b0)
            node = (a0 + da) * (_MAP + 1) + b0 + db
            for n in range(3):
                for value in range(out.size):
                    out[value] += weight * share[node, n] * rays[near[node, n], value]


@njit(cache=True, nogil=True)
def _fill(image, to_mm, centre, near, share, rays, pull, band, out):  # type: ignore[no-untyped-def]
    values = np.empty(rays.shape[1])
    largest = rays[:, 0].max() * (1 + band)
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                p, q, s = k - centre[0], j - centre[1], i - centre[2]
                x = to_mm[0, 0] * p + to_mm[0, 1] * q + to_mm[0, 2] * s
                y = to_mm[1, 0] * p + to_mm[1, 1] * q + to_mm[1, 2] * s
                z = to_mm[2, 0] * p + to_mm[2, 1] * q + to_mm[2, 2] * s
                distance = np.sqrt(x * x + y * y + z * z)
                if distance > largest:
                    continue
                if distance < 1e-6:
                    out[k, j, i] = 1
                    continue
                _look_up(near, share, rays, x, y, z, values)
                depth = 1 - distance / values[0]
                if abs(depth) > band:
                    out[k, j, i] = depth > 0
                    continue
                there = 0.5
                if values[1] != values[2]:
                    there = min(max((image[k, j, i] - values[1]) / (values[2] - values[1]), 0.0), 1.0)
                out[k, j, i] = values[3] * (0.5 - there) + pull * depth > 0


def fill_star(
    image: NDArray[Any],
    to_mm: NDArray[np.float64],
    centre: NDArray[np.float64],
    ball: Sphere,
    rays: NDArray[np.float64],
    pull: float,
    band: float,
) -> NDArray[np.uint8]:
    """The mask (k, j, i) of a surface given by rays, moved to the image's own edge within a band around it.

    ``to_mm`` (3, 3) turns index steps (k, j, i) into mm along the directions of ``ball``; ``centre`` is in voxels. ``rays``
    (V, 4): radius in mm, the intensity inside, the intensity outside, and trust (0 to 1) in these. Within ``band`` (a share of
    the radius) a voxel is inside where trust * (0.5 - how far its intensity has gone from inside to outside) + ``pull`` *
    (1 - distance / radius) is positive.

    >>> flat = np.tile([9.5, 0.0, 0.0, 0.0], (12, 1))
    >>> ball = fill_star(np.zeros((3, 3, 25), np.float32), np.eye(3), np.array([1.0, 1.0, 12.0]), sphere(0), flat, 1.0, 0.3)
    >>> int(ball[1, 1].sum())
    19
    """
    out = np.zeros(image.shape, np.uint8)
    _fill(image, to_mm, centre, ball.near, ball.share, np.ascontiguousarray(rays, np.float64), float(pull), float(band), out)
    return out
