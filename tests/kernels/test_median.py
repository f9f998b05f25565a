from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from medseg.kernels.median import _median_of_columns, _sort_columns, median


def test_the_network_sorts_every_column_of_nine() -> None:
    """The 0-1 principle (Knuth 5.3.4): a network of comparisons that sorts all zeros and ones sorts everything."""
    bits = np.array(list(itertools.product((0, 1), repeat=9)), np.int16).T.copy()
    found = np.empty_like(bits)
    _sort_columns(bits, found, bits.shape[1])
    assert np.array_equal(found, np.sort(bits, axis=0))


def test_the_network_finds_the_median_of_every_three_sorted_columns() -> None:
    """All 1000 ways to fill three sorted columns with zeros and ones; by the same principle that is a proof."""
    ones = list(itertools.product(range(10), repeat=3))
    columns = [np.array([[row >= 9 - ways[place] for ways in ones] for row in range(9)], np.int16) for place in range(3)]
    found = np.empty(len(ones), np.int16)
    _median_of_columns(*columns, found)
    assert np.array_equal(found, np.median(np.concatenate(columns), axis=0))


@pytest.mark.parametrize("kind", ["few values", "many values", "rising"])
def test_median_equals_scipy(kind: str, rng: np.random.Generator) -> None:
    shape = (9, 21, 70)
    image = {"few values": rng.integers(0, 3, shape), "many values": rng.integers(-30000, 30000, shape), "rising": np.arange(9 * 21 * 70)}[
        kind
    ]
    image = image.reshape(shape).astype(np.int16)
    assert np.array_equal(median(image), ndimage.median_filter(image, 3, mode="nearest"))


def test_integers_take_no_memory_but_the_result() -> None:
    image = np.zeros((64, 64, 64), np.int16)
    median(image)
    tracemalloc.start()
    median(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * image.nbytes
