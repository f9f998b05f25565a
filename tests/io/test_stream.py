from __future__ import annotations

import bz2
import gzip
import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import UnreadableFileError
from medseg.io import stream as streams
from medseg.io.stream import GzipWriter, ZlibWriter, chunks_of, differs_from, open_stream

CONTENT = np.random.default_rng(1).integers(0, 40, 500, dtype=np.uint8).tobytes()


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both deflate libraries keep every promise."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(streams, "_deflate", zlib)
    return str(request.param)


def read_all(path: Path, size: int = len(CONTENT), encoding: str | None = None) -> bytes:
    with open_stream(path, encoding) as stream:
        data = stream.read(size)
        stream.finish()
    return data


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("raw", CONTENT),
        ("gzip", gzip.compress(CONTENT)),
        ("gzip", gzip.compress(CONTENT[:100]) + gzip.compress(b"") + gzip.compress(CONTENT[100:])),
        ("zlib", zlib.compress(CONTENT)),
        ("bzip2", bz2.compress(CONTENT)),
    ],
)
def test_encodings_give_the_bytes_that_were_packed(tmp_path: Path, encoding: str, packed: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(packed)
    assert read_all(path, encoding=encoding) == CONTENT


def test_gzip_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "b.nii.gz").write_bytes(CONTENT)
    assert read_all(tmp_path / "a.nii") == read_all(tmp_path / "b.nii.gz") == CONTENT


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bz2.compress], ids=["gzip", "zlib", "bzip2"])
def test_a_stream_cut_short_anywhere_raises(tmp_path: Path, pack: object) -> None:
    packed = pack(CONTENT)  # type: ignore[operator]
    encoding = {b"\x1f": "gzip", b"B": "bzip2"}.get(packed[:1], "zlib")
    path = tmp_path / "x"
    for length in range(len(packed)):
        path.write_bytes(packed[:length])
        with pytest.raises(UnreadableFileError):
            read_all(path, encoding=encoding)


def test_every_flipped_byte_of_gzip_raises_or_changes_nothing(tmp_path: Path) -> None:
    """Time, extra flags and system in the gzip header carry no content; every other byte is caught."""
    packed = gzip.compress(CONTENT, mtime=0)
    path = tmp_path / "x.gz"
    silent = []
    for position in range(len(packed)):
        for bits in (0x01, 0xFF):
            broken = bytearray(packed)
            broken[position] ^= bits
            path.write_bytes(bytes(broken))
            try:
                assert read_all(path, encoding="gzip") == CONTENT
                silent.append((position, bits))
            except UnreadableFileError:
                pass
    last = len(packed) - 9  # the last byte of the deflate data may end in unused bits
    assert {position for position, _ in silent} <= {*range(3, 10), last}
    assert (last, 0xFF) not in silent


@pytest.mark.parametrize("junk", [b"junk", b"\x1f\x8bjunk", b"\0\0\0\0x", b"\n\n"])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_foreign_bytes_at_the_end_raise(tmp_path: Path, junk: bytes, encoding: str) -> None:
    path = tmp_path / "x"
    path.write_bytes((gzip.compress(CONTENT) if encoding == "gzip" else CONTENT) + junk)
    with pytest.raises(UnreadableFileError, match=r"foreign bytes|more bytes|corrupted|cut short"):
        read_all(path, encoding=encoding)


@pytest.mark.parametrize("padding", [b"\0" * 500, b"\n", b"\r\n"])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_padding_at_the_end_is_allowed(tmp_path: Path, padding: bytes, encoding: str) -> None:
    path = tmp_path / "x"
    path.write_bytes((gzip.compress(CONTENT) if encoding == "gzip" else CONTENT) + padding)
    assert read_all(path, encoding=encoding) == CONTENT


def test_a_bomb_is_left_after_its_first_surplus_bytes(tmp_path: Path) -> None:
    """50 MB of zeros where 500 bytes were announced: reading stops, and the 50 MB never exist."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(CONTENT + bytes(50_000_000)))
    with open_stream(path) as stream:
        assert stream.read(len(CONTENT)) == CONTENT
        with pytest.raises(UnreadableFileError, match="more bytes than its header declares"):
            stream.finish()


def test_most_bytes_left_is_never_too_low(tmp_path: Path) -> None:
    content = bytes(20_000_000)
    for encoding, packed in (("raw", CONTENT), ("gzip", gzip.compress(content)), ("bzip2", bz2.compress(content))):
        path = tmp_path / encoding
        path.write_bytes(packed)
        with open_stream(path, encoding) as stream:
            assert stream.most_bytes_left() >= (len(CONTENT) if encoding == "raw" else len(content))


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UnreadableFileError):
            open_stream(path)


def test_skip_passes_over_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(CONTENT))
    with open_stream(path) as stream:
        stream.skip(100)
        assert stream.read(5) == CONTENT[100:105]
        with pytest.raises(UnreadableFileError, match="cut short"):
            stream.skip(len(CONTENT))


@pytest.mark.parametrize("size", [0, 1, 70_000, 3 << 20])
def test_writers_are_read_by_the_standard_library(size: int) -> None:
    content = (CONTENT * (size // len(CONTENT) + 1))[:size]
    for writer, unpack in ((GzipWriter, gzip.decompress), (ZlibWriter, zlib.decompress)):
        file = io.BytesIO()
        packed = writer(file)  # type: ignore[abstract]
        for start in range(0, size, 65_536):
            packed.write(content[start : start + 65_536])
        packed.close()
        assert unpack(file.getvalue()) == content  # type: ignore[operator]


def test_gzip_holds_neither_time_nor_name() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    for file in (first, second):
        packed = GzipWriter(file)
        packed.write(CONTENT)
        packed.close()
    assert first.getvalue() == second.getvalue()
    assert first.getvalue()[3:9] == bytes(6)


def test_chunks_are_the_file_order_of_any_array() -> None:
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    fortran = np.asfortranarray(array.astype("<i2"))
    assert b"".join(chunks_of(array)) == b"".join(chunks_of(fortran)) == array.astype("<i2").tobytes(order="F")


def test_differs_from_sees_a_single_bit(tmp_path: Path) -> None:
    array = np.asfortranarray(np.random.default_rng(0).integers(0, 9, (50, 40, 30), dtype=np.int32))
    path = tmp_path / "x"
    path.write_bytes(array.tobytes(order="F"))
    with open_stream(path) as stream:
        assert not differs_from(stream, array)
    changed = array.copy(order="F")
    changed[-1, -1, -1] ^= 1
    with open_stream(path) as stream:
        assert differs_from(stream, changed)
