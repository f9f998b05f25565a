"""Prompts against the grid of a scan: what fits, and what each refusal says."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.segmentation.learned.prompt.prompts import check_prompts

GRID = Geometry((20, 30, 10), np.array([[-2.0, 0, 0, 19], [0, 2.0, 0, -30], [0, 0, 4.0, 100], [0, 0, 0, 1]]))


def test_points_and_boxes_are_kept_in_mm() -> None:
    """A box holds its lowest and highest corner, whichever two opposite corners were given."""
    prompts = check_prompts(GRID, [(0, 0, 110)], [(10, 5, 120)], [(10, -5, 130), (-10, 15, 104)])
    assert prompts.inside_mm.tolist() == [[0, 0, 110]]
    assert prompts.outside_mm.tolist() == [[10, 5, 120]]
    assert prompts.boxes_mm.tolist() == [[[-10, -5, 104], [10, 15, 130]]]
    assert not prompts.is_empty


@pytest.mark.parametrize("where", ["points", "background_points"])
def test_a_point_outside_the_scan_is_named_with_its_position(where: str) -> None:
    """The message holds the point, the parameter and the range of the scan in mm."""
    with pytest.raises(ParameterError, match=rf"prompt: {where}: the point \(0\.0, 0\.0, 90\.0\) mm RAS lies outside.*S 100\.0 to 136\.0"):
        check_prompts(GRID, **{where: [(0.0, 0.0, 90.0)]})  # type: ignore[arg-type]


def test_boxes_that_are_none_are_refused() -> None:
    """An odd number of corners, a flat box, a box elsewhere."""
    with pytest.raises(ParameterError, match="in pairs"):
        check_prompts(GRID, box_corners=[(0, 0, 110)])
    with pytest.raises(ParameterError, match="flat"):
        check_prompts(GRID, box_corners=[(0, 0, 110), (5, 0, 120)])
    with pytest.raises(ParameterError, match=r"the middle of a box\): the point \(0\.0, 0\.0, 200\.0\)"):
        check_prompts(GRID, box_corners=[(-5, -5, 190), (5, 5, 210)])


def test_one_voxel_cannot_be_inside_and_outside() -> None:
    """Two clicks in one voxel that contradict each other are an error, with the place."""
    with pytest.raises(ParameterError, match=r"both inside and outside.*take one click away"):
        check_prompts(GRID, [(1.0, 0.0, 112.0)], [(0.9, 0.1, 111.5)])


def test_a_previous_mask_must_lie_on_the_grid_and_hold_voxels() -> None:
    """Another grid and an empty mask are refused; a good one becomes 0 and 1 with axes (k,j,i)."""
    segments = (Segment(7, "x"),)
    array = np.zeros(GRID.shape, np.uint8)
    with pytest.raises(ParameterError, match="empty"):
        check_prompts(GRID, previous=LabelMap(array, GRID, segments))
    array[3, 4, 5] = 7
    with pytest.raises(GeometryMismatchError, match="another grid"):
        check_prompts(GRID, previous=LabelMap(array[:19], GRID.cropped((0, 0, 0), (19, 30, 10)), segments))
    mask = check_prompts(GRID, previous=LabelMap(array, GRID, segments)).previous
    assert mask is not None
    assert mask.shape == (10, 30, 20)
    assert np.argwhere(mask).tolist() == [[5, 4, 3]]
