from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.kernels.competition import compete

BUCKETS = 65536
NEIGHBOURS = {
    number: [step for step in np.ndindex(3, 3, 3) if 0 < sum(abs(n - 1) for n in step) <= {6: 1, 18: 2, 26: 3}[number]]
    for number in (6, 18, 26)
}


def plain(image: np.ndarray, markers: np.ndarray, connectivity: int, most: float) -> np.ndarray:
    """Seeded region growing as its definition says, with sets and dictionaries."""
    grey = image.astype(np.float64)
    labels = {tuple(at): int(markers[tuple(at)]) for at in np.argwhere(markers)}
    members: dict[int, list[float]] = {}
    for at, label in labels.items():
        members.setdefault(label, []).append(grey[at])
    per_unit = (BUCKETS - 1) / np.ptp(grey) if np.ptp(grey) > 0 else 0.0

    def near(at: tuple[int, ...]) -> list[tuple[int, ...]]:
        places = [tuple(n + step - 1 for n, step in zip(at, steps, strict=True)) for steps in NEIGHBOURS[connectivity]]
        return [place for place in places if all(0 <= n < length for n, length in zip(place, image.shape, strict=True))]

    def best(at: tuple[int, ...]) -> tuple[float, int]:
        return min((abs(grey[at] - np.mean(members[labels[other]])), labels[other]) for other in near(at) if other in labels)

    waiting: dict[tuple[int, ...], int] = {}

    def queue(at: tuple[int, ...]) -> None:
        for other in near(at):
            if other not in labels and other not in waiting and best(other)[0] <= most:
                waiting[other] = min(int(best(other)[0] * per_unit), BUCKETS - 1)

    for at in list(labels):
        queue(at)
    while waiting:
        least = min(waiting.values())
        batch = [at for at, bucket in waiting.items() if bucket == least]
        for at in batch:
            del waiting[at]
        chosen = {at: best(at)[1] for at in batch if best(at)[0] <= most}
        for at, label in chosen.items():
            labels[at] = label
            members[label].append(grey[at])
        for at in chosen:
            queue(at)
    out = np.zeros_like(markers)
    for at, label in labels.items():
        out[at] = label
    return out


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([6, 18, 26]), st.tuples(*[st.integers(1, 5)] * 3), st.sampled_from([3.0, 7.5, np.inf]))
def test_it_is_seeded_region_growing_as_defined(number: int, connectivity: Any, shape: tuple[int, int, int], most: float) -> None:
    rng = np.random.default_rng(number)
    image = rng.integers(0, 20, shape).astype(np.int16)
    markers = np.where(rng.random(shape) < 0.05, rng.integers(1, 4, shape), 0).astype(np.uint8)
    assert np.array_equal(compete(image, markers, connectivity, most), plain(image, markers, connectivity, most))


def test_turning_the_array_turns_the_result() -> None:
    rng = np.random.default_rng(8)
    image = rng.integers(0, 90, (9, 11, 13)).astype(np.int16)
    markers = np.zeros(image.shape, np.uint8)
    for label, at in enumerate(((1, 1, 1), (7, 9, 2), (4, 5, 11)), 1):
        markers[at] = label
    expected = compete(image, markers, 6)
    assert set(np.unique(expected)) == {1, 2, 3}
    for turn in ((slice(None, None, -1),) * 3, (slice(None), slice(None, None, -1), slice(None))):
        assert np.array_equal(compete(image[turn].copy(), markers[turn].copy(), 6), expected[turn])
    assert np.array_equal(compete(image.T.copy(), markers.T.copy(), 6), expected.T)


def test_what_is_masked_or_not_finite_is_left_out_and_separates() -> None:
    image = np.array([[[1, 1, np.nan, 1, 1, np.inf, 1]]], np.float32)
    markers = np.array([[[1, 0, 0, 0, 0, 0, 0]]], np.uint8)
    assert compete(image, markers).ravel().tolist() == [1, 1, 0, 0, 0, 0, 0]
    plain_image, mask = np.ones((1, 1, 5), np.int16), np.array([[[1, 1, 0, 1, 1]]], np.uint8)
    assert compete(plain_image, np.array([[[0, 1, 0, 0, 2]]], np.uint8), mask=mask).ravel().tolist() == [1, 1, 0, 2, 2]
    assert not compete(plain_image, np.zeros((1, 1, 5), np.uint8)).any()


def test_memory_is_what_the_docstring_says() -> None:
    image = np.random.default_rng(0).integers(0, 900, (60, 64, 64)).astype(np.int16)
    markers = np.zeros(image.shape, np.uint8)
    markers[5, 5, 5], markers[50, 50, 50] = 1, 2
    compete(image, markers)
    tracemalloc.start()
    try:
        compete(image, markers)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 21 * np.prod([length + 2 for length in image.shape]) + 1e6


def test_grids_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="resample"):
        compete(np.zeros((2, 2, 2)), np.zeros((2, 2, 3), np.uint8))
