"""Labels from streamed rows against scipy's interpolation of every channel over the whole volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.engine import export_torch
from medseg.segmentation.learned.engine.export import AffineLabelSink, LabelSink, linear_taps, nearest_taps

NUMBERS = [0, 3, 9, 300]
LOW = (9, 10, 12)
CPU = torch.device("cpu")
MATRICES = {
    "finer, shifted": np.hstack([np.eye(3) * 0.4, np.array([[-0.3], [0.2], [0.0]])]),
    "coarser": np.hstack([np.diag([2.5, 1.0, 1.7]), np.zeros((3, 1))]),
    "turned, left-handed": np.array([[0.0, 0.5, 0.0, 1.0], [-0.6, 0.0, 0.0, 9.5], [0.0, 0.0, 0.8, -2.0]]),
    "axes rolled, flipped": np.array([[0.0, 0.0, -0.7, 8.0], [0.6, 0.0, 0.0, -1.0], [0.0, -0.8, 0.0, 11.0]]),
    "oblique": np.array([[0.5, 0.1, 0.0, 0.3], [-0.1, 0.6, 0.2, 1.0], [0.05, -0.2, 0.5, 2.0]]),
    "sheared": np.array([[0.5, 0.0, 0.0, 0.0], [0.3, 0.6, 0.0, -1.0], [0.0, 0.0, 0.9, 0.4]]),
    "far outside": np.hstack([np.eye(3) * 0.5, np.array([[30.0], [-40.0], [2.0]])]),
}


def logits_of(*shape: int, seed: int = 0, smooth: bool = False) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(len(NUMBERS), *shape)).astype(np.float32)
    return np.stack([gaussian_filter(channel, 2) for channel in values]) if smooth else values


def streamed(sink: Any, logits: np.ndarray, axis: int = 0, rows: int = 3, device: torch.device = CPU) -> Any:
    sink.begin(len(logits), logits.shape[1:], axis, device)
    for first in range(0, logits.shape[axis + 1], rows):
        count = min(rows, logits.shape[axis + 1] - first)
        sink.push(torch.from_numpy(logits).narrow(axis + 1, first, count))
    return sink.finish()


def interpolated(logits: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")).reshape(3, -1)
    places = np.clip(matrix[:, :3] @ index + matrix[:, 3:], 0, np.array(logits.shape[1:])[:, None] - 1)
    values = [map_coordinates(channel.astype(np.float64), places, order=1, mode="nearest") for channel in logits]
    return np.stack(values).reshape(-1, *shape)


def clear(values: np.ndarray) -> np.ndarray:
    ordered = np.sort(values, axis=0)
    return np.asarray(ordered[-1] - ordered[-2] > 1e-5)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("name", MATRICES)
def test_any_grid_equals_scipys_interpolation_of_every_channel(name: str, smooth: bool) -> None:
    shape, matrix = (13, 17, 11), MATRICES[name]
    logits = logits_of(*LOW, smooth=smooth)
    values = interpolated(logits, matrix, shape)
    certain = clear(values)
    assert certain.mean() > 0.99
    expected = np.array(NUMBERS)[values.argmax(0)]
    whole = streamed(AffineLabelSink(matrix, shape, numbers=NUMBERS), logits, rows=100)
    assert whole.dtype == np.uint16
    np.testing.assert_array_equal(whole[certain], expected[certain])
    for axis in range(3):
        for rows in (1, 4):
            np.testing.assert_array_equal(
                streamed(AffineLabelSink(matrix, shape, numbers=NUMBERS), logits, axis, rows)[certain], whole[certain]
            )


@pytest.mark.parametrize("low", [(1, 5, 1), (1, 1, 1), (6, 1, 7)])
@pytest.mark.parametrize("name", ["finer, shifted", "oblique"])
def test_grids_of_one_voxel_along_an_axis_work(name: str, low: tuple[int, int, int]) -> None:
    logits = logits_of(*low)
    values = interpolated(logits, MATRICES[name], (2, 9, 3))
    for axis in range(3):
        got = streamed(AffineLabelSink(MATRICES[name], (2, 9, 3), numbers=NUMBERS), logits, axis)
        np.testing.assert_array_equal(got[clear(values)], np.array(NUMBERS)[values.argmax(0)][clear(values)])


@pytest.mark.parametrize("name", ["turned, left-handed", "oblique"])
def test_regions_of_any_grid_are_painted_in_order(name: str) -> None:
    logits = logits_of(*LOW, smooth=True) * 20
    values = interpolated(logits, MATRICES[name], (13, 17, 11))
    expected = np.zeros(values.shape[1:], int)
    for channel, number in zip(values, (1, 2, 3, 4), strict=True):
        expected[channel > 0] = number
    certain = (np.abs(values) > 1e-4).all(axis=0)
    for axis in range(3):
        got = streamed(AffineLabelSink(MATRICES[name], (13, 17, 11), regions=(1, 2, 3, 4)), logits, axis)
        np.testing.assert_array_equal(got[certain], expected[certain])


@pytest.mark.parametrize("separate", [None, 0, 2])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("high", [(21, 25, 17), (9, 10, 12), (4, 7, 30)])
def test_scaled_grids_follow_nnunets_resampling(high: tuple[int, int, int], half: bool, separate: int | None) -> None:
    logits = logits_of(*LOW)
    taps = [(nearest_taps if axis == separate else linear_taps)(n, m) for axis, (n, m) in enumerate(zip(LOW, high, strict=True))]
    values = logits.astype(np.float64)
    for axis, tap in enumerate(taps):
        weight = tap.weight.astype(np.float64).reshape([-1 if n == axis + 1 else 1 for n in range(4)])
        values = values.take(tap.low, axis + 1) * (1 - weight) + values.take(tap.high, axis + 1) * weight
    expected = (values.astype(np.float16) if half else values).argmax(0)
    for axis in range(3):
        for rows in (1, 5, 100):
            sink = LabelSink((taps[0], taps[1], taps[2]), round_to_half=half)
            np.testing.assert_array_equal(streamed(sink, logits, axis, rows), expected)


def test_labels_go_into_a_given_array_of_any_order() -> None:
    logits = logits_of(*LOW)
    taps = tuple(linear_taps(n, n) for n in LOW)
    expected = np.array(NUMBERS)[logits.argmax(0)]
    for out in (np.zeros(LOW, np.uint16), np.zeros(LOW, np.uint32, order="F"), np.zeros((9, 20, 24), np.uint16)[:, ::2, ::2]):
        assert streamed(LabelSink(taps, numbers=NUMBERS, out=out), logits) is out
        np.testing.assert_array_equal(out, expected)
        out[...] = 0
        assert streamed(AffineLabelSink(np.eye(3, 4), LOW, numbers=NUMBERS, out=out), logits) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("name", ["turned, left-handed", "oblique"])
def test_labels_can_be_counted_without_keeping_them(name: str) -> None:
    logits = logits_of(*LOW)
    kept = streamed(AffineLabelSink(MATRICES[name], (13, 17, 11), numbers=NUMBERS), logits)
    sink = AffineLabelSink(MATRICES[name], (13, 17, 11), numbers=NUMBERS, keep=False)
    assert streamed(sink, logits) is None
    np.testing.assert_array_equal(sink.counts[: kept.max() + 1], np.bincount(kept.ravel()))


def test_a_run_that_starts_anew_forgets_what_came_before() -> None:
    logits = logits_of(*LOW)
    for sink in (LabelSink(tuple(linear_taps(n, n) for n in LOW)), AffineLabelSink(MATRICES["oblique"], LOW)):
        expected = streamed(
            type(sink)(tuple(linear_taps(n, n) for n in LOW)) if isinstance(sink, LabelSink) else AffineLabelSink(MATRICES["oblique"], LOW),
            logits,
        )
        sink.begin(4, LOW, 1, CPU)
        sink.push(torch.from_numpy(-logits)[:, :, :4])
        np.testing.assert_array_equal(streamed(sink, logits), expected)


def test_more_channels_than_labels_are_refused() -> None:
    with pytest.raises(IncompatibleModelError, match="4 channels, the model names 2"):
        streamed(AffineLabelSink(np.eye(3, 4), LOW, numbers=[0, 1]), logits_of(*LOW))


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_the_labels_of_a_device_are_those_of_the_kernels(half: bool, regions: bool) -> None:
    """The code that runs on CUDA, here on a CPU."""
    logits = logits_of(*LOW, smooth=True) * 20
    taps = tuple(linear_taps(n, m) for n, m in zip(LOW, (21, 25, 17), strict=True))
    options = {"regions": NUMBERS} if regions else {"numbers": NUMBERS}
    expected = streamed(LabelSink(taps, round_to_half=half, **options), logits)
    got = export_torch.labels_by_lines(
        torch.from_numpy(logits), [tap.whole() for tap in taps], np.array(NUMBERS), half=half, regions=regions
    )
    assert (got != expected).mean() < 1e-3, "only ties may differ"


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("name", ["oblique", "sheared", "far outside"])
def test_any_grid_on_a_device_is_that_of_the_kernels(name: str, regions: bool) -> None:
    logits, matrix = logits_of(*LOW, smooth=True) * 20, MATRICES[name]
    options = {"regions": NUMBERS} if regions else {"numbers": NUMBERS}
    expected = streamed(AffineLabelSink(matrix, (13, 17, 11), **options), logits)
    got = np.full((13, 17, 11), 77, np.uint16)
    for first, last in ((0, 3), (3, 8)):
        rows = torch.from_numpy(logits)[:, first : last + 1].contiguous()
        export_torch.label_points(rows, first, LOW, (first, last), matrix, np.array(NUMBERS), got, regions=regions)
    assert (got != expected).mean() < 1e-3
    assert not (got == 77).any()
