"""The surface of a mask by marching cubes at 0.5: its volume and area from counts of the 256 cell configurations.

A cell is a cube between the centres of 2 x 2 x 2 voxels; bit n of its configuration is corner (dk, dj, di) = (n >> 2,
n >> 1 & 1, n & 1), set where the voxel is inside. On a mask every vertex of the mesh lies half way between an inside and
an outside voxel, so that all cells of one configuration hold the same piece of it and counting the configurations
(`kernels.configurations`) is enough: a mesh is never built. The tables are made here, from three rules:

* on every face of a cell the crossed edges are joined so that the inside lies on the same side; where the two inside
  corners of a face are diagonal they belong together (what touches by an edge is joined). Neighbouring cells agree on
  their common face, so the surface has no holes.
* the joined edges form loops; a loop is cut into the triangles of the largest total area. This is what the published
  tables do: volume and area equal those of pyradiomics and MIRP wherever no face is ambiguous.
* of equals, the triangles whose volume is the mean are taken, the first found of these. The volume is then the same for a
  mirrored mask; the area of 24 of the configurations (as in the published tables) is not where the spacing is uneven.

Lorensen & Cline 1987, doi:10.1145/37402.37422; the use of the mesh: IBSI reference manual, 3.1 (RNU0, C0JK).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Point = tuple[int, int, int]  # (k, j, i) in half voxels
Triangle = tuple[int, int, int]  # three edges of the cell, by the place in _EDGES

_CORNERS: tuple[Point, ...] = tuple((n >> 2, n >> 1 & 1, n & 1) for n in range(8))
_EDGES = tuple((a, b) for a, b in combinations(range(8), 2) if (a ^ b).bit_count() == 1)
_EDGE_OF = {pair: n for n, edge in enumerate(_EDGES) for pair in (edge, edge[::-1])}
_MIDDLES: tuple[Point, ...] = tuple(tuple(p + q for p, q in zip(_CORNERS[a], _CORNERS[b], strict=True)) for a, b in _EDGES)  # type: ignore[misc]
# Corners of each face in the order of a walk round it, counter-clockwise as seen from outside.
_FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_MOST_TRIANGLES = 5


def _cross(u: Point, v: Point) -> Point:
    return u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]


def _minus(p: Point, q: Point) -> Point:
    return p[0] - q[0], p[1] - q[1], p[2] - q[2]


def _normal(triangle: Triangle) -> Point:
    """Eight times the area vector of a triangle, pointing out of the mask, in voxels (k, j, i)."""
    a, b, c = (_MIDDLES[edge] for edge in triangle)
    return _cross(_minus(c, a), _minus(b, a))


def _loops(configuration: int) -> Iterator[list[int]]:
    """The closed chains of crossed edges."""
    following: dict[int, int] = {}
    for face in _FACES:
        inside = [configuration >> corner & 1 for corner in face]
        crossed = [n for n in range(4) if inside[n] != inside[(n + 1) % 4]]
        for at, n in enumerate(crossed):
            if inside[n]:  # the walk leaves the mask here; the next crossing is where it enters again
                to = crossed[(at + 1) % len(crossed)]
                following[_EDGE_OF[face[n], face[(n + 1) % 4]]] = _EDGE_OF[face[to], face[(to + 1) % 4]]
    while following:
        edge = min(following)
        loop = []
        while edge in following:
            loop.append(edge)
            edge = following.pop(edge)
        yield loop


def _triangulations(loop: list[int]) -> Iterator[list[Triangle]]:
    if len(loop) < 3:
        yield []
        return
    for middle in range(1, len(loop) - 1):
        for left in _triangulations(loop[: middle + 1]):
            for right in _triangulations(loop[middle:]):
                yield [*left, *right, (loop[0], loop[middle], loop[-1])]


def _fan_volume(triangles: list[Triangle]) -> int:
    """48 times the volume between the triangles and the centre of the cell."""
    total = 0
    for triangle in triangles:
        normal, corner = _normal(triangle), _MIDDLES[triangle[0]]
        total += sum(n * (p - 1) for n, p in zip(normal, corner, strict=True))
    return total


def _cut(loop: list[int]) -> list[Triangle]:
    """The triangles of the largest area; of equals, those whose volume is the mean."""
    choices = list(_triangulations(loop))
    areas = [sum(sqrt(sum(n * n for n in _normal(triangle))) for triangle in choice) for choice in choices]
    widest = [choice for choice, area in zip(choices, areas, strict=True) if area > max(areas) - 1e-9]
    return min(widest, key=lambda choice: abs(_fan_volume(choice)))


def _face_areas(configuration: int) -> float:
    """The inside part of the six faces, in squared voxels."""
    total = 0.0
    for face in _FACES:
        inside = [configuration >> corner & 1 for corner in face]
        diagonal = inside in ([1, 0, 1, 0], [0, 1, 0, 1])
        total += 0.75 if diagonal else (0.0, 0.125, 0.5, 0.875, 1.0)[sum(inside)]
    return total


@lru_cache(maxsize=1)
def cell_triangles() -> tuple[tuple[Triangle, ...], ...]:
    """The triangles of each configuration, as edges of the cell, turned so that their normals point outwards."""
    return tuple(tuple(triangle for loop in _loops(n) for triangle in _cut(loop)) for n in range(256))


@lru_cache(maxsize=1)
def cell_volumes() -> NDArray[np.float64]:
    """The part of the cell inside the surface, [256], as a share of a voxel.

    >>> cell_volumes()[[0, 1, 255]].round(4).tolist()
    [0.0, 0.0208, 1.0]
    """
    volumes = np.array([(_face_areas(n) * 8 + _fan_volume(list(cell_triangles()[n]))) / 48 for n in range(256)])
    volumes.setflags(write=False)
    return volumes


@lru_cache(maxsize=1)
def _area_vectors() -> NDArray[np.float64]:
    """The area vector of every triangle, [256, 5, 3] in voxels (k, j, i); zeros fill up."""
    vectors = np.zeros((256, _MOST_TRIANGLES, 3))
    for n, triangles in enumerate(cell_triangles()):
        for t, triangle in enumerate(triangles):
            vectors[n, t] = np.array(_normal(triangle)) / 8
    return vectors


def cell_areas_mm2(affine: ArrayLike) -> NDArray[np.float64]:
    """The area of the surface in a cell of each configuration, [256] in mm2.

    ``affine`` (3, 3) or (4, 4) has the steps in mm along i, j, k as its columns (`Geometry.affine`); it may be oblique,
    left-handed or sheared.
    """
    steps = np.asarray(affine, np.float64)[:3, :3].T[::-1]  # rows: the steps along k, j and i
    # u x v of two vectors given in voxels is a sum of the cross products of the steps
    crossed = np.stack([np.cross(steps[1], steps[2]), np.cross(steps[2], steps[0]), np.cross(steps[0], steps[1])])
    return np.asarray(np.linalg.norm(_area_vectors() @ crossed, axis=2).sum(axis=1))


def mesh_volumes_voxels(counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """The volume inside the mesh of each label, [n] in voxels: times |det| of the affine it is in mm3.

    ``counts`` (n, 256) come from `label_configurations`.

    >>> counts = np.zeros((1, 256), np.int64); counts[0, [1, 2, 4, 8, 16, 32, 64, 128]] = 1  # a single voxel
    >>> mesh_volumes_voxels(counts).round(6).tolist()
    [0.166667]
    """
    return np.asarray(counts @ cell_volumes())


def mesh_areas_mm2(counts: NDArray[np.integer[Any]], affine: ArrayLike) -> NDArray[np.float64]:
    """The area of the mesh of each label, [n] in mm2; ``counts`` and ``affine`` as in the functions above."""
    return np.asarray(counts @ cell_areas_mm2(affine))


@lru_cache(maxsize=1)
def _quarter_faces() -> NDArray[np.int64]:
    """How many of the four edges along k, j and i are crossed, [256, 3]."""
    crossed = np.zeros((256, 3), np.int64)
    for a, b in _EDGES:
        axis = 3 - (a ^ b).bit_length()
        crossed[:, axis] += [n >> a & 1 != n >> b & 1 for n in range(256)]
    return crossed


def face_counts(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The voxel faces of each label across k, j and i that bound it, [n, 3]; both sides are counted.

    >>> counts = np.zeros((1, 256), np.int64); counts[0, [1, 2, 4, 8, 16, 32, 64, 128]] = 1  # a single voxel
    >>> face_counts(counts).tolist()
    [[2, 2, 2]]
    """
    return np.asarray(counts @ _quarter_faces() // 4, np.int64)
