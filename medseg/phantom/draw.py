"""Random numbers within limits, and solids placed and scaled by the size of one body."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medseg.phantom.solids import FloatArray, Solid

# local axes (x, y, z) of a solid that lies along the patient's right: front, head, right
ALONG_R = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])

Triple = tuple[float, float, float]


class Draw:
    """One body: its random numbers and its size, by which every length is scaled."""

    def __init__(self, seed: int, attempt: int) -> None:
        self._random = np.random.default_rng((seed, attempt))
        self.size = self.between(0.93, 1.03)

    def between(self, low: float, high: float) -> float:
        """Draw a number evenly between two limits."""
        return float(self._random.uniform(low, high))

    def about(self, value: float, spread: float) -> float:
        """Draw a number evenly within `spread` of a value."""
        return self.between(value - spread, value + spread)

    def direction(self) -> FloatArray:
        """Draw a unit vector, evenly over the sphere."""
        vector = self._random.normal(size=3)
        return np.asarray(vector / np.linalg.norm(vector))

    def solid(
        self, centre: tuple[float, float, float], axes: tuple[float, float, float], turn: FloatArray | None = None, **form: Any
    ) -> Solid:
        """Return a solid of this body: `centre`, `axes`, shears and every other length are scaled by its size."""
        f = self.size
        lengths = {name: value * f for name, value in form.items() if name.endswith("_mm")}
        shears = tuple(replace(shear, size_mm=shear.size_mm * f) for shear in form.get("shears", ()))
        return Solid(
            (centre[0] * f, centre[1] * f, centre[2] * f),
            (axes[0] * f, axes[1] * f, axes[2] * f),
            rows(np.eye(3) if turn is None else turn),
            **{**form, **lengths, "shears": shears},
        )


def rows(matrix: FloatArray) -> tuple[Triple, ...]:
    """Return a 3×3 matrix as nested tuples, as a `Solid` holds it."""
    return tuple((float(row[0]), float(row[1]), float(row[2])) for row in matrix)


def resized(solid: Solid, factor: float) -> Solid:
    """Return a solid of the same form about the same centre, `factor` times as large."""
    a, b, c = solid.semi_axes_mm
    shears = tuple(replace(shear, size_mm=shear.size_mm * factor) for shear in solid.shears)
    return replace(solid, semi_axes_mm=(a * factor, b * factor, c * factor), shears=shears)


def widened(solid: Solid, by_mm: float) -> Solid:
    """Return a solid whose semi-axes are longer by `by_mm` (shorter where negative)."""
    a, b, c = solid.semi_axes_mm
    shears = tuple(replace(shear, size_mm=shear.size_mm * _stretch(solid, shear.axis, shear.powers, by_mm)) for shear in solid.shears)
    return replace(solid, semi_axes_mm=(a + by_mm, b + by_mm, c + by_mm), shears=shears)


def _stretch(solid: Solid, axis: int, powers: tuple[int, int], by_mm: float) -> float:
    """Factor that keeps the bend of a shear, in mm, as it is when the semi-axes change."""
    factor = 1.0
    for n, power in zip(((axis + 1) % 3, (axis + 2) % 3), powers, strict=True):
        factor *= ((solid.semi_axes_mm[n] + by_mm) / solid.semi_axes_mm[n]) ** power
    return factor
