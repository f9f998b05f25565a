"""Known in-plane diameters of phantoms: formulas against points, and meshes against formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from medseg.core.geometry import Geometry
from medseg.phantom import make_ellipsoid, make_sphere, make_torso
from medseg.phantom.sections import _sections, in_plane_diameters
from medseg.phantom.solids import Kind, Lobe, Solid

GRID = Geometry((80, 80, 30), np.diag([-1.0, -1.0, 3.0, 1.0]))
MIDDLE = (-40.0, -40.0, 43.0)


def turned(degrees: tuple[float, float, float], semi_axes: tuple[float, float, float] = (9.0, 13.0, 20.0), **more: object) -> Solid:
    rows = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return Solid(MIDDLE, semi_axes, tuple(tuple(row) for row in rows), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("degrees", [(0, 0, 0), (30, 40, 50), (80, -20, 10)])
def test_ellipses_hold_all_points_of_the_section(degrees: tuple[float, float, float]) -> None:
    """Points of the slice that the solid contains reach as far apart as the formula says, less than a step."""
    solid = turned(degrees)
    found = in_plane_diameters(solid, GRID)
    assert found is not None
    best, index = 0.0, -1
    for k in range(GRID.shape[2]):
        j, i = np.meshgrid(np.arange(0, 80, 0.1), np.arange(0, 80, 0.1))
        points = np.stack([-i, -j, np.full_like(i, 3.0 * k)], axis=-1)
        inside = points[solid.contains(points)][:, :2]
        if len(inside) > 9:
            corners = inside[ConvexHull(inside).vertices]
            reach = float(cdist(corners, corners).max())
            best, index = (reach, k) if reach > best else (best, index)
    assert found["slice_index"] == index
    assert found["longest_diameter_mm"] - 0.3 < best <= found["longest_diameter_mm"]


@pytest.mark.parametrize("degrees", [(0, 0, 0), (30, 40, 50), (80, -20, 10)])
def test_the_mesh_gives_what_the_formula_gives(degrees: tuple[float, float, float]) -> None:
    solid = turned(degrees)
    found = in_plane_diameters(solid, GRID)
    assert found is not None
    heights = np.arange(GRID.shape[2]) * 3.0
    index, longest, perpendicular = _sections(solid, np.array([0.0, 0, 1]), heights)
    assert (index, longest) == (found["slice_index"], pytest.approx(found["longest_diameter_mm"], abs=0.01))
    assert perpendicular == pytest.approx(found["perpendicular_diameter_mm"], abs=0.2)


def test_a_lobed_solid_reaches_as_far_as_its_points() -> None:
    solid = turned((30, 40, 50), (12.0, 14.0, 18.0), lobes=(Lobe(3, 0.3, 0.4, 0.5),))
    found = in_plane_diameters(solid, GRID)
    assert found is not None
    j, i = np.meshgrid(np.arange(20, 60, 0.05), np.arange(20, 60, 0.05))
    points = np.stack([-i, -j, np.full_like(i, 3.0 * found["slice_index"])], axis=-1)
    inside = points[solid.contains(points)][:, :2]
    corners = inside[ConvexHull(inside).vertices]
    assert cdist(corners, corners).max() == pytest.approx(found["longest_diameter_mm"], abs=0.12)


def test_solids_off_the_slices_or_without_end_have_no_section() -> None:
    assert in_plane_diameters(Solid((0.0, 0.0, 500.0), (5.0, 5.0, 5.0)), GRID) is None
    assert in_plane_diameters(Solid(MIDDLE, (5.0, 5.0, 5.0), kind=Kind.OPEN), GRID) is None


def test_truth_of_phantoms_holds_in_plane_diameters_of_lesions() -> None:
    sphere = make_sphere(diameter_mm=20.0).truth["segments"][0]["in_plane"]
    assert 19.9 < sphere["longest_diameter_mm"] <= 20.0
    assert sphere["perpendicular_diameter_mm"] == pytest.approx(sphere["longest_diameter_mm"])
    ellipsoid = make_ellipsoid(2).truth["segments"][0]
    assert ellipsoid["in_plane"]["longest_diameter_mm"] <= ellipsoid["maximum_diameter_mm"]
    torso = make_torso(2, preset="coarse").truth
    json.dumps(torso, allow_nan=False)
    assert [entry["label"] for entry in torso["segments"] if "in_plane" in entry] == ["tumour"]
