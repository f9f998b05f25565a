"""Siemens mosaics: the slices of a volume side by side in one picture, and where each of them lies.

The position in the header is that of the whole picture, laid with its middle on the middle of a slice. The private CSA header
says how many slices there are and to which side they follow one another; its protocol text, where it is there, plans the
positions and must agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.io.dicom import tags
from medseg.io.dicom.csa import csa_values, protocol_slice_positions
from medseg.io.dicom.elements import Elements
from medseg.io.dicom.raw_values import RawValues

MOST_TILES = 4096
NORMAL_COSINE = 0.999  # the CSA normal and the picture's own may differ by rounding, not by 2.5 degrees
SPACING_SHARE = 0.01  # planned and stated distances of slices may differ by this share
PLANNED_SHARE = 0.25  # a planned slice lies within this share of the slice distance from its place

_SPACING, _MATRIX = tags.SPACING_BETWEEN_SLICES, tags.ACQUISITION_MATRIX
_BLOCKS = range(0x10, 0x14)  # a private block lies where its creator put it
_COUNT, _IMAGE_HEADER, _SERIES_HEADER = 0x0019000A, 0x00290010, 0x00290020  # in block 0 of their groups
MOSAIC_TAGS = frozenset(
    {_SPACING, _MATRIX}
    | {group << 16 | block for group in (0x0019, 0x0029) for block in _BLOCKS}
    | {tag | block << 8 for tag in (_COUNT, _IMAGE_HEADER, _SERIES_HEADER) for block in _BLOCKS}
)
_MR_HEADER, _CSA_HEADER = "SIEMENS MR HEADER", "SIEMENS CSA HEADER"

_ADVICE = "convert the original files with dcm2niix, or ask the scanner for single images"

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mosaic:
    """The tiles of a mosaic: their size, first (row, column) of each, and the LPS mm of each tile's first pixel."""

    rows: int
    columns: int
    tiles: tuple[tuple[int, int], ...]
    positions: tuple[tuple[float, float, float], ...]
    spacing_mm: float


class _UnplacedError(Exception):
    """The header is not enough; the message says what is missing."""


