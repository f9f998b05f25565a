"""Surfaces in patient space: volume, orientation and place on every kind of grid, against formulas and VTK."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import ParameterError, UnknownSegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.measurement.surfaces import surfaces


def ball_map(affine, radius_mm=14.0, shape=(48, 40, 24)):
    grid = Geometry(shape, affine)
    centre = grid.index_to_world((np.array(shape) - 1) / 2 + (0.2, -0.1, 0.3))
    distance = np.linalg.norm(grid.index_to_world(np.moveaxis(np.indices(shape), 0, -1)) - centre, axis=-1)
    array = np.asfortranarray(np.where(distance < radius_mm, 1 + (distance < radius_mm / 2), 0).astype(np.uint8))
    return LabelMap(array, grid, (Segment(1, "shell"), Segment(2, "core"))), centre


@pytest.mark.parametrize("smoothing", [0, 16])
def test_a_ball_on_every_grid(affine, smoothing):
    label_map, centre = ball_map(affine)
    shell, core = surfaces(label_map, smoothing=smoothing)
    ml = label_map.geometry.voxel_volume_mm3 / 1000
    for surface in (shell, core):
        assert surface.volume_ml == pytest.approx(label_map.mask(surface.segment.label).sum() * ml, rel=2e-3)
    assert core.volume_ml + shell.volume_ml == pytest.approx(4 / 3 * np.pi * 14**3 / 1000, rel=0.01)
    distance = np.linalg.norm(core.vertices_mm - centre, axis=1)
    assert abs(distance.mean() - 7) < 0.35
    outward = (core.normals() * (core.vertices_mm - centre)).sum(axis=1) / distance
    assert (outward > 0).mean() > 0.99
    if smoothing:
        assert outward.mean() > 0.9


def test_the_place_of_a_voxel(affine):
    """A single voxel is its parallelepiped: the corners half an index away."""
    array = np.zeros((5, 6, 7), np.uint8)
    array[3, 1, 4] = 9
    grid = Geometry(array.shape, affine)
    (voxel,) = surfaces(LabelMap(array, grid, (Segment(9, "one"),)), smoothing=0)
    corners = grid.index_to_world([(3 + a, 1 + b, 4 + c) for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (-0.5, 0.5)])
    got = voxel.vertices_mm[np.lexsort(np.round(voxel.vertices_mm, 2).T)]
    np.testing.assert_allclose(got, corners[np.lexsort(np.round(corners, 2).T)], atol=1e-4)
    assert voxel.volume_ml == pytest.approx(grid.voxel_volume_mm3 / 1000, rel=1e-5)


def test_segments_by_choice_and_absent_ones():
    label_map, _ = ball_map(np.eye(4))
    with_absent = LabelMap(label_map.array, label_map.geometry, (*label_map.segments, Segment(5, "absent")))
    assert [surface.segment.label for surface in surfaces(with_absent, ["core"])] == ["core"]
    (absent,) = surfaces(with_absent, [5])
    assert (len(absent.triangles), absent.volume_ml, absent.area_mm2) == (0, 0.0, 0.0)
    with pytest.raises(UnknownSegmentError, match="shell, core"):
        surfaces(label_map, ["liver"])
    for steps in (-1, 10**6):
        with pytest.raises(ParameterError):
            surfaces(label_map, smoothing=steps)


def test_layers_may_overlap():
    grid = Geometry((6, 6, 6), np.eye(4))
    big, small = np.zeros((2, 6, 6, 6), np.uint8)
    big[1:5, 1:5, 1:5] = 1
    small[2:4, 2:4, 2:4] = 2
    layers = (LabelMap(small, grid, (Segment(2, "b"),)), LabelMap(big, grid, (Segment(1, "a"),)))
    assert [round(surface.volume_ml * 1000) for surface in surfaces(layers, smoothing=0)] == [64, 8]


def test_real_organs_keep_their_volume_and_are_closed(organs):
    counts = np.bincount(organs.array.ravel(order="K"))
    ml = organs.geometry.voxel_volume_mm3 / 1000
    found = surfaces(organs)
    assert len(found) == len(organs.segments)
    for surface in found:
        expected = counts[surface.segment.number] * ml
        assert surface.volume_ml == pytest.approx(expected, rel=1e-3 if expected > 10 else 0.05)
        triangles = surface.triangles.astype(np.int64)
        edges = np.concatenate([triangles[:, [n, (n + 1) % 3]] for n in range(3)])
        size = len(surface.vertices_mm)
        forth, back = edges @ (size, 1), edges @ (1, size)
        assert len(np.unique(forth)) == len(forth)
        assert np.array_equal(np.sort(forth), np.sort(back))
