from __future__ import annotations

import numpy as np
from scipy import ndimage

from medseg.kernels.block_mean import LIMIT, block_mean
from medseg.kernels.level_growth import LEVELS, grow_over_levels


def test_every_level_is_the_connected_part_below_it() -> None:
    rng = np.random.default_rng(5)
    rough = ndimage.gaussian_filter(rng.normal(0, 1, (18, 20, 22)), 1.5)
    keys = np.clip((rough - rough.min()) / np.ptp(rough) * 100, 0, 80).astype(np.uint8)
    keys[keys >= LEVELS] = 255
    keys[[0, -1]], keys[:, [0, -1]], keys[:, :, [0, -1]] = 255, 255, 255
    start = tuple(int(n) for n in np.unravel_index(keys.argmin(), keys.shape))
    gradient = rng.random(keys.shape).astype(np.float32)
    grown = grow_over_levels(keys, gradient, start)
    assert not grown.at_edge.any()
    for level in (int(keys[start]), 20, 33, 40, 63):
        labels, _ = ndimage.label((keys <= level) | (np.array(start) == np.indices(keys.shape).T).all(-1).T)
        region = labels == labels[start]
        border = region & ~ndimage.binary_erosion(region)
        assert np.array_equal(grown.joined <= level, region)
        assert grown.voxels[level] == region.sum()
        assert np.allclose(grown.centre[level], np.argwhere(region).mean(axis=0))
        assert np.isclose(grown.border[level], gradient[border].mean(), rtol=1e-5)
    assert grown.voxels[40] > grown.voxels[20] > 1


def test_growth_ends_at_the_face_of_the_array() -> None:
    keys = np.full((5, 5, 5), 255, np.uint8)
    keys[2, 2, 2:] = 0, 3, 7
    grown = grow_over_levels(keys, np.ones(keys.shape, np.float32), (2, 2, 2))
    assert grown.at_edge.tolist() == [False] * 7 + [True] * (LEVELS - 7)
    assert grown.voxels[:7].tolist() == [1, 1, 1, 2, 2, 2, 2]


def test_blocks_are_means_and_leave_out_what_is_not_finite() -> None:
    image = np.random.default_rng(0).normal(100, 20, (9, 10, 12))
    image[3, 3, 3], image[4, 4, 4] = np.nan, np.inf
    found = block_mean(image, (1, 0, 2), (9, 9, 12), (2, 3, 5), offset=100, scale=2)
    assert found.shape == (4, 3, 2)
    for k, j, i in np.ndindex(found.shape):
        block = image[1 + 2 * k : 3 + 2 * k, 3 * j : 3 * j + 3, 2 + 5 * i : 7 + 5 * i]
        assert np.isclose(found[k, j, i], 2 * (block[np.isfinite(block)].mean() - 100), rtol=1e-5)
    extreme = block_mean(np.array([[[1e300, -1e300, np.nan]]]), (0, 0, 0), (1, 1, 3))
    assert extreme.tolist() == [[[LIMIT, -LIMIT, 0.0]]]


def test_sparse_blocks_take_some_voxels_only() -> None:
    image = np.arange(8, dtype=np.float32).reshape(1, 1, 8)
    assert block_mean(image, (0, 0, 0), (1, 1, 8), (1, 1, 8), sparse=2).tolist() == [[[2.0]]]
