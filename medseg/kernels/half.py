"""Half precision without hardware or library support: float16 as its 16 bits in uint16.

Numba has no float16 on the CPU. These few integer operations are exact (round to nearest, ties to even) and, unlike
calls, are compiled into vector instructions. Values beyond 65504 become 65536, which half cannot hold: callers check.
Source: IEEE 754-2019, section 3.6 (binary16).
"""

from __future__ import annotations

import numpy as np
from numba import njit

OVERFLOW = 65536.0  # what a value beyond the range of half reads as
_SCALE = np.float32(2.0**112)  # between the exponents of half and of float32
_LEAST_NORMAL = np.float32(2.0**-14)
_MOST = np.float32(65536.0)
_MAGIC = np.float32(0.5)  # its last bit is the last bit of a subnormal half


@njit(cache=True, nogil=True, inline="always")
def wide(half):  # type: ignore[no-untyped-def]
    """The float32 of the 16 bits of a half."""
    bits = np.uint32(half)
    magnitude = np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13)).view(np.float32) * _SCALE
    return -magnitude if bits & np.uint32(0x8000) else magnitude


@njit(cache=True, nogil=True, inline="always")
def rounded(value):  # type: ignore[no-untyped-def]
    """A float32 rounded to the nearest half, as float32."""
    bits = np.float32(value).view(np.uint32)
    even = np.uint32((bits >> np.uint32(13)) & np.uint32(1))
    normal = np.uint32(np.uint32(bits + np.uint32(0xFFF) + even) & np.uint32(0xFFFFE000)).view(np.float32)
    size = abs(np.float32(value))
    small = (size + _MAGIC) - _MAGIC
    small = -small if value < 0 else small
    return small if size < _LEAST_NORMAL else normal


@njit(cache=True, nogil=True, inline="always")
def narrow(value):  # type: ignore[no-untyped-def]
    """The 16 bits of the half nearest to a float32."""
    near = rounded(value)
    bits = np.float32(near).view(np.uint32)
    size = min(abs(near), _MOST)
    magnitude = np.uint32(np.float32(size * (np.float32(1.0) / _SCALE)).view(np.uint32) >> np.uint32(13))
    return np.uint16(magnitude | ((bits >> np.uint32(16)) & np.uint32(0x8000)))
