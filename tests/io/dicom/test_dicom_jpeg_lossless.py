from __future__ import annotations

import struct

import numpy as np
import pytest

from medseg.io.dicom.codestream import CodestreamError, read_codestream
from medseg.io.dicom.jpeg_lossless import UnusualJpegError, decode_jpeg_lossless

# lengths 2 … 15 and 16, 16: a sound code for the 17 classes of differences
COUNTS = bytes([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
CODES = {}
_code, _number = 0, 0
for _length, _count in enumerate(COUNTS, 1):
    for _ in range(_count):
        CODES[_number] = f"{_code:0{_length}b}"
        _code, _number = _code + 1, _number + 1
    _code <<= 1


def _prediction(x: np.ndarray, j: int, i: int, predictor: int, start: int) -> int:
    if i == 0:
        return start if j == 0 else int(x[j - 1, 0])
    left = int(x[j, i - 1])
    if j == 0:
        return left
    above, corner = int(x[j - 1, i]), int(x[j - 1, i - 1])
    return (
        left,
        above,
        corner,
        left + above - corner,
        left + ((above - corner) >> 1),
        above + ((left - corner) >> 1),
        (left + above) >> 1,
    )[predictor - 1]


def _coded(x: np.ndarray, predictor: int, start: int) -> bytes:
    """The samples by the text of annex H, slowly."""
    bits = ""
    for j in range(x.shape[0]):
        for i in range(x.shape[1]):
            difference = (int(x[j, i]) - _prediction(x, j, i, predictor, start)) & 0xFFFF
            difference -= 65536 if difference > 32768 else 0
            size = abs(difference).bit_length()
            bits += CODES[size]
            if 0 < size < 16:
                bits += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0") if bits else b""


def encode(samples: np.ndarray, predictor: int, precision: int = 16, shift: int = 0, restart_rows: int = 0) -> bytes:
    x = samples.astype(np.int64) >> shift
    rows, columns = x.shape
    start = 1 << (precision - shift - 1)
    step = restart_rows or rows
    parts = [_coded(x[at : at + step], predictor, start) for at in range(0, rows, step)]
    scan = parts[0] + b"".join(bytes([0xFF, 0xD0 + number % 8]) + part for number, part in enumerate(parts[1:]))
    table = b"\x02" + COUNTS + bytes(range(17))
    return (
        b"\xff\xd8"
        + b"\xff\xfe\x00\x06note"
        + b"\xff\xc3"
        + struct.pack(">HBHHBBBB", 11, precision, rows, columns, 1, 1, 0x11, 0)
        + b"\xff\xff\xc4"  # a fill byte before a marker
        + struct.pack(">H", len(table) + 2)
        + table
        + (b"\xff\xdd" + struct.pack(">HH", 4, restart_rows * columns) if restart_rows else b"")
        + b"\xff\xda"
        + struct.pack(">HBBBBBB", 8, 1, 1, 0x20, predictor, 0, shift)
        + scan
        + b"\xff\xd9"
    )


def decode(stream: bytes) -> np.ndarray:
    return decode_jpeg_lossless(stream, read_codestream(stream))


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize(("restart_rows", "shift"), [(0, 0), (1, 0), (3, 0), (0, 3)])
def test_every_predictor_with_restarts_and_shift(predictor: int, restart_rows: int, shift: int) -> None:
    samples = np.random.default_rng(predictor).integers(0, 1 << 16, (20, 7)).astype(np.uint16)
    samples[5:9] = 65535
    samples[12] = 0
    samples[13] = 32768  # a difference of exactly 32768 has a class of its own
    samples = samples >> shift << shift
    stream = encode(samples, predictor, 16, shift, restart_rows)
    np.testing.assert_array_equal(decode(stream), samples)


def test_the_test_encoder_agrees_with_another_decoder() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    samples = np.random.default_rng(1).integers(0, 4096, (12, 9)).astype(np.uint16)
    for predictor in range(1, 8):
        np.testing.assert_array_equal(imagecodecs.jpeg8_decode(encode(samples, predictor, 12)), samples)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_the_smallest_images(shape: tuple[int, int]) -> None:
    samples = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) * 9
    np.testing.assert_array_equal(decode(encode(samples, 4)), samples)


def test_missing_and_superfluous_bytes_are_noticed() -> None:
    samples = np.random.default_rng(3).integers(0, 1 << 16, (20, 20)).astype(np.uint16)
    stream = encode(samples, 1)
    assert np.array_equal(decode(stream), samples)
    for cut in (4, 20, 200):
        with pytest.raises(CodestreamError, match=r"ends before its last pixel|means nothing"):
            decode(stream[: -2 - cut] + b"\xff\xd9")
    with pytest.raises(CodestreamError, match="goes on after"):
        decode(stream[:-2] + b"\x55" * 8 + b"\xff\xd9")
    with pytest.raises(CodestreamError, match="no end"):
        decode(stream[:-2])
    restarted = encode(samples, 1, restart_rows=5)
    at = restarted.index(b"\xff\xd1")
    with pytest.raises(CodestreamError, match="marks at the wrong places"):
        decode(restarted[:at] + b"\xff\xd2" + restarted[at + 2 :])


def test_rare_kinds_are_left_to_others() -> None:
    stream = encode(np.zeros((8, 6), np.uint16), 1, restart_rows=4)
    at = stream.index(b"\xff\xdd")
    with pytest.raises(UnusualJpegError):  # an interval that ends inside a row
        decode(stream[: at + 4] + struct.pack(">H", 20) + stream[at + 6 :])
    at = stream.index(b"\xff\xda")
    with pytest.raises(UnusualJpegError):  # a table that is not there
        decode(stream[: at + 6] + b"\x10" + stream[at + 7 :])
