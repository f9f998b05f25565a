"""Decoder processes that crash, hang, lie and take too much: what comes back is a named error, and the rest of the work."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_series import numbered_volume

from medseg.core.errors import MissingDependencyError, UnreadableFileError
from medseg.io.dicom import compressed, decoder, pixels
from medseg.io.dicom.codestream import JPEG_2000, JPEG_LS, Codestream
from medseg.io.dicom.decoder import DecoderPool, DecodingError, NoDecoderError
from medseg.io.dicom.find import find_series
from medseg.io.dicom.pixels import read_pixels, same_pixels
from medseg.io.dicom.volume import read_series

FRAME = Codestream(JPEG_2000, 3, 4, 1, 16, False, True)
SAMPLES = np.arange(12, dtype=np.uint16).reshape(3, 4)

# what each frame asks for stands in its bytes
FAKE = """
import ctypes, os, signal, sys, time
import numpy as np

class PanicException(BaseException):
    pass

def decoder(kind):
    return decode

def decode(stream, rows, columns):
    what = stream.decode()
    if what == "abort": os.abort()
    if what == "segfault": ctypes.string_at(0)
    if what == "exit": os._exit(3)
    if what == "kill": os.kill(os.getpid(), 9)
    if what == "hang": time.sleep(600)
    if what == "panic": raise PanicException("index out of range")
    if what == "error": raise RuntimeError("a secret of the header")
    if what == "memory": return np.zeros(1 << 36, np.uint8)
    if what == "shape": return np.zeros((2, 2), np.uint16)
    if what == "float": return np.zeros((rows, columns))
    if what == "talk":
        print("chatter")
        os.write(1, b"noise on the standard output" * 100)
    if what == "slow": time.sleep(0.3)
    if what == "pid": return np.full((rows, columns), os.getpid(), np.int32)
    if what == "byte": return np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    if what == "path": return np.full((rows, columns), sys.modules["numpy"].__file__.endswith("numpy.py"), np.uint8)
    return np.arange(rows * columns, dtype=np.uint16).reshape(rows, columns)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a decoder that does what its frames ask for."""
    (tmp_path / "fake_codec.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "fake_codec"


@pytest.fixture
def pool(fake: str) -> Iterator[DecoderPool]:
    with DecoderPool(packages=[fake], frame_seconds=1) as pool:
        yield pool


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("abort", r"crash \(SIGABRT\)"),
        ("segfault", r"crash \(SIGSEGV\)"),
        ("exit", r"crash \(exit code 3\)"),
        ("kill", "want of memory"),
        ("hang", "too long"),
        ("panic", "damaged"),
        ("error", "damaged"),
        ("shape", "damaged"),
        ("float", "damaged"),
    ],
)
def test_what_a_decoder_does_to_itself_is_a_named_error(pool: DecoderPool, what: str, says: str) -> None:
    start = time.monotonic()
    with pytest.raises(DecodingError, match=says) as caught:
        pool.decode(what.encode(), FRAME)
    assert time.monotonic() - start < 120  # one that hangs would sleep for 600
    assert "secret" not in str(caught.value)
    np.testing.assert_array_equal(pool.decode(b"", FRAME), SAMPLES)  # the pool works on


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux caps the memory of a process")
def test_memory_of_the_process_has_a_cap(pool: DecoderPool) -> None:
    with pytest.raises(DecodingError, match="more memory"):
        pool.decode(b"memory", FRAME)
    np.testing.assert_array_equal(pool.decode(b"", FRAME), SAMPLES)


def test_a_decoder_that_prints_does_not_spoil_its_answer(pool: DecoderPool, capfd: pytest.CaptureFixture[str]) -> None:
    np.testing.assert_array_equal(pool.decode(b"talk", FRAME), SAMPLES)
    assert capfd.readouterr() == ("", "")


def test_samples_go_straight_into_their_place_where_they_fit(pool: DecoderPool) -> None:
    target = np.zeros((3, 4), np.int16)
    assert np.shares_memory(pool.decode(b"", FRAME, target), target)
    np.testing.assert_array_equal(target, SAMPLES)
    narrow = pool.decode(b"byte", FRAME, target)
    assert narrow.dtype == np.uint8
    assert not np.shares_memory(narrow, target)


def test_frames_larger_than_the_first_ones_get_a_larger_place(pool: DecoderPool) -> None:
    first = pool.decode(b"pid", FRAME)
    large = Codestream(JPEG_2000, 3000, 4000, 1, 16, False, True)
    found = pool.decode(b"", large)
    np.testing.assert_array_equal(found, np.arange(12_000_000, dtype=np.uint16).reshape(3000, 4000))
    assert (pool.decode(b"pid", FRAME) != first).all()


def test_a_crash_touches_no_other_frame(fake: str) -> None:
    with DecoderPool(2, packages=[fake], frame_seconds=20) as pool, ThreadPoolExecutor(4) as threads:
        work = [threads.submit(pool.decode, b"abort" if number % 7 == 3 else b"slow", FRAME) for number in range(16)]
        for number, found in enumerate(work):
            if number % 7 == 3:
                with pytest.raises(DecodingError, match="SIGABRT"):
                    found.result()
            else:
                np.testing.assert_array_equal(found.result(), SAMPLES)


def test_processes_start_when_needed_and_end_with_the_pool(fake: str) -> None:
    pool = DecoderPool(3, packages=[fake])
    before = threading.active_count()
    with pool:
        numbers = {int(pool.decode(b"pid", FRAME)[0, 0]) for _ in range(5)}
        assert len(numbers) == 1  # one thread keeps to one process
        os.kill(numbers.copy().pop(), 0)
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
    assert threading.active_count() == before
    with pytest.raises(DecodingError, match="stopped"):
        pool.decode(b"", FRAME)


def test_modules_beside_the_scans_are_not_imported(fake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "numpy.py").write_text("raise SystemExit")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(sys, "path", [str(folder), "", *sys.path])  # as `python -m` and the prompt have it
    with DecoderPool(packages=[fake]) as pool:
        assert not pool.decode(b"path", FRAME).any()


def test_without_a_python_program_to_start_the_error_says_so(fake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with DecoderPool(packages=[fake]) as pool:
        monkeypatch.setattr(sys, "executable", "")
        with pytest.raises(DecodingError, match=r"sys\.executable"):
            pool.decode(b"", FRAME)
        monkeypatch.setattr(sys, "executable", "/bin/true")
        with pytest.raises(DecodingError, match="does not start"):
            pool.decode(b"", FRAME)


def test_no_package_for_a_kind_of_frame() -> None:
    with DecoderPool(packages=["no_such_codec"]) as pool, pytest.raises(NoDecoderError):
        pool.decode(b"", FRAME)
    with DecoderPool(packages=["openjpeg"]) as pool, pytest.raises(NoDecoderError, match="JPEG-LS"):
        pool.decode(b"", Codestream(JPEG_LS, 3, 4, 1, 16, False, True))


SERIES_CODEC = """
import os, time
from jpeg_ls import decode_pixel_data
import numpy as np

