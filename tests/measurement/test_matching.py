"""Which lesion is which: small scenes with the whole answer written out, on grids of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.measurement.matching import Cloud, cloud_of, match, share_in_view

SHAPE = (40, 36, 30)


def scene(affine: np.ndarray, *boxes: tuple[tuple[int, int, int], int]) -> LabelMap:
    """Cubes given by their lowest corner and edge in voxels, numbered from 1."""
    array = np.zeros(SHAPE, np.uint8, order="F")
    for number, ((i, j, k), edge) in enumerate(boxes, start=1):
        array[i : i + edge, j : j + edge, k : k + edge] = number
    return LabelMap(array, Geometry(SHAPE, affine), tuple(Segment(n, f"lesion {n}") for n in range(1, len(boxes) + 1)))


def clouds(label_map: LabelMap) -> list[Cloud]:
    return [cloud_of(label_map, segment.number) for segment in label_map.segments]


def groups(before: LabelMap, after: LabelMap, **settings) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    found = match(clouds(before), after, [segment.number for segment in after.segments], **settings)
    return [(group.kind, group.known, group.found) for group in found]


def test_points_stand_for_the_volume(affine):
    """On every kind of grid the points of a lesion have its volume and its centre of mass."""
    one = scene(affine, ((3, 4, 5), 3))
    cloud = cloud_of(one, 1)
    assert cloud.volume_mm3 == pytest.approx(27 * one.geometry.voxel_volume_mm3)
    assert cloud.centre_mm == pytest.approx(one.geometry.index_to_world([4, 5, 6]))
    large = cloud_of(scene(affine, ((2, 2, 2), 26)), 1)
    assert large.volume_mm3 == pytest.approx(26**3 * one.geometry.voxel_volume_mm3)


def test_the_same_scene_matches_itself(affine):
    before = scene(affine, ((2, 2, 2), 5), ((20, 20, 20), 4))
    assert groups(before, before) == [("same", (0,), (1,)), ("same", (1,), (2,))]


def test_all_that_can_happen_at_once(affine):
    before = scene(affine, ((2, 2, 2), 5), ((12, 2, 2), 4), ((16, 2, 2), 4), ((2, 20, 2), 10), ((30, 30, 24), 3))
    after = scene(affine, ((2, 2, 2), 6), ((12, 2, 2), 8), ((2, 20, 2), 4), ((8, 26, 8), 4), ((30, 2, 20), 4))
    assert groups(before, after, tolerance_mm=0.0) == [
        ("same", (0,), (1,)),
        ("merged", (1, 2), (2,)),
        ("split", (3,), (3, 4)),
        ("gone", (4,), ()),
        ("new", (), (5,)),
    ]


def test_many_to_many_is_one_group_and_said():
    affine = np.eye(4)
    before = scene(affine, ((2, 2, 2), 4), ((8, 2, 2), 8))
    after = scene(affine, ((2, 2, 2), 9), ((12, 2, 2), 4))
    (group,) = match(clouds(before), after, [1, 2])
    assert (group.kind, group.known, group.found, group.is_many_to_many) == ("merged", (0, 1), (1, 2), True)


def test_the_tolerance_pairs_what_breathing_moved():
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    before, after = scene(affine, ((5, 5, 5), 4)), scene(affine, ((12, 5, 5), 4))
    # the faces lie 3 mm apart; each voxel is divided by 4, so its outer points lie 1/8 mm inside of them
    (group,) = match(clouds(before), after, [1], tolerance_mm=5.0)
    assert (group.kind, group.rule, group.overlap) == ("same", "distance", 0.0)
    assert group.gap_mm == pytest.approx(3.25)
    assert group.centre_distance_mm == pytest.approx(7.0)
    assert groups(before, after, tolerance_mm=2.0) == [("gone", (0,), ()), ("new", (), (1,))]


def test_neighbours_that_brush_against_each_other_stay_apart():
    """A shift of two voxels makes each of two neighbours touch the other's place: the larger share decides."""
    affine = np.eye(4)
    before = scene(affine, ((4, 10, 10), 7), ((12, 10, 10), 7))
    after = scene(affine, ((6, 10, 10), 7), ((14, 10, 10), 7))
    assert groups(before, after) == [("same", (0,), (1,)), ("same", (1,), (2,))]


def test_pairs_by_distance_are_the_shortest_together():
    """Two lesions jump 5 mm to the right: the second lands nearer to the first one's place than its own, and is not stolen."""
    affine = np.eye(4)
    before = scene(affine, ((2, 10, 10), 3), ((9, 10, 10), 2))
    after = scene(affine, ((6, 10, 10), 2), ((13, 10, 10), 2))
    assert groups(before, after, tolerance_mm=6.0) == [("same", (0,), (1,)), ("same", (1,), (2,))]


def test_layers_that_overlap_are_looked_at_one_by_one():
    affine = np.eye(4)
    before = scene(affine, ((2, 2, 2), 6), ((20, 20, 20), 4))
    first, second = scene(affine, ((2, 2, 2), 6)), scene(affine, ((20, 20, 20), 4))
    second = LabelMap((second.array * 2).astype(np.uint8), second.geometry, (Segment(2, "other"),))
    found = match(clouds(before), (first, second), [1, 2])
    assert [(g.known, g.found) for g in found] == [((0,), (1,)), ((1,), (2,))]


def test_nothing_on_one_side():
    affine = np.eye(4)
    empty, one = scene(affine), scene(affine, ((2, 2, 2), 4))
    assert groups(empty, one) == [("new", (), (1,))]
    assert groups(one, empty) == [("gone", (0,), ())]
    assert groups(empty, empty) == []


def test_what_lies_off_the_grid_is_not_in_view(affine):
    grid = Geometry(SHAPE, affine)
    points = grid.index_to_world([[1.0, 1, 1], [2, 2, 2], [-5, 1, 1], [1, 1, 40]])
    assert share_in_view(points, grid) == 0.5
