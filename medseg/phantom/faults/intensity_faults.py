"""How stored numbers become intensities: rescale, padding, bits and photometric interpretation (rows 17-24)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.phantom.faults.fault import DicomFile, FaultyScan, Option, Register
from medseg.phantom.faults.scene import LAB, image, stack
from medseg.phantom.faults.series import SIGNED_HU, Storage, as_scan, changed, ct_series

REGISTER = Register()
INCONSISTENT = "InconsistentSeriesError"
_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")


@REGISTER.add(
    "rescale-per-slice",
    "17",
    "C",
    "Every slice has its own slope and intercept: one pair for all shifts the threshold from slice to slice.",
)
def _per_slice() -> FaultyScan:
    files = []
    for k, (plane, file) in enumerate(zip(stack(), ct_series("rescale-per-slice"), strict=True)):
        own = Storage(slope=round(0.5 + 0.01 * k, 2), intercept=-600.0 - 3 * k)
        files.append(replace(file, header={**file.header, **own.header()}, pixels=own.store(image(plane, LAB, k))))
    return as_scan(files)


def _without_rescale(name: str, storage: Storage, only: int | None = None) -> FaultyScan:
    files = ct_series(name, storage=storage)
    return as_scan([changed(file, without=_RESCALE) if only in (None, k) else file for k, file in enumerate(files)])


REGISTER.add(
    "rescale-missing",
    "18",
    "R",
    "CT without slope and intercept: stored numbers taken for HU put the whole body above the threshold.",
    codes=("MISSING_RESCALE",),
    error=INCONSISTENT,
)(lambda: _without_rescale("rescale-missing", Storage()))
REGISTER.add(
    "rescale-missing-stored-hu",
    "18",
    "R",
    "CT without slope and intercept whose stored numbers are HU: right only if somebody knows it.",
    codes=("MISSING_RESCALE",),
    error=INCONSISTENT,
    options=(Option({"assume_hu": True}, LAB.volume_ml, ("HU_ASSUMED",)),),
)(lambda: _without_rescale("rescale-missing-stored-hu", SIGNED_HU))
REGISTER.add(
    "rescale-missing-in-one",
    "18",
    "R",
    "One CT slice has no slope and intercept: taken as 1 and 0, it turns all bright.",
    codes=("MISSING_RESCALE",),
    error=INCONSISTENT,
)(lambda: _without_rescale("rescale-missing-in-one", Storage(), only=40))


def _bad_rescale(name: str, **fields: Any) -> FaultyScan:
    files = ct_series(name)
    files[40] = changed(files[40], **fields)
    return as_scan(files)


for _name, _fields, _what in (
    ("slope-zero", {"RescaleSlope": 0}, "slope of 0"),
    ("slope-nan", {"RescaleSlope": "NaN"}, "slope that is no number"),
):
    REGISTER.add(
        _name,
        "19",
        "R",
        f"A slice has a {_what}: its intensities are lost, and taking it for 1 invents some.",
        codes=("BAD_RESCALE",),
        error=INCONSISTENT,
    )(partial(_bad_rescale, _name, **_fields))


def _round_field(shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return what lies outside the scanner's round field of view."""
    rows, columns = np.indices(shape)
    return np.asarray((rows - (shape[0] - 1) / 2) ** 2 + (columns - (shape[1] - 1) / 2) ** 2 > 64.5**2)


def _padded(name: str, value: int, storage: Storage, **fields: Any) -> FaultyScan:
    files = []
    for file in ct_series(name, storage=storage):
        pixels = np.asarray(file.pixels).copy()
        pixels[_round_field((pixels.shape[0], pixels.shape[1]))] = value
        files.append(changed(replace(file, pixels=pixels), **fields))
    return as_scan(files)


REGISTER.add(
    "padding",
    "20",
    "C",
    "Corners outside the field hold -2000, as PixelPaddingValue says: they are no tissue, and no air either.",
    codes=("PIXEL_PADDING",),
)(lambda: _padded("padding", -2000, SIGNED_HU, PixelPaddingValue=-2000))
REGISTER.add("padding-untold", "20", "C", "Corners outside the field hold -3024 and no field says so.")(
    lambda: _padded("padding-untold", -3024, SIGNED_HU)
)
REGISTER.add(
    "padding-bright",
    "20",
    "C",
    "Corners outside the field hold the largest number, as PixelPaddingValue says: taken for tissue they more than double the organ.",
    codes=("PIXEL_PADDING", "PADDING_AS_AIR"),
)(lambda: _padded("padding-bright", 4095, Storage(), PixelPaddingValue=4095))
REGISTER.add(
    "padding-range",
    "20",
    "C",
    "Corners outside the field hold 4000 to 4095, as PixelPaddingValue and its range limit say: taken for tissue they are bright bone.",
    codes=("PIXEL_PADDING", "PADDING_AS_AIR"),
)(lambda: _padded("padding-range", 4050, Storage(), PixelPaddingValue=4095, PixelPaddingRangeLimit=4000))

_WIDE = Storage(bits_stored=16)
REGISTER.add(
    "padding-wrapped",
    "21",
    "C",
    "A padding of -2000 was written as 63536 into unsigned pixels: the corners become brighter than metal.",
    codes=("PADDING_WRAPPED",),
)(lambda: _padded("padding-wrapped", 63536, _WIDE, PixelPaddingValue=63536))


@REGISTER.add(
    "padding-wrapped-untold",
    "21",
    "W",
    "A padding of -2000 was written as 63536 into unsigned pixels, and no field says so: only the corners give it away.",
    codes=("PADDING_WRAPPED", "PADDING_SUSPECTED"),
    warning="padding",
)
def _wrapped_untold() -> FaultyScan:
    return _padded("padding-wrapped-untold", 63536, _WIDE)


def _bits(name: str, storage: Storage, spoil: Any) -> FaultyScan:
    files = ct_series(name, storage=storage)
    return as_scan([replace(file, pixels=spoil(np.asarray(file.pixels))) for file in files])


REGISTER.add(
    "signed-12-bit",
    "22",
    "C",
    "12-bit signed numbers lie in 16 bits without their sign: read as they are, everything below 0 HU turns bright.",
)(lambda: _bits("signed-12-bit", Storage(is_signed=True, intercept=0.0), lambda stored: stored & np.int16(0x0FFF)))
REGISTER.add(
    "high-bits-garbage", "23", "C", "The four unused bits hold an old overlay: read as part of the number, they add tens of thousands."
)(
    lambda: _bits(
        "high-bits-garbage", Storage(), lambda stored: stored | (np.indices(stored.shape).sum(axis=0) % 16 << 12).astype(np.uint16)
    )
)


@REGISTER.add(
    "shifted-bits",
    "23",
    "C",
    "12 bits lie in the upper part of 16 (HighBit 15): read as they are, everything is 16 times as large.",
)
def _shifted() -> FaultyScan:
    files: list[DicomFile] = []
    for file in ct_series("shifted-bits"):
        files.append(changed(replace(file, pixels=np.asarray(file.pixels) << 4), HighBit=15))
    return as_scan(files)


@REGISTER.add(
    "monochrome1",
    "24",
    "W",
    "MONOCHROME1 asks viewers to show bright as dark: a reader that inverts the numbers turns the body into the organ.",
    codes=("MONOCHROME1",),
)
def _monochrome1() -> FaultyScan:
    return as_scan([changed(file, PhotometricInterpretation="MONOCHROME1") for file in ct_series("monochrome1")])
