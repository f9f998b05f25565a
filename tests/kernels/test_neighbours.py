from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numba import njit

from medseg.kernels.neighbours import kind_of, neighbours_of


@njit
def _kinds(kinds, length, inverse, count):  # type: ignore[no-untyped-def]
    found = np.empty(count, np.int64)
    for v in range(count):
        found[v] = kind_of(kinds, length, inverse, v)
    return found


@pytest.mark.parametrize(("connectivity", "most"), [(6, 1), (18, 2), (26, 3)])
def test_every_voxel_has_the_neighbours_that_lie_on_the_grid(shape: tuple[int, int, int], connectivity: Any, most: int) -> None:
    near = neighbours_of(shape, connectivity)
    steps = [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= most]
    kinds = _kinds(near.kinds, near.length, near.inverse, int(np.prod(shape)))
    for v, place in enumerate(product(*map(range, shape))):
        there = [tuple(a + b for a, b in zip(place, step, strict=True)) for step in steps]
        expected = [np.ravel_multi_index(at, shape) for at in there if all(0 <= a < n for a, n in zip(at, shape, strict=True))]
        assert (v + near.steps[near.starts[kinds[v]] : near.starts[kinds[v] + 1]]).tolist() == expected


def test_the_line_of_a_voxel_is_exact_up_to_the_largest_number() -> None:
    """The product with the inverse is rounded: at both ends of lines of awkward lengths it must not fall on the next line."""
    for length in (1, 3, 7, 49, 511, 512, 1023, 99_991):
        inverse = 1.0 / length
        lines = np.unique(np.concatenate([np.arange(5), np.arange(2**31 // length - 5, 2**31 // length)]))
        for v in (lines * length, lines * length + length - 1):
            assert np.array_equal(((v + 0.5) * inverse).astype(np.int64), lines)
