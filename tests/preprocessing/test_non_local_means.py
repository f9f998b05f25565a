from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.preprocess import preprocess

GRID = Geometry((24, 25, 26), np.diag([1.0, 1.0, 2.0, 1.0]))


def test_rician_noise_loses_its_lift() -> None:
    """The magnitude of a signal of 20 with noise of 15 is 26 in the mean; as Rician noise it is taken back."""
    rng = np.random.default_rng(5)
    magnitude = np.hypot(20 + rng.normal(0, 15, GRID.shape), rng.normal(0, 15, GRID.shape))
    scan = Volume(magnitude, GRID, "MR")
    plain = preprocess(scan, "non-local-means", noise=15, strength=2).array.mean()
    rician = preprocess(scan, "non-local-means", noise=15, strength=2, distribution="rician").array.mean()
    assert magnitude.mean() == pytest.approx(26, abs=1)
    assert plain > 23
    assert rician == pytest.approx(20, abs=1.5)


def test_a_pattern_that_repeats_stays_where_a_gaussian_blurs_it() -> None:
    stripes = np.where(np.arange(26) % 2, 100.0, 0.0) * np.ones(GRID.shape)
    scan = Volume(stripes + np.random.default_rng(5).normal(0, 5, GRID.shape), GRID, "MR")
    error = preprocess(scan, "non-local-means", noise=5).array - stripes
    assert error.std() < 2
    assert (preprocess(scan, "gaussian", sigma_mm=1.0).array - stripes).std() > 5


@pytest.mark.parametrize(
    "chosen", [{"search_mm": 0}, {"patch_radius_voxels": 3}, {"noise": -1}, {"strength": 0}, {"distribution": "poisson"}]
)
def test_impossible_parameters_are_refused(chosen: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="non-local-means: "):
        preprocess(Volume(np.zeros((4, 4, 4)), Geometry((4, 4, 4), np.eye(4))), "non-local-means", **chosen)
