"""Draw the icons of the Segment Editor effects: `python scripts/make_slicer_icons.py` (needs Pillow, which comes with matplotlib).

Each effect has an icon for light and one for dark themes; the hidden module that registers them has one that serves both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1] / "slicer_extension" / "SegmentEditorMedSeg"
EFFECTS = ROOT / "SegmentEditorMedSegLib" / "Icons"
OVERSAMPLING = 8  # drawn this many times larger: Pillow's lines have steps
SIZE = 64

Point = tuple[float, float]
Colour = tuple[int, int, int, int]

GREEN: Colour = (46, 160, 95, 255)
BLUE: Colour = (66, 133, 200, 255)
RED: Colour = (212, 72, 60, 255)
AMBER: Colour = (235, 165, 45, 255)
LINE = {"Light": (52, 60, 70, 255), "Dark": (226, 230, 235, 255)}


def paler(colour: Colour, share: float) -> Colour:
    """Return a colour that lets the ground through."""
    return (*colour[:3], round(255 * share))


class Sheet:
    """A square from (0, 0) to (100, 100) to draw on; `picture` gives it in pixels."""

    def __init__(self, line: Colour) -> None:
        self.line = line
        self.image = Image.new("RGBA", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING), (0, 0, 0, 0))

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        factor = SIZE * OVERSAMPLING / 100
        return [(x * factor, y * factor) for x, y in points]

    def polygon(self, points: Sequence[Point], fill: Colour | None = None, outline: Colour | None = None, width: float = 6.0) -> None:
        """Draw a closed shape over what is there, half-transparent colours included."""
        layer = Image.new("RGBA", self.image.size, (0, 0, 0, 0))
        if fill is not None:
            ImageDraw.Draw(layer).polygon(self._scaled(points), fill=fill)
        self.image.alpha_composite(layer)
        if outline is not None:
            self.stroke([*points, points[0], points[1]], outline, width)

    def stroke(self, points: Sequence[Point], colour: Colour | None = None, width: float = 6.0) -> None:
        """Draw a line with round ends and corners."""
        layer = Image.new("RGBA", self.image.size, (0, 0, 0, 0))
        draw = ImageDraw.Draw(layer)
        pixels = width * SIZE * OVERSAMPLING / 100
        scaled = self._scaled(points)
        draw.line(scaled, fill=colour or self.line, width=round(pixels), joint="curve")
        for x, y in (scaled[0], scaled[-1]):
            draw.ellipse((x - pixels / 2, y - pixels / 2, x + pixels / 2, y + pixels / 2), fill=colour or self.line)
        self.image.alpha_composite(layer)

    def dot(self, centre: Point, radius: float, colour: Colour | None = None) -> None:
        """Draw a disc."""
        self.polygon(ring(centre, radius), fill=colour or self.line)

    def picture(self) -> Image.Image:
        """Return the drawing in its final size."""
        return self.image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def ring(centre: Point, radius: float, bumps: Sequence[tuple[int, float, float]] = (), squeeze: float = 1.0) -> list[Point]:
    """Return a closed curve around a point; each of `bumps` is (number, share of the radius, phase), `squeeze` flattens it."""
    points = []
    for step in range(180):
        angle = 2 * math.pi * step / 180
        length = radius * (1 + sum(share * math.sin(number * angle + phase) for number, share, phase in bumps))
        points.append((centre[0] + length * math.cos(angle), centre[1] + squeeze * length * math.sin(angle)))
    return points


def pointer(sheet: Sheet, tip: Point, size: float) -> None:
    """Draw an arrow of the mouse, its tip at a point."""
    shape = [(0, 0), (0, 1.0), (0.24, 0.78), (0.4, 1.12), (0.56, 1.05), (0.41, 0.72), (0.72, 0.7)]
    ground = (255, 255, 255, 255) if sum(sheet.line[:3]) < 384 else (40, 44, 50, 255)
    sheet.polygon([(tip[0] + size * x, tip[1] + size * y) for x, y in shape], fill=ground, outline=sheet.line, width=4.5)


def click_lesion(sheet: Sheet) -> None:
    """A lesion in its outline, and the click."""
    lesion = ring((43, 42), 30, ((3, 0.08, 0.4), (5, 0.05, 1.0)))
    sheet.polygon(lesion, fill=paler(GREEN, 0.45), outline=GREEN, width=7)
    sheet.dot((43, 42), 6, GREEN)
    pointer(sheet, (47, 47), 42)


def grow(sheet: Sheet) -> None:
    """Regions one in another around a seed, and a wall that stops them."""
    for radius, share in ((40, 0.25), (27, 0.4), (14, 0.8)):
        whole = ring((42, 52), radius, ((2, 0.06, 0.6),))
        sheet.polygon([(min(x, 68), y) for x, y in whole], fill=paler(BLUE, share))
    sheet.dot((42, 52), 6)
    sheet.stroke([(74, 12), (74, 92)], RED, 9)


def split(sheet: Sheet) -> None:
    """Two lumps that touch, parted at their waist."""
    sheet.polygon(ring((31, 60), 27), fill=GREEN)
    sheet.polygon(ring((69, 42), 25), fill=AMBER)
    for offset in range(5):
        sheet.stroke([(41 + 4.5 * offset, 27 + 11 * offset), (43 + 4.5 * offset, 31 + 11 * offset)], None, 7)


def smooth(sheet: Sheet) -> None:
    """A shape that is stepped on its left and smooth on its right."""
    right = sorted(((x, y) for x, y in ring((50, 50), 38) if x >= 50), key=lambda point: point[1])
    corners = ((50, 88), (38, 80), (28, 71), (19, 60), (12, 40), (19, 29), (28, 20), (38, 12))
    steps: list[Point] = [(50, 88)]
    for (x, y), (next_x, next_y) in zip(corners, (*corners[1:], (50, 12)), strict=True):
        steps += [(min(x, next_x), y), (min(x, next_x), next_y)] if next_y > 50 or x > next_x else [(x, next_y), (next_x, next_y)]
    sheet.polygon([*right, *steps], fill=paler(GREEN, 0.45))
    sheet.stroke(steps, None, 6)
    sheet.stroke(right, GREEN, 8)


def model(sheet: Sheet) -> None:
    """A small network in a box, the region of interest."""
    for start, end in (((10, 10), (90, 10)), ((90, 10), (90, 90)), ((90, 90), (10, 90)), ((10, 90), (10, 10))):
        for part in (0.0, 0.37, 0.74):
            points = [(start[0] + (end[0] - start[0]) * at, start[1] + (end[1] - start[1]) * at) for at in (part, part + 0.26)]
            sheet.stroke(points, AMBER, 5)
    layers = (((28, 32), (28, 68)), ((50, 26), (50, 50), (50, 74)), ((73, 50),))
    for first, second in itertools.pairwise(layers):
        for a in first:
            for b in second:
                sheet.stroke([a, b], paler(sheet.line, 0.75), 3)
    for layer, colour in zip(layers, (BLUE, BLUE, GREEN), strict=True):
        for centre in layer:
            sheet.dot(centre, 8 if colour is BLUE else 11, colour)


def module(sheet: Sheet) -> None:
    """A section of a body with a measured lesion in an organ."""
    sheet.polygon(ring((50, 50), 47, squeeze=0.86), fill=(38, 50, 64, 255), outline=(96, 116, 138, 255), width=4)
    sheet.polygon(ring((38, 48), 25, ((3, 0.1, 0.2),)), fill=(170, 96, 84, 255))
    sheet.polygon(ring((70, 52), 15, ((2, 0.12, 1.0),)), fill=(196, 158, 96, 255))
    sheet.polygon(ring((36, 46), 12, ((3, 0.1, 0.4), (5, 0.06, 1.0))), fill=GREEN, outline=(200, 250, 215, 255), width=3)
    sheet.stroke([(23, 26), (49, 26)], (255, 255, 255, 255), 3.5)
    for x in (23, 49):
        sheet.stroke([(x, 21), (x, 31)], (255, 255, 255, 255), 3.5)


DRAWINGS: dict[str, Callable[[Sheet], None]] = {"ClickLesion": click_lesion, "Grow": grow, "Split": split, "Smooth": smooth, "Model": model}


def save(draw: Callable[[Sheet], None], line: Colour, path: Path) -> None:
    """Draw and write a picture; nothing is in the file but its pixels."""
    sheet = Sheet(line)
    draw(sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.picture().save(path, optimize=True)
    print(path.relative_to(ROOT))


def main() -> None:
    """Draw them all."""
    for name, draw in DRAWINGS.items():
        for theme, line in LINE.items():
            save(draw, line, EFFECTS / f"MedSegEffect{name}{theme}.png")
    save(module, LINE["Light"], ROOT / "Resources" / "Icons" / "SegmentEditorMedSeg.png")


if __name__ == "__main__":
    main()
