"""The cube of a scan that the network sees, and the way back to the scan, on grids of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GeometryError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.segmentation.learned.prompt.region import box_of_region, paint, read_mask, read_region, region_at

_TURN = np.array([[0.9659, -0.2588, 0], [0.2588, 0.9659, 0], [0, 0, 1]])
AFFINES = {
    "LPS": np.diag([-1.5, -1.2, 3.0]),
    "left-handed": np.diag([1.5, -1.2, 3.0]),
    "oblique": _TURN * [1.5, 1.2, 3.0],
    "sheared": np.array([[1.5, 0, 0], [0, 1.2, 0.8], [0, 0, 3.0]]),
    "permuted": np.array([[0, 0, 3.0], [1.5, 0, 0], [0, -1.2, 0]]),
}


def _grid(kind: str) -> Geometry:
    shape = (44, 50, 22)
    affine = np.eye(4)
    affine[:3, :3] = AFFINES[kind]
    affine[:3, 3] = np.array([10.0, -20, 30]) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Geometry(shape, affine)


def _ramp(grid: Geometry) -> Volume:
    """A scan whose intensity is a linear function of the place in the patient."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return Volume((grid.index_to_world(index) @ [1.0, 2.0, -0.5]).astype(np.float32), grid)


@pytest.mark.parametrize("kind", AFFINES)
@pytest.mark.parametrize("spacing_mm", [0.7, 1.6, 3.3])
def test_a_linear_scan_is_read_exactly(kind: str, spacing_mm: float) -> None:
    """Interpolation and block means keep a linear ramp, so each voxel of the cube must hold the value of its place."""
    grid = _grid(kind)
    region = region_at((10.5, -20.3, 30.2), spacing_mm, 16)
    image = read_region(_ramp(grid), region)
    k, j, i = np.meshgrid(*(np.arange(16),) * 3, indexing="ij")
    places = region.index_to_world(np.stack([i, j, k], axis=-1))
    index = grid.world_to_index(places)
    deep = ((index > 3) & (index < np.array(grid.shape) - 4)).all(axis=-1)
    assert deep.sum() > 500
    np.testing.assert_allclose(image[deep], (places @ [1.0, 2.0, -0.5])[deep], atol=2e-3)


@pytest.mark.parametrize("kind", AFFINES)
def test_a_ball_comes_back_where_it_was(kind: str) -> None:
    """Painting the signed distance of a ball marks the voxels of the scan whose centres lie in the ball."""
    grid = _grid(kind)
    centre, radius = np.array([11.0, -19.0, 29.0]), 9.0
    region = region_at(centre, 1.0, 40)
    k, j, i = np.meshgrid(*(np.arange(40),) * 3, indexing="ij")
    distance = np.linalg.norm(region.index_to_world(np.stack([i, j, k], axis=-1)) - centre, axis=-1)
    painted, box = paint((radius - distance).astype(np.float32), region, grid)
    mask = np.zeros(grid.shape[::-1], bool)
    mask[box.slices[::-1]] = painted
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    far = np.linalg.norm(grid.index_to_world(index) - centre, axis=-1).T
    assert mask[far < radius - 0.1].all()
    assert not mask[far > radius + 0.1].any()


def test_what_lies_beyond_the_scan_is_dark_and_nan_too() -> None:
    """Outside and NaN take the darkest half percent, never a number that was made up."""
    grid = Geometry((20, 20, 20), np.eye(4))
    array = np.full((20, 20, 20), 50.0, np.float32)
    array[:10] = -7.0
    array[15, 15, 15] = np.nan
    image = read_region(Volume(array, grid), region_at((19.5, 9.5, 9.5), 1.0, 16))
    assert np.isfinite(image).all()
    assert image[8, 8, 15] == pytest.approx(50.0, abs=60)
    assert (image[:, :, 12:] == image[0, 0, 15]).all()


def test_a_mask_is_read_as_shares() -> None:
    """At half the size a mask of whole blocks stays 0 and 1, and nothing lies beyond the scan."""
    grid = Geometry((16, 16, 16), np.eye(4))
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[4:8, 4:8, 4:8] = 1
    shares = read_mask(mask, grid, region_at((7.5, 7.5, 7.5), 2.0, 12))
    assert shares.sum() == pytest.approx(8)
    assert set(np.unique(shares)) == {0.0, 1.0}


def test_a_region_elsewhere_is_an_error() -> None:
    """There is nothing to look at."""
    with pytest.raises(GeometryError, match="outside the scan"):
        box_of_region(_grid("LPS"), region_at((900, 0, 0), 1.0, 16))
