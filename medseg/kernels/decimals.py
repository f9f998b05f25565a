"""Decimal strings as numbers, many at once (DICOM value representation DS, PS3.5, 6.2)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_SPACE, _PLUS, _MINUS, _POINT, _NINE, _ZERO, _BACKSLASH = 32, 43, 45, 46, 57, 48, 92
_EXACT = 1 << 53  # whole numbers below this, over a power of ten up to 10^22, are rounded once: as Python rounds them


@njit(cache=True, nogil=True)
def _parse(text, out):  # type: ignore[no-untyped-def]
    """Parse plain decimals between backslashes; -1 where something else stands there."""
    count = at = 0
    size = text.size
    while True:
        while at < size and text[at] == _SPACE:
            at += 1
        is_negative = at < size and text[at] == _MINUS
        if at < size and (text[at] == _MINUS or text[at] == _PLUS):
            at += 1
        whole, places, digits, is_fraction = 0, 0, 0, False
        while at < size:
            c = text[at]
            if _ZERO <= c <= _NINE:
                if whole >= _EXACT // 10 - 1:
                    return -1
                whole = whole * 10 + (c - _ZERO)
                digits += 1
                places += is_fraction
            elif c == _POINT and not is_fraction:
                is_fraction = True
            else:
                break
            at += 1
        if digits == 0 or places > 22:
            return -1
        scale = 1.0
        for _ in range(places):
            scale *= 10.0
        value = whole / scale
        out[count] = -value if is_negative else value
        count += 1
        while at < size and text[at] == _SPACE:
            at += 1
        if at == size:
            return count
        if text[at] != _BACKSLASH:
            return -1
        at += 1


def parse_decimals(text: bytes) -> NDArray[np.float64]:
    """Return the numbers of a decimal string with values parted by backslashes; ValueError where one is no number."""
    stripped = text.strip(b" \0")
    if not stripped:
        return np.empty(0)
    out = np.empty(stripped.count(b"\\") + 1)
    if _parse(np.frombuffer(stripped, np.uint8), out) == out.size:
        return out
    return np.array([float(part.strip(b" \0")) for part in stripped.split(b"\\")])  # exponents, long mantissas, or nonsense
