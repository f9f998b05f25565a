"""Gradients, their maxima, Laplacian and zero crossings against formulas and against slow loops, on every kind of grid."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.kernels import edges, filters

SHAPE = (24, 20, 14)
OFF_CENTRE = np.array([0.13, -0.21, 0.3])


def places_mm(affine: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """RAS mm of every voxel, (k, j, i, 3)."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.transpose(Geometry(shape, affine).index_to_world(index), (2, 1, 0, 3))


def to_voxels(affine: np.ndarray) -> np.ndarray:
    return np.linalg.inv(affine[:3, :3])


def test_the_gradient_of_a_ramp_is_its_slope_in_the_patient_on_every_grid(affine: np.ndarray) -> None:
    slope = np.array([3.0, -2.0, 0.5])
    ramp = places_mm(affine) @ slope
    found = edges.gradient(ramp, to_voxels(affine))
    assert np.allclose(found, slope[:, None, None, None], atol=1e-4)
    assert np.allclose(edges.magnitude(ramp, to_voxels(affine)), np.linalg.norm(slope), atol=1e-4)


def test_the_magnitude_is_that_of_the_filter_for_right_angles_inside_the_scan() -> None:
    image = np.random.default_rng(0).normal(size=(7, 8, 9)).astype(np.float32)
    affine = np.diag([0.7, 1.2, 3.0])
    inner = (slice(1, -1),) * 3
    expected = filters.gradient_magnitude(image, (3.0, 1.2, 0.7))[inner]
    assert np.allclose(edges.magnitude(image, np.linalg.inv(affine))[inner], expected, rtol=1e-5)


def test_the_laplacian_of_a_polynomial_of_second_degree_is_exact_on_every_grid(affine: np.ndarray) -> None:
    form = np.array([[1.5, 0.4, -0.3], [0.4, -0.7, 0.2], [-0.3, 0.2, 0.9]])
    place = places_mm(affine) - places_mm(affine).mean(axis=(0, 1, 2))
    field = np.einsum("...a,ab,...b->...", place, form, place)
    inner = (slice(1, -1),) * 3
    assert np.allclose(edges.laplacian(field, to_voxels(affine))[inner], 2 * np.trace(form), atol=1e-3)


def soft_sphere(affine: np.ndarray, radius_mm: float, width_mm: float, away_mm: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball whose slope is greatest exactly at its radius, its centre, and the distance of every voxel from that."""
    place = places_mm(affine)
    centre = place.mean(axis=(0, 1, 2)) + OFF_CENTRE + away_mm * np.array([0.48, 0.6, 0.64])
    away = np.linalg.norm(place - centre, axis=-1)
    return 100 / (1 + np.exp((away - radius_mm) / width_mm)), centre, away


@pytest.mark.parametrize(
    ("radius_mm", "width_mm", "away_mm", "most"),
    # half a step, and up to a fifth more because linear interpolation between voxels underrates a peak; a ball of 8 mm
    # also curves by half a mm over a step of 2.5 mm
    [(80.0, 2.0, 80.0, 0.7), (8.0, 1.2, 0.0, 0.8)],
)
def test_maxima_of_a_ball_lie_on_its_surface(affine: np.ndarray, radius_mm: float, width_mm: float, away_mm: float, most: float) -> None:
    image, centre, away = soft_sphere(affine, radius_mm, width_mm, away_mm)
    maxima, lengths = edges.gradient_maxima(image, to_voxels(affine))
    inner = np.pad(np.ones(np.array(maxima.shape) - 2, bool), 1)  # beyond the outermost layer values are repeated
    on_edge = inner & (maxima > 0.2 * lengths.max())
    unit = np.moveaxis(places_mm(affine) - centre, -1, 0)[:, on_edge] / away[on_edge]
    step_mm = 1 / np.abs(to_voxels(affine) @ unit).max(axis=0)
    assert on_edge.sum() > 100
    share = np.abs(away[on_edge] - radius_mm) / step_mm
    assert share.max() <= most
    assert np.median(share) <= 0.33
    assert np.array_equal(maxima[on_edge], lengths[on_edge])


def test_maxima_of_a_ball_lie_all_around_it(affine: np.ndarray) -> None:
    image, centre, _ = soft_sphere(affine, 8.0, 1.2)
    maxima, lengths = edges.gradient_maxima(image, to_voxels(affine))
    random = np.random.default_rng(1).normal(size=(400, 3))
    points = centre + 8.0 * random / np.linalg.norm(random, axis=1, keepdims=True)
    held = places_mm(affine)[maxima > 0.2 * lengths.max()]
    nearest = np.sqrt(((points[:, None] - held[None]) ** 2).sum(axis=-1)).min(axis=1)
    assert nearest.max() <= 0.75 * np.linalg.norm(np.linalg.norm(affine[:3, :3], axis=0))


def test_an_edge_between_two_voxels_is_marked_once_on_its_dark_side() -> None:
    step = np.zeros((1, 1, 8), np.int16)
    step[..., 4:] = 60
    for image, at in ((step, 3), (step[..., ::-1], 4)):
        maxima, _ = edges.gradient_maxima(image, np.eye(3))
        assert np.flatnonzero(maxima).tolist() == [at]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_maxima_and_crossings_turn_with_the_scan(axis: int) -> None:
    image = filters.gaussian(np.random.default_rng(2).normal(size=(12, 13, 14)), (1.5, 1.5, 1.5))
    inverse = np.linalg.inv(np.diag([0.7, 1.2, 3.0]))
    turned = inverse.copy()
    turned[2 - axis] *= -1
    flipped = np.flip(image, axis)
    assert np.array_equal(np.flip(edges.gradient_maxima(image, inverse)[0], axis), edges.gradient_maxima(flipped, turned)[0])
    assert np.array_equal(np.flip(edges.laplacian(image, inverse), axis), edges.laplacian(flipped, turned))
    assert np.array_equal(np.flip(edges.zero_crossings(image), axis), edges.zero_crossings(flipped))


def test_a_constant_and_a_ramp_have_no_edge() -> None:
    ramp = np.zeros((6, 6, 6)) + np.arange(6)
    for image in (np.full((5, 4, 3), 7, np.int16), ramp):
        assert not edges.gradient_maxima(image, np.eye(3))[0].any()


def test_zero_crossings_are_those_of_a_slow_loop() -> None:
    field = np.random.default_rng(3).integers(-4, 5, (6, 7, 8)).astype(np.float32)
    expected = np.zeros(field.shape, bool)
    padded = np.pad(field, 1, mode="edge")
    for k, j, i in np.ndindex(field.shape):
        here = field[k, j, i]
        for step in np.eye(3, dtype=int):
            pair = [padded[tuple(np.array((k, j, i)) + 1 + sign * step)] for sign in (-1, 1)]
            if here == 0:
                expected[k, j, i] |= bool(min(pair) < 0 < max(pair))
            for there in pair:
                if here * there < 0:
                    expected[k, j, i] |= bool(abs(here) < abs(there) or (abs(here) == abs(there) and here < 0))
    assert np.array_equal(edges.zero_crossings(field).astype(bool), expected)


def test_a_faulty_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="3 x 3"):
        edges.magnitude(np.zeros((2, 2, 2)), np.full((3, 3), np.nan))
