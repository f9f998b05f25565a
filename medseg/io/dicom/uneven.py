"""Stacks with holes or uneven distances on an even grid: every voxel where it was scanned, the rest interpolated.

Interpolation is linear between the two true neighbours and runs along the stack, from pixel to same pixel: a tilted stack keeps
its shear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.io.dicom.gaps import Gaps
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.sort import LPS_TO_RAS, FloatArray, StackGeometry, stack_affine

SNAP_MM = 1e-3  # a grid slice this close to a scanned one is that one
MOST_TIMES_FINER = 4  # an uneven stack gets at most so many times its slices


@dataclass(frozen=True, eq=False)
class Layout:
    """How K slices of an even grid come from n scanned ones, both sorted along the normal.

    Grid slice k lies at `places_mm[k]` and is `1 - weight[k]` of scanned slice `below[k]` and `weight[k]` of the next one.
    `native_k[m]` is the grid slice that is scanned slice m bit for bit, -1 where there is none.
    """

    positions_mm: FloatArray
    places_mm: FloatArray
    below: npt.NDArray[np.intp]
    weight: FloatArray
    native_k: npt.NDArray[np.intp]

    @property
    def is_native(self) -> bool:
        """Whether the grid slices are the scanned ones."""
        return len(self.places_mm) == len(self.positions_mm) and bool((self.native_k == np.arange(len(self.native_k))).all())

    @property
    def interpolated_k(self) -> tuple[int, ...]:
        """Grid slices that were not scanned."""
        return tuple(int(k) for k in np.flatnonzero((self.weight > 0) & (self.weight < 1)))

    @property
    def step_mm(self) -> float:
        """Distance of grid slices along the normal; 0 for a single slice."""
        return float(self.places_mm[-1] - self.places_mm[0]) / (len(self.places_mm) - 1) if len(self.places_mm) > 1 else 0.0


def lay_out(stack: StackGeometry, gaps: Gaps) -> Layout:
    """Return the grid of a stack: its own slices, its slices and the missing ones, or the finest even grid that is called for."""
    positions = stack.positions_mm
    if not gaps.holes and not gaps.is_uneven:
        return _layout(positions, positions, _identity(len(positions)))
    if not gaps.is_uneven:
        times = {hole.index: hole.missing + 1 for hole in gaps.holes}
        parts = [np.linspace(positions[n], positions[n + 1], times.get(n, 1), endpoint=False) for n in range(len(positions) - 1)]
        steps = np.array([times.get(n, 1) for n in range(len(positions) - 1)])
        return _layout(positions, np.concatenate([*parts, positions[-1:]]), np.concatenate([[0], np.cumsum(steps)]))
    reach = float(positions[-1] - positions[0])
    step = max(float(stack.gaps_mm.min()), reach / (MOST_TIMES_FINER * (len(positions) - 1)))
    count = max(2, math.ceil(reach / step - 0.1) + 1)
    places = np.linspace(positions[0], positions[-1], count)
    nearest = np.rint((positions - positions[0]) / (reach / (count - 1))).astype(np.intp)
    return _layout(positions, places, np.where(np.abs(places[nearest] - positions) <= SNAP_MM, nearest, -1))


def _identity(count: int) -> npt.NDArray[np.intp]:
    return np.arange(count)


def _layout(positions: FloatArray, places: FloatArray, native_k: npt.NDArray[np.intp]) -> Layout:
    if len(positions) == 1:
        return Layout(positions, places, np.zeros(1, np.intp), np.zeros(1), native_k)
    below = np.clip(np.searchsorted(positions, places, side="right") - 1, 0, len(positions) - 2)
    weight = np.clip((places - positions[below]) / np.diff(positions)[below], 0, 1)
    for m, k in enumerate(native_k):  # what was scanned is never computed
        if k >= 0:
            below[k], weight[k] = min(m, len(positions) - 2), float(m == len(positions) - 1)
    return Layout(positions, places, below, weight, native_k)


def layout_affine(slices: Sequence[SliceHeader], layout: Layout) -> FloatArray:
    """Return index (i,j,k) → RAS mm of a laid-out stack of sorted slices; k runs along the stack, so tilt is kept as shear."""
    affine = stack_affine(slices)
    if len(slices) > 1:
        affine[:3, 2] *= (len(slices) - 1) / (len(layout.places_mm) - 1)
    return affine


def slice_origins(slices: Sequence[SliceHeader]) -> FloatArray:
    """Return the place of the first pixel of every slice, (n, 3) RAS mm."""
    points = np.asarray([header.position for header in slices], dtype=np.float64)
    return np.asarray(points @ LPS_TO_RAS[:3, :3])


def on_grid(array: npt.NDArray[Any], layout: Layout) -> npt.NDArray[Any]:
    """Bring scanned slices (n,j,i) onto the grid of a layout, (K,j,i) of the same dtype; whole numbers are rounded."""
    if layout.is_native:
        return array
    shape = (len(layout.places_mm), *array.shape[1:])
    try:
        result = np.empty(shape, array.dtype)
    except MemoryError as err:
        raise InputError(f"the volume {shape[::-1]} on even positions needs {math.prod(shape) * array.itemsize / 1e9:.1f} GB") from err
    wide = np.float32 if array.dtype in (np.int8, np.uint8, np.int16, np.uint16, np.float32) else np.float64
    for k, (m, weight) in enumerate(zip(layout.below, layout.weight, strict=True)):
        if weight in (0, 1):
            result[k] = array[m + int(weight)]
            continue
        mixed = array[m] * wide(1 - weight) + array[m + 1] * wide(weight)
        result[k] = np.rint(mixed) if array.dtype.kind in "iu" else mixed
    return result
