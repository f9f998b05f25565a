"""JPEG frames through the DICOM reader of ITK, for installations without imagecodecs; runs in the decoder process only."""

from __future__ import annotations

import os
import struct
import tempfile
from typing import Any

import SimpleITK as sitk

from medseg.io.dicom.codestream import JPEG_LOSSLESS, Codestream, read_codestream

_SECONDARY_CAPTURE = b"1.2.840.10008.5.1.4.1.1.7"
_BASELINE, _EXTENDED, _LOSSLESS = b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.51", b"1.2.840.10008.1.2.4.57"


def decode_jpeg(stream: bytes, rows: int, columns: int) -> Any:
    """Return the samples of one JPEG frame, (rows, columns): it goes through a file that holds nothing else."""
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        path = os.path.join(folder, "frame.dcm")
        with open(path, "wb") as file:
            file.write(_bare_dicom(stream, read_codestream(stream)))
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(path)
        return sitk.GetArrayFromImage(reader.Execute()).reshape(rows, columns)


def _bare_dicom(stream: bytes, frame: Codestream) -> bytes:
    """Return a DICOM file of one frame with no word about a patient."""
    syntax = _LOSSLESS if frame.kind == JPEG_LOSSLESS else _BASELINE if frame.precision == 8 else _EXTENDED
    same = (_SECONDARY_CAPTURE, b"1.2.3.4")
    meta = (
        _element(2, 1, b"OB", b"\0\1") + _element(2, 2, b"UI", same[0]) + _element(2, 3, b"UI", same[1]) + _element(2, 0x10, b"UI", syntax)
    )
    bits, allocated = frame.precision, 8 if frame.precision <= 8 else 16
    numbers = {0x10: frame.rows, 0x11: frame.columns, 0x100: allocated, 0x101: bits, 0x102: bits - 1, 0x103: 0}
    return b"".join(
        [
            b"\0" * 128 + b"DICM",
            _element(2, 0, b"UL", struct.pack("<L", len(meta))) + meta,
            _element(8, 0x16, b"UI", same[0]) + _element(8, 0x18, b"UI", same[1]),
            _element(0x28, 2, b"US", b"\1\0") + _element(0x28, 4, b"CS", b"MONOCHROME2"),
            *(_element(0x28, number, b"US", struct.pack("<H", value)) for number, value in numbers.items()),
            struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF),
            struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, len(stream) + len(stream) % 2),
            stream + b"\0" * (len(stream) % 2),
            struct.pack("<HHL", 0xFFFE, 0xE0DD, 0),
        ]
    )


def _element(group: int, number: int, representation: bytes, value: bytes) -> bytes:
    """Return an explicit little-endian element; its value is filled up to an even length."""
    value += (b" " if representation == b"CS" else b"\0") * (len(value) % 2)
    if representation == b"OB":
        return struct.pack("<HH2sHL", group, number, representation, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, representation, len(value)) + value
