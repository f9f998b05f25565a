"""The intensities of a sorted stack of slices, decoded straight into one array."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, MedsegError, UnreadableFileError
from medseg.core.finding import Finding
from medseg.io.dicom.codecs import cut_tile, stored_frame
from medseg.io.dicom.decoder import DecoderPool
from medseg.io.dicom.frame_file import FrameFile
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.layout import DECODED_HERE, NATIVE, PixelArray, stored_size, stored_type, value_range
from medseg.io.dicom.padding import is_wrapped_padding, padding_findings, true_values
from medseg.io.dicom.rescale import rescale
from medseg.io.memory import check_memory, too_large

_DIGITS_OF_FLOAT32 = 24  # whole numbers of more bits lose digits in float32
_DECODER_BYTES = 150 << 20  # what a decoder process takes

__all__ = ["is_wrapped_padding", "read_pixels", "same_pixels"]


def read_pixels(
    slices: Sequence[SliceHeader], threads: int | None = None, pool: DecoderPool | None = None
) -> tuple[npt.NDArray[Any], tuple[Finding, ...]]:
    """Return the rescaled intensities of slices, C-contiguous (k,j,i), and findings on padding.

    int16 where every slope is 1, every intercept whole and the values fit, float32 otherwise (int32 or float64 where whole
    numbers would lose digits). Each slice has its own rescale. Padding stays as stored, except where it would read as tissue or
    metal: a signed padding value written as unsigned, or padding brighter than air in the corners of a CT.

    Slices may be frames of one file or tiles of one mosaic: a file is opened once, a frame decoded once. Compressed frames are
    decoded in `threads` threads (None: one for each core), those for foreign decoders in as many processes, or by `pool`. Raises
    UnreadableFileError naming file and slice, also where the volume needs more memory than is free (need and have).
    """
    if threads is None:
        threads = os.cpu_count() or 1
    compressed = sum(1 for header in slices if header.transfer_syntax not in NATIVE)
    foreign = sum(1 for header in slices if header.transfer_syntax not in DECODED_HERE)
    workers = min(max(threads, 1), foreign)
    threads = min(2 * workers or max(threads, 1), compressed)  # two threads keep a process busy; uncompressed needs none
    carrier = _carrier(slices)
    array = _allocate((len(slices), slices[0].rows, slices[0].columns), carrier, workers if pool is None else 0)
    with DecoderPool(workers) as own:
        filled = _Filling(array, slices, pool or own).run(threads, own)
    if carrier.kind == "i":
        array = _narrowest(array, slices, filled)
    return array, padding_findings(array, slices, [part.padding_voxels for part in filled])


def same_pixels(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices hold the same intensities, however they are encoded; False where either cannot be decoded."""
    if (one.rows, one.columns) != (other.rows, other.columns):
        return False
    try:
        with DecoderPool() as pool:
            return rescale(one) == rescale(other) and bool(np.array_equal(stored_frame(one, pool), stored_frame(other, pool)))
    except MedsegError:
        return False


@dataclass
class _Filled:
    """What became of a slice: still as stored, or rescaled; its true range where it had to be looked for."""

    is_stored: bool = False
    lowest: int = 0
    highest: int = 0
    padding_voxels: int = 0


