"""Compressed frames: where they lie, what they say of themselves, and that every decoder gives the same pixels."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_compressed import JPEG_2000, JPEG_LOSSLESS, JPEG_LS, RLE, even, items, make_file, rle, table_of

from medseg.core.errors import UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom import codestream
from medseg.io.dicom.codecs import is_known_encoding, stored_frame
from medseg.io.dicom.codestream import CodestreamError, read_codestream
from medseg.io.dicom.decoder import PACKAGES, DecoderPool
from medseg.io.dicom.frame_file import FrameFile
from medseg.io.dicom.header import SliceHeader, read_header

imagecodecs = pytest.importorskip("imagecodecs", reason="needs the encoders of imagecodecs: pip install 'medseg[codecs]'")

FRAMES = np.random.default_rng(3).integers(0, 4096, (4, 9, 14)).astype(np.uint16)


def picture(shape: tuple[int, int] = (64, 96)) -> np.ndarray:
    """A smooth picture of 12 bits with some noise, as encoders expect it."""
    j, i = np.mgrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(4).integers(0, 9, shape)
    return (2000 + 1500 * np.sin(i / 17) * np.cos(j / 11) + noise).astype(np.uint16)


def header_of(path: Path) -> SliceHeader:
    """The header with as many frames as the file says, whatever their place."""
    count = int(pydicom.dcmread(path, stop_before_pixels=True).get("NumberOfFrames", 1))
    return replace(read_header(str(path)), frame_count=count, unusable="")


def frames_of(path: Path, **changes: object) -> list[np.ndarray]:
    header = replace(header_of(path), **changes)
    with DecoderPool() as pool, FrameFile(header, pool) as file:
        return [file.frame(number) for number in range(header.frame_count)]


def fragments() -> list[bytes]:
    return [rle(frame) for frame in FRAMES]


# ------------------------------------------------------------------ where the frames lie


def extended(parts: list[bytes], lengths: list[int] | None = None) -> dict[str, bytes]:
    starts = np.cumsum([0, *(8 + len(part) for part in parts[:-1])])
    return {
        "ExtendedOffsetTable": starts.astype("<u8").tobytes(),
        "ExtendedOffsetTableLengths": np.array(lengths or [len(part) for part in parts], "<u8").tobytes(),
    }


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
def test_frames_of_one_fragment_each(tmp_path: Path, table: str) -> None:
    parts = fragments()
    basic = table_of(parts) if table == "basic" else b""
    more = extended(parts) if table == "extended" else {}
    path = make_file(tmp_path / "a.dcm", RLE, items(parts, basic), FRAMES, **more)
    np.testing.assert_array_equal(frames_of(path), FRAMES)


@pytest.mark.parametrize("has_table", [True, False])
def test_frames_of_several_fragments(tmp_path: Path, has_table: bool) -> None:
    """By the table, or without one where each fragment that begins like an image begins a frame."""
    pieces, starts, at = [], [], 0
    for number, frame in enumerate(FRAMES):
        stream = even(imagecodecs.jpegls_encode(frame))
        cut = 40 + 2 * number
        starts.append(at)
        for part in (stream[:cut], stream[cut:]) if number != 2 else (stream,):
            pieces.append(part)
            at += 8 + len(part)
    table = np.array(starts, "<u4").tobytes() if has_table else b""
    path = make_file(tmp_path / "a.dcm", JPEG_LS, items(pieces, table), FRAMES)
    np.testing.assert_array_equal(frames_of(path), FRAMES)


def test_one_frame_in_many_fragments(tmp_path: Path) -> None:
    stream = even(imagecodecs.jpegls_encode(FRAMES[0]))
    pieces = [stream[at : at + 32] for at in range(0, len(stream), 32)]
    for table in (b"", b"\0\0\0\0"):
        path = make_file(tmp_path / "a.dcm", JPEG_LS, items(pieces, table), FRAMES[0])
        np.testing.assert_array_equal(frames_of(path), FRAMES[:1])


def _spoiled_tables() -> dict[str, tuple[bytes, dict[str, bytes]]]:
    parts = fragments()
    good = np.frombuffer(table_of(parts), "<u4")
    return {
        "short": (good[:3].tobytes(), {}),
        "long": (np.append(good, good[-1] + 8).astype("<u4").tobytes(), {}),
        "not from zero": ((good + 8).tobytes(), {}),
        "inside a frame": ((good + np.array([0, 2, 0, 0])).astype("<u4").tobytes(), {}),
        "not ascending": (good[[0, 2, 1, 3]].tobytes(), {}),
        "twice": (good[[0, 1, 1, 3]].tobytes(), {}),
        "beyond the end": ((good + np.array([0, 0, 0, 1 << 20])).astype("<u4").tobytes(), {}),
        "odd": (good.tobytes()[:-2], {}),
        "extended, short": (b"", extended(parts[:3])),
        "extended, no lengths": (b"", {"ExtendedOffsetTable": extended(parts)["ExtendedOffsetTable"]}),
        "extended, too long": (b"", extended(parts, [1 << 40] * 4)),
        "extended, too short": (b"", extended(parts, [10] * 4)),
        "extended, nowhere": (b"", {**extended(parts), "ExtendedOffsetTable": np.array([0, 3, 9, 27], "<u8").tobytes()}),
        "extended, twice": (b"", {**extended([parts[0]] * 4), "ExtendedOffsetTable": np.zeros(4, "<u8").tobytes()}),
    }


@pytest.mark.parametrize("name", list(_spoiled_tables()))
def test_a_table_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    table, more = _spoiled_tables()[name]
    path = make_file(tmp_path / "a.dcm", RLE, items(fragments(), table), FRAMES, **more)
    with pytest.raises(UnreadableFileError, match=r"a\.dcm: .*offset table"):
        frames_of(path)


@pytest.mark.parametrize("count", [5, 100_000])
def test_more_frames_announced_than_there_are(tmp_path: Path, count: int) -> None:
    path = make_file(tmp_path / "a.dcm", RLE, items(fragments()), FRAMES)
    header = replace(header_of(path), frame_count=count)
    with pytest.raises(UnreadableFileError, match=rf"names {count} frames, but there are only 4"), DecoderPool() as pool:
        FrameFile(header, pool)


def test_fewer_frames_announced_than_there_are(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a.dcm", RLE, items(fragments()), FRAMES)
    with pytest.raises(UnreadableFileError, match="cannot be shared among 3 frames"), DecoderPool() as pool:
        FrameFile(replace(header_of(path), frame_count=3), pool)
    streams = [even(imagecodecs.jpegls_encode(frame)) for frame in FRAMES]
    path = make_file(tmp_path / "b.dcm", JPEG_LS, items(streams), FRAMES[0])
    with pytest.raises(UnreadableFileError, match="names one frame, the compressed pixel data holds 4"):
        frames_of(path)


def test_fragments_that_lead_outside_the_file(tmp_path: Path) -> None:
    whole = items(fragments())
    for data, says in (
        (whole[:-8], "cut short"),
        (whole[:-20], "cut short"),
        (whole[:8], "cut short|holds no frame"),
        (items([]), "holds no frame"),
        (whole[:-8] + b"\0" * 8, "no fragment"),
        (struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFF0) + whole, "cut short"),
    ):
        path = make_file(tmp_path / "a.dcm", RLE, items(fragments()), FRAMES)
        header = header_of(path)
        raw = path.read_bytes()[: header.pixels.offset] + data
        path.write_bytes(raw)
        with pytest.raises(UnreadableFileError, match=says), DecoderPool() as pool:
            FrameFile(replace(header, file_size=len(raw), modified_ns=0), pool)


# ------------------------------------------------------------------ what a frame says of itself


ENCODERS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "JPEG 2000": (JPEG_2000, lambda x: imagecodecs.jpeg2k_encode(x, level=0, reversible=True, codecformat="j2k")),
    "JPEG 2000 in JP2": (JPEG_2000, lambda x: imagecodecs.jpeg2k_encode(x, level=0, reversible=True, codecformat="jp2")),
    "HTJ2K": ("1.2.840.10008.1.2.4.201", imagecodecs.htj2k_encode),
    "JPEG-LS": (JPEG_LS, imagecodecs.jpegls_encode),
    **{
        f"JPEG lossless {predictor}": (
            "1.2.840.10008.1.2.4.57" if predictor > 1 else JPEG_LOSSLESS,
            lambda x, p=predictor: imagecodecs.jpeg8_encode(x, lossless=True, predictor=p, bitspersample=8 * x.dtype.itemsize),
        )
        for predictor in (1, 2, 4, 7)
    },
}


@pytest.mark.parametrize("name", list(ENCODERS))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_frames_come_back_bit_by_bit_from_every_decoder(tmp_path: Path, name: str, dtype: type) -> None:
    syntax, encode = ENCODERS[name]
    values = (picture() >> (4 if dtype is np.uint8 else 0)).astype(dtype)
    stream = bytes(encode(values))
    frame = read_codestream(stream)
    assert (frame.rows, frame.columns, frame.components, frame.has_end) == (64, 96, 1, True)
    path = make_file(tmp_path / "a.dcm", syntax, items([even(stream)]), values)
    header = read_header(str(path))
    np.testing.assert_array_equal(stored_frame(header), values)
    packages = PACKAGES[frame.kind]
    assert len(packages) == 2
    for package in packages:
        with DecoderPool(packages=[package]) as pool:
            np.testing.assert_array_equal(pool.decode(stream, frame), values, err_msg=package)


def test_lossy_twelve_bits_and_eight_bits_agree_among_decoders(tmp_path: Path) -> None:
    for syntax, values, bits in (
        ("1.2.840.10008.1.2.4.51", picture(), 12),
        ("1.2.840.10008.1.2.4.50", (picture() >> 4).astype(np.uint8), 8),
    ):
        stream = imagecodecs.jpeg8_encode(values, level=98, bitspersample=bits)
        path = make_file(tmp_path / "a.dcm", syntax, items([even(stream)]), values, BitsStored=bits, HighBit=bits - 1)
        for package in PACKAGES[codestream.JPEG]:
            with DecoderPool(packages=[package]) as pool:
                found = stored_frame(read_header(str(path)), pool)
            assert np.abs(found.astype(int) - values).max() <= 12, package


def test_near_lossless_keeps_its_promise(tmp_path: Path) -> None:
    stream = imagecodecs.jpegls_encode(picture(), level=3)
    path = make_file(tmp_path / "a.dcm", "1.2.840.10008.1.2.4.81", items([even(stream)]), picture())
    for package in PACKAGES[codestream.JPEG_LS]:
        with DecoderPool(packages=[package]) as pool:
            found = stored_frame(read_header(str(path)), pool)
        assert np.abs(found.astype(int) - picture()).max() == 3


@pytest.mark.parametrize("bits", [12, 13, 16])
@pytest.mark.parametrize("name", ["JPEG-LS", "JPEG lossless 1", "JPEG 2000", "JPEG 2000, signed", "RLE"])
def test_signed_values_get_their_sign_back(tmp_path: Path, name: str, bits: int) -> None:
    """JPEG and JPEG-LS know no sign, and some JPEG 2000 writers do not tell it."""
    values = (picture().astype(np.int16) - 2000).clip(-(1 << 11), (1 << 11) - 1)
    raw = (values.astype(np.int32) & ((1 << bits) - 1)).astype(np.uint16)
    if name == "RLE":
        stream, syntax = rle(raw), RLE
    elif name == "JPEG-LS":
        stream, syntax = imagecodecs.jpegls_encode(raw), JPEG_LS
    elif name == "JPEG lossless 1":
        stream, syntax = imagecodecs.jpeg8_encode(raw, lossless=True, predictor=1, bitspersample=bits), JPEG_LOSSLESS
    else:
        source = values if "signed" in name else raw
        stream = imagecodecs.jpeg2k_encode(source, level=0, reversible=True, codecformat="j2k", bitspersample=bits)
        assert read_codestream(stream).is_signed == ("signed" in name)
        syntax = JPEG_2000
    path = make_file(tmp_path / "a.dcm", syntax, items([even(stream)]), values, BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_array_equal(stored_frame(read_header(str(path))), values)


def test_a_palette_beside_intensities_does_no_harm(tmp_path: Path) -> None:
    """A supplemental palette colours some values for display; the pixels stay intensities."""
    more = {"RedPaletteColorLookupTableDescriptor": [256, 4096, 16], "RedPaletteColorLookupTableData": bytes(512)}
    path = make_file(tmp_path / "a.dcm", RLE, items([rle(FRAMES[0])]), FRAMES[0], **more)
    np.testing.assert_array_equal(frames_of(path)[0], FRAMES[0])


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize("name", list(ENCODERS))
@pytest.mark.parametrize(("rows", "columns"), [(63, 96), (64, 97), (96, 64), (30000, 30000), (65535, 65535)])
def test_a_size_that_disagrees_is_refused_before_decoding(tmp_path: Path, name: str, rows: int, columns: int) -> None:
    syntax, encode = ENCODERS[name]
    path = make_file(tmp_path / "a.dcm", syntax, items([even(bytes(encode(picture())))]), picture(), Rows=rows, Columns=columns)
    with DecoderPool(packages=[]) as pool, pytest.raises(UnreadableFileError, match=r"is \(64, 96\), its header says"):
        stored_frame(read_header(str(path)), pool)


@pytest.mark.parametrize(("rows", "columns"), [(9, 13), (8, 14), (9, 15), (10, 14), (14, 10), (3000, 3000), (65535, 65535)])
def test_rle_that_holds_another_size_is_refused(tmp_path: Path, rows: int, columns: int) -> None:
    path = make_file(tmp_path / "a.dcm", RLE, items([rle(FRAMES[0])]), FRAMES[0], Rows=rows, Columns=columns)
    with pytest.raises(UnreadableFileError, match="RLE"):
        stored_frame(read_header(str(path)))


def test_rle_segments_that_make_no_sense(tmp_path: Path) -> None:
    good = rle(FRAMES[0])
    count, first, second = struct.unpack_from("<3L", good)
    for start in ((1, first, second), (3, first, second), (2, 8, second), (2, second, first), (2, first, 1 << 30), (2, first, len(good))):
        path = make_file(tmp_path / "a.dcm", RLE, items([struct.pack("<3L", *start) + good[12:]]), FRAMES[0])
        with pytest.raises(UnreadableFileError, match="RLE"):
            stored_frame(read_header(str(path)))
    path = make_file(tmp_path / "a.dcm", RLE, items([good[:40]]), FRAMES[0])
    with pytest.raises(UnreadableFileError, match="RLE"):
        stored_frame(read_header(str(path)))
    assert count == 2


@pytest.mark.parametrize("name", list(ENCODERS))
def test_frames_without_an_end_are_refused(tmp_path: Path, name: str) -> None:
    syntax, encode = ENCODERS[name]
    stream = bytes(encode(picture()))
    for keep in (20, len(stream) // 2, len(stream) - 40):
        path = make_file(tmp_path / "a.dcm", syntax, items([even(stream[:keep])]), picture())
        with pytest.raises(UnreadableFileError, match=r"a\.dcm"):
            stored_frame(read_header(str(path)))


@pytest.mark.parametrize("predictor", [1, 4, 7])
def test_lossless_jpeg_that_lost_bytes_inside_is_refused(tmp_path: Path, predictor: int) -> None:
    """The usual decoders fill such a frame up without a word."""
    stream = bytes(imagecodecs.jpeg8_encode(picture(), lossless=True, predictor=predictor, bitspersample=12))
    for cut in (slice(2000, 2100), slice(1000, 1008), slice(-60, -2), slice(-12, -2)):
        at = range(len(stream))[cut]
        spoiled = stream[: at.start] + stream[at.stop :]
        path = make_file(tmp_path / "a.dcm", JPEG_LOSSLESS, items([even(spoiled)]), picture(), BitsStored=12, HighBit=11)
        assert imagecodecs.jpeg8_decode(spoiled).shape == (64, 96)
        with pytest.raises(UnreadableFileError, match="damaged"):
            stored_frame(read_header(str(path)))


def test_lossy_jpeg_of_fewer_bits_than_the_header_is_refused(tmp_path: Path) -> None:
    """SimpleITK reads such a set with volumes 24 % too large, and no error."""
    stream = imagecodecs.jpeg8_encode(picture(), level=95, bitspersample=12)
    path = make_file(tmp_path / "a.dcm", "1.2.840.10008.1.2.4.51", items([even(stream)]), picture())
    with pytest.raises(UnreadableFileError, match="lossy JPEG of 12 bits a pixel, its header says 16"):
        stored_frame(read_header(str(path)))


def test_colours_and_depths_that_the_header_does_not_name_are_refused(tmp_path: Path) -> None:
    colours = np.repeat((picture() >> 4).astype(np.uint8)[..., None], 3, axis=2)
    stream = imagecodecs.jpeg2k_encode(colours, level=0, reversible=True, codecformat="j2k")
    path = make_file(tmp_path / "a.dcm", JPEG_2000, items([even(stream)]), colours[..., 0])
    with pytest.raises(UnreadableFileError, match="3 colours"):
        stored_frame(read_header(str(path)))
    path = make_file(tmp_path / "b.dcm", JPEG_LS, items([even(imagecodecs.jpegls_encode(picture()))]), colours[..., 0])
    with pytest.raises(UnreadableFileError, match="bits a pixel, its header says 8"):
        stored_frame(read_header(str(path)))


@pytest.mark.parametrize("stream", [b"", b"\xff", b"no image", b"\xff\xd8\xff\xff\xff", b"\xff\xd8\xff\xe0\0\4\0\0", b"\xff\x4f\xff\x51\0"])
def test_bytes_that_are_no_image(stream: bytes) -> None:
    with pytest.raises(CodestreamError):
        read_codestream(stream)


def test_arithmetic_and_hierarchical_jpeg_are_named() -> None:
    with pytest.raises(CodestreamError, match="hierarchical or arithmetic"):
        read_codestream(b"\xff\xd8\xff\xc9\0\x0b\x0c\0\x40\0\x60\1" + bytes(20))


@pytest.mark.parametrize("name", [*ENCODERS, "RLE"])
def test_flipped_bytes_give_an_error_or_a_picture_and_nothing_else(tmp_path: Path, name: str) -> None:
    syntax, encode = (RLE, rle) if name == "RLE" else ENCODERS[name]
    stream = np.frombuffer(even(bytes(encode(picture()))), np.uint8)
    random = np.random.default_rng(6)
    with DecoderPool(2) as pool:
        for trial in range(25):
            spoiled = stream.copy()
            where = random.integers(0, 100 if trial % 2 else len(stream), 3)
            spoiled[where] = random.integers(0, 256, 3)
            path = make_file(tmp_path / "a.dcm", syntax, items([spoiled.tobytes()]), picture())
            with contextlib.suppress(UnreadableFileError):
                assert stored_frame(read_header(str(path)), pool).shape == (64, 96)


# ------------------------------------------------------------------ which encodings


def test_deflated_frames(tmp_path: Path) -> None:
    def deflated(data: bytes) -> bytes:
        packer = zlib.compressobj(wbits=-15)
        return even(packer.compress(data) + packer.flush())

    syntax = "1.2.840.10008.1.2.8.1"  # which pydicom does not write yet
    for values in (FRAMES, FRAMES[:, :3, :3].astype(np.uint8)):
        path = make_file(tmp_path / "a.dcm", RLE, items([deflated(frame.tobytes()) for frame in values]), values)
        np.testing.assert_array_equal(frames_of(path, transfer_syntax=syntax), values)
    for data in (FRAMES[0].tobytes()[:-2], bytes(1 << 20), b""):
        path = make_file(tmp_path / "a.dcm", RLE, items([deflated(data)]), FRAMES[0])
        with pytest.raises(UnreadableFileError, match="deflated frame does not hold"):
            frames_of(path, transfer_syntax=syntax)
    path = make_file(tmp_path / "a.dcm", RLE, items([b"\xff" * 40]), FRAMES[0])
    with pytest.raises(UnreadableFileError, match="corrupt"):
        frames_of(path, transfer_syntax=syntax)


def test_encodings_that_no_image_reader_has_are_refused(tmp_path: Path) -> None:
    assert is_known_encoding(RLE)
    for syntax in ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.94", "1.2.3"):
        assert not is_known_encoding(syntax)
    path = make_file(tmp_path / "a.dcm", "1.2.840.10008.1.2.4.100", items([b"\0\0"]), FRAMES[0])
    with pytest.raises(UnsupportedFormatError, match="transfer syntax"):
        stored_frame(read_header(str(path)))
