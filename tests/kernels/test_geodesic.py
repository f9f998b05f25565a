"""Cheapest paths, against scikit-image's minimum cost paths."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.kernels.geodesic import geodesic


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_minimum_cost_paths_of_scikit_image(seed: int) -> None:
    """Every voxel has the cost that Dijkstra's algorithm over 26 neighbours gives it."""
    graph = pytest.importorskip("skimage.graph")
    random = np.random.default_rng(seed)
    cost = random.gamma(1.0, 1.0, (9, 12, 17)).astype(np.float32)
    seeds = random.integers(0, cost.shape, (1 + seed, 3))
    expected, _ = graph.MCP_Geometric(cost.astype(np.float64), fully_connected=True).find_costs([tuple(s) for s in seeds])
    np.testing.assert_allclose(geodesic(cost, seeds), expected, rtol=1e-5)


def test_a_wall_is_walked_around() -> None:
    """A path around a costly wall is cheaper than the one through it."""
    cost = np.ones((1, 5, 5), np.float32)
    cost[0, :4, 2] = 1000
    found = geodesic(cost, [(0, 0, 0)])
    # four steps down and four up, each at a slant where that helps: two of the eight also cross a column
    assert found[0, 0, 4] == pytest.approx(4 * np.sqrt(2) + 4)


def test_no_seed_reaches_nothing_and_bad_input_is_refused() -> None:
    """Without seeds all is infinite; seeds outside and impossible costs raise ValueError."""
    cost = np.ones((3, 3, 3), np.float32)
    assert np.isinf(geodesic(cost, np.empty((0, 3)))).all()
    with pytest.raises(ValueError, match="outside"):
        geodesic(cost, [(3, 0, 0)])
    with pytest.raises(ValueError, match="finite"):
        geodesic(np.full((2, 2, 2), np.nan, np.float32), [(0, 0, 0)])