def decoder(kind):
    return decode

def decode(stream, rows, columns):
    samples, info = decode_pixel_data(stream)
    samples = np.frombuffer(samples, np.uint16).reshape(rows, columns)
    if samples[0, 0] in ({marked}):
        {act}
    return samples
"""


def _series_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, marked: int) -> None:
    (tmp_path / "series_codec.py").write_text(SERIES_CODEC.format(act=act, marked=f"{marked},"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(pixels, "DecoderPool", partial(DecoderPool, packages=["series_codec"], frame_seconds=2))


@pytest.mark.parametrize(
    ("act", "says"), [("os.abort()", "crash"), ("time.sleep(600)", "too long"), ("raise KeyboardInterrupt", "damaged")]
)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_crash_or_hang_in_a_series_names_slice_and_file(
    make_series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, says: str, threads: int
) -> None:
    folder = make_series(numbered_volume((9, 8, 12)), compressed=True)
    (series,) = find_series(folder)
    plain, _ = read_pixels(series.slices)
    k = next(number for number, header in enumerate(series.slices) if header.path.endswith("slice_0005.dcm"))
    stored = int(plain[k, 0, 0]) - int(series.slices[k].intercept or 0)
    _series_codec(tmp_path, monkeypatch, act, stored)
    start = time.monotonic()
    with pytest.raises(UnreadableFileError, match=rf"slice {k + 1} of 12: .*slice_0005\.dcm: .*{says}"):
        read_pixels(series.slices, threads)
    assert time.monotonic() - start < 120
    assert not same_pixels(series.slices[k], series.slices[k])
    array, _ = read_pixels(series.slices[:k], threads)  # the others are not touched
    np.testing.assert_array_equal(array, plain[:k])


def test_a_missing_decoder_names_the_extra(make_series, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_series(compressed=True)
    monkeypatch.setattr(decoder, "PACKAGES", dict.fromkeys(decoder.PACKAGES, ()))
    with pytest.raises(MissingDependencyError, match=r"no decoder is installed for JPEG-LS images: pip install 'medseg\[codecs\]'"):
        read_series(folder)
    assert compressed.NoDecoderError is NoDecoderError
