"""Slices as a radiologist expects to see them: which voxels, which way up, which letters, true millimetres.

Patient right lies on the left of axial and coronal pictures, anterior on the left of sagittal ones, and the head is up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.core.geometry import Geometry

OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}
WORLD_LETTERS = "RAS"

# name -> world axis of the columns, of the rows, and across the plane; columns and rows both begin at the positive end
PLANES: dict[str, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}


@dataclass(frozen=True)
class Axes:
    """Which grid axis runs along R, A and S most, and whether it runs that way (+1) or against it (-1)."""

    axis: tuple[int, int, int]
    sign: tuple[int, int, int]


def patient_axes(geometry: Geometry) -> Axes:
    """Return the grid axis nearest to R, A and S.

    >>> patient_axes(Geometry((2, 2, 2), np.diag([-1.0, -1.0, 1.0, 1.0]))).sign
    (-1, -1, 1)
    """
    axis, sign = [0, 0, 0], [1, 1, 1]
    for grid_axis, code in enumerate(geometry.orientation):
        world = next(w for w in range(3) if code in (WORLD_LETTERS[w], OPPOSITE[WORLD_LETTERS[w]]))
        axis[world] = grid_axis
        sign[world] = 1 if code == WORLD_LETTERS[world] else -1
    return Axes((axis[0], axis[1], axis[2]), (sign[0], sign[1], sign[2]))


@dataclass(frozen=True)
class Plane:
    """One slice orientation of a grid: how its 2D (rows, columns) array lies in millimetres on the page.

    A row step may lean (`lean_mm`, millimetres to the right for each row down) where the grid is sheared; `row_mm` is the
    vertical part of a row step.
    """

    name: str
    grid_axes: tuple[int, int, int]  # of columns, of rows, across
    flips: tuple[bool, bool]  # of columns, of rows
    shape: tuple[int, int]  # rows, columns
    column_mm: float
    row_mm: float
    lean_mm: float

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """Patient directions at the left, right, top and bottom edge."""
        column, row, _ = PLANES[self.name]
        left, top = WORLD_LETTERS[column], WORLD_LETTERS[row]
        return left, OPPOSITE[left], top, OPPOSITE[top]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the whole slice on the page, voxel borders included."""
        rows, columns = self.shape
        return columns * self.column_mm + rows * abs(self.lean_mm), rows * self.row_mm

    def cut(self, array: npt.NDArray[Any], index: Sequence[int]) -> npt.NDArray[Any]:
        """Return the slice of an (i,j,k) array through `index` as a (rows, columns) view, in reading order."""
        columns, rows, across = self.grid_axes
        picked: list[Any] = [slice(None)] * 3
        picked[across] = int(index[across])
        flat = array[tuple(picked)]
        if columns < rows:
            flat = flat.T
        return flat[:: -1 if self.flips[1] else 1, :: -1 if self.flips[0] else 1]

    def to_page_mm(self, index: Sequence[float]) -> tuple[float, float]:
        """Map an (i,j,k) index to millimetres right of and below the slice's top left corner."""
        rows, columns = self.shape
        column, row = float(index[self.grid_axes[0]]), float(index[self.grid_axes[1]])
        column = columns - 1 - column if self.flips[0] else column
        row = rows - 1 - row if self.flips[1] else row
        x = (column + 0.5) * self.column_mm + (row + 0.5) * self.lean_mm + max(0.0, -self.lean_mm) * rows
        return x, (row + 0.5) * self.row_mm

    def voxels_of_pixels(self, box_mm: tuple[float, float, float, float], pixels_per_mm: float) -> npt.NDArray[np.float32]:
        """Return (2, height, width) fractional rows and columns below the pixels of a box (left, top, right, bottom) in mm."""
        left, top, right, bottom = box_mm
        width, height = max(1, round((right - left) * pixels_per_mm)), max(1, round((bottom - top) * pixels_per_mm))
        x = left + (np.arange(width) + 0.5) / pixels_per_mm
        y = top + (np.arange(height) + 0.5) / pixels_per_mm
        row = y / self.row_mm
        offset = row * self.lean_mm + max(0.0, -self.lean_mm) * self.shape[0]
        column = (x[None, :] - offset[:, None]) / self.column_mm
        return np.stack([np.broadcast_to(row[:, None], column.shape) - 0.5, column - 0.5]).astype(np.float32)


