from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medseg.kernels.star_surface import LABELS_APART, best_surface, fill_star, sample_rays, smooth_over_rays, sphere


def test_rays_are_spread_evenly_and_know_their_neighbours() -> None:
    for subdivisions, count in ((0, 12), (1, 42), (2, 162)):
        ball = sphere(subdivisions)
        assert len(ball.directions) == count
        assert np.allclose(np.linalg.norm(ball.directions, axis=1), 1)
        assert np.allclose(ball.directions.sum(axis=0), 0, atol=1e-9)
        for ray, place in itertools.product(range(count), range(6)):
            other = ball.neighbours[ray, place]
            if other >= 0:
                assert ball.neighbours[other, ball.back[ray, place]] == ray
        assert ((ball.neighbours >= 0).sum(axis=1) == 5).sum() == 12


def energy(cost: np.ndarray, labels: np.ndarray, neighbours: np.ndarray, stiffness: float) -> np.ndarray:
    """Of many labellings (N, V) at once; infinite where neighbours are too far apart."""
    total = cost[np.arange(cost.shape[0]), labels].sum(axis=-1)
    for ray, other in ((r, o) for r in range(len(neighbours)) for o in neighbours[r] if o > r):
        apart = np.abs(labels[:, ray] - labels[:, other])
        total = total + np.where(apart > LABELS_APART, np.inf, stiffness * apart**2)
    return total


@pytest.mark.parametrize("seed", range(8))
def test_the_surface_is_the_best_of_all(seed: int) -> None:
    ball = sphere(0)
    cost = np.random.default_rng(seed).normal(0, 1, (12, 3)).astype(np.float32)
    every = np.array(list(itertools.product(range(3), repeat=12)))
    least = energy(cost, every, ball.neighbours, 0.3).min()
    found = best_surface(cost, ball.neighbours, ball.back, 0.3, 8)
    reached = energy(cost, found[None], ball.neighbours, 0.3)[0]
    assert least - 1e-4 <= reached <= least + 0.03 * abs(least)


def test_neighbours_never_tear_apart() -> None:
    ball = sphere(1)
    cost = np.random.default_rng(3).normal(0, 50, (42, 20)).astype(np.float32)
    found = best_surface(cost, ball.neighbours, ball.back, 0.0, 4)
    assert max(abs(found[r] - found[o]) for r in range(42) for o in ball.neighbours[r] if o >= 0) <= LABELS_APART


def test_rays_are_read_as_scipy_reads_them() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, (9, 11, 13)).astype(np.float32)
    centre, steps = np.array([4.2, 5.1, 6.3]), rng.normal(0, 0.6, (12, 3))
    radii = np.broadcast_to(np.linspace(0.5, 8, 7), (12, 7))
    out = np.full((12, 7), -9, np.float32)
    sample_rays(image, centre, steps, radii, out, 2)
    points = centre + steps[:, None] * radii[..., None]
    assert (out[:, :2] == -9).all()
    assert np.allclose(out[:, 2:], map_coordinates(image, points.transpose(2, 0, 1), order=1, mode="nearest")[:, 2:], atol=1e-5)


def test_smoothing_keeps_a_constant_and_the_mean_of_a_regular_body() -> None:
    ball = sphere(0)
    assert np.allclose(smooth_over_rays(np.full((12, 2), 3, np.float32), ball.neighbours), 3)
    values = np.random.default_rng(1).normal(0, 1, (12, 4)).astype(np.float32)
    assert np.allclose(smooth_over_rays(values, ball.neighbours).mean(axis=0), values.mean(axis=0), atol=1e-6)


def test_a_filled_ellipsoid_has_its_volume_on_a_sheared_grid() -> None:
    ball, axes = sphere(2), np.array([9.0, 7.0, 8.0])
    radii = 1 / np.linalg.norm(ball.directions / axes, axis=1)
    to_mm = np.array([[0.0, 0.0, 0.8], [0.0, 1.1, 0.3], [2.0, 0.4, 0.0]])
    rays = np.stack([radii, *np.zeros((3, len(radii)))], axis=1)
    image = np.zeros((25, 31, 41), np.float32)
    found = fill_star(image, to_mm, np.array([12.0, 15.0, 20.0]), ball, rays, 1.0, 0.3)
    volume = found.sum() * abs(np.linalg.det(to_mm))
    assert volume == pytest.approx(4 / 3 * np.pi * axes.prod(), rel=0.02)


def test_the_border_moves_to_the_half_way_intensity_but_not_beyond_the_band() -> None:
    k, j, i = np.indices((31, 31, 31)) - 15
    distance = np.sqrt(k**2 + j**2 + i**2)
    image = np.where(distance <= 10, 100, 0).astype(np.float32)
    ball = sphere(2)
    for radius, band, expected in ((9.0, 0.35, 10.0), (9.0, 0.05, 9.45)):
        rays = np.tile([radius, 100.0, 0.0, 1.0], (162, 1))
        found = fill_star(image, np.eye(3), np.full(3, 15.0), ball, rays, 0.1, band)
        assert found.sum() == pytest.approx(4 / 3 * np.pi * expected**3, rel=0.04)
