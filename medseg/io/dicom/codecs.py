"""Frames of pixels from stored bytes: native layouts here, compressed ones through pydicom's decoders and imagecodecs."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import MissingDependencyError, UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom.elements import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, HeaderError
from medseg.io.dicom.elements import read_dataset_bytes as read_whole
from medseg.io.dicom.header import SliceHeader

PixelArray = npt.NDArray[np.integer[Any]]

_NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
_JPEG = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})
_JPEG_LS = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
_END_OF_IMAGE = b"\xff\xd9"
_PIXEL_DATA = 0x7FE00010
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_BITS = (8, 16, 32)
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})  # start of frame: JPEG baseline to lossless, JPEG-LS
# pydicom tries every decoder it finds; the first of these is the one that reports damage best
_PREFERRED = ("pylibjpeg", "pyjpegls", "pydicom", "pillow")


def stored_frame(header: SliceHeader) -> PixelArray:
    """Return the stored values of a single-frame file, (rows, columns), sign and unused bits put right, not rescaled.

    Raises UnreadableFileError where pixels are missing or damaged, UnsupportedFormatError for colour, float or unknown
    encodings, MissingDependencyError where only an optional package decodes them.
    """
    if header.pixels.tag != _PIXEL_DATA or header.bits_allocated not in _BITS:
        raise UnsupportedFormatError(f"{header.path}: pixels of {header.bits_allocated} bits or of floating point are not read")
    if header.samples != 1:
        raise UnsupportedFormatError(f"{header.path}: a colour image ({header.photometric or 'several samples a pixel'}), not intensities")
    if not 0 < header.bits_stored <= header.high_bit + 1 <= header.bits_allocated:
        raise UnreadableFileError(
            f"{header.path}: bits stored {header.bits_stored}, high bit {header.high_bit} and bits allocated"
            f" {header.bits_allocated} contradict each other"
        )
    try:
        if header.transfer_syntax in _NATIVE:
            return _native(header)
        return _compressed(header)
    except OSError as err:
        raise UnreadableFileError(f"{header.path}: {err.strerror or 'cannot be read'}") from err
    except HeaderError as err:
        raise UnreadableFileError(f"{header.path}: {err}") from err


def missing_pixel_bytes(header: SliceHeader) -> tuple[int, int] | None:
    """Return (bytes there, bytes needed) where the file is too short for its uncompressed pixels, else None."""
    if header.transfer_syntax not in _NATIVE:
        return None
    there = max(header.file_size - header.pixels.offset, 0)
    if header.pixels.length is not None:
        there = min(there, header.pixels.length)
    return (there, header.pixel_bytes) if there < header.pixel_bytes else None


def is_known_encoding(transfer_syntax: str) -> bool:
    """Whether a transfer syntax is one that medseg can decode, with or without optional packages."""
    if transfer_syntax in _NATIVE | _JPEG:
        return True
    from pydicom.pixels import get_decoder

    try:
        get_decoder(transfer_syntax)
    except NotImplementedError:
        return False
    return True


def _native(header: SliceHeader) -> PixelArray:
    lack = missing_pixel_bytes(header)
    if lack:
        raise UnreadableFileError(f"{header.path}: pixel data is cut short, {lack[0]} bytes there, {lack[1]} needed: copy the file again")
    if header.transfer_syntax == DEFLATED:
        data = read_whole(header.path, DEFLATED)[header.pixels.offset :][: header.pixel_bytes]
    else:
        with open(header.path, "rb") as stream:
            stream.seek(header.pixels.offset)
            data = stream.read(header.pixel_bytes)
    if len(data) < header.pixel_bytes:
        raise UnreadableFileError(f"{header.path}: pixel data is cut short, {len(data)} bytes there, {header.pixel_bytes} needed")
    order = ">" if header.is_big_endian else "<"
    values = np.frombuffer(data, dtype=f"{order}{'i' if header.is_signed else 'u'}{header.bits_allocated // 8}")
    if header.is_big_endian and header.bits_allocated == 8 and header.pixels.vr == "OW":
        values = _swapped_pairs(values, header)
    return _used_bits(values.astype(values.dtype.newbyteorder("="), copy=False), header).reshape(header.rows, header.columns)


def _swapped_pairs(values: PixelArray, header: SliceHeader) -> PixelArray:
    """Bytes of 8-bit pixels written as big-endian 16-bit words lie in swapped pairs."""
    if values.size % 2:
        raise UnsupportedFormatError(f"{header.path}: an odd number of 8-bit pixels in big-endian words")
    return np.asarray(values.view(np.uint16).byteswap().view(values.dtype))


def _used_bits(values: PixelArray, header: SliceHeader) -> PixelArray:
    """Drop what lies above the high bit and below the stored bits; signed values get their sign from the high bit."""
    unused_above = header.bits_allocated - 1 - header.high_bit
    unused = header.bits_allocated - header.bits_stored
    if unused == 0:
        return values
    return np.asarray((values << unused_above) >> unused)


def _compressed(header: SliceHeader) -> PixelArray:
    whole = read_whole(header.path, header.transfer_syntax)
    data = whole[header.pixels.offset :]
    stream = b"".join(_fragments(data, header))  # the one frame may be cut into several fragments
    size = codestream_size(stream)
    if size is not None and size != (header.rows, header.columns):
        # asked before decoding: a damaged size would have the codec fill gigabytes
        raise UnreadableFileError(f"{header.path}: the compressed image is {size}, its header says {(header.rows, header.columns)}")
    if header.transfer_syntax in _JPEG_LS and _END_OF_IMAGE not in stream[-16:]:
        # asked before decoding: the codec needs seconds to notice
        raise UnreadableFileError(f"{header.path}: compressed pixel data has no end: copy the file again")
    return _jpeg(stream, header) if header.transfer_syntax in _JPEG else _by_pydicom(stream, header)


def codestream_size(stream: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream names, None where it names none (RLE)."""
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 24:
        right, lower, left, upper = struct.unpack_from(">LLLL", stream, 8)
        return lower - upper, right - left
    if stream[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", stream, at + 5)
            return rows, columns
        at += 2 + length
    return None


def _fragments(data: bytes, header: SliceHeader) -> list[bytes]:
    """Return the pieces of the one frame (PS3.5, A.4); a piece that leads beyond the file is an error."""
    pieces: list[bytes] = []
    at = 0
    while True:
        if at + 8 > len(data):
            raise UnreadableFileError(f"{header.path}: compressed pixel data is cut short after {len(data)} bytes: copy the file again")
        group, number, length = struct.unpack_from("<HHL", data, at)
        tag = group << 16 | number
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM:
            raise UnreadableFileError(f"{header.path}: compressed pixel data is damaged: no fragment at byte {at}")
        if at + 8 + length > len(data):
            raise UnreadableFileError(
                f"{header.path}: compressed pixel data is cut short, {len(data) - at - 8} bytes of a fragment there, {length} needed:"
                " copy the file again"
            )
        pieces.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    if len(pieces) < 2:
        raise UnreadableFileError(f"{header.path}: compressed pixel data holds no frame")
    return pieces[1:]  # the first is the offset table


def _by_pydicom(stream: bytes, header: SliceHeader) -> PixelArray:
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    try:
        decoder = get_decoder(header.transfer_syntax)
    except NotImplementedError as err:
        raise UnsupportedFormatError(f"{header.path}: transfer syntax {header.transfer_syntax} is not read") from err
    plugins = [name for name in _PREFERRED if name in decoder.available_plugins]
    if not plugins:
        raise _missing(header)
    source = encapsulate([stream], has_bot=False)
    try:
        values, _ = decoder.as_array(source, raw=True, decoding_plugin=plugins[0], **_decoding_options(header))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as err:
        if not isinstance(err, Exception) and type(err).__name__ != "PanicException":
            raise  # pyo3's PanicException is the one BaseException that is just a broken file
        raise UnreadableFileError(f"{header.path}: compressed pixel data cannot be decoded, it is damaged: copy the file again") from err
    return _checked_shape(np.asarray(values), header)


def _decoding_options(header: SliceHeader) -> dict[str, Any]:
    return {
        "rows": header.rows,
        "columns": header.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": header.photometric or "MONOCHROME2",
        "bits_allocated": header.bits_allocated,
        "bits_stored": header.bits_stored,
        "pixel_representation": int(header.is_signed),
        "pixel_keyword": "PixelData",
    }


def _jpeg(stream: bytes, header: SliceHeader) -> PixelArray:
    """Decode JPEG baseline, extended and lossless; their streams know no sign."""
    try:
        from imagecodecs import jpeg_decode
    except ImportError as err:
        raise _missing(header) from err
    try:
        values = np.asarray(jpeg_decode(stream))
    except (ValueError, RuntimeError) as err:
        raise UnreadableFileError(f"{header.path}: JPEG pixel data cannot be decoded, it is damaged: copy the file again") from err
    kind = "i" if header.is_signed else "u"
    fitted = _checked_shape(values, header).astype(f"u{header.bits_allocated // 8}")
    return _used_bits(fitted.view(f"{kind}{header.bits_allocated // 8}"), header)


def _checked_shape(values: PixelArray, header: SliceHeader) -> PixelArray:
    if values.shape != (header.rows, header.columns):
        raise UnreadableFileError(
            f"{header.path}: the compressed image has shape {values.shape}, its header says {(header.rows, header.columns)}"
        )
    return values


def _missing(header: SliceHeader) -> MissingDependencyError:
    return MissingDependencyError(
        f"{header.path}: no decoder is installed for transfer syntax {header.transfer_syntax}: pip install 'medseg[codecs]'"
    )
