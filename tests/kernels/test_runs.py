from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.kernels.runs import connect_runs, find_runs, link_runs, paint_runs, reach, runs_with_seeds

ONE, MOST = np.uint8(1), np.uint8(255)


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 2, st.integers(1, 40)), elements=st.integers(0, 1)))
def test_runs_are_the_mask(mask: np.ndarray) -> None:
    runs = find_runs(mask, ONE, MOST)
    assert np.array_equal(paint_runs(runs, np.zeros(runs.first.size, np.int32), np.ones(1, np.uint8)), mask)
    padded = np.pad(mask, [(0, 0), (0, 0), (1, 1)]).astype(int)
    assert runs.first.size == (np.diff(padded, axis=2) == 1).sum()
    assert (runs.stop > runs.first).all()


def test_runs_of_a_line_are_where_they_should_be() -> None:
    mask = np.array([[[0, 1, 1, 0, 1, 0, 0, 0, 1, 1]], [[1] * 10]], np.uint8)
    runs = find_runs(mask, ONE, MOST)
    assert runs.lines.tolist() == [0, 3, 4]
    assert runs.first.tolist() == [1, 4, 8, 0]
    assert runs.stop.tolist() == [3, 5, 10, 10]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 64])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_lines_end_inside_and_at_the_end_of_a_word(length: int, step: int) -> None:
    line = np.zeros(length, np.uint8)
    line[::step] = 1
    line[-1] = 1
    runs = find_runs(np.stack([line, line[::-1]])[None], ONE, MOST)
    expected = []
    for row in (line, line[::-1]):
        edges = np.flatnonzero(np.diff(np.pad(row.astype(int), 1)))
        expected += edges.reshape(-1, 2).tolist()
    assert np.stack([runs.first, runs.stop], axis=1).tolist() == expected


def test_more_runs_than_the_first_room() -> None:
    mask = np.tile(np.array([1, 0], np.uint8), (40, 30, 100))
    runs = find_runs(mask, ONE, MOST)
    assert runs.first.size == 40 * 30 * 100
    assert connect_runs(runs, 26)[1].tolist() == [1200] * 100


def test_runs_that_hold_seeds_and_what_touches_them() -> None:
    runs = find_runs(np.array([[[1, 0, 1, 0, 1], [1, 0, 0, 0, 1]]], np.uint8), ONE, MOST)

    def inside(*seeds: tuple[int, int, int]) -> list[int]:
        return runs_with_seeds(runs, np.array(seeds, np.int64).reshape(-1, 3), 6).tolist()

    assert inside((0, 0, 0)) == [1, 0, 0, 1, 0]
    assert inside((0, 1, 4), (0, 0, 2)) == [0, 1, 1, 0, 1]
    assert inside((0, 0, 1)) == inside() == [0, 0, 0, 0, 0]
    assert link_runs(runs, 6, planes=False).tolist() == [0, 1, 2, 0, 2]


def test_lines_longer_than_16_bits_work() -> None:
    mask = np.zeros((1, 2, 70_001), np.uint8)
    mask[0, 0, 69_990:] = 1
    mask[0, 1, 5:69_991] = 1
    runs = find_runs(mask, ONE, MOST)
    assert runs.first.tolist() == [69_990, 5]
    assert runs.stop.tolist() == [70_001, 69_991]
    _, voxels = connect_runs(runs, 6)
    assert voxels.tolist() == [69_986 + 11]


def test_a_checkerboard_has_a_component_for_each_voxel_or_one() -> None:
    k, j, i = np.indices((5, 6, 7))
    runs = find_runs(((k + j + i) % 2).astype(np.uint8), ONE, MOST)
    assert connect_runs(runs, 6)[1].tolist() == [1] * 105
    assert connect_runs(runs, 18)[1].tolist() == [105]


def test_planes_apart_give_components_in_2d() -> None:
    runs = find_runs(np.ones((3, 4, 5), np.uint8), ONE, MOST)
    assert connect_runs(runs, 26, planes=False)[1].tolist() == [20, 20, 20]


def test_another_connectivity_raises() -> None:
    with pytest.raises(ValueError, match="connectivity is 8"):
        reach(8)
