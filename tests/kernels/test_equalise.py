from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from medseg.kernels.equalise import equalise, limited, tile_bounds


def defined(image: np.ndarray, tiles: tuple[int, ...], limits: tuple[float, float], slope: float, bins: int) -> np.ndarray:
    """numpy's histogram of each tile, the limit by repeated spreading, scipy's interpolation between the tiles."""
    bounds = [tile_bounds(length, count) for length, count in zip(image.shape, tiles, strict=True)]
    edges = np.linspace(*limits, bins + 1)
    maps = np.zeros((*(len(b) - 1 for b in bounds), *image.shape))
    for at in np.ndindex(*maps.shape[:3]):
        tile = image[tuple(slice(b[n], b[n + 1]) for b, n in zip(bounds, at, strict=True))]
        counts = np.histogram(tile, edges)[0].astype(float)
        shares = counts / counts.sum() if counts.sum() else np.full(bins, 1 / bins)
        for _ in range(5000):  # what is above the limit goes to those below it, evenly, until none is
            excess = np.maximum(shares - slope / bins, 0).sum()
            if excess < 1e-13:
                break
            shares = np.minimum(shares, slope / bins)
            below = shares < slope / bins
            if not below.any():
                break
            shares = shares + np.where(below, excess / below.sum(), 0)
        maps[at] = np.interp(np.clip(image, *limits), edges, np.concatenate([[0], np.cumsum(shares)]))
    middles = [(b[:-1] + b[1:] - 1) / 2 for b in bounds]
    out = np.zeros(image.shape)
    for voxel in np.ndindex(*image.shape):
        values = maps[(..., *voxel)]
        axes = [m for m in middles if len(m) > 1]
        places = [np.clip(n, m[0], m[-1]) for n, m in zip(voxel, middles, strict=True) if len(m) > 1]
        out[voxel] = RegularGridInterpolator(axes, values.squeeze())(places)[0] if axes else values.squeeze()
    return out


@pytest.mark.parametrize("slope", [1.0, 1.7, 50.0])
@pytest.mark.parametrize("tiles", [(1, 1, 1), (2, 1, 3), (2, 3, 2)])
def test_equalised_as_defined(tiles: tuple[int, int, int], slope: float, rng: np.random.Generator) -> None:
    image = rng.gamma(2, 20, (6, 9, 10)).astype(np.float32)
    found = equalise(image, tiles, (5.0, 120.0), slope, 16)
    assert found.dtype == np.float32
    # ours counts values beyond the limits nowhere, as numpy does
    assert np.allclose(found, defined(image.astype(np.float64), tiles, (5.0, 120.0), slope, 16), atol=1e-5)


def test_without_a_limit_one_tile_makes_the_histogram_even(rng: np.random.Generator) -> None:
    image = rng.gamma(2, 20, (20, 21, 22))
    found = equalise(image, (1, 1, 1), (float(image.min()), float(image.max())), 1e6, 4096)
    assert np.allclose(np.quantile(found, np.linspace(0, 1, 21)), np.linspace(0, 1, 21), atol=5e-3)


def test_slope_1_changes_nothing(rng: np.random.Generator) -> None:
    image = rng.normal(0, 1, (8, 8, 8))
    assert np.allclose(equalise(image, (2, 2, 2), (-4, 4), 1.0, 64), (np.clip(image, -4, 4) + 4) / 8, atol=1e-5)


def test_no_share_is_above_the_limit(rng: np.random.Generator) -> None:
    counts = rng.integers(0, 5, (3, 4, 32)) ** 3
    counts[0, 0], counts[1, 1, 1:] = 0, 0
    shares = limited(counts, 2.5)
    assert np.allclose(shares.sum(axis=-1), 1)
    assert shares.max() <= 2.5 / 32 * (1 + 1e-9)
    assert np.allclose(limited(counts, 1e9)[2], counts[2] / counts[2].sum(axis=-1, keepdims=True))


def test_nan_stays_and_infinity_is_cut() -> None:
    image = np.array([[[np.nan, -np.inf, 0.0, 1.0, 2.0, np.inf]]])
    found = equalise(image, (1, 1, 1), (0.0, 2.0), 2.0, 8)[0, 0]
    assert np.isnan(found[0])
    assert found[[1, 5]].tolist() == [0, 1]


def test_parameters_without_meaning_raise() -> None:
    image = np.zeros((2, 2, 2))
    for limits, slope, bins in (((1.0, 1.0), 2, 8), ((0.0, np.inf), 2, 8), ((0.0, 1.0), 0.5, 8), ((0.0, 1.0), 2, 1)):
        with pytest.raises(ValueError, match="rising limits"):
            equalise(image, (1, 1, 1), limits, slope, bins)
