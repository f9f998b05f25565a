"""How files are written: compressed, other byte orders, deflated, without preamble (rows 27-29)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from medseg.phantom.faults.fault import FaultyScan, Register
from medseg.phantom.faults.scene import stack
from medseg.phantom.faults.series import Storage, as_scan, changed, ct_series

REGISTER = Register()
_LOSSY: dict[str, Any] = {"LossyImageCompression": "01", "LossyImageCompressionRatio": 8, "LossyImageCompressionMethod": "ISO_10918_1"}
_BYTE = Storage(bits_stored=8, bits_allocated=8, slope=4.0, intercept=-620.0)


def _written(name: str, syntax: str, storage: Storage | None = None, **header: Any) -> FaultyScan:
    files = ct_series(name, storage=storage or Storage(), header=header)
    return as_scan([replace(file, syntax=syntax) for file in files])


def _add(name: str, row: str, sentence: str, syntax: str, **more: Any) -> None:
    REGISTER.add(name, row, "C", sentence, **more)(lambda: _written(name, syntax))


for _name, _syntax, _what, _needs in (
    ("rle", "rle", "RLE", ""),
    ("jpeg-lossless", "jpeg-lossless", "JPEG lossless (process 14)", "codecs"),
    ("jpeg-lossless-sv1", "jpeg-lossless-sv1", "JPEG lossless, selection value 1, what most scanners compress with", "codecs"),
    ("jpeg-ls", "jpeg-ls", "JPEG-LS without loss", ""),
    ("jpeg-2000-lossless", "jpeg-2000-lossless", "JPEG 2000 without loss", ""),
    ("htj2k-lossless", "htj2k-lossless", "High-Throughput JPEG 2000 without loss", "codecs"),
):
    _add(
        _name,
        "27",
        f"Compressed with {_what}: a reader without this decoder must name it, one with it must be exact.",
        _syntax,
        needs=_needs,
    )

for _name, _syntax, _storage, _needs, _what in (
    ("jpeg-baseline", "jpeg-baseline", _BYTE, "codecs", "8-bit JPEG"),
    ("jpeg-extended", "jpeg-extended", Storage(), "codecs", "12-bit JPEG"),
    ("jpeg-ls-near", "jpeg-ls-near", Storage(), "", "JPEG-LS with loss"),
    ("jpeg-2000", "jpeg-2000", Storage(), "", "JPEG 2000 with loss"),
):
    REGISTER.add(
        _name,
        "27",
        "W",
        f"Compressed with {_what}: intensities are not the scanner's any more, and nothing after this can bring them back.",
        codes=("LOSSY_COMPRESSION",),
        needs=_needs,
    )(partial(_written, _name, _syntax, _storage, **_LOSSY))


@REGISTER.add(
    "jpeg-precision-contradicts",
    "27",
    "R",
    "The header says 12 bits, the JPEG inside holds 8: taken at its word, every intensity is a sixteenth and the organ is gone.",
    error="UnreadableFileError",
    needs="codecs",
)
def _precision() -> FaultyScan:
    name = "jpeg-precision-contradicts"
    files = ct_series(name, storage=Storage(bits_stored=8, bits_allocated=8, slope=16.0), header=_LOSSY)
    claimed: dict[str, Any] = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "RescaleSlope": 1}
    return as_scan([replace(changed(file, **claimed), syntax="jpeg-baseline") for file in files])


@REGISTER.add(
    "encoding-unknown",
    "27",
    "R",
    "The files name a transfer syntax that is no image's: a reader must say so instead of taking the bytes for pixels.",
    codes=("UNKNOWN_ENCODING",),
    error="UnsupportedFormatError",
)
def _unknown() -> FaultyScan:
    return _written("encoding-unknown", "unknown")


_add("implicit-little-endian", "28", "Implicit little endian, the default of the standard: elements carry no types.", "implicit-little")
_add("big-endian", "28", "Explicit big endian: with the bytes of a pixel swapped, the organ turns into noise.", "big-endian")
_add("deflated", "28", "The whole data set is deflated: some readers refuse it, or read pixels from compressed bytes.", "deflated")


@REGISTER.add(
    "no-preamble",
    "29",
    "C",
    "Files without preamble and meta header, as old archives keep them: some readers do not see that they are DICOM.",
)
def _no_preamble() -> FaultyScan:
    files = ct_series("no-preamble")
    return as_scan([replace(file, syntax="implicit-little", has_preamble=False) for file in files])


@REGISTER.add(
    "no-preamble-explicit",
    "29",
    "C",
    "Files without preamble and meta header in explicit little endian: nothing but the first element tells.",
)
def _no_preamble_explicit() -> FaultyScan:
    return as_scan([replace(file, has_preamble=False) for file in ct_series("no-preamble-explicit", stack())])
