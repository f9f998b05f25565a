"""A page of exact pixels: pictures, text and lines placed by pixel from the top left, encoded as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.segment import Colour
from medseg.reporting.dependencies import load

INK = "#e8ebf0"
FAINT = "#9aa5b4"
PAPER = "#0a0d12"  # the background of pictures, that of overlay.BACKGROUND
_DPI = 100
_POINTS_PER_PIXEL = 72 / _DPI


class Canvas:
    """A dark page of `width` × `height` pixels drawn with matplotlib's Agg canvas; holds no state outside itself.

    Raises MissingDependencyError without matplotlib (extra `report`).
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = int(width), int(height)
        figure = load("matplotlib.figure")
        agg = load("matplotlib.backends.backend_agg")
        self._figure = figure.Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI, facecolor=PAPER)
        self._canvas = agg.FigureCanvasAgg(self._figure)
        self._font = load("matplotlib.font_manager").findfont("DejaVu Sans")
        self._glyphs = frozenset(load("matplotlib.ft2font").FT2Font(self._font).get_charmap())

    def picture(self, pixels: npt.NDArray[np.uint8], left: float, top: float) -> None:
        """Place an (height, width, 3) picture, pixel for pixel."""
        self._figure.figimage(pixels, xo=round(left), yo=self.height - round(top) - pixels.shape[0], origin="upper", zorder=0)

    def text(
        self,
        content: str,
        left: float,
        top: float,
        *,
        size: float = 15,
        colour: str = INK,
        align: str = "left",
        anchor: str = "center",
        bold: bool = False,
    ) -> None:
        """Write one line at a pixel; `align` is left, center or right, `anchor` top, center or bottom; with a dark outline."""
        effects = load("matplotlib.patheffects")
        self._figure.text(
            left / self.width,
            1 - top / self.height,
            self._known(content),
            fontsize=size * _POINTS_PER_PIXEL,
            color=colour,
            ha=align,
            va={"center": "center_baseline"}.get(anchor, anchor),
            fontweight="bold" if bold else "normal",
            fontfamily="DejaVu Sans",
            parse_math=False,
            path_effects=[effects.withStroke(linewidth=2.2, foreground=PAPER)],
        )

    def line(self, points: Sequence[tuple[float, float]], *, colour: str = INK, width: float = 1.5, alpha: float = 1.0) -> None:
        """Draw a line through pixels."""
        lines = load("matplotlib.lines")
        x, y = [x / self.width for x, _ in points], [1 - y / self.height for _, y in points]
        self._figure.add_artist(
            lines.Line2D(
                x,
                y,
                color=colour,
                linewidth=width * _POINTS_PER_PIXEL,
                alpha=alpha,
                solid_capstyle="butt",
                transform=self._figure.transFigure,
            )
        )

    def swatch(self, colour: Colour, left: float, top: float, size: float) -> None:
        """Fill a square with a segment's colour, centred on a line of text at `top`."""
        patches = load("matplotlib.patches")
        corner = left / self.width, 1 - (top + size / 2) / self.height
        rgb = tuple(c / 255 for c in colour)
        self._figure.add_artist(
            patches.Rectangle(
                corner, size / self.width, size / self.height, facecolor=rgb, edgecolor="none", transform=self._figure.transFigure
            )
        )

    def text_width(self, content: str, size: float) -> float:
        """Return how many pixels wide a line is."""
        font: Any = load("matplotlib.font_manager").FontProperties(family="DejaVu Sans", size=size * _POINTS_PER_PIXEL)
        width, _, _ = self._canvas.get_renderer().get_text_width_height_descent(self._known(content), font, False)
        return float(width)

    def fitted(self, content: str, room: float, size: float) -> str:
        """Return the text, shortened with … where it needs more than `room` pixels."""
        if self.text_width(content, size) <= room:
            return content
        keep = len(content)
        while keep > 1 and self.text_width(content[:keep] + "…", size) > room:
            keep -= 1
        return content[:keep].rstrip() + "…"

    def png(self, compression: int = 7) -> bytes:
        """Return the page as PNG; `compression` is zlib's level."""
        out = io.BytesIO()
        self._canvas.print_figure(
            out, format="png", dpi=_DPI, facecolor=PAPER, metadata={"Software": None}, pil_kwargs={"compress_level": compression}
        )
        return out.getvalue()

    def _known(self, content: str) -> str:
        """A sign that the font lacks is drawn as □ instead of as a warning; the report itself shows every sign."""
        flat = "".join(c if c.isprintable() else " " for c in content)
        return "".join(c if ord(c) in self._glyphs else "□" for c in flat)
