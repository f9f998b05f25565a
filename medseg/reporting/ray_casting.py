"""Parallel rays against smoothed masks: the depth and the normal at which each pixel first meets a surface.

Written for the processor alone: no graphics driver, no display and no OpenGL library is needed, and the picture is the
same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from medseg.kernels.slabs import in_slabs

_STEP_VOXELS = 0.6  # surfaces thinner than this along a ray could be stepped over; fields are smoothed wider than that
_REFINEMENTS = 5

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Parallel projection: pixel (row, column) looks along `forward` from `centre_mm` + offsets along `right` and `up`.

    Unit vectors in RAS; `pixel_mm` is the size of a pixel; `height` and `width` are in pixels.
    """

    centre_mm: FloatArray
    right: FloatArray
    up: FloatArray
    forward: FloatArray
    pixel_mm: float
    height: int
    width: int


@dataclass(frozen=True)
class Hits:
    """Where rays meet a surface, for a window of the picture: depth in mm (infinite where they miss) and unit normals.

    `normals` are (height, width, 3) along the camera's right, up and towards the viewer.
    """

    top: int
    left: int
    depth_mm: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]


@njit(cache=True, nogil=True, inline="always")
def _value(field, x, y, z):  # type: ignore[no-untyped-def]
    """Trilinear value at a fractional index, 0 outside."""
    a, b, c = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    if a < 0 or b < 0 or c < 0 or a >= field.shape[0] - 1 or b >= field.shape[1] - 1 or c >= field.shape[2] - 1:
        return 0.0
    u, v, w = x - a, y - b, z - c
    low = (field[a, b, c] * (1 - w) + field[a, b, c + 1] * w) * (1 - v) + (field[a, b + 1, c] * (1 - w) + field[a, b + 1, c + 1] * w) * v
    a += 1
    high = (field[a, b, c] * (1 - w) + field[a, b, c + 1] * w) * (1 - v) + (field[a, b + 1, c] * (1 - w) + field[a, b + 1, c + 1] * w) * v
    return low * (1 - u) + high * u


@njit(cache=True, nogil=True)
def _span(start, step, shape):  # type: ignore[no-untyped-def]
    """The part of a ray inside the box of the field."""
    near, far = -1e30, 1e30
    for n in range(3):
        last = shape[n] - 1.0
        if abs(step[n]) < 1e-12:
            if start[n] < 0 or start[n] > last:
                return 1.0, 0.0
            continue
        one, two = -start[n] / step[n], (last - start[n]) / step[n]
        near, far = max(near, min(one, two)), min(far, max(one, two))
    return near, far


@njit(cache=True, nogil=True)
def _cast_rows(field, level, rays, depth, gradients, first, stop):  # type: ignore[no-untyped-def]
    origin, down, across, step = rays[0], rays[1], rays[2], rays[3]
    start = np.empty(3)
    for row in range(first, stop):
        for column in range(depth.shape[1]):
            for n in range(3):
                start[n] = origin[n] + row * down[n] + column * across[n]
            near, far = _span(start, step, field.shape)
            t = near
            while t <= far:
                if _value(field, start[0] + t * step[0], start[1] + t * step[1], start[2] + t * step[2]) >= level:
                    outside, inside = t - 1.0, t
                    for _ in range(_REFINEMENTS):
                        middle = 0.5 * (outside + inside)
                        if _value(field, start[0] + middle * step[0], start[1] + middle * step[1], start[2] + middle * step[2]) >= level:
                            inside = middle
                        else:
                            outside = middle
                    x, y, z = start[0] + inside * step[0], start[1] + inside * step[1], start[2] + inside * step[2]
                    gradients[row, column, 0] = _value(field, x + 1, y, z) - _value(field, x - 1, y, z)
                    gradients[row, column, 1] = _value(field, x, y + 1, z) - _value(field, x, y - 1, z)
                    gradients[row, column, 2] = _value(field, x, y, z + 1) - _value(field, x, y, z - 1)
                    depth[row, column] = inside
                    break
                t += 1.0


def cast_rays(field: npt.NDArray[np.float32], level: float, affine: FloatArray, camera: Camera) -> Hits:
    """Find the first surface `field` = `level` along each ray.

    `field` is float32 with axes (i,j,k), any memory order, at least 2 voxels an axis; `affine` maps its index to RAS mm and
    may be sheared or left-handed. Normals follow the gradient through the inverse transpose of the affine.
    """
    matrix = np.linalg.inv(affine[:3, :3])
    top, bottom, left, right = _window(field.shape, affine, camera)
    height, width = max(0, bottom - top), max(0, right - left)
    depth = np.full((height, width), np.inf, dtype=np.float32)
    gradients = np.zeros((height, width, 3), dtype=np.float32)
    step = matrix @ camera.forward
    step_mm = _STEP_VOXELS / float(np.abs(step).max())
    corner_mm = (
        camera.centre_mm
        + camera.right * (left + 0.5 - camera.width / 2) * camera.pixel_mm
        - camera.up * (top + 0.5 - camera.height / 2) * camera.pixel_mm
    )
    origin = matrix @ (corner_mm - affine[:3, 3])
    down, across = matrix @ (-camera.up * camera.pixel_mm), matrix @ (camera.right * camera.pixel_mm)
    if height and width:
        packed = np.ascontiguousarray(field)
        rays = np.stack([origin, down, across, step * step_mm])
        in_slabs(lambda start, stop: _cast_rows(packed, level, rays, depth, gradients, start, stop), height)
    axes = np.stack([camera.right, camera.up, -camera.forward])
    normals = -(gradients.reshape(-1, 3) @ (axes @ matrix.T).T.astype(np.float32)).reshape(gradients.shape)
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
    return Hits(top, left, depth * np.float32(step_mm), normals)


def _window(shape: tuple[Any, ...], affine: FloatArray, camera: Camera) -> tuple[int, int, int, int]:
    """The rows and columns that the box of a field can cover."""
    corners = np.array([[(n >> axis & 1) * (shape[axis] - 1) for axis in range(3)] for n in range(8)], dtype=np.float64)
    offsets = (corners @ affine[:3, :3].T + affine[:3, 3] - camera.centre_mm) / camera.pixel_mm
    columns = offsets @ camera.right + camera.width / 2
    rows = camera.height / 2 - offsets @ camera.up
    top, left = max(0, int(np.floor(rows.min()))), max(0, int(np.floor(columns.min())))
    return top, min(camera.height, int(np.ceil(rows.max())) + 1), left, min(camera.width, int(np.ceil(columns.max())) + 1)
