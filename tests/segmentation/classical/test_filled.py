from __future__ import annotations

import numpy as np

from medseg.segmentation.classical.filled import filled


def test_the_nearest_finite_voxel_is_the_nearest_in_mm() -> None:
    image = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)  # (k,j,i)
    holes = np.random.default_rng(2).random(image.shape) < 0.7
    image[holes] = np.nan
    spacing_mm = (0.7, 1.1, 5.0)  # (i,j,k)
    found, finite = filled(image, "canny", spacing_mm)
    assert finite is not None
    assert np.array_equal(finite, ~holes)
    known = np.argwhere(~holes)
    for voxel in np.argwhere(holes):
        far = np.linalg.norm((known - voxel) * spacing_mm[::-1], axis=1)
        assert found[tuple(voxel)] in image[tuple(known[far <= far.min() + 1e-9].T)]


def test_a_thick_slice_is_farther_than_a_neighbour_in_the_plane() -> None:
    image = np.full((2, 1, 4), np.nan, np.float32)
    image[0, 0, 0], image[1, 0, 3] = 1, 9
    assert filled(image, "canny", (1, 1, 5))[0].tolist() == [[[1, 1, 1, 1]], [[9, 9, 9, 9]]]