def plane_of(geometry: Geometry, name: str) -> Plane:
    """Return how the slices of a grid nearest to "axial", "coronal" or "sagittal" are shown.

    >>> plane_of(Geometry((4, 5, 6), np.diag([1.0, 2.0, 5.0, 1.0])), "coronal").size_mm
    (4.0, 30.0)
    """
    axes = patient_axes(geometry)
    world = PLANES[name]
    columns, rows, across = (axes.axis[w] for w in world)
    # Both page axes begin at the positive end, so a grid axis that runs the positive way is read backwards.
    flips = axes.sign[world[0]] > 0, axes.sign[world[1]] > 0
    column_step = geometry.affine[:3, columns] * (-1 if flips[0] else 1)
    row_step = geometry.affine[:3, rows] * (-1 if flips[1] else 1)
    column_mm = float(np.linalg.norm(column_step))
    lean_mm = float(row_step @ column_step) / column_mm
    row_mm = math.sqrt(max(float(row_step @ row_step) - lean_mm**2, 1e-12))
    lean_mm = 0.0 if abs(lean_mm) < 1e-6 * row_mm else lean_mm
    return Plane(name, (columns, rows, across), flips, (geometry.shape[rows], geometry.shape[columns]), column_mm, row_mm, lean_mm)


def sample_intensity(flat: npt.NDArray[Any], voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Interpolate a slice linearly at fractional (row, column); NaN outside the slice."""
    values = np.nan_to_num(np.asarray(flat, dtype=np.float32), nan=0.0, posinf=3e38, neginf=-3e38)
    shown = ndimage.map_coordinates(values, voxels, order=1, mode="nearest", output=np.float32)
    shown[~_inside(flat.shape, voxels)] = np.nan
    return np.asarray(shown)


def sample_labels(flat: npt.NDArray[Any], voxels: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int32], list[int]]:
    """Give each pixel the segment (or background) with the largest linearly interpolated share; background outside the slice.

    Returns the pixels as places in a list of segment numbers, and that list; its first entry is 0, background.
    """
    best = ndimage.map_coordinates((flat == 0).astype(np.float32), voxels, order=1, mode="nearest")
    winner = np.zeros(best.shape, dtype=np.int32)
    numbers = [0, *(int(number) for number in np.unique(flat) if number)]
    for place, number in enumerate(numbers[1:], start=1):
        mask = flat == number
        window = _pixels_near(mask, voxels)
        share = ndimage.map_coordinates(mask.astype(np.float32), voxels[(slice(None), *window)], order=1, mode="nearest")
        more = share > best[window]
        best[window][more] = share[more]
        winner[window][more] = place
    winner[~_inside(flat.shape, voxels)] = 0
    return winner, numbers


def _inside(shape: tuple[int, ...], voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    row, column = voxels
    return np.asarray((row >= -0.5) & (row <= shape[0] - 0.5) & (column >= -0.5) & (column <= shape[1] - 0.5))


def _pixels_near(mask: npt.NDArray[np.bool_], voxels: npt.NDArray[np.float32]) -> tuple[slice, slice]:
    """The window of pixels that a mask can reach: rows exactly, columns over all rows (they lean in a sheared grid)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    row = voxels[0][:, 0]
    first, last = voxels[1].min(axis=0), voxels[1].max(axis=0)
    down = np.flatnonzero((row >= rows[0] - 1) & (row <= rows[-1] + 1))
    across = np.flatnonzero((last >= columns[0] - 1) & (first <= columns[-1] + 1))
    if not down.size or not across.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(down[0]), int(down[-1]) + 1), slice(int(across[0]), int(across[-1]) + 1)
