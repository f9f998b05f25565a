"""The surfaces of a label map for a thumbnail, from a coarser copy of a large scan: front view, as the report draws it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.label_map import LabelMap
from medseg.reporting.places import Place, glass_opacity
from medseg.reporting.thumbnail_rays import boxes_of, cast_segment, fill_cells
from medseg.reporting.thumbnail_shading import blend_glass, shade_opaque

Floats = npt.NDArray[np.float64]

_CELLS, _CELLS_OF_MANY, _MANY = 96, 60, 12  # of the longest axis; fewer where there are many segments
_THIN = 3  # cells: what is thinner is entered voxel by voxel, so that nothing falls between the cells
_LEAST_RAYS, _RAYS_A_CELL = 64, 2.0  # small scans have no finer detail
_BORDER = 0.07  # of the picture is free on each side
_STEP_CELLS = 0.6  # surfaces thinner than this along a ray could be stepped over; fields are smoothed wider than that
_SIGMA, _LEAST_SIGMA = 1.5, 0.6  # cells; less for what is only a few cells thick
_VIEW = np.array([(-1.0, 0, 0), (0, 0, 1), (0, -1, 0)])  # right and up on the page, and forward, in RAS: the viewer stands in front
_BACKDROP = np.array([[16, 20, 27], [34, 41, 52]], dtype=np.float32)  # at top and bottom


@dataclass(frozen=True)
class _Cells:
    """Numbers of the places (k,j,i), 0 for all else, where each is, and the steps of k, j and i in RAS mm as columns."""

    array: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.int64]  # (places + 1, 2, 3): first and last cell of each; last is -1 where there is none
    matrix: Floats


@dataclass(frozen=True)
class _Rays:
    """Rays of a picture of `size` pixels a side through cells: see `cast_segment`; `reach` is that of a hollow, in steps."""

    size: int
    matrices: tuple[Floats, Floats, Floats]
    reach: float


def surfaces(label_map: LabelMap, places: Sequence[Place], outer: Collection[int], most_pixels: int) -> npt.NDArray[np.float32] | None:
    """Render at most 255 places from the front: (n, n, 3), 0 to 255, of at most `most_pixels` a side and no more than there is detail.

    Segments numbered in `outer`, and those around a lesion, are drawn as glass. None where no place has a voxel.
    """
    cells = _cells(label_map, places)
    if (cells.boxes[1:, 1, 0] < 0).all():
        return None
    spacing = np.sqrt((cells.matrix**2).sum(axis=0))
    rays = _rays(cells, spacing, most_pixels)
    size = rays.size
    depth, owner = np.full((size, size), np.inf, dtype=np.float32), np.zeros((size, size), dtype=np.uint8)
    normals = np.empty((size, size, 3), dtype=np.float32)
    clearness = glass_opacity(places, outer)
    glass = []
    for n, place in enumerate(places, 1):
        box = cells.boxes[n]
        if box[1, 0] < 0:
            continue
        thinnest = int((box[1] - box[0]).min()) + 1
        sigma = min(_SIGMA, max(_LEAST_SIGMA, thinnest / 8)) * np.maximum(1.0, 0.7 * spacing.max() / spacing)
        if place.segment.number in clearness:
            own = np.full_like(depth, np.inf), np.empty_like(normals), np.zeros_like(owner)
            cast_segment(cells.array, n, box, sigma, rays.matrices, own)
            glass.append((float(own[0].min()), place, own))
        else:
            cast_segment(cells.array, n, box, sigma, rays.matrices, (depth, normals, owner))
    colours = np.array([(0, 0, 0), *(place.segment.rgb for place in places)], dtype=np.float32)
    picture = shade_opaque(depth, normals, owner, colours, _BACKDROP, 0.016 * size, rays.reach)
    for _, place, own in sorted(glass, key=lambda layer: -layer[0]):  # the farthest first
        rgb = np.array(place.segment.rgb, dtype=np.float32)
        blend_glass(picture, depth, own[0], own[1], rgb, clearness[place.segment.number])
    return np.asarray(picture)


def _rays(cells: _Cells, spacing: Floats, most_pixels: int) -> _Rays:
    """Parallel rays that see all places with a border around them, no more than twice as many as cells."""
    there = cells.boxes[1:][cells.boxes[1:, 1, 0] >= 0].astype(np.float64)
    low, high = there[:, 0] - 0.5, there[:, 1] + 0.5
    across = _VIEW @ cells.matrix  # a step of a cell along right, up and forward
    ends = np.stack([across * low[:, None], across * high[:, None]])
    least, most = ends.min(axis=0).sum(axis=-1).min(axis=0), ends.max(axis=0).sum(axis=-1).max(axis=0)
    extent_mm = ((high.max(axis=0) - low.min(axis=0)) * spacing).max()
    size = int(min(most_pixels, max(_LEAST_RAYS, _RAYS_A_CELL * extent_mm / spacing.min())))
    pixel_mm = max(float((most - least)[:2].max()) / (size - 2 * round(_BORDER * size)), 1e-3)
    matrix = np.linalg.inv(across)
    # The plane of the picture lies before everything
    corner = (least + most) / 2 + np.array([0.5 - size / 2, size / 2 - 0.5, 0.0]) * pixel_mm
    corner[2] = least[2] - 10.0
    step = matrix[:, 2] / np.abs(matrix[:, 2]).max() * _STEP_CELLS
    steps = np.stack([matrix @ corner, -matrix[:, 1] * pixel_mm, matrix[:, 0] * pixel_mm, step])
    step_mm = float(across[2] @ step)
    turn = np.array([[1.0], [1.0], [-1.0]]) * matrix.T
    inverse = np.stack([-across[1] / pixel_mm, across[0] / pixel_mm, across[2] / step_mm])
    return _Rays(size, (steps, inverse, turn), 0.09 * size * pixel_mm / step_mm)


def _cells(label_map: LabelMap, places: Sequence[Place]) -> _Cells:
    """Every n-th voxel of the box around all places, and every voxel of what is too thin for that or lies between them."""
    # 64 bits: what numpy 1 on Windows makes of whole numbers has 32, which `fill_cells` does not take
    first = np.array([place.first for place in places], dtype=np.int64).min(axis=0)
    last = np.array([place.last for place in places], dtype=np.int64).max(axis=0)
    affine = label_map.geometry.affine
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    cell_mm = float(((last - first + 1) * spacing).max()) / (_CELLS if len(places) <= _MANY else _CELLS_OF_MANY)
    factors = np.maximum(1, np.rint(cell_mm / spacing).astype(np.int64))
    start = np.minimum(first + factors // 2, last)
    steps = tuple(slice(int(begin), int(end) + 1, int(step)) for begin, end, step in zip(start, last, factors, strict=True))
    array = _places_of(label_map.array[steps].T, places)
    matrix = (affine[:3, :3] * factors)[:, ::-1]
    if (factors == 1).all():
        return _Cells(array, boxes_of(array, len(places)), matrix)
    largest_first = sorted(enumerate(places, 1), key=lambda item: -item[1].voxels)
    thin = [item for item in largest_first if (np.subtract(item[1].last, item[1].first) + 1 < _THIN * factors).any()]
    _enter(label_map, thin, first, factors, array)
    boxes = boxes_of(array, len(places))
    if (boxes[1:, 1, 0] < 0).any():  # such as a thin structure that runs aslant; once more in turn, so that small ones stay
        _enter(label_map, [item for item in largest_first if item in thin or boxes[item[0], 1, 0] < 0], first, factors, array)
        boxes = boxes_of(array, len(places))
    return _Cells(array, boxes, matrix)


def _enter(
    label_map: LabelMap,
    numbered: Sequence[tuple[int, Place]],
    start: npt.NDArray[np.int64],
    factors: npt.NDArray[np.int64],
    cells: npt.NDArray[np.uint8],
) -> None:
    """Enter places voxel by voxel; of two in one cell the later stays."""
    for n, place in numbered:
        box = tuple(slice(low, high + 1) for low, high in zip(place.first, place.last, strict=True))
        mask = np.ascontiguousarray((label_map.array[box] == place.segment.number).T).view(np.uint8)
        fill_cells(mask, (np.array(place.first, dtype=np.int64) - start)[::-1].copy(), factors[::-1].copy(), n, cells)


def _places_of(labels: npt.NDArray[Any], places: Sequence[Place]) -> npt.NDArray[np.uint8]:
    """The number of the place, from 1, of each label; 0 of all others."""
    numbers = np.array([place.segment.number for place in places])
    if labels.dtype.itemsize <= 2:
        place_of = np.zeros(1 << 8 * labels.dtype.itemsize, dtype=np.uint8)
        place_of[numbers] = np.arange(1, len(numbers) + 1)
        return np.ascontiguousarray(place_of[labels.view(np.uint8) if labels.dtype == bool else labels])
    order = np.argsort(numbers)
    at = np.minimum(np.searchsorted(numbers[order], labels), len(numbers) - 1)
    return np.ascontiguousarray(np.where(numbers[order][at] == labels, order[at] + 1, 0).astype(np.uint8))
