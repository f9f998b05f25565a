"""The loops of a thumbnail against what numpy says pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.reporting.planes import PLANES, plane_of
from medseg.reporting.thumbnail import _page
from medseg.reporting.thumbnail_pixels import LINE, labels_below

SIZE = 60


@pytest.mark.parametrize("name", PLANES)
def test_a_page_lies_where_the_plane_says(affine: np.ndarray, name: str) -> None:
    plane = plane_of(Geometry((30, 24, 18), affine), name)
    left, top, side = -3.0, 4.0, 37.0
    page = _page(plane, left, top, side / SIZE)
    found = plane.voxels_of_pixels((left, top, left + side, top + side), SIZE / side)
    down, right = np.mgrid[:SIZE, :SIZE]
    np.testing.assert_allclose(page[0] + down * page[2], found[0], atol=1e-4)
    np.testing.assert_allclose(page[1] + down * page[3] + right * page[4], found[1], atol=1e-4)


@pytest.mark.parametrize(
    "page", [(-7.3, -4.1, 0.31, 0.0, 0.4), (2.2, -20.5, 0.9, 0.37, 0.7), (-0.4, 25.0, 0.2, -0.11, 0.3), (-90.0, 0, 1, 0, 1)]
)
def test_labels_and_outlines_are_those_of_a_look_at_every_pixel(page: tuple[float, ...]) -> None:
    random = np.random.default_rng(5)
    labels = np.kron(random.integers(0, 4, (9, 8)), np.ones((3, 4))).astype(np.int32)
    out, edge = np.full((SIZE, SIZE), -1, np.int32), np.zeros((SIZE, SIZE), np.uint8)
    labels_below(labels, np.array(page), out, edge)
    down, right = np.mgrid[:SIZE, :SIZE]
    row, column = np.floor(page[0] + down * page[2] + 0.5), np.floor(page[1] + down * page[3] + right * page[4] + 0.5)
    inside = (row >= 0) & (row < labels.shape[0]) & (column >= 0) & (column < labels.shape[1])
    expected = np.where(inside, labels[np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int)], -1)
    np.testing.assert_array_equal(out, expected)
    near = np.zeros((SIZE, SIZE), bool)
    around = np.pad(expected, LINE, constant_values=-1)
    for reach in range(-LINE, LINE + 1):
        for shift in ((reach, 0), (0, reach)):
            other = around[LINE + shift[0] :, LINE + shift[1] :][:SIZE, :SIZE]
            near |= (other >= 0) & (other != expected)
    np.testing.assert_array_equal(edge[expected > 0] > 0, near[expected > 0])
