from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import maximum_flow

from medseg.kernels.min_cut import min_cut


def halves(shape: tuple[int, ...], axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    before, after = [slice(None)] * len(shape), [slice(None)] * len(shape)
    before[axis], after[axis] = slice(None, -1), slice(1, None)
    return tuple(before), tuple(after)


def cost_of(mask: NDArray[Any], terminal: NDArray[Any], edges: NDArray[Any]) -> int:
    """What a cut costs, added up from its definition."""
    total = int(terminal[(mask == 0) & (terminal > 0)].sum(dtype=np.int64)) - int(terminal[(mask > 0) & (terminal < 0)].sum(dtype=np.int64))
    for axis in range(3):
        one, other = halves(mask.shape, axis)
        total += int(edges[axis][one][mask[one] != mask[other]].sum(dtype=np.int64))
    return total


def flow_of_scipy(terminal: NDArray[Any], edges: NDArray[Any]) -> int:
    number = np.arange(terminal.size).reshape(terminal.shape)
    source, sink = terminal.size, terminal.size + 1
    rows, columns, capacities = [], [], []
    for axis in range(3):
        one, other = halves(terminal.shape, axis)
        for a, b in ((one, other), (other, one)):
            rows.append(number[a].ravel())
            columns.append(number[b].ravel())
            capacities.append(edges[axis][one].ravel())
    inside, outside = terminal.ravel() > 0, terminal.ravel() < 0
    rows += [np.full(inside.sum(), source), np.flatnonzero(outside)]
    columns += [np.flatnonzero(inside), np.full(outside.sum(), sink)]
    capacities += [terminal.ravel()[inside], -terminal.ravel()[outside]]
    graph = coo_matrix((np.concatenate(capacities), (np.concatenate(rows), np.concatenate(columns))), (sink + 1, sink + 1))
    return int(maximum_flow(graph.tocsr().astype(np.int32), source, sink).flow_value)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 6, 7), (5, 1, 8), (7, 6, 5), (12, 11, 10)])
@pytest.mark.parametrize(("strong", "most"), [(3, 5), (40, 30), (1000, 100_000), (5, 1000)])
def test_the_cut_costs_what_the_flow_of_scipy_is(shape: tuple[int, int, int], strong: int, most: int) -> None:
    rng = np.random.default_rng(most)
    terminal = rng.integers(-strong, strong + 1, shape).astype(np.int32)
    edges = (rng.integers(0, most, (3, *shape)) * (rng.random((3, *shape)) < 0.8)).astype(np.int32)
    mask, cost = min_cut(terminal, edges)
    assert cost == flow_of_scipy(terminal, edges)
    assert cost == cost_of(mask, terminal, edges)


def test_sparse_marks_and_weak_edges_make_long_paths() -> None:
    """Few terminals far apart: trees grow long, orphans are many."""
    rng = np.random.default_rng(5)
    shape = (14, 13, 15)
    terminal = np.zeros(shape, np.int32)
    terminal[2:4, 2:4, 2:4], terminal[10:13, 9:12, 11:14] = 10_000, -10_000
    terminal[0, 12, 14], terminal[13, 0, 0] = 500, -400
    edges = rng.integers(1, 60, (3, *shape)).astype(np.int32)
    mask, cost = min_cut(terminal, edges)
    assert cost == flow_of_scipy(terminal, edges) == cost_of(mask, terminal, edges)
    assert 0 < mask.sum() < mask.size


def test_of_equal_cuts_the_smallest_and_the_same_one_after_flips() -> None:
    rng = np.random.default_rng(8)
    shape = (8, 9, 7)
    terminal = rng.integers(-2, 3, shape).astype(np.int32)  # small whole numbers: many cuts are equally cheap
    edges = rng.integers(0, 3, (3, *shape)).astype(np.int32)
    mask, cost = min_cut(terminal, edges)
    for axis in range(3):
        turned = np.flip(edges, axis + 1).copy()
        turned[axis] = np.roll(turned[axis], -1, axis)  # the edge to the next voxel is that to the one before
        again, same = min_cut(np.flip(terminal, axis), turned)
        assert same == cost
        assert np.array_equal(np.flip(again, axis), mask)
    ties = min_cut(np.array([[[5, 0, 0, -5]]], np.int32), np.full((3, 1, 1, 4), 2, np.int32))
    assert (ties[0].tolist(), ties[1]) == ([[[1, 0, 0, 0]]], 2)


def test_the_largest_costs_do_not_overflow() -> None:
    top = 1 << 28
    terminal = np.array([[[top, top, -top, -top]]], np.int32)
    mask, cost = min_cut(terminal, np.full((3, 1, 1, 4), top, np.int32))
    assert cost == top
    assert mask.sum() == 2


def test_wrong_shapes_and_costs_are_refused() -> None:
    terminal, edges = np.zeros((2, 3, 4), np.int32), np.zeros((3, 2, 3, 4), np.int32)
    with pytest.raises(ValueError, match=r"pass \(k, j, i\) and \(3, k, j, i\)"):
        min_cut(terminal, edges[:2])
    with pytest.raises(ValueError, match="scale them down"):
        min_cut(terminal, edges - 1)
    with pytest.raises(ValueError, match="scale them down"):
        min_cut(terminal + (1 << 28) + 1, edges)
