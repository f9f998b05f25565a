"""Volumes, centroids and diameters of solids against counting points and against closed formulas."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.phantom.catalog import TORSO_ORGANS
from medseg.phantom.draw import resized, rows, widened
from medseg.phantom.solids import CYLINDER, Kind, Lobe, Shear, Solid, maximum_diameter_mm, rotation_about, section_factor
from medseg.phantom.torso import torso_anatomy

TURN = rows(rotation_about((1, 2, -1), 37))
SOLIDS = {
    "ellipsoid": Solid((3, -4, 5), (11, 17, 26), TURN),
    "superellipse": Solid((0, 0, 0), (20, 15, 25), exponent=2.5),
    "cylinder": Solid((0, 0, 0), (12, 12, 20), TURN, profile=CYLINDER),
    "cone": Solid((1, 2, 3), (12, 9, 20), TURN, profile=(0.25, 0.5, 0.25)),
    "lobed": Solid((0, 0, 0), (18, 20, 22), TURN, lobes=(Lobe(3, 0.3, 0.4, 1.1), Lobe(2, 0.2, -1.0, -0.7))),
    "bent": Solid((0, 0, 0), (15, 20, 30), shears=(Shear(0, 9.0, (0, 2)), Shear(2, -6.0, (1, 1)), Shear(1, 5.0, (2, 0)))),
}


def count(solid, is_inside, steps=128):
    """Volume and centroid by counting points on a grid that fits tightly around the solid."""
    cloud = solid.surface_cloud(96, 128)
    low, high = cloud.min(axis=0) - 1, cloud.max(axis=0) + 1
    step = (high - low) / steps
    axes = [low[n] + (np.arange(steps) + 0.5) * step[n] for n in range(3)]
    number, total = 0, np.zeros(3)
    for x in axes[0]:
        points = np.stack(np.meshgrid([x], axes[1], axes[2], indexing="ij"), axis=-1).reshape(-1, 3)
        found = points[is_inside(solid, points)]
        number += len(found)
        total += found.sum(axis=0)
    return number * step.prod(), total / number


@pytest.mark.parametrize("name", SOLIDS)
def test_volume_and_centroid_are_those_of_counted_points(name, is_inside):
    solid = SOLIDS[name]
    volume, centroid = count(solid, is_inside)
    assert solid.volume_mm3 == pytest.approx(volume, rel=5e-4)
    np.testing.assert_allclose(solid.centroid_mm, centroid, atol=0.02)


@pytest.mark.parametrize("name", TORSO_ORGANS)
def test_volume_of_each_organ_is_that_of_counted_points(name, is_inside):
    solid = torso_anatomy(11)[name].solid
    volume, centroid = count(solid, is_inside)
    assert solid.volume_mm3 == pytest.approx(volume, rel=5e-4)
    np.testing.assert_allclose(solid.centroid_mm, centroid, atol=0.03)


@pytest.mark.parametrize("name", TORSO_ORGANS)
def test_quadrature_gives_the_volume_of_the_formula(name):
    """The quadrature never uses the formula: it adds up the sections themselves."""
    solid = torso_anatomy(4)[name].solid
    assert solid.quadrature()[1].sum() == pytest.approx(solid.volume_mm3, rel=1e-4)


def test_closed_formulas():
    assert Solid((0, 0, 0), (2, 3, 4)).volume_mm3 == pytest.approx(4 / 3 * np.pi * 24)
    assert Solid((0, 0, 0), (2, 3, 4), profile=CYLINDER).volume_mm3 == pytest.approx(np.pi * 2 * 3 * 8)
    # a cone of radius 2a at one end: P = (1 + s)²
    assert Solid((0, 0, 0), (2, 2, 5), profile=(1, 2, 1)).volume_mm3 == pytest.approx(np.pi * 16 * 10 / 3)
    assert section_factor(1e6) == pytest.approx(4, rel=1e-4)  # a square
    assert section_factor(1.0) == pytest.approx(2)  # a diamond


@pytest.mark.parametrize("shear_mm", [4.0, 15.0, -30.0])
def test_sheared_sphere_is_the_ellipsoid_of_linear_algebra(shear_mm):
    """A sphere moved by x + k·z is an ellipsoid whose semi-axes are singular values: known without any search."""
    solid = Solid((5, 6, 7), (20, 20, 20), TURN, shears=(Shear(0, shear_mm, (0, 1)),))
    stretch = np.array([[1, 0, shear_mm / 20], [0, 1, 0], [0, 0, 1.0]])
    assert maximum_diameter_mm(solid) == pytest.approx(40 * np.linalg.svd(stretch)[1][0], abs=1e-5)
    np.testing.assert_allclose(solid.centroid_mm, (5, 6, 7), atol=1e-9)
    assert solid.volume_mm3 == pytest.approx(4 / 3 * np.pi * 8000)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_two_points_are_further_apart_than_the_diameter(seed):
    random = np.random.default_rng(seed)
    for name in TORSO_ORGANS:
        solid = torso_anatomy(seed)[name].solid
        points = solid.surface_points(-np.cos(random.uniform(0, np.pi, 3000)), random.uniform(0, 2 * np.pi, 3000))
        apart = np.linalg.norm(points[:, None] - points[None, ::4], axis=-1).max()
        assert apart <= maximum_diameter_mm(solid) + 1e-6
        assert apart == pytest.approx(maximum_diameter_mm(solid), rel=0.02)


def test_diameter_of_an_ellipsoid_is_exact():
    assert maximum_diameter_mm(SOLIDS["ellipsoid"]) == 52.0


@pytest.mark.parametrize("name", SOLIDS)
def test_contains_surface_and_box_agree(name, is_inside):
    solid = SOLIDS[name]
    random = np.random.default_rng(0)
    low, high = solid.local_box()
    local = random.uniform(low - 2, high + 2, (4000, 3))
    points = local @ np.array(solid.rotation).T + solid.centre_mm
    found = solid.contains(points)
    np.testing.assert_array_equal(found, is_inside(solid, points))
    assert 0.1 < found.mean() < 0.9
    assert ((local[found] >= low) & (local[found] <= high)).all()
    middle = np.array(solid.centroid_mm)
    side = solid.surface_points(random.uniform(-0.9, 0.9, 500), random.uniform(0, 6.3, 500))
    shrunk, grown = (solid.to_world(solid.to_local(side) * [f, f, 1]) for f in (0.999, 1.001))
    assert solid.contains(shrunk).all()
    assert not solid.contains(grown).any()
    assert solid.contains(middle[None]).all()


def test_resized_and_widened():
    organ = torso_anatomy(2)["spleen"].solid
    assert resized(organ, 0.5).volume_mm3 == pytest.approx(organ.volume_mm3 / 8)
    assert widened(organ, 6.0).contains(organ.surface_cloud()).all()
    assert not organ.contains(widened(organ, 6.0).surface_cloud()).any()


def test_open_and_repeated_solids_have_no_volume():
    assert Solid((0, 0, 0), (1, 1, 1), kind=Kind.OPEN).volume_mm3 == float("inf")
    assert np.isnan(Solid((0, 0, 0), (1, 1, 1), kind=Kind.STACK).volume_mm3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"semi_axes_mm": (0, 1, 1)},
        {"rotation": ((1, 0, 0), (0, 2, 0), (0, 0, 1))},
        {"profile": (1,) * 7},
        {"lobes": (Lobe(2, 0.6), Lobe(3, 0.5))},
        {"lobes": (Lobe(2, 0.2),), "exponent": 2.5},
    ],
)
def test_impossible_solids_raise(wrong):
    with pytest.raises(ParameterError):
        Solid(**{"centre_mm": (0, 0, 0), "semi_axes_mm": (1, 1, 1)} | wrong)