class _Filling:
    """Puts every slice into its place in the array, frame by frame."""

    def __init__(self, array: npt.NDArray[Any], slices: Sequence[SliceHeader], pool: DecoderPool) -> None:
        self._array = array
        self._slices = slices
        self._pool = pool
        self._filled = [_Filled() for _ in slices]
        self._scratch = threading.local()
        self._files: dict[str, FrameFile] = {}
        self._lock = threading.Lock()
        self._frames: dict[tuple[str, int], list[int]] = {}
        for k, header in enumerate(slices):
            self._frames.setdefault((header.path, header.frame), []).append(k)
        self._left: dict[str, int] = {}
        for path, _ in self._frames:
            self._left[path] = self._left.get(path, 0) + 1

    def run(self, threads: int, pool: DecoderPool) -> list[_Filled]:
        work = list(self._frames.values())
        try:
            if threads <= 1:
                for ks in work:
                    self._frame(ks)
            else:
                with ThreadPoolExecutor(threads) as executor:
                    try:
                        list(executor.map(self._frame, work))
                    except BaseException:
                        executor.shutdown(wait=False, cancel_futures=True)
                        pool.close()  # or the threads would wait for frames that nobody needs
                        raise
        finally:
            for file in self._files.values():
                file.close()
        return self._filled

    def _frame(self, ks: list[int]) -> None:
        """Decode one stored frame into the slices that show it."""
        header = self._slices[ks[0]]
        try:
            if self._left[header.path] == 1 and header.path not in self._files:
                with FrameFile(header, self._pool) as file:
                    self._decode(file, ks)
                return
            self._decode(self._open(header), ks)
        except UnreadableFileError as err:
            raise UnreadableFileError(f"slice {ks[0] + 1} of {len(self._slices)}: {err}") from err
        self._done(header)

    def _decode(self, file: FrameFile, ks: list[int]) -> None:
        header = self._slices[ks[0]]
        target = self._array[ks[0]] if self._fits(ks) else self._room(stored_size(header), stored_type(header), "frame")
        frame = file.frame(header.frame, target)
        for k in ks:
            self._slice(k, cut_tile(frame, self._slices[k]))

    def _open(self, header: SliceHeader) -> FrameFile:
        """Return the file of several frames, which stays open until the last of them is done."""
        with self._lock:
            if header.path not in self._files:
                self._files[header.path] = FrameFile(header, self._pool)
            return self._files[header.path]

    def _done(self, header: SliceHeader) -> None:
        with self._lock:
            self._left[header.path] -= 1
            if not self._left[header.path]:
                self._files.pop(header.path).close()

    def _fits(self, ks: list[int]) -> bool:
        """Whether a frame can be decoded straight into its place."""
        header = self._slices[ks[0]]
        return (
            len(ks) == 1
            and header.tile is None
            and self._array.dtype.kind == "i"
            and self._array.dtype.itemsize == stored_type(header).itemsize
        )

    def _room(self, size: tuple[int, int], dtype: np.dtype[Any], name: str) -> npt.NDArray[Any]:
        """Memory of this thread that is used again for the next frame: fresh pages are dear."""
        room = getattr(self._scratch, name, None)
        if room is None or room.shape != size or room.dtype != dtype:
            room = np.empty(size, dtype)
            setattr(self._scratch, name, room)
        return room

    def _slice(self, k: int, stored: PixelArray) -> None:
        header, target = self._slices[k], self._array[k]
        filled = self._filled[k]
        if header.padding is not None:
            filled.padding_voxels = int(np.count_nonzero(stored == header.padding))
        if target.dtype.kind == "f":
            values = true_values(stored, header)
            slope, intercept = rescale(header)
            # float64 inside: PET slopes times 16 bits keep their digits until the one rounding at the end
            exact = self._room(stored.shape, np.dtype(np.float64), "exact")
            np.multiply(values, np.float64(slope), out=exact)
            if intercept:
                exact += intercept
            np.copyto(target, exact, casting="same_kind")
            return
        if target.dtype.itemsize == stored.dtype.itemsize:
            cells = target.view(stored.dtype)
            if not np.shares_memory(cells, stored):
                np.copyto(cells, stored)
        else:
            np.copyto(target, stored, casting="unsafe")  # 8 or 16 bits in wider cells
            cells = target
        self._shift(filled, cells, target, header)

    @staticmethod
    def _shift(filled: _Filled, cells: PixelArray, target: npt.NDArray[Any], header: SliceHeader) -> None:
        """Add the intercept in place where every result fits, else leave the slice as stored."""
        offset = int(rescale(header)[1])
        limits = np.iinfo(target.dtype)
        lowest, highest = value_range(header)
        # what the stored bits can hold spares a look at the values, where it fits
        is_open = target.dtype.itemsize > 2 or is_wrapped_padding(header)
        if is_open or lowest + offset < limits.min:
            lowest = int(true_values(cells, header).min())
        if is_open or highest + offset > limits.max:
            highest = int(true_values(cells, header).max())
        filled.lowest, filled.highest = lowest + offset, highest + offset
        if filled.lowest < limits.min or filled.highest > limits.max:
            filled.is_stored = True
        elif offset:
            bits = target.view(f"u{target.dtype.itemsize}")
            bits += bits.dtype.type(offset % (1 << 8 * target.dtype.itemsize))  # wraps round to the right signed value


def _narrowest(array: npt.NDArray[Any], slices: Sequence[SliceHeader], filled: Sequence[_Filled]) -> npt.NDArray[Any]:
    """Return the array in int16 where all values fit, else in the first wider type that keeps every digit."""
    lowest, highest = min(part.lowest for part in filled), max(part.highest for part in filled)
    if array.dtype == np.int16 and not any(part.is_stored for part in filled):
        return array
    dtype: np.dtype[Any] = np.dtype(np.int16)
    if not _holds(np.int16, lowest, highest):
        is_narrow = max(header.bits_stored for header in slices) <= _DIGITS_OF_FLOAT32
        dtype = np.dtype(np.float32 if is_narrow else np.int32 if _holds(np.int32, lowest, highest) else np.float64)
    if dtype == array.dtype and not any(part.is_stored for part in filled):
        return array
    wide = _allocate(array.shape, dtype)
    for k, (header, part) in enumerate(zip(slices, filled, strict=True)):
        if not part.is_stored:
            wide[k] = array[k]
            continue
        same_cells = array.dtype.itemsize == stored_type(header).itemsize
        values = true_values(array[k].view(stored_type(header)) if same_cells else array[k], header)
        np.add(values, int(rescale(header)[1]), out=wide[k], dtype=np.float64, casting="unsafe")
    return wide


def _holds(dtype: type[np.signedinteger[Any]], lowest: int, highest: int) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= lowest and highest <= limits.max


def _carrier(slices: Sequence[SliceHeader]) -> np.dtype[Any]:
    """Return the type that slices are read into: cells as wide as the stored ones where no value is scaled."""
    factors = [rescale(header) for header in slices]
    if any(slope != 1 or not intercept.is_integer() for slope, intercept in factors):
        return np.dtype(np.float32)
    return np.dtype(np.int16 if max(header.bits_allocated for header in slices) <= 16 else np.int32)


def _allocate(shape: tuple[int, ...], dtype: np.dtype[Any], workers: int = 0) -> npt.NDArray[Any]:
    """Return an array for the volume, or refuse before taking what the machine does not have; `workers` need memory, too."""
    name = f"the volume {' × '.join(map(str, shape[::-1]))}"
    need = math.prod(shape) * dtype.itemsize + workers * _DECODER_BYTES
    check_memory(name, need)
    try:
        return np.empty(shape, dtype)
    except MemoryError as err:
        raise InputError(too_large(name, need)) from err
