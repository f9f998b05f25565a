"""The intensities of a sorted stack of slices, decoded straight into one array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, MedsegError, UnreadableFileError
from medseg.core.finding import Finding, Severity
from medseg.io.dicom.codecs import PixelArray, stored_frame
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.quiet import quiet

_DIGITS_OF_FLOAT32 = 24  # whole numbers of more bits lose digits in float32


class _TooWideError(Exception):
    """A slice does not fit the integer type that the others were given."""


def read_pixels(slices: Sequence[SliceHeader], threads: int = 1) -> tuple[npt.NDArray[Any], tuple[Finding, ...]]:
    """Return the rescaled intensities of slices, C-contiguous (k,j,i), and findings on padding.

    int16 where every slope is 1, every intercept whole and the values fit, float32 otherwise (int32 or float64 where whole
    numbers would lose digits). Each slice has its own rescale. Padding stays as stored, except where a signed padding value was
    written as unsigned, which would read as a huge intensity. Raises UnreadableFileError naming file and slice.
    """
    shape = (len(slices), slices[0].rows, slices[0].columns)
    wrapped = {k: header.padding for k, header in enumerate(slices) if is_wrapped_padding(header)}
    whole = all(_rescale(header)[0] == 1 and _rescale(header)[1].is_integer() for header in slices)
    for dtype in _candidates(whole, max(header.bits_stored for header in slices)):
        array = _allocate(shape, dtype)
        try:
            with quiet():
                padded = _fill(array, slices, wrapped, threads)
        except _TooWideError:
            continue
        return array, _padding_findings(slices, padded, wrapped)
    raise InputError("intensities fit no supported type")  # pragma: no cover - the last candidate takes all


def _candidates(whole: bool, bits_stored: int) -> list[np.dtype[Any]]:
    if not whole:
        return [np.dtype(np.float32)]
    wide = [np.int32, np.float64] if bits_stored > _DIGITS_OF_FLOAT32 else [np.float32]
    return [np.dtype(np.int16), *map(np.dtype, wide)]


def is_wrapped_padding(header: SliceHeader) -> bool:
    """Whether a negative padding value was stored in unsigned pixels, such as 63536 for -2000."""
    top_half = 1 << (header.bits_allocated - 1)
    return (
        header.padding is not None
        and header.modality == "CT"
        and not header.is_signed
        and header.bits_stored == header.bits_allocated == 16
        and header.padding >= top_half
    )


def same_pixels(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices hold the same intensities, however they are encoded; False where either cannot be decoded."""
    if (one.rows, one.columns) != (other.rows, other.columns) or _rescale(one) != _rescale(other):
        return False
    with quiet():
        try:
            return bool(np.array_equal(stored_frame(one), stored_frame(other)))
        except MedsegError:
            return False


def _fill(array: npt.NDArray[Any], slices: Sequence[SliceHeader], wrapped: dict[int, int | None], threads: int) -> list[int]:
    """Decode every slice into its place; return how many padding voxels each has."""

    def fill_one(k: int) -> int:
        try:
            stored = stored_frame(slices[k])
        except UnreadableFileError as err:
            raise UnreadableFileError(f"slice {k + 1} of {len(slices)}: {err}") from err
        padding = slices[k].padding
        is_padding = stored == padding if padding is not None else None
        if wrapped.get(k) is not None and is_padding is not None:
            stored = np.where(is_padding, stored.astype(np.int32) - (1 << 16), stored)
        _rescale_into(array[k], stored, slices[k])
        return int(np.count_nonzero(is_padding)) if is_padding is not None else 0

    if threads <= 1:
        return [fill_one(k) for k in range(len(slices))]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(fill_one, range(len(slices))))


def _rescale_into(target: npt.NDArray[Any], stored: PixelArray, header: SliceHeader) -> None:
    slope, intercept = _rescale(header)
    if target.dtype.kind == "f":
        # float64 inside: PET slopes times 16 bits keep their digits until the one rounding at the end
        np.copyto(target, stored * np.float64(slope) + intercept, casting="same_kind")
        return
    lowest, highest = int(stored.min()) + int(intercept), int(stored.max()) + int(intercept)
    limits = np.iinfo(target.dtype)
    if lowest < limits.min or highest > limits.max:
        raise _TooWideError
    wide = stored if intercept == 0 else stored.astype(np.int64) + int(intercept)
    np.copyto(target, wide, casting="unsafe")


def _rescale(header: SliceHeader) -> tuple[float, float]:
    slope = 1.0 if header.slope is None else header.slope
    intercept = 0.0 if header.intercept is None else header.intercept
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise InputError(f"{header.path}: rescale slope {slope} and intercept {intercept} give no intensities")
    return slope, intercept


def _allocate(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        return np.empty(shape, dtype)
    except MemoryError as err:
        raise InputError(f"the volume {shape[::-1]} needs {math.prod(shape) * dtype.itemsize / 1e9:.1f} GB, more than there is") from err


def _padding_findings(slices: Sequence[SliceHeader], padded: Sequence[int], wrapped: dict[int, int | None]) -> tuple[Finding, ...]:
    count = sum(padded)
    if not count:
        return ()
    first = next(k for k, n in enumerate(padded) if n)
    slope, intercept = _rescale(slices[first])
    stored = slices[first].padding or 0
    if wrapped:
        value = (stored - (1 << 16)) * slope + intercept
        text = f"{count} padding voxels were stored as {stored} in unsigned pixels; they are read as {value:g}, as the writer meant"
        return (Finding("PADDING_WRAPPED", Severity.WARNING, text, {"voxels": count, "stored": stored, "value": value}),)
    value = stored * slope + intercept
    text = f"{count} voxels are padding outside the scan, value {value:g}; they are left as stored"
    return (Finding("PIXEL_PADDING", Severity.INFO, text, {"voxels": count, "value": value}),)
