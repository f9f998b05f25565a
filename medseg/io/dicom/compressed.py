"""Compressed frames into stored values: every size is checked before a decoder runs, every result after it."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from medseg.core.errors import MissingDependencyError, UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom.codestream import JPEG, JPEG_2000, JPEG_LOSSLESS, Codestream, CodestreamError, read_codestream
from medseg.io.dicom.decoder import DecoderPool, DecodingError, NoDecoderError
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.jpeg_lossless import UnusualJpegError, decode_jpeg_lossless
from medseg.io.dicom.layout import DEFLATED_FRAMES, ENCAPSULATED, RLE, PixelArray, clean_bits, frame_bytes, stored_size, stored_type

_RLE_HEADER = 64
_PACKBITS_RATIO = 64  # two bytes give 128 at most


def decode_frame(stream: bytes, header: SliceHeader, pool: DecoderPool, target: PixelArray | None = None) -> PixelArray:
    """Return the stored values of a compressed frame, (rows, columns), sign and unused bits put right, in `target` if given.

    Raises UnreadableFileError where the frame is damaged or contradicts its header, UnsupportedFormatError for other
    encodings, MissingDependencyError where no decoder is installed.
    """
    if header.transfer_syntax not in ENCAPSULATED:
        raise UnsupportedFormatError(f"{header.path}: transfer syntax {header.transfer_syntax} is not read")
    if header.transfer_syntax in (RLE, DEFLATED_FRAMES):
        values = target.view(stored_type(header)) if target is not None else np.empty(stored_size(header), stored_type(header))
        (_unpack_rle if header.transfer_syntax == RLE else _inflate)(stream, header, values)
        clean_bits(values, header.bits_stored, header.high_bit)
        return values
    try:
        frame = read_codestream(stream)
        _check(frame, header)
        samples = _samples(stream, frame, pool, target)
    except (CodestreamError, DecodingError) as err:
        raise UnreadableFileError(f"{header.path}: the compressed image {err}") from err
    except NoDecoderError as err:
        raise MissingDependencyError(f"{header.path}: no decoder is installed for {err} images: pip install 'medseg[codecs]'") from err
    return _as_stored(samples, frame, header, target)


def _check(frame: Codestream, header: SliceHeader) -> None:
    """Compare the frame with its header before decoding: a damaged size would have the codec fill gigabytes."""
    size = (frame.rows, frame.columns)
    if size != stored_size(header):
        raise UnreadableFileError(f"{header.path}: the compressed image is {size}, its header says {stored_size(header)}")
    if frame.components != 1:
        raise UnreadableFileError(f"{header.path}: the compressed image holds {frame.components} colours, its header says one")
    if frame.precision > header.bits_allocated:
        raise UnreadableFileError(
            f"{header.path}: the compressed image has {frame.precision} bits a pixel, its header says {header.bits_allocated}"
        )
    if frame.kind == JPEG and frame.precision < header.bits_stored:
        # lossy JPEG ends at 12 bits: wider values were cut or scaled by who wrote this, and read as other intensities
        raise UnreadableFileError(
            f"{header.path}: lossy JPEG of {frame.precision} bits a pixel, its header says {header.bits_stored}: the intensities"
            " were changed when it was compressed: ask for the original"
        )
    if not frame.has_end:
        # asked before decoding: some decoders fill up with grey, others need seconds to notice
        raise UnreadableFileError(f"{header.path}: compressed pixel data has no end, it is cut short: copy the file again")


def _samples(stream: bytes, frame: Codestream, pool: DecoderPool, target: PixelArray | None) -> PixelArray:
    """Decode a frame: lossless JPEG here, everything else and what is rare in a process of its own."""
    if frame.kind == JPEG_LOSSLESS:
        try:
            return decode_jpeg_lossless(stream, frame, target)
        except UnusualJpegError:
            pass
    return pool.decode(stream, frame, target)


def _as_stored(samples: PixelArray, frame: Codestream, header: SliceHeader, target: PixelArray | None) -> PixelArray:
    """Bring decoded samples into the cells of the header; signs that the encoding cannot hold are put back."""
    kind = stored_type(header)
    if samples.dtype.itemsize == kind.itemsize:
        values = samples.view(kind)
    else:
        values = np.empty(samples.shape, kind) if target is None else target.view(kind)
        np.copyto(values, samples, casting="unsafe")
    if header.high_bit != header.bits_stored - 1 and frame.precision > header.high_bit:
        clean_bits(values, header.bits_stored, header.high_bit)  # whole cells were compressed
    elif frame.kind != JPEG_2000 or frame.is_signed != header.is_signed or frame.precision > header.bits_stored:
        bits = min(frame.precision, header.bits_stored)
        clean_bits(values, bits, bits - 1)
    return values


def _unpack_rle(stream: bytes, header: SliceHeader, values: PixelArray) -> None:
    from medseg.kernels.packbits import COMPLETE, TOO_SHORT, unpack_bits  # compiled code: only where it is needed

    planes = values.dtype.itemsize
    if frame_bytes(header) > _PACKBITS_RATIO * len(stream):
        raise UnreadableFileError(f"{header.path}: {len(stream)} bytes of RLE cannot hold an image of {stored_size(header)}")
    if len(stream) < _RLE_HEADER:
        raise UnreadableFileError(f"{header.path}: RLE pixel data is cut short after {len(stream)} bytes: copy the file again")
    count, *starts = struct.unpack_from("<16L", stream)
    if count != planes:
        raise UnreadableFileError(f"{header.path}: RLE pixel data has {count} segments, pixels of {8 * planes} bits need {planes}")
    starts = starts[:count]
    ends = [*starts[1:], len(stream)]
    if starts[0] < _RLE_HEADER or any(start > end for start, end in zip(starts, ends, strict=True)):
        raise UnreadableFileError(f"{header.path}: the segments of the RLE pixel data lie outside it: copy the file again")
    little = values.view(values.dtype.newbyteorder("<")).reshape(-1, 1).view(np.uint8)
    packed = np.frombuffer(stream, np.uint8)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        status = unpack_bits(packed, start, end, little, planes - 1 - number)  # the most significant byte comes first
        if status != COMPLETE:
            what = "too few" if status == TOO_SHORT else "more"
            raise UnreadableFileError(
                f"{header.path}: the RLE pixel data is damaged or cut short: it gives {what} values than the {stored_size(header)}"
                " of its header"
            )


def _inflate(stream: bytes, header: SliceHeader, values: PixelArray) -> None:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(stream, values.nbytes + 1)
    except zlib.error:
        raise UnreadableFileError(f"{header.path}: the deflated frame is corrupt: copy the file again") from None
    if len(data) != values.nbytes + values.nbytes % 2 and len(data) != values.nbytes:
        raise UnreadableFileError(f"{header.path}: the deflated frame does not hold the {values.nbytes} bytes of its header")
    np.copyto(values, np.frombuffer(data, values.dtype.newbyteorder("<"), values.size).reshape(values.shape))
