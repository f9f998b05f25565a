"""A picture as a PNG with a palette of at most 256 colours: small, the same bytes for the same pixels, numpy and zlib alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.reporting.png_text import MAGIC
from medseg.reporting.thumbnail_pixels import BINS, GREYS, code_picture, indexed_rows, nearest_colours

_FAST, _SMALL = 2, 6  # levels of zlib: a third of the time, and a seventh fewer bytes
_MOST_COLOURS = 256


@dataclass(frozen=True)
class CodedPicture:
    """The pixels of a picture as codes (see `thumbnail_pixels`), and the sums of what was counted in each bin of colours.

    `kept` are colours (n, 3) that the palette holds whatever their number of pixels, the code of the first is 256;
    `codes` begin as the first of them.
    """

    codes: npt.NDArray[np.uint16]
    kept: npt.NDArray[np.float32]
    bins: npt.NDArray[np.uint16]
    sums: npt.NDArray[np.float64]  # red, green, blue, pixels
    used: npt.NDArray[np.int64]

    @property
    def first(self) -> int:
        """The code of the first bin."""
        return GREYS + len(self.kept)

    @property
    def counted(self) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64], npt.NDArray[np.int64], int]:
        """What counts colours while pixels are painted."""
        return self.bins, self.sums, self.used, self.first

    def paint(self, picture: npt.NDArray[np.float32], left: int, width: int) -> None:
        """Fill the columns from `left` with a picture (height, width, 3), 0 to 255, enlarged to the full height and `width`."""
        code_picture(picture, self.counted, self.codes[:, left : left + width])


def empty_picture(height: int, width: int, kept: npt.NDArray[np.float32]) -> CodedPicture:
    """Return a picture in the first of the colours that it keeps (the first 128)."""
    codes = np.full((height, width), GREYS, dtype=np.uint16)
    # Rows of the sums are set when a bin is first used: most never are
    bins, sums = np.zeros(BINS, dtype=np.uint16), np.empty((BINS, 4))
    return CodedPicture(codes, kept[: _MOST_COLOURS // 2].astype(np.float32), bins, sums, np.zeros(1, dtype=np.int64))


def indexed_png(picture: npt.NDArray[np.float32], greys: int, kept: npt.NDArray[np.float32], text: Mapping[str, str]) -> bytes:
    """Return an (height, width, 3) picture, 0 to 255, as a palette PNG with `greys` levels of grey.

    `kept` are colours (n, 3) that the palette holds whatever their number of pixels (the first 128); the others are the most
    frequent ones, and every pixel gets the nearest. `text` (ASCII, by keyword) is kept in the file: see `png_text`.
    """
    height, width = picture.shape[:2]
    coded = empty_picture(height, width, kept)
    coded.paint(np.clip(picture, 0, 255).astype(np.float32), 0, width)
    return coded_png(coded, (greys,), text)


def coded_png(coded: CodedPicture, greys: tuple[int, ...], text: Mapping[str, str], most_bytes: int = 0) -> bytes:
    """Return a picture as a palette PNG: with the first of these numbers of grey levels with which it has at most `most_bytes`.

    It is the smallest that could be made where none is small enough; 0 is no limit.
    """
    png = b""
    for levels in greys:
        palette, place = _palette(coded, levels)
        rows = indexed_rows(coded.codes, place).tobytes()
        for effort in (_FAST, _SMALL):
            png = _encoded(coded.codes.shape, zlib.compress(rows, effort), palette, text)
            if not most_bytes or len(png) <= most_bytes:
                return png
    return png


def _palette(coded: CodedPicture, greys: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The colours of the file, and the place of each code in them: greys, kept colours, then the most frequent ones."""
    sums = coded.sums[: coded.used[0]]
    means = (sums[:, :3] / sums[:, 3:]).astype(np.float32)
    fixed = greys + len(coded.kept)
    room = _MOST_COLOURS - fixed
    palette = np.empty((min(_MOST_COLOURS, fixed + len(means)), 3), dtype=np.float32)
    palette[:greys] = (np.arange(greys) * (255.0 / (greys - 1)))[:, None]
    palette[greys:fixed] = coded.kept
    place = np.empty(coded.first + len(means), dtype=np.uint8)
    place[:GREYS] = np.arange(GREYS) * ((greys - 1) / 255.0) + 0.5
    place[GREYS : coded.first] = np.arange(greys, fixed)
    colours = place[coded.first :]
    if len(means) <= room:
        palette[fixed:] = means
        colours[:] = np.arange(fixed, fixed + len(means))
    else:
        order = np.argsort(-sums[:, 3], kind="stable")
        often, seldom = order[:room], order[room:]
        palette[fixed:] = means[often]
        colours[often] = np.arange(fixed, fixed + room)
        colours[seldom] = nearest_colours(means[seldom], palette)
    return np.rint(palette).astype(np.uint8), place


def _encoded(shape: tuple[int, ...], pixels: bytes, palette: npt.NDArray[np.uint8], text: Mapping[str, str]) -> bytes:
    height, width = shape
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))]
    parts += [(b"tEXt", f"{keyword}\0{content}".encode("ascii")) for keyword, content in text.items()]
    parts += [(b"PLTE", palette.tobytes()), (b"IDAT", pixels), (b"IEND", b"")]
    return MAGIC + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
