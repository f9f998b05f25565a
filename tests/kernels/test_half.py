"""numpy's own half precision is the reference, over every half and over values between and beyond them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from medseg.kernels.half import narrow, rounded, wide


@njit
def _map(values: Any, out: Any, what: int) -> None:
    for i in range(values.size):
        if what == 0:
            out[i] = rounded(values[i])
        else:
            out[i] = narrow(values[i])


@njit
def _widen(values: Any, out: Any) -> None:
    for i in range(values.size):
        out[i] = wide(values[i])


def test_every_finite_half_is_read_exactly() -> None:
    bits = np.arange(65536).astype(np.uint16)
    expected = bits.view(np.float16).astype(np.float32)
    got = np.empty(bits.size, np.float32)
    _widen(bits, got)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[finite], expected[finite])
    assert np.signbit(got[0x8000])


def test_rounding_is_to_nearest_with_ties_to_even_down_to_the_smallest() -> None:
    bits = np.arange(65536).astype(np.uint16)
    halves = bits.view(np.float16).astype(np.float32)
    halves = halves[np.isfinite(halves)]
    rng = np.random.default_rng(0)
    spread = (rng.normal(size=200_000) * 10.0 ** rng.integers(-9, 5, 200_000)).astype(np.float32)
    middles = ((halves[:-1].astype(np.float64) + halves[1:]) / 2).astype(np.float32)
    values = np.concatenate([halves, middles, np.nextafter(middles, np.float32(0)), spread[np.abs(spread) < 65504]])
    expected = values.astype(np.float16)
    as_float, as_bits = np.empty(values.size, np.float32), np.empty(values.size, np.uint16)
    _map(values, as_float, 0)
    _map(values, as_bits, 1)
    np.testing.assert_array_equal(as_float, expected.astype(np.float32))
    np.testing.assert_array_equal(as_bits.view(np.float16), expected)


def test_what_half_cannot_hold_can_be_told() -> None:
    values = np.array([65520.0, 1e6, -1e9], np.float32)
    bits, back = np.empty(3, np.uint16), np.empty(3, np.float32)
    _map(values, bits, 1)
    _widen(bits, back)
    assert (np.abs(back) >= 65536).all()
