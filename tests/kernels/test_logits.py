"""The kernels against scipy's interpolation and numpy's own half precision; the engine's tests add grids and streaming."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from medseg.kernels.logits import clear_winners, labels_by_lines
from medseg.segmentation.learned.engine.taps import linear_taps, nearest_taps

LOW, HIGH = (9, 14, 21), (17, 20, 37)


def outputs_of(channels: int, smooth: bool) -> np.ndarray:
    values = np.random.default_rng(channels).normal(size=(channels, *LOW))
    if smooth:
        values = np.stack([gaussian_filter(channel, 2) * 20 for channel in values])
    return values.astype(np.float32)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_labels_are_the_argmax_of_scipys_zoom(half: bool, shortcut: bool, smooth: bool) -> None:
    outputs = outputs_of(6, smooth)
    scale = [high / low for high, low in zip(HIGH, LOW, strict=True)]
    values = np.stack([zoom(channel.astype(np.float64), scale, order=1, mode="nearest", grid_mode=True) for channel in outputs])
    expected = (values.astype(np.float16) if half else values).argmax(0)
    taps = tuple(linear_taps(low, high).whole() for low, high in zip(LOW, HIGH, strict=True))
    got, share = labels_by_lines(outputs, taps, np.arange(6), half=half, shortcut=shortcut)
    np.testing.assert_array_equal(got, expected)
    assert share == 1 or shortcut


def test_the_shortcut_pays_and_changes_nothing_where_one_channel_wins_by_far() -> None:
    outputs = outputs_of(5, True)
    outputs[0] += 50 * (np.arange(LOW[2]) < 12)
    taps = tuple(linear_taps(low, high).whole() for low, high in zip(LOW, HIGH, strict=True))
    plain, _ = labels_by_lines(outputs, taps, np.arange(5), half=True, shortcut=False)
    quick, share = labels_by_lines(outputs, taps, np.arange(5), half=True, shortcut=True)
    np.testing.assert_array_equal(quick, plain)
    assert share < 0.7


def test_ties_after_rounding_go_to_the_first_channel() -> None:
    """1.0001 and 1.0 are one value in half precision: the first wins, though the second is larger before rounding."""
    outputs = np.array([[[[1.0, 1.0]]], [[[1.0001, 1.0001]]]], np.float32)
    taps = tuple(linear_taps(low, high).whole() for low, high in ((1, 1), (1, 1), (2, 3)))
    for shortcut in (False, True):
        assert labels_by_lines(outputs, taps, np.array([4, 7]), half=True, shortcut=shortcut)[0].tolist() == [[[4, 4, 4]]]
        assert labels_by_lines(outputs, taps, np.array([4, 7]), half=False, shortcut=shortcut)[0].tolist() == [[[7, 7, 7]]]
    assert clear_winners(outputs, half=True).tolist() == [[[-1, -1]]]
    assert clear_winners(outputs).tolist() == [[[1, 1]]]


def test_regions_are_painted_in_order_where_sigmoid_is_above_one_half() -> None:
    outputs = np.array([[[[5.0, 5.0, -1.0]]], [[[-1.0, 2.0, -1.0]]], [[[0.0, 0.0, 0.0]]]], np.float32)
    taps = tuple(linear_taps(n, n).whole() for n in (1, 1, 3))
    assert labels_by_lines(outputs, taps, np.array([1, 2, 3]), regions=True)[0].tolist() == [[[1, 2, 0]]]


def test_order_zero_along_an_axis_takes_rows_as_scipy_does() -> None:
    outputs = outputs_of(4, False)
    taps = (nearest_taps(LOW[0], HIGH[0]), linear_taps(LOW[1], HIGH[1]), linear_taps(LOW[2], HIGH[2]))
    got, _ = labels_by_lines(outputs, tuple(tap.whole() for tap in taps), np.arange(4))
    picked = outputs[:, taps[0].low].astype(np.float64)
    plane = [1, HIGH[1] / LOW[1], HIGH[2] / LOW[2]]
    values = np.stack([zoom(channel, plane, order=1, mode="nearest", grid_mode=True) for channel in picked])
    np.testing.assert_array_equal(got, values.argmax(0))
