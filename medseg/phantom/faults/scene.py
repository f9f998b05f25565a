"""The lab organ: an ellipsoid of 502.65 ml off the middle, a marker to its left, and planes that slice both exactly.

The organ has 150 HU in -50 HU, so that 50 HU is half-way and interpolation between slices favours neither side. The marker, a
ball of -500 HU round a core of air, lies left, in front of and above the organ: a reader that mirrors an axis puts it
elsewhere. What a converter fills new corners with is air, too, and not mistaken for the marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Point = tuple[float, float, float]
Direction = Sequence[float] | FloatArray

ORGAN_HU, BODY_HU, MARKER_HU, AIR_HU = 150, -50, -500, -1000
ABOVE_HU = 50.0
MARKER_BELOW = (700.0, 400.0)  # the marker lies this far below the threshold of the organ: between these two
NOISE_HU = 12
CORE_SHARE = 0.4  # radius of the core of air, of the marker's
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])

SLICES, STEP_MM, SIZE = 80, 2.5, 128


@dataclass(frozen=True)
class Scene:
    """An ellipsoid and a ball in RAS+ mm."""

    organ_mm: Point = (14.0, 2.0, 3.0)
    semi_axes_mm: Point = (40.0, 50.0, 60.0)
    marker_mm: Point = (-42.0, 30.0, 35.0)
    marker_radius_mm: float = 9.0

    @property
    def volume_ml(self) -> float:
        """Volume of the organ, 4/3·π·abc."""
        a, b, c = self.semi_axes_mm
        return 4 / 3 * pi * a * b * c / 1000

    @property
    def marker_from_organ_mm(self) -> Point:
        """The way from the organ to the marker in RAS+ mm."""
        right, front, up = np.subtract(self.marker_mm, self.organ_mm)
        return float(right), float(front), float(up)

    def moved(self, by_mm: Sequence[float]) -> Scene:
        """Return the scene after the patient moved, in RAS+ mm."""
        return replace(self, organ_mm=_sum(self.organ_mm, by_mm), marker_mm=_sum(self.marker_mm, by_mm))

    def scaled(self, factor: float) -> Scene:
        """Return the scene with another size of the organ, as an organ that fills or empties."""
        a, b, c = self.semi_axes_mm
        return replace(self, semi_axes_mm=(a * factor, b * factor, c * factor))


LAB = Scene()


@dataclass(frozen=True)
class Plane:
    """One slice in DICOM's LPS+ mm: centre of the first pixel, directions of rows and columns, pixel spacing and size.

    `spacing_mm` is (row spacing, column spacing) and `size` (rows, columns), as DICOM orders them.
    """

    position: Point
    row: Point = (1.0, 0.0, 0.0)
    column: Point = (0.0, 1.0, 0.0)
    spacing_mm: tuple[float, float] = (1.0, 1.0)
    size: tuple[int, int] = (SIZE, SIZE)

    @property
    def orientation(self) -> tuple[float, ...]:
        """The six numbers of ImageOrientationPatient."""
        return (*self.row, *self.column)


def stack(
    offsets_mm: Sequence[float] | FloatArray | None = None,
    *,
    row: Direction = (1, 0, 0),
    column: Direction = (0, 1, 0),
    along: Direction | None = None,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    size: tuple[int, int] = (SIZE, SIZE),
) -> list[Plane]:
    """Return planes whose middles lie at `offsets_mm` on a line through the middle of the patient.

    `along` is the direction of that line, by default the normal of the slices: with a gantry tilt it is the table's.
    """
    right, down = np.asarray(row, dtype=np.float64), np.asarray(column, dtype=np.float64)
    way = np.cross(right, down) if along is None else np.asarray(along, dtype=np.float64)
    corner = -right * spacing_mm[1] * (size[1] - 1) / 2 - down * spacing_mm[0] * (size[0] - 1) / 2
    steps = even_offsets() if offsets_mm is None else offsets_mm
    return [Plane(_point(corner + offset * way), _point(right), _point(down), spacing_mm, size) for offset in steps]


def even_offsets(count: int = SLICES, step_mm: float = STEP_MM) -> FloatArray:
    """Return the places of an even stack around 0."""
    return np.asarray((np.arange(count) - (count - 1) / 2) * step_mm, dtype=np.float64)


def image(plane: Plane, scene: Scene = LAB, seed: int = 0) -> npt.NDArray[np.int16]:
    """Image a plane in HU, (rows, columns), by its pixels' centres, with even noise of at most ±12 HU."""
    rows, columns = plane.size
    right = np.asarray(plane.row) * plane.spacing_mm[1]
    down = np.asarray(plane.column) * plane.spacing_mm[0]
    start = np.asarray(plane.position)

    def within(centre_ras: Point, radii: Point, share: float = 1.0) -> npt.NDArray[np.bool_]:
        offset = start - np.asarray(centre_ras) * RAS_TO_LPS
        if abs(float(offset @ np.cross(plane.row, plane.column))) > max(radii):
            return np.zeros(plane.size, bool)
        total = np.zeros(plane.size)
        for axis in range(3):
            line = offset[axis] + right[axis] * np.arange(columns)
            total += ((line[None, :] + (down[axis] * np.arange(rows))[:, None]) / radii[axis]) ** 2
        return np.asarray(total < share**2)

    # another organ, another noise: no two scans share a slice, not even one without organ
    values = np.random.default_rng((seed, round(1000 * scene.semi_axes_mm[0]))).integers(
        -NOISE_HU, NOISE_HU + 1, plane.size, dtype=np.int16
    )
    ball = (scene.marker_radius_mm,) * 3
    values += BODY_HU
    values[within(scene.marker_mm, ball)] += MARKER_HU - BODY_HU
    values[within(scene.marker_mm, ball, CORE_SHARE)] += AIR_HU - MARKER_HU
    values[within(scene.organ_mm, scene.semi_axes_mm)] += ORGAN_HU - BODY_HU
    return values


def rotated(axis: str, degrees: float) -> FloatArray:
    """Return the rotation about an axis of DICOM's space, "x" (left), "y" (posterior) or "z" (superior)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]], "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}
    return np.asarray(turn[axis], dtype=np.float64)


def _point(values: FloatArray) -> Point:
    x, y, z = (round(float(v), 9) + 0.0 for v in values)
    return x, y, z


def _sum(one: Sequence[float], other: Sequence[float]) -> Point:
    x, y, z = (float(a) + float(b) for a, b in zip(one, other, strict=True))
    return x, y, z
