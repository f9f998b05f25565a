from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from medseg.core.errors import GeometryError, ParameterError, SegmentError, UnknownSegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.preprocessing.crop import Box, bounding_box, crop_to, plane_distance_mm, segment_boxes


@pytest.fixture
def labels(affine: np.ndarray) -> LabelMap:
    array = np.zeros((12, 13, 14), np.uint16)
    array[2:5, 3:4, 6:9] = 1
    array[9, 12, 0] = 700
    array[4, 8, 10] = 700
    return LabelMap(array, Geometry(array.shape, affine), (Segment(1, "liver"), Segment(700, "lesion"), Segment(3, "absent")))


def test_boxes_are_those_of_scipy(labels: LabelMap) -> None:
    expected = {n + 1: where for n, where in enumerate(scipy.ndimage.find_objects(labels.array.astype(int))) if where}
    assert {number: box.slices for number, box in segment_boxes(labels).items()} == expected


def test_the_bounding_box_holds_the_named_segments(labels: LabelMap) -> None:
    assert bounding_box(labels, ["liver"]) == Box((2, 3, 6), (5, 4, 9))
    assert bounding_box(labels) == Box((2, 3, 0), (10, 13, 11))
    with pytest.raises(SegmentError, match="no voxel belongs to absent"):
        bounding_box(labels, ["absent"])
    with pytest.raises(UnknownSegmentError, match="kidney"):
        bounding_box(labels, ["kidney"])


def test_a_crop_keeps_every_voxel_in_place(labels: LabelMap) -> None:
    volume = Volume(np.arange(labels.array.size).reshape(labels.array.shape), labels.geometry)
    box = Box((2, 3, 6), (5, 4, 9))
    cut = crop_to(volume, box)
    assert np.array_equal(cut.array, volume.array[2:5, 3:4, 6:9])
    assert np.allclose(cut.geometry.index_to_world((1, 0, 2)), volume.geometry.index_to_world((3, 3, 8)))
    assert crop_to(labels, box).array.all()


def test_the_margin_reaches_at_least_as_far_as_asked(labels: LabelMap) -> None:
    """Measured as the distance from the box's outer planes, which on a sheared grid is less than the spacing."""
    box = Box((5, 5, 5), (7, 7, 7))
    wide = box.widened(labels.geometry, 3.0)
    normals = np.linalg.inv(labels.geometry.affine[:3, :3])
    for axis in range(3):
        normal = normals[axis] / np.linalg.norm(normals[axis])
        step_mm = abs(float(normal @ labels.geometry.affine[:3, axis]))
        added = box.start[axis] - wide.start[axis]
        assert added * step_mm >= 3.0 - 1e-6
        assert (added - 1) * step_mm < 3.0
        assert wide.stop[axis] - box.stop[axis] == added
        assert plane_distance_mm(labels.geometry)[axis] == pytest.approx(step_mm)


def test_a_margin_ends_at_the_grid() -> None:
    grid = Geometry((4, 4, 4), np.eye(4))
    assert Box((1, 1, 1), (2, 2, 2)).widened(grid, 100).slices == (slice(0, 4),) * 3
    with pytest.raises(ParameterError, match="margin_mm is -1"):
        Box((1, 1, 1), (2, 2, 2)).widened(grid, -1)
    with pytest.raises(ParameterError, match="margin_mm is nan"):
        Box((1, 1, 1), (2, 2, 2)).widened(grid, float("nan"))


def test_a_box_without_voxels_is_refused() -> None:
    with pytest.raises(GeometryError, match="holds no voxel"):
        Box((1, 1, 1), (1, 2, 2))
    with pytest.raises(GeometryError, match="holds no voxel"):
        crop_to(Volume(np.zeros((3, 3, 3)), Geometry((3, 3, 3), np.eye(4))), Box((5, 5, 5), (7, 7, 7)))
