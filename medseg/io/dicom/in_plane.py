"""Slices of different pixel spacing on one grid in their plane, as `--resample-mixed` asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.sort import FloatArray, normal_of

MOST_PIXELS = 1 << 14  # rows or columns of a common grid; more means that the slices lie nowhere near one another


@dataclass(frozen=True)
class PlaneGrid:
    """A grid of pixels in the planes of a stack: spacing and first pixel centre along rows (i) and columns (j), LPS mm."""

    columns: int
    rows: int
    spacing_mm: tuple[float, float]
    first_mm: tuple[float, float]


def has_mixed_spacing(slices: Sequence[SliceHeader], share: float) -> bool:
    """Whether pixel spacings differ by more than a share."""
    spacings = np.asarray([header.pixel_spacing for header in slices])
    return bool(((spacings.max(axis=0) - spacings.min(axis=0)) > share * spacings.min(axis=0)).any())


def common_grid(slices: Sequence[SliceHeader]) -> PlaneGrid:
    """Return the grid of the finest slice, grown in whole pixels until it holds every slice."""
    finest = min(slices, key=lambda header: math.prod(header.pixel_spacing or (math.inf,)))
    result = []
    for axis in (0, 1):
        step, anchor = _step(finest, axis), _first(finest, axis)
        edges = [
            (first - 0.5 * own, first + (_count(one, axis) - 0.5) * own)
            for one in slices
            for own, first in [(_step(one, axis), _first(one, axis))]
        ]
        before = math.ceil((anchor - 0.5 * step - min(low for low, _ in edges)) / step - 1e-3)
        count = before + math.ceil((max(high for _, high in edges) - (anchor - 0.5 * step)) / step - 1e-3)
        if count > MOST_PIXELS:
            raise InputError(f"slices of different pixel spacing lie too far apart for one grid ({count} pixels)")
        result.append((count, step, anchor - before * step))
    (columns, i_step, i_first), (rows, j_step, j_first) = result
    return PlaneGrid(columns, rows, (i_step, j_step), (i_first, j_first))


def on_plane_grid(slices: Sequence[SliceHeader], grid: PlaneGrid) -> list[SliceHeader]:
    """Return headers of the slices as they lie on a common grid: position, size and pixel spacing are the grid's."""
    result = []
    for header in slices:
        axes = _axes(header)
        height = float(np.asarray(header.position) @ axes[2])
        position = np.linalg.solve(axes, (*grid.first_mm, height))
        result.append(
            replace(
                header,
                position=tuple(float(x) for x in position),
                pixel_spacing=(grid.spacing_mm[1], grid.spacing_mm[0]),
                rows=grid.rows,
                columns=grid.columns,
            )
        )
    return result


def resample_in_plane(array: npt.NDArray[Any], slices: Sequence[SliceHeader], grid: PlaneGrid) -> npt.NDArray[Any]:
    """Bring slices (n,j,i) onto a common grid by bilinear interpolation, same dtype; what no slice covers gets the lowest value."""
    result = np.full((len(slices), grid.rows, grid.columns), array.min(), array.dtype)
    for k, header in enumerate(slices):
        (i_below, i_weight, i_inside), (j_below, j_weight, j_inside) = (_taps(header, grid, axis) for axis in (0, 1))
        wide = array[k].astype(np.float64)
        along = wide[:, i_below] * (1 - i_weight) + wide[:, i_below + (i_weight > 0)] * i_weight
        both = along[j_below] * (1 - j_weight[:, None]) + along[j_below + (j_weight > 0)] * j_weight[:, None]
        values = np.rint(both) if array.dtype.kind in "iu" else both
        result[k][np.ix_(j_inside, i_inside)] = values[np.ix_(j_inside, i_inside)]
    return result


def _taps(header: SliceHeader, grid: PlaneGrid, axis: int) -> tuple[npt.NDArray[np.intp], FloatArray, npt.NDArray[np.bool_]]:
    """The pixel below each grid pixel, the weight of the next one, and which grid pixels the slice covers."""
    count = _count(header, axis)
    size = (grid.columns, grid.rows)[axis]
    places = (grid.first_mm[axis] + np.arange(size) * grid.spacing_mm[axis] - _first(header, axis)) / _step(header, axis)
    inside = (places >= -0.5 - 1e-6) & (places <= count - 0.5 + 1e-6)
    clipped = np.clip(places, 0, count - 1)
    below = np.minimum(np.floor(clipped + 1e-6).astype(np.intp), count - 1)
    weight = np.clip(clipped - below, 0, 1)
    weight[(weight < 1e-6) | (below == count - 1)] = 0
    return below, weight, inside


def _axes(header: SliceHeader) -> FloatArray:
    """Unit row direction, column direction and normal as rows, LPS."""
    row, column = np.asarray(header.orientation).reshape(2, 3)
    return np.stack([row / np.linalg.norm(row), column / np.linalg.norm(column), normal_of(header.orientation or ())])


def _first(header: SliceHeader, axis: int) -> float:
    return float(np.asarray(header.position) @ _axes(header)[axis])


def _step(header: SliceHeader, axis: int) -> float:
    return (header.pixel_spacing or (math.nan, math.nan))[1 - axis]  # PixelSpacing is (row spacing, column spacing)


def _count(header: SliceHeader, axis: int) -> int:
    return (header.columns, header.rows)[axis]
