"""Letters and digits of five by seven pixels for pictures of a few hundred pixels, drawn without a font or a library."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

_ROWS = {
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "A": (".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "P": ("####.", "#...#", "#...#", "####.", "#....", "#....", "#...."),
    "S": (".####", "#....", "#....", ".###.", "....#", "....#", "####."),
    "I": ("###", ".#.", ".#.", ".#.", ".#.", ".#.", "###"),
    "m": (".....", ".....", "##.#.", "#.#.#", "#.#.#", "#.#.#", "#.#.#"),
    "0": (".###.", "#...#", "#..##", "#.#.#", "##..#", "#...#", ".###."),
    "1": ("..#..", ".##..", "..#..", "..#..", "..#..", "..#..", ".###."),
    "2": (".###.", "#...#", "....#", "..##.", ".#...", "#....", "#####"),
    "5": ("#####", "#....", "####.", "....#", "....#", "#...#", ".###."),
    " ": ("..", "..", "..", "..", "..", "..", ".."),
}
_GLYPHS = {sign: np.array([[mark == "#" for mark in row] for row in rows]) for sign, rows in _ROWS.items()}
HEIGHT = 7


def small_width(text: str) -> int:
    """Return how many pixels wide a text is.

    >>> small_width("50 mm")
    26
    """
    return sum(_GLYPHS[sign].shape[1] + 1 for sign in text) - 1


def draw_small(picture: npt.NDArray[Any], text: str, left: int, top: int, colour: npt.ArrayLike, ground: npt.ArrayLike) -> None:
    """Write R, L, A, P, S, I, digits of round lengths and mm into a picture of colours or codes, with an outline of `ground` colour.

    The text must lie at least one pixel inside the picture. Raises KeyError for another sign.
    """
    mask, around = _masks(text)
    window = picture[top - 1 : top + HEIGHT + 1, left - 1 : left + mask.shape[1] - 1]
    window[around] = ground
    window[mask] = colour


@lru_cache(maxsize=64)
def _masks(text: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The pixels of a text with a border of one, and these with their neighbours."""
    mask = np.zeros((HEIGHT + 2, small_width(text) + 2), dtype=bool)
    x = 1
    for sign in text:
        glyph = _GLYPHS[sign]
        mask[1:-1, x : x + glyph.shape[1]] = glyph
        x += glyph.shape[1] + 1
    around = mask.copy()
    for axis in (0, 1):
        around |= np.roll(around, 1, axis) | np.roll(around, -1, axis)
    return mask, around
