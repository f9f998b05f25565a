"""Clicks from masks: the deepest voxel by brute force, spread, and the same points however a scan is stored."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from medseg.core.errors import ParameterError, SegmentError, UnknownSegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.preprocessing.orientation import reoriented
from medseg.segmentation.prompt_points import points_from

SHAPE = (24, 20, 14)


def lumps(affine: np.ndarray) -> LabelMap:
    """Two lumps of one segment, the first larger, beside another segment."""
    grid = Geometry(SHAPE, affine)
    points = grid.index_to_world(np.stack(np.indices(SHAPE), axis=-1)) - grid.index_to_world((12, 10, 7))
    along = grid.direction[:, 0]
    array = np.zeros(SHAPE, np.uint8)
    array[np.linalg.norm(points + 4 * along, axis=-1) < 4.5] = 1
    array[np.linalg.norm(points - 5 * along, axis=-1) < 3.1] = 1
    array[0] = 2
    return LabelMap(array, grid, (Segment(1, "tumour"), Segment(2, "table"), Segment(3, "absent")))


def test_the_first_point_is_the_deepest_voxel(affine: np.ndarray) -> None:
    found = points_from(lumps(affine), "tumour").inside_mm[0]
    label_map = lumps(affine)
    points = label_map.geometry.index_to_world(np.stack(np.indices(SHAPE), axis=-1))
    mask = label_map.mask("tumour")
    depth = cdist(points[mask], points[~mask]).min(axis=1)
    at = np.flatnonzero(np.linalg.norm(points[mask] - found, axis=1) < 1e-6)
    assert len(at) == 1
    assert depth[at[0]] == pytest.approx(depth.max(), abs=1e-3)


def test_the_second_point_goes_to_the_other_lump(affine: np.ndarray) -> None:
    first, second = points_from(lumps(affine), "tumour", inside=2).inside_mm
    label_map = lumps(affine)
    middle = label_map.geometry.index_to_world((12, 10, 7))
    along = label_map.geometry.direction[:, 0]
    assert (np.array(first) - middle) @ along < -2 < 2 < (np.array(second) - middle) @ along


def test_points_outside_lie_near_and_apart(affine: np.ndarray) -> None:
    label_map = lumps(affine)
    found = points_from(label_map, "tumour", inside=0, outside=4, distance_mm=6.0)
    assert found.inside_mm == ()
    assert len(set(found.outside_mm)) == 4
    points = label_map.geometry.index_to_world(np.stack(np.indices(SHAPE), axis=-1))
    away = cdist(found.outside_mm, points[label_map.mask("tumour")]).min(axis=1)
    assert ((away > 3) & (away <= 6 + 1e-5)).all()
    apart = cdist(found.outside_mm, found.outside_mm)
    assert apart[np.triu_indices(4, 1)].min() > 5


def test_how_the_scan_is_stored_does_not_matter(affine: np.ndarray) -> None:
    one = points_from(lumps(affine), 1, inside=5, outside=5)
    other = points_from(reoriented(lumps(affine), "SRP"), 1, inside=5, outside=5)
    np.testing.assert_allclose(one.inside_mm, other.inside_mm, atol=1e-6)
    np.testing.assert_allclose(one.outside_mm, other.outside_mm, atol=1e-6)


def test_small_and_full_structures() -> None:
    grid = Geometry((3, 3, 3), np.eye(4))
    full = LabelMap(np.ones((3, 3, 3), np.uint8), grid, (Segment(1, "all"),))
    found = points_from(full, "all", inside=40, outside=3)
    assert len(found.inside_mm) == 27
    assert found.outside_mm == ()
    with pytest.raises(SegmentError, match="absent has no voxel"):
        points_from(lumps(np.eye(4)), "absent")
    with pytest.raises(UnknownSegmentError):
        points_from(full, "liver")
    with pytest.raises(ParameterError, match="-1 points inside"):
        points_from(full, "all", inside=-1)