def read_mosaic(
    elements: Elements,
    size: tuple[int, int],
    position: Sequence[float] | None,
    orientation: Sequence[float] | None,
    pixel_spacing: Sequence[float] | None,
) -> Mosaic | str | None:
    """Return the tiles of a picture of `size` (rows, columns) that calls itself a mosaic.

    None where it is an ordinary image (newer scanners leave the word on those), a sentence saying what is missing where
    the tiles cannot be placed. `elements` must hold MOSAIC_TAGS as far as the file has them.
    """
    try:
        count, csa = _count(elements, size)
        if count is None or count == 1:
            return None
        grid = math.isqrt(count - 1) + 1
        if count > MOST_TILES or size[0] % grid or size[1] % grid:
            raise _UnplacedError(f"{count} slices do not fit a picture of {size[1]} × {size[0]} pixels")
        row, column, spacing = _axes(orientation, pixel_spacing)
        if position is None or len(position) != 3 or not all(map(math.isfinite, position)):
            raise _UnplacedError("the picture has no position")
        tile = np.array([size[0] // grid, size[1] // grid])
        margin = (np.array(size) - tile) / 2
        first = np.asarray(position, dtype=np.float64) + row * spacing[1] * margin[1] + column * spacing[0] * margin[0]
        middle = first + row * spacing[1] * tile[1] / 2 + column * spacing[0] * tile[0] / 2
        step = _step(elements, csa, np.cross(row, column), middle, count)
    except _UnplacedError as reason:
        return f"a Siemens mosaic whose slices cannot be placed: {reason}; {_ADVICE}"
    points = first + np.arange(count)[:, None] * step
    return Mosaic(
        rows=int(tile[0]),
        columns=int(tile[1]),
        tiles=tuple((k // grid * int(tile[0]), k % grid * int(tile[1])) for k in range(count)),
        positions=tuple((float(x), float(y), float(z)) for x, y, z in points),
        spacing_mm=float(np.linalg.norm(step)),
    )


def _private(elements: Elements, tag: int, creator: str) -> bytes:
    """The value of a private element, given by its tag in block 0; empty where the creator has no block or it is not there."""
    fields = RawValues(elements.values, elements.is_big_endian)
    block = next((block for block in _BLOCKS if fields.text(tag & 0xFFFF0000 | block) == creator), None)
    return b"" if block is None else elements.values.get(tag | block << 8, b"")


def _count(elements: Elements, size: tuple[int, int]) -> tuple[int | None, dict[str, tuple[str, ...]]]:
    """How many slices there are, None where the picture is an ordinary image; and the CSA image header."""
    csa = csa_values(_private(elements, _IMAGE_HEADER, _CSA_HEADER))
    stated = csa.get("NumberOfImagesInMosaic", ())
    if stated and stated[0].isascii() and stated[0].isdigit():
        return int(stated[0]), csa
    count = int.from_bytes(_private(elements, _COUNT, _MR_HEADER)[:2], "big" if elements.is_big_endian else "little")
    if count:
        return count, csa
    matrix = max((int(length) for length in RawValues(elements.values, elements.is_big_endian).numbers(_MATRIX) or ()), default=0)
    if matrix and max(size) < 2 * matrix:
        return None, csa  # the picture is no larger than one slice
    raise _UnplacedError("the private Siemens header that counts them was removed")


def _axes(orientation: Sequence[float] | None, pixel_spacing: Sequence[float] | None) -> tuple[FloatArray, FloatArray, FloatArray]:
    axes = np.asarray(orientation if orientation is not None and len(orientation) == 6 else [np.nan] * 6).reshape(2, 3)
    spacing = np.asarray(pixel_spacing if pixel_spacing is not None and len(pixel_spacing) == 2 else [np.nan] * 2)
    if not (np.isfinite(axes).all() and np.isfinite(spacing).all() and (spacing > 0).all()):
        raise _UnplacedError("the picture has no orientation or pixel spacing")
    return axes[0], axes[1], spacing


def _step(elements: Elements, csa: dict[str, tuple[str, ...]], normal: FloatArray, middle: FloatArray, count: int) -> FloatArray:
    """The way from one slice to the next in LPS mm: along the normal, to the side that the CSA header names."""
    stated = RawValues(elements.values, elements.is_big_endian).number(_SPACING)
    planned = _planned_distances(elements, normal, middle, count)
    distance = float(np.median(np.abs(np.diff(planned)))) if planned is not None else None
    if distance is not None and stated is not None and abs(abs(stated) - distance) > SPACING_SHARE * distance:
        raise _UnplacedError(f"the header says that slices are {stated:g} mm apart, the scan protocol {distance:g} mm")
    spacing = distance if distance is not None else stated
    if spacing is None or not math.isfinite(spacing) or spacing == 0:
        raise _UnplacedError("the distance of the slices is not stated")
    return normal * _side(csa, normal, planned, abs(spacing)) * abs(spacing)


def _planned_distances(elements: Elements, normal: FloatArray, middle: FloatArray, count: int) -> FloatArray | None:
    """Where the protocol plans the slices along the normal, in mm from the middle of the first tile; None where it does not."""
    points = protocol_slice_positions(_private(elements, _SERIES_HEADER, _CSA_HEADER))
    if len(points) < 2:
        return None  # no protocol, or a 3D scan, which plans one slab
    if len(points) != count:
        raise _UnplacedError(f"the picture holds {count} slices, the scan protocol plans {len(points)}")
    along = np.asarray((np.asarray(points) - middle) @ normal)
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if usual == 0 or np.abs(gaps - usual).max() > SPACING_SHARE * abs(usual):
        raise _UnplacedError("the scan protocol plans slices at uneven distances, or not parallel to one another")
    return along


def _side(csa: dict[str, tuple[str, ...]], normal: FloatArray, planned: FloatArray | None, spacing: float) -> float:
    """1 where the slices follow one another along the picture's normal, -1 where against it."""
    side = None
    stated = csa.get("SliceNormalVector", ())
    if len(stated) >= 3:
        try:
            cosine = float(np.asarray([float(part) for part in stated[:3]]) @ normal)
        except ValueError:
            cosine = math.nan
        if not abs(cosine) >= NORMAL_COSINE:
            raise _UnplacedError("the private header and the public one name different orientations")
        side = math.copysign(1.0, cosine)
    # from the first tile the slices go to one side only: there the protocol must plan them, wherever it begins to count
    agreeing = [s for s in (1.0, -1.0) if planned is not None and _fits(np.sort(planned * s), spacing)]
    if side is None and len(agreeing) == 1:
        side = agreeing[0]
    if side is None:
        raise _UnplacedError("the private Siemens header that says to which side they follow one another was removed")
    if agreeing and side not in agreeing:
        raise _UnplacedError("the private header and the scan protocol name opposite sides")
    return side


def _fits(planned: FloatArray, spacing: float) -> bool:
    return bool(np.abs(planned - np.arange(len(planned)) * spacing).max() <= PLANNED_SHARE * spacing)
