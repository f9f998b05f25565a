"""Runs of bytes unpacked: the RLE compression of DICOM (PS3.5, annex G), which is PackBits of TIFF."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

COMPLETE, TOO_SHORT, TOO_LONG = 0, 1, 2


# Unsigned places: with signed ones every access would first ask whether it counts from the end.
_U = np.uint64


@njit(cache=True, nogil=True)
def _unpack(packed, start, end, plane, first, step):  # type: ignore[no-untyped-def]
    at, upto, to, by = _U(start), _U(end), _U(first), _U(step)
    full, one = _U(plane.size), _U(1)
    while to < full:
        if at >= upto:
            return TOO_SHORT
        control = _U(packed[at])
        at += one
        if control < _U(128):
            count = control + one
            if at + count > upto:
                return TOO_SHORT
            if to + control * by >= full:
                return TOO_LONG
            for _ in range(count):
                plane[to] = packed[at]
                at += one
                to += by
        elif control > _U(128):
            count = _U(257) - control
            if at >= upto:
                return TOO_SHORT
            if to + (count - one) * by >= full:
                return TOO_LONG
            value = packed[at]
            at += one
            for _ in range(count):
                plane[to] = value
                to += by
    while at < upto:  # what fills a segment up holds nothing
        if packed[at] != 0 and packed[at] != 128:
            return TOO_LONG
        at += one
    return COMPLETE


def unpack_bits(packed: NDArray[np.uint8], start: int, end: int, samples: NDArray[np.uint8], byte: int) -> int:
    """Unpack packed[start:end] into one byte of every sample; `samples` has shape (samples, bytes of a sample), C-contiguous.

    Returns COMPLETE, TOO_SHORT where the segment ends before every sample has its byte, TOO_LONG where it holds more.
    Nothing is read or written outside the arrays, whatever the segment says.

    >>> samples = np.zeros((5, 1), np.uint8)
    >>> unpack_bits(np.array([254, 7, 1, 8, 9], np.uint8), 0, 5, samples, 0), samples[:, 0].tolist()
    (0, [7, 7, 7, 8, 9])
    """
    if not (0 <= start <= end <= packed.size and 0 <= byte < samples.shape[1]):
        raise ValueError("the segment or the byte lies outside its array")
    return int(_unpack(packed, start, end, samples.reshape(-1), byte, samples.shape[1]))
