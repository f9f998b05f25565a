from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.kernels.packbits import COMPLETE, TOO_LONG, TOO_SHORT, unpack_bits


def packed(runs: list[tuple[int, bytes]]) -> bytes:
    """Runs of (control byte, bytes that follow)."""
    return b"".join(bytes([control]) + data for control, data in runs)


def unpack(data: bytes, size: int, width: int = 1, byte: int = 0) -> tuple[int, list[int]]:
    samples = np.full((size, width), 99, np.uint8)
    status = unpack_bits(np.frombuffer(data, np.uint8), 0, len(data), samples, byte)
    return status, samples[:, byte].tolist()


def test_runs_literals_and_fillers() -> None:
    data = packed([(254, b"\x07"), (128, b""), (1, b"\x08\x09"), (0, b"\x0a")])
    assert unpack(data, 6) == (COMPLETE, [7, 7, 7, 8, 9, 10])
    assert unpack(data + b"\0", 6)[0] == COMPLETE
    assert unpack(data + b"\x05", 6)[0] == TOO_LONG
    assert unpack(data, 5)[0] == TOO_LONG
    assert unpack(data, 7)[0] == TOO_SHORT
    assert unpack(data[:-1], 6)[0] == TOO_SHORT
    assert unpack(b"", 1)[0] == TOO_SHORT


def test_each_byte_of_a_sample_has_its_own_segment() -> None:
    samples = np.zeros((3, 2), np.uint8)
    data = np.array([254, 1, 2, 5, 6, 7], np.uint8)
    assert unpack_bits(data, 0, 2, samples, 1) == unpack_bits(data, 2, 6, samples, 0) == COMPLETE
    assert samples.view("<u2")[:, 0].tolist() == [261, 262, 263]


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=40), size=st.integers(1, 50), width=st.integers(1, 3))
def test_any_bytes_touch_only_their_own_cells(data: bytes, size: int, width: int) -> None:
    """What lies beside the cells keeps its value, and a plain reading of the standard agrees."""
    room = np.full((size + 4, width), 99, np.uint8)
    status = unpack_bits(np.frombuffer(data, np.uint8), 0, len(data), room[2:-2], width - 1)
    assert (room[:2] == 99).all()
    assert (room[-2:] == 99).all()
    assert (room[:, : width - 1] == 99).all()
    expected: list[int] = []
    at = 0
    while at < len(data) and len(expected) < size:
        control = data[at]
        piece = data[at + 1 : at + 2 + control] if control < 128 else data[at + 1 : at + 2] * (257 - control) if control > 128 else b""
        if control < 128 and len(piece) < control + 1:
            break
        expected += piece
        at += 2 + control if control < 128 else 2 if control > 128 else 1
    is_sound = len(expected) == size and not data[at:].strip(b"\0\x80")
    assert (status == COMPLETE) == is_sound
    if is_sound:
        assert room[2:-2, width - 1].tolist() == expected


def test_places_outside_the_array_are_refused() -> None:
    samples = np.zeros((2, 1), np.uint8)
    for start, end, byte in ((0, 9, 0), (-1, 2, 0), (2, 1, 0), (0, 1, 1)):
        with pytest.raises(ValueError, match="outside"):
            unpack_bits(np.zeros(3, np.uint8), start, end, samples, byte)
