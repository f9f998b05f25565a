"""Volumes as the arrays nnU-Net's readers would give, and label arrays back onto the grid of the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, IncompatibleModelError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume

_DIGITS = 10  # of a spacing: norms of columns carry rounding noise that a file's own spacing has not


@dataclass(frozen=True)
class Reading:
    """One scan as a reader gives it: `arrays`, one view (axes 0, 1, 2) per channel, and `spacing_mm` in their order.

    `axes` and `flipped` say how views are made of arrays (i,j,k): reader axis n is array axis `axes[n]`, turned around
    where `flipped[n]`. `keeps_layout`: the reader leaves the voxels in the file's order in memory.
    """

    arrays: tuple[npt.NDArray[Any], ...]
    spacing_mm: tuple[float, float, float]
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    keeps_layout: bool = False

    def view(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return an array (i,j,k) of the scan's grid in the reader's order, without copying it."""
        return _oriented(array, self.axes, self.flipped)


def read_as(reader: str, volumes: Sequence[Volume], *, to_ras: bool = False) -> Reading:
    """Return volumes (one per channel, one grid) as nnU-Net's `reader` gives them.

    SimpleITKIO and NibabelIO keep the axes of the file, reversed: (k,j,i). The readers WithReorient turn them to RAS
    first, as does `to_ras`. The spacing of a NIfTI file is rounded to single precision, as its header holds it, because
    that decides the rounding of shapes. Raises GeometryMismatchError where the grids differ.

    >>> from medseg.core.geometry import Geometry
    >>> grid = Geometry((4, 5, 6), np.diag([-1.0, 1.0, 2.5, 1.0]))
    >>> read_as("NibabelIOWithReorient", [Volume(np.zeros((4, 5, 6)), grid)]).flipped
    (False, False, True)
    """
    first = volumes[0]
    for number, volume in enumerate(volumes[1:], start=1):
        if not volume.geometry.matches(first.geometry):
            raise GeometryMismatchError(
                f"channel {number} is on another grid than channel 0 (corners {first.geometry.distance_mm(volume.geometry):.3g} mm apart): "
                "resample it onto the first scan (medseg convert IN OUT --like SCAN)",
                first.geometry,
                volume.geometry,
            )
    axes, flipped = (2, 1, 0), (False, False, False)
    if to_ras or reader.endswith("WithReorient"):
        world = _nearest_axes(first.geometry) if reader.startswith("Nibabel") else _axes_by_code(first.geometry)
        order = [next(axis for axis, (patient, _) in enumerate(world) if patient == wanted) for wanted in (2, 1, 0)]
        axes = (order[0], order[1], order[2])
        flipped = (world[order[0]][1], world[order[1]][1], world[order[2]][1])
    spacing = _spacing(first)
    return Reading(
        tuple(_oriented(volume.array, axes, flipped) for volume in volumes),
        (spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]),
        axes,
        flipped,
        keeps_layout=reader.startswith("Nibabel"),
    )


def check_channels(name: str, channels: Sequence[str], volumes: Sequence[Volume]) -> None:
    """Raise IncompatibleModelError where a model needs another number of scans than are given."""
    if len(volumes) != len(channels):
        raise IncompatibleModelError(
            f"model {name!r} needs {len(channels)} scan{'s' * (len(channels) > 1)} on one grid, in this order: {', '.join(channels)}; "
            f"{len(volumes)} {'was' if len(volumes) == 1 else 'were'} given"
        )


def _oriented(array: npt.NDArray[Any], axes: tuple[int, int, int], flipped: tuple[bool, bool, bool]) -> npt.NDArray[Any]:
    view = array.transpose(axes)
    return view[tuple(slice(None, None, -1 if turned else 1) for turned in flipped)]


def _spacing(volume: Volume) -> tuple[float, float, float]:
    is_nifti = volume.source is not None and "nifti" in volume.source.format.lower()
    i, j, k = (float(np.float32(mm)) if is_nifti else float(f"{mm:.{_DIGITS}g}") for mm in volume.geometry.spacing_mm)
    return i, j, k


def _axes_by_code(geometry: Geometry) -> list[tuple[int, bool]]:
    """Patient axis (0 R, 1 A, 2 S) of each array axis and whether it runs the other way, as ITK decides it."""
    return [("RLAPSI".index(code) // 2, code in "LPI") for code in geometry.orientation]


def _nearest_axes(geometry: Geometry) -> list[tuple[int, bool]]:
    """The same as nibabel decides it: on the nearest rotation, which differs for sheared and very oblique grids."""
    left, _, right = np.linalg.svd(geometry.direction)
    rotation = left @ right
    found: list[tuple[int, bool]] = [(0, False)] * 3
    for axis in np.argsort(np.min(-(rotation**2), axis=0), kind="stable"):
        patient = int(np.argmax(np.abs(rotation[:, axis])))
        found[axis] = (patient, bool(rotation[patient, axis] < 0))
        rotation[patient, :] = 0
    return found
