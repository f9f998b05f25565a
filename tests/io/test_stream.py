from __future__ import annotations

import bz2
import gzip
import io
import os
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import UnreadableFileError
from medseg.io import codec as codecs
from medseg.io import deflate
from medseg.io.byte_stream import CHUNK_BYTES, same_bytes
from medseg.io.inflate import SlabStream
from medseg.io.stream import chunks_of, differs_from, open_stream, write_gzipped, write_zlibbed

CONTENT = np.random.default_rng(1).integers(0, 40, 500, dtype=np.uint8).tobytes()


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both deflate libraries keep every promise."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(codecs, "_isal", None)
        monkeypatch.setattr(codecs, "_igzip", None)
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


def gzipped(path: Path, head: bytes, array: np.ndarray) -> bytes:
    with path.open("xb") as file:
        write_gzipped(file, head, array)
    return path.read_bytes()


SIZES = [1, 70_000, CHUNK_BYTES, CHUNK_BYTES + 1, (3 << 20) + 8]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", [b"", b"header"])
def test_what_is_packed_other_programs_unpack(tmp_path: Path, size: int, head: bytes) -> None:
    """Python's gzip, and gzip itself, which follow the standard; one member, so that readers of one member read all."""
    array = np.resize(np.frombuffer(CONTENT, np.uint8), size)
    packed = gzipped(tmp_path / "x.gz", head, array)
    assert gzip.decompress(packed) == head + array.tobytes()
    unpacker = zlib.decompressobj(wbits=31)
    assert unpacker.decompress(packed) == head + array.tobytes()
    assert unpacker.eof
    assert unpacker.unused_data == b""
    done = subprocess.run(["gzip", "-dc", str(tmp_path / "x.gz")], check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (head + array.tobytes(), b"")
    file = io.BytesIO()
    write_zlibbed(file, array)
    assert zlib.decompress(file.getvalue()) == array.tobytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", [b"", b"header"])
def test_slabs_give_the_bytes_in_any_portions(tmp_path: Path, size: int, head: bytes) -> None:
    content = head + np.resize(np.frombuffer(CONTENT, np.uint8), size).tobytes()
    gzipped(tmp_path / "x.gz", head, np.frombuffer(content[len(head) :], np.uint8))
    for portions in ([len(content)], [1, 5, len(content) - 6], [len(head), len(content)], [0, len(content) // 2]):
        with open_stream(tmp_path / "x.gz") as stream:
            assert isinstance(stream, SlabStream) == (bool(head) + -(-size // CHUNK_BYTES) > 2)
            data = b"".join(stream.read_up_to(max(portion, 0)) for portion in portions)
            assert data == content[: len(data)]
            stream.skip(len(content) - len(data))
            assert stream.finish() == 0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_gzip_holds_neither_time_nor_name_and_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    array = np.resize(np.frombuffer(CONTENT, np.uint8), 5 << 20)
    first = gzipped(tmp_path / "a.gz", b"head", array)
    monkeypatch.setattr(deflate, "usable_cores", lambda: threads)
    assert gzipped(tmp_path / "b.gz", b"head", array) == first
    assert first[4:9] == bytes(5)
    assert first[3] == 4  # an extra field and nothing else


def test_every_part_of_a_file_in_slabs_is_guarded(tmp_path: Path) -> None:
    """A flipped bit anywhere raises or changes nothing: in the list of slabs, in a slab, between slabs, in the sums."""
    array = np.resize(np.frombuffer(CONTENT, np.uint8), (2 << 20) + 999)
    packed = gzipped(tmp_path / "x.gz", b"head", array)
    content = b"head" + array.tobytes()
    path = tmp_path / "broken.gz"
    start = 12 + int.from_bytes(packed[10:12], "little")
    silent = []
    for position in {*range(start + 40), *range(start, len(packed), len(packed) // 40), *range(len(packed) - 40, len(packed))}:
        broken = bytearray(packed)
        broken[position] ^= 0x04
        path.write_bytes(bytes(broken))
        try:
            assert read_all(path, len(content), "gzip") == content
            silent.append(position)
        except UnreadableFileError:
            assert position not in range(4, 10)  # time and system mean nothing
    assert len([position for position in silent if position >= start]) <= 4  # unused bits at the end of each slab


def test_a_file_in_slabs_cut_short_or_with_more_behind_it_raises_or_is_read_in_order(tmp_path: Path) -> None:
    array = np.resize(np.frombuffer(CONTENT, np.uint8), (2 << 20) + 999)
    packed = gzipped(tmp_path / "x.gz", b"head", array)
    path = tmp_path / "cut.gz"
    for length in {*range(0, len(packed), len(packed) // 60), *range(len(packed) - 20, len(packed))}:
        path.write_bytes(packed[:length])
        with pytest.raises(UnreadableFileError):
            read_all(path, len(array) + 4, "gzip")
    path.write_bytes(packed + bytes(100))
    assert read_all(path, len(array) + 4, "gzip") == b"head" + array.tobytes()
    path.write_bytes(packed + packed)
    assert read_all(path, 2 * len(array) + 8, "gzip") == 2 * (b"head" + array.tobytes())
    path.write_bytes(packed + b"junk")
    with pytest.raises(UnreadableFileError):
        read_all(path, len(array) + 4, "gzip")


def test_slabs_that_lie_about_themselves_are_refused(tmp_path: Path) -> None:
    """A slab that ends the stream early, or that unpacks to more than it says, never passes."""
    array = np.resize(np.frombuffer(CONTENT, np.uint8), 3 << 20)
    packed = bytearray(gzipped(tmp_path / "x.gz", b"head", array))
    end = packed.index(b"\0\0\xff\xff")  # of the first slab: an empty block that may be followed by others
    packed[end - 1] |= 1  # now it is the last one, and any other reader stops here
    path = tmp_path / "lie.gz"
    path.write_bytes(bytes(packed))
    with pytest.raises(UnreadableFileError):
        read_all(path, len(array) + 4, "gzip")


@pytest.mark.parametrize(("first", "second", "same"), [(b"", b"", True), (b"x" * 17, b"x" * 17, True), (b"x" * 17, b"x" * 16, False)])
def test_same_bytes(first: bytes, second: bytes, same: bool) -> None:
    assert same_bytes(first, memoryview(second)) == same
    for position in range(len(first) * same):
        other = bytearray(second)
        other[position] ^= 1
        assert not same_bytes(first, memoryview(other))


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
