from __future__ import annotations

import numpy as np
import pytest

from medseg.kernels.jpeg_lossless import COMPLETE, TOO_LONG, TOO_SHORT, decode_lossless, huffman_table

# lengths 2 … 16 with three codes of the first: a sound code for the 17 classes of differences
COUNTS = bytes([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])


def test_a_scan_worked_out_by_hand() -> None:
    """Class 0 is 00, class 1 is 01 and one bit: 8+0, 8+1, then below them their upper neighbours, one less."""
    table = huffman_table(np.frombuffer(COUNTS, np.uint8), np.arange(17, dtype=np.uint8))
    assert table is not None
    bits = "00" + "011" + "010" + "010" + "1" * 5
    coded = np.frombuffer(int(bits, 2).to_bytes(2, "big") + bytes(9), np.uint8)
    samples = np.empty((2, 2), np.uint16)
    assert decode_lossless(coded, (0, 2), table, 2, 8, samples) == COMPLETE
    assert samples.tolist() == [[8, 9], [7, 8]]
    assert decode_lossless(coded, (0, 1), table, 2, 8, samples) == TOO_SHORT
    assert decode_lossless(coded, (2, 11), table, 2, 8, samples) == TOO_LONG


def test_tables_that_are_no_code() -> None:
    assert huffman_table(np.array([3] + [0] * 15, np.uint8), np.array([0, 1, 2], np.uint8)) is None
    assert huffman_table(np.array([1] + [0] * 15, np.uint8), np.array([17], np.uint8)) is None
    assert huffman_table(np.array([1] + [0] * 15, np.uint8), np.array([], np.uint8)) is None


def test_any_bytes_end_within_the_arrays() -> None:
    random = np.random.default_rng(8)
    table = huffman_table(np.frombuffer(COUNTS, np.uint8), np.arange(17, dtype=np.uint8))
    assert table is not None
    for _ in range(200):
        size = int(random.integers(0, 60))
        coded = random.choice([0, 255, 90], size).astype(np.uint8) | random.integers(0, 4, size).astype(np.uint8)
        samples = np.full((8, 7), 77, np.uint16)
        assert decode_lossless(coded, (0, size), table, int(random.integers(1, 8)), 2048, samples[1:7]) in (0, 1, 2, 3)
        assert (samples[[0, 7]] == 77).all()
    for span in ((0, 9), (-1, 2), (3, 2)):
        with pytest.raises(ValueError, match="outside"):
            decode_lossless(np.zeros(8, np.uint8), span, table, 1, 0, np.empty((2, 2), np.uint16))
    with pytest.raises(ValueError, match="another kind"):
        decode_lossless(np.zeros(8, np.uint8), (0, 8), table, 8, 0, np.empty((2, 2), np.uint16))
