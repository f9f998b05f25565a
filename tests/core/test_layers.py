from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GeometryMismatchError, OverlappingSegmentsError, SegmentError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.layers import check_layers, joined, packed, segments_of
from medseg.core.segment import Segment

GRID = Geometry((4, 3, 2), np.diag([1.0, 1.0, 2.0, 1.0]))


def layer(number: int, *voxels: tuple[int, int, int], label: str = "", findings: tuple[Finding, ...] = ()) -> LabelMap:
    array = np.zeros(GRID.shape, np.uint16 if number > 255 else np.uint8)
    for voxel in voxels:
        array[voxel] = number
    return LabelMap(array, GRID, (Segment(number, label or f"s{number}"),), findings=findings)


def test_layers_that_do_not_overlap_become_one() -> None:
    note = Finding("X", Severity.INFO, "x")
    one = joined((layer(300, (0, 0, 0), findings=(note,)), layer(2, (1, 0, 0), findings=(note,)), layer(7)))
    assert [segment.number for segment in one.segments] == [2, 7, 300]
    assert (one.array[0, 0, 0], one.array[1, 0, 0], int(np.count_nonzero(one.array))) == (300, 2, 2)
    assert one.findings == (note,)
    alone = layer(1)
    assert joined(alone) is alone


def test_layers_that_overlap_do_not() -> None:
    with pytest.raises(OverlappingSegmentsError, match=r"'s2' overlaps 's1' in 1 voxels"):
        joined((layer(1, (0, 0, 0), (1, 1, 1)), layer(2, (1, 1, 1), (2, 2, 1))))


def test_layers_belong_together() -> None:
    with pytest.raises(SegmentError, match="no layer"):
        check_layers(())
    with pytest.raises(SegmentError, match="number 1"):
        check_layers((layer(1), layer(1, label="other")))
    with pytest.raises(SegmentError, match="label 'same'"):
        check_layers((layer(1, label="same"), layer(2, label="same")))
    elsewhere = LabelMap(np.zeros(GRID.shape, np.uint8), GRID.cropped((1, 0, 0), GRID.shape), (Segment(5, "s5"),))
    with pytest.raises(GeometryMismatchError):
        check_layers((layer(1), elsewhere))
    assert [segment.number for segment in segments_of((layer(9), layer(3)))] == [3, 9]


def test_arrays_go_into_the_first_layer_with_room() -> None:
    """A chain: 1 meets 2, 2 meets 3, 3 meets 4: two layers are enough; an array with several numbers is taken apart."""
    chain = [np.zeros((1, 1, 9), np.uint8) for _ in range(4)]
    for number, array in enumerate(chain, start=1):
        array[0, 0, 2 * number - 2 : 2 * number + 1] = number
    assert [sorted(set(found.ravel()) - {0}) for found in packed([array.copy() for array in chain])] == [[1, 3], [2, 4]]
    both = np.zeros((1, 1, 9), np.uint8)
    both[0, 0, 0], both[0, 0, 8] = 5, 6
    found = packed([chain[0].copy(), both])
    assert [sorted(set(array.ravel()) - {0}) for array in found] == [[1, 6], [5]]
