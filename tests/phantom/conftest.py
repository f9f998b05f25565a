"""An implementation of the solids' definition that shares no code with the package, for all tests of phantoms."""

from __future__ import annotations

import numpy as np
import pytest


def inside(solid, points):
    """Whether points (n, 3) lie inside a solid, straight from the definition in medseg.phantom.solids."""
    local = (points - np.array(solid.centre_mm)) @ np.array(solid.rotation)
    a, b, c = solid.semi_axes_mm
    for shear in solid.shears[::-1]:
        first, second = [(1, 2), (2, 0), (0, 1)][shear.axis]
        moved = (local[:, first] / solid.semi_axes_mm[first]) ** shear.powers[0] * (
            local[:, second] / solid.semi_axes_mm[second]
        ) ** shear.powers[1]
        local[:, shear.axis] -= shear.size_mm * moved
    x, y, s = local[:, 0] / a, local[:, 1] / b, local[:, 2] / c
    along = np.clip(s, -1, 1)
    kind = solid.kind.name
    if kind in ("STACK", "RINGS"):
        along_mm = np.mod(local[:, 2] - solid.phase_mm, solid.period_mm) - solid.period_mm / 2
        piece = along_mm / solid.half_height_mm
    p = sum(k * (np.clip(piece, -1, 1) if kind == "STACK" else along) ** n for n, k in enumerate(solid.profile))
    swell = 1 + (1 - along**2) * sum(e.size * np.cos(e.count * np.angle(x + 1j * y) - e.phase - e.twist * along) for e in solid.lobes)
    m = solid.exponent
    section = np.abs(x) ** m + np.abs(y) ** m
    if kind == "RINGS":
        wall = (section / np.maximum(p, 0) ** (m / 2) - 1) / m * np.sqrt(a * b) / solid.thickness_mm
        return (wall**2 + piece**2 < 1) & (np.abs(s) < 1)
    found = section < np.maximum(p * swell, 0) ** (m / 2)
    if kind == "STACK":
        found &= np.abs(piece) < 1
    return found if kind == "OPEN" else found & (np.abs(s) < 1)


@pytest.fixture(scope="session")
def is_inside():
    return inside
