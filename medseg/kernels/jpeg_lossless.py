"""Lossless JPEG (ISO/IEC 10918-1, annex H): Huffman codes of differences to predicted samples, one component."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

COMPLETE, BAD_CODE, TOO_SHORT, TOO_LONG = 0, 1, 2, 3
_SLACK_BITS = 32  # what encoders may leave after the last sample

# Unsigned numbers: with signed places every access would first ask whether it counts from the end.
_U = np.uint64


def huffman_table(counts: NDArray[np.uint8], symbols: NDArray[np.uint8]) -> NDArray[np.uint16] | None:
    """Return, for every 16 bits that may come, length × 256 + symbol of the code they begin with (0 where none does).

    `counts` says how many codes have 1 to 16 bits, `symbols` names them in that order. None where that is no prefix code.

    >>> table = huffman_table(np.array([1, 1] + [0] * 14, np.uint8), np.array([3, 5], np.uint8))
    >>> [divmod(int(table[bits << 14]), 256) for bits in (0b00, 0b10, 0b11)]
    [(1, 3), (2, 5), (0, 0)]
    """
    table = np.zeros(1 << 16, np.uint16)
    at, number = 0, 0
    for length in range(1, 17):
        for _ in range(int(counts[length - 1])):
            width = 1 << (16 - length)
            if number >= symbols.size or at + width > table.size or symbols[number] > 16:
                return None
            table[at : at + width] = length << 8 | int(symbols[number])
            at += width
            number += 1
    return table


@njit(cache=True, nogil=True, inline="always")
def _predicted(predictor, left, above, corner):  # type: ignore[no-untyped-def]
    if predictor == 1:
        return left
    if predictor == 2:
        return above
    if predictor == 3:
        return corner
    if predictor == 4:
        return left + above - corner
    if predictor == 5:
        return left + ((above - corner) >> 1)
    if predictor == 6:
        return above + ((left - corner) >> 1)
    return (left + above) >> 1


@njit(cache=True, nogil=True, inline="always")
def _next_bytes(stream, at, end):  # type: ignore[no-untyped-def]
    """Four bytes of the scan, zeros after its end, as a number; where to go on, and how many of the bits were made up."""
    byte, one, made_up = _U(8), _U(1), _U(0)
    if at + _U(4) <= end:
        word = _U(stream[at]) << _U(24) | _U(stream[at + one]) << _U(16) | _U(stream[at + _U(2)]) << byte | _U(stream[at + _U(3)])
        flipped = ~word & _U(0xFFFFFFFF)
        if (flipped - _U(0x01010101)) & ~flipped & _U(0x80808080) == _U(0):  # none of them is 255
            return word, at + _U(4), made_up
    word = _U(0)
    for _ in range(4):
        word <<= byte
        if at < end:
            word |= _U(stream[at])
            at += _U(2) if stream[at] == 0xFF else one  # a stuffed zero follows 255
        else:
            made_up += byte
    return word, at, made_up


@njit(cache=True, nogil=True)
def _decode(stream, start, stop, table, predictor, first, samples):  # type: ignore[no-untyped-def]
    at, end = _U(start), _U(stop)
    held, count, made_up = _U(0), _U(0), _U(0)  # bits read ahead: the lowest `count` of `held`, the last of them made up
    rows, columns = samples.shape
    byte, half = _U(8), _U(32)
    for j in range(rows):
        left = np.int64(first) if j == 0 else np.int64(samples[j - 1, 0])
        for i in range(columns):
            if count < half:
                word, at, more = _next_bytes(stream, at, end)
                held = held << half | word
                count += half
                made_up += more
                if made_up > count:
                    return TOO_SHORT
            code = _U(table[(held >> (count - _U(16))) & _U(0xFFFF)])
            length, bits = code >> byte, code & _U(0xFF)
            if length == _U(0):
                return BAD_CODE if made_up == _U(0) else TOO_SHORT
            count -= length
            difference = np.int64(0)
            if bits == _U(16):
                difference = np.int64(32768)
            elif bits != _U(0):
                count -= bits
                value = (held >> count) & ((_U(1) << bits) - _U(1))
                difference = np.int64(value)
                if value < _U(1) << (bits - _U(1)):
                    difference -= np.int64((_U(1) << bits) - _U(1))
            if j > 0 and i > 0:
                above, corner = np.int64(samples[j - 1, i]), np.int64(samples[j - 1, i - 1])
                left = _predicted(predictor, left, above, corner)
            left = (left + difference) & 0xFFFF
            samples[j, i] = left
    if made_up > count:
        return TOO_SHORT
    unread = np.int64(count - made_up)
    if at < end:
        unread += 8 * np.int64(end - at)
    return COMPLETE if unread < _SLACK_BITS else TOO_LONG


def decode_lossless(
    stream: NDArray[np.uint8], span: tuple[int, int], table: NDArray[np.uint16], predictor: int, first: int, samples: NDArray[Any]
) -> int:
    """Decode the bytes `span` of a stream, one scan or restart interval, into samples, (rows, columns), uint16.

    `table` is from `huffman_table`, `predictor` 1 to 7 (table H.1), `first` what the first sample is predicted to be. Returns
    COMPLETE, BAD_CODE where bits mean nothing, TOO_SHORT or TOO_LONG where the samples need more or fewer bits than there are:
    a damaged scan hardly passes unseen.
    """
    start, end = span
    if not 0 <= start <= end <= stream.size:
        raise ValueError("the coded bytes lie outside the stream")
    if table.shape != (1 << 16,) or not 1 <= predictor <= 7 or samples.dtype != np.uint16:
        raise ValueError("table, predictor or samples are of another kind")
    return int(_decode(stream, start, end, table, predictor, first, samples))
