"""The grid: where its voxels lie, how big they are, and when two grids are the same."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.errors import GeometryError, SingularAffineError
from medseg.core.geometry import Geometry, affine_from_parts


@st.composite
def affines(draw):
    """Any rotation, axis order, handedness, anisotropy and a mild shear."""
    rotation, _ = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 10_000))).normal(size=(3, 3)))
    spacing = [draw(st.floats(0.3, 6)) for _ in range(3)]
    shear = np.eye(3)
    shear[1, 2] = draw(st.floats(-0.4, 0.4))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ shear * spacing
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


@given(affines())
@settings(max_examples=60, deadline=None)
def test_voxel_volume_is_the_determinant(affine):
    assert Geometry((2, 2, 2), affine).voxel_volume_mm3 == pytest.approx(abs(np.linalg.det(affine)), rel=1e-9)


@given(affines())
@settings(max_examples=60, deadline=None)
def test_index_to_world_and_back(affine):
    grid = Geometry((5, 6, 7), affine)
    index = np.array([[0.0, 0, 0], [4, 5, 6], [1.5, 2.25, -3]])
    np.testing.assert_allclose(grid.world_to_index(grid.index_to_world(index)), index, atol=1e-8)
    np.testing.assert_allclose(grid.index_to_world(index), nibabel.affines.apply_affine(affine, index), atol=1e-9)


@given(affines())
@settings(max_examples=60, deadline=None)
def test_orientation_agrees_with_nibabel(affine):
    # nibabel solves the assignment by another rule (SVD), so only grids without a near tie and without shear must agree
    direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    strength = np.sort(np.abs(direction), axis=0)
    if (strength[2] - strength[1]).min() > 0.3 and np.abs(direction.T @ direction - np.eye(3)).max() < 0.1:
        assert Geometry((2, 2, 2), affine).orientation == "".join(nibabel.aff2axcodes(affine))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LAS", "PIR", "ASL", "SRA", "IPL"])
def test_every_orientation_is_named(orientation):
    ornt = nibabel.orientations.axcodes2ornt(orientation)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, flip) in enumerate(ornt):
        affine[int(world), axis] = flip
    grid = Geometry((2, 3, 4), affine)
    assert grid.orientation == orientation
    assert grid.is_left_handed == (np.linalg.det(affine) < 0)


@pytest.mark.parametrize("change", ["shape", "affine", "frame_of_reference_uid"])
def test_each_field_alone_breaks_a_match(change):
    base = {"shape": (4, 5, 6), "affine": np.diag([1.0, 1, 2, 1]), "frame_of_reference_uid": "1.2.3"}
    other = {"shape": (4, 5, 7), "affine": np.diag([1.0, 1, 2.01, 1]), "frame_of_reference_uid": "1.2.4"}
    assert Geometry(**base).matches(Geometry(**base))
    assert not Geometry(**base).matches(Geometry(**base | {change: other[change]}))


def test_a_missing_frame_of_reference_matches_any():
    affine = np.eye(4)
    assert Geometry((2, 2, 2), affine, "1.2").matches(Geometry((2, 2, 2), affine))


def test_a_match_looks_at_the_far_corner():
    # 0.002 mm a voxel is nothing near the origin and 1 mm at the far end
    near = np.diag([1.0, 1, 1, 1])
    far = np.diag([1.002, 1, 1, 1])
    assert Geometry((2, 2, 2), near).matches(Geometry((2, 2, 2), far), tolerance_mm=0.01)
    assert not Geometry((512, 2, 2), near).matches(Geometry((512, 2, 2), far), tolerance_mm=0.01)


@pytest.mark.parametrize(
    "affine", [np.diag([1.0, 1, 0, 1]), np.diag([1.0, np.nan, 1, 1]), np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])]
)
def test_an_affine_without_volume_is_refused(affine):
    with pytest.raises(SingularAffineError):
        Geometry((2, 2, 2), affine)


def test_a_grid_needs_three_extents():
    with pytest.raises(GeometryError):
        Geometry((2, 2), np.eye(4))
    with pytest.raises(GeometryError):
        Geometry((2, 0, 2), np.eye(4))


def test_gantry_tilt_is_shear_and_keeps_its_volume():
    affine = np.diag([1.0, 1, 2.5, 1])
    affine[1, 2] = 2.5 * np.tan(np.radians(20))
    grid = Geometry((10, 10, 10), affine)
    assert grid.is_sheared
    assert grid.shear_degrees == pytest.approx(20)
    assert grid.voxel_volume_mm3 == pytest.approx(2.5)
    assert np.prod(grid.spacing_mm) == pytest.approx(2.5 / np.cos(np.radians(20)))


def test_obliqueness():
    turned = affine_from_parts([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]], (1, 1, 1), (0, 0, 0))
    assert Geometry((2, 2, 2), turned).obliqueness_degrees == pytest.approx(np.degrees(0.1))
    assert not Geometry((2, 2, 2), np.eye(4)).is_oblique


def test_a_cropped_grid_keeps_its_voxels_where_they_are():
    grid = Geometry((10, 11, 12), np.array([[0, -2.0, 0, 5], [1, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]]))
    part = grid.cropped((2, 3, 4), (5, 5, 5))
    np.testing.assert_allclose(part.index_to_world((1, 1, 1)), grid.index_to_world((3, 4, 5)))


def test_the_affine_cannot_be_changed_from_outside():
    affine = np.eye(4)
    grid = Geometry((2, 2, 2), affine)
    affine[0, 0] = 9
    assert grid.spacing_mm[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2
