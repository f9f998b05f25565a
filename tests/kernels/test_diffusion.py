from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.kernels.diffusion import perona_malik, steps_needed

SPACING = (2.5, 0.7, 0.9)


def plain(image: NDArray[np.float64], spacing: tuple[float, ...], edge: float, time_mm2: float, rational: bool) -> NDArray[np.float64]:
    """The scheme of Perona and Malik written with differences of whole arrays, in double precision."""
    steps = steps_needed(time_mm2, spacing, image.shape)
    for _ in range(steps):
        change = np.zeros_like(image)
        for axis in range(3):
            difference = np.diff(image, axis=axis)
            conductance = 1 / (1 + (difference / edge) ** 2) if rational else np.exp(-((difference / edge) ** 2))
            flow = difference * conductance * time_mm2 / steps / spacing[axis] ** 2
            change += np.diff(flow, axis=axis, prepend=0, append=0) if flow.size else 0
        image = image + change
    return image


@pytest.mark.parametrize("rational", [False, True])
@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8", "float64"])
def test_diffusion_equals_the_plain_scheme(shape: tuple[int, int, int], dtype: str, rational: bool, rng: np.random.Generator) -> None:
    image = rng.integers(0, 200, shape).astype(dtype)
    found = perona_malik(image, SPACING, 25.0, 0.9, rational)
    assert found.dtype == np.float32
    assert np.allclose(found, plain(image.astype(np.float64), SPACING, 25.0, 0.9, rational), atol=2e-3)


def test_many_planes_are_parted_without_a_trace(rng: np.random.Generator) -> None:
    """More planes than slabs: the flow through their ends is that of the plain scheme too."""
    image = rng.normal(0, 40, (53, 5, 6))
    assert np.allclose(perona_malik(image, (1, 1, 1), 30.0, 0.5), plain(image, (1, 1, 1), 30.0, 0.5, False), atol=1e-3)


def test_without_edges_a_point_spreads_by_twice_the_time() -> None:
    """Linear diffusion: the variance in mm² is 2 time in every direction, whatever the spacing."""
    image = np.zeros((15, 41, 35))
    image[7, 20, 17] = 1000
    found = perona_malik(image, SPACING, 1e9, 3.0).astype(np.float64)
    for axis, step in enumerate(SPACING):
        places = (np.arange(image.shape[axis]) - image.shape[axis] // 2) * step
        along = found.sum(axis=tuple(n for n in range(3) if n != axis))
        assert (along * places**2).sum() / along.sum() == pytest.approx(6.0, rel=0.01)
    assert found.sum() == pytest.approx(1000, rel=1e-5)


def test_an_edge_stays_and_noise_goes(rng: np.random.Generator) -> None:
    clean = np.zeros((12, 20, 24))
    clean[:, :, 12:] = 100
    found = perona_malik(clean + rng.normal(0, 5, clean.shape), (1, 1, 1), 20.0, 4.0)
    assert np.abs(found - clean).std() < 1.2
    assert (found[:, :, 12] - found[:, :, 11]).min() > 90


def test_no_value_leaves_the_range_and_the_mean_stays(rng: np.random.Generator) -> None:
    image = rng.choice([-1000, 0, 3000], (10, 11, 12)).astype(np.int16)
    found = perona_malik(image, (0.3, 4.0, 1.0), 500.0, 5.0)
    assert found.min() >= -1000
    assert found.max() <= 3000
    assert found.mean(dtype=np.float64) == pytest.approx(image.mean(), abs=1e-2)


def test_turned_arrays_give_turned_results(rng: np.random.Generator) -> None:
    image = rng.normal(0, 30, (9, 8, 7))
    found = perona_malik(image, SPACING, 20.0, 1.0)
    assert np.allclose(perona_malik(image[::-1, :, ::-1], SPACING, 20.0, 1.0), found[::-1, :, ::-1], atol=1e-4)
    turned = perona_malik(image.transpose(2, 0, 1), (SPACING[2], SPACING[0], SPACING[1]), 20.0, 1.0)
    assert np.allclose(turned, found.transpose(2, 0, 1), atol=1e-4)


def test_memory_is_the_result_alone() -> None:
    image = np.zeros((80, 64, 64), np.int16)
    perona_malik(image, (1, 1, 1), 10.0, 0.1)
    tracemalloc.start()
    perona_malik(image, (1, 1, 1), 10.0, 0.1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * image.size + 40 * 64 * 64 * 4


def test_parameters_without_meaning_raise() -> None:
    image = np.zeros((2, 2, 2))
    for edge, time_mm2 in ((0, 1), (-1, 1), (np.nan, 1), (1, 0), (1, np.inf)):
        with pytest.raises(ValueError, match="two positive numbers"):
            perona_malik(image, (1, 1, 1), edge, time_mm2)
