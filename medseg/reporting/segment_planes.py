"""One strip of pictures a segment: where it is largest in the axial, coronal and sagittal plane, and its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.reporting.canvas import FAINT, Canvas
from medseg.reporting.figures import draw_scale_bar, position_text
from medseg.reporting.overlay import Cut, Style, Window, automatic_window, draw_slice, page_box
from medseg.reporting.places import Index, Place, largest_slice
from medseg.reporting.planes import PLANES, plane_of
from medseg.reporting.rendering import surface_pixels

_GAP = 10
_TITLE = 26
_MARGIN_MM = 14.0
_DARK: Window = (1.0, 1.0)  # the empty ground is black
_LEAST_MM = 30.0  # a tiny lesion is shown with what lies around it


@dataclass(frozen=True)
class _Tile:
    plane: str
    index: Index
    box_mm: tuple[float, ...]
    side_mm: float


def segment_planes_png(
    volume: Volume | None,
    label_map: LabelMap,
    place: Place,
    *,
    window: Window | None = None,
    surface: bool = True,
    width: int = 1240,
) -> bytes:
    """Draw one segment where it is largest in each plane, with its surroundings, all at one scale, and its surface.

    Without a scan only the outlines are drawn, on an empty ground. `surface=False` leaves the surface out; `width` is that of
    the strip in pixels. Raises MissingDependencyError without the extra `report`.
    """
    scan = volume or _empty(label_map)
    others = frozenset(segment.number for segment in label_map.segments) - {place.segment.number}
    shown = _DARK if volume is None else window or automatic_window(scan, (place.segment,))
    style = Style(shown, others)
    tiles = _tiles(label_map, place)
    count = len(tiles) + surface
    cell = (width - _GAP * (count - 1)) // count
    canvas = Canvas(width, cell + _TITLE)
    for n, tile in enumerate(tiles):
        scale = cell / max(tile.side_mm, 1e-6)
        pixels = draw_slice(scan, label_map, Cut(tile.plane, tile.index, tile.box_mm), scale, style)
        _draw_tile(canvas, label_map, tile, pixels[:cell, :cell], (n * (cell + _GAP), cell, scale))
    if surface:
        left = len(tiles) * (cell + _GAP)
        canvas.picture(surface_pixels(label_map, place, (cell, cell)), left, _TITLE)
        canvas.text("Surface from the front", left, _TITLE / 2, size=14, colour=FAINT)
    return canvas.png(compression=4)


def _draw_tile(canvas: Canvas, label_map: LabelMap, tile: _Tile, pixels: np.ndarray, place: tuple[float, float, float]) -> None:
    left, cell, scale = place
    height, width = pixels.shape[:2]
    x, y = left + (cell - width) / 2, _TITLE + (cell - height) / 2
    canvas.picture(pixels, x, y)
    position = position_text(label_map.geometry, tile.plane, tile.index)
    canvas.text(f"{tile.plane.capitalize()}  {position}", left, _TITLE / 2, size=14, colour=FAINT)
    letters = plane_of(label_map.geometry, tile.plane).letters
    canvas.text(letters[0], x + 6, y + height / 2, size=15, bold=True)
    canvas.text(letters[1], x + width - 6, y + height / 2, size=15, align="right", bold=True)
    canvas.text(letters[2], x + width / 2, y + 4, size=15, align="center", anchor="top", bold=True)
    canvas.text(letters[3], x + width / 2, y + height - 4, size=15, align="center", anchor="bottom", bold=True)
    draw_scale_bar(canvas, x, y, (height, width), scale)


def _tiles(label_map: LabelMap, place: Place) -> list[_Tile]:
    """One tile a plane, all with the side that the segment needs with a margin in its longest direction."""
    geometry = label_map.geometry
    planes = [plane_of(geometry, name) for name in PLANES]
    boxes = [page_box(plane, geometry, place.first, place.last, 0.0) for plane in planes]
    longest = max(max(box[2] - box[0], box[3] - box[1]) for box in boxes)
    side = max(_LEAST_MM, 1.25 * longest, longest + 2 * _MARGIN_MM)
    tiles = []
    for plane, box in zip(planes, boxes, strict=True):
        across = plane.grid_axes[2]
        index = [round(value) for value in place.centroid]
        index[across] = largest_slice(label_map, place, across)
        tiles.append(_Tile(plane.name, (index[0], index[1], index[2]), _square(box, side, plane.size_mm), side))
    return tiles


def _square(box: tuple[float, ...], side: float, size_mm: tuple[float, float]) -> tuple[float, ...]:
    """A square about the middle of a box, moved onto the slice where it reaches over its border, smaller where it must be."""
    parts = []
    for low, high, most in ((box[0], box[2], size_mm[0]), (box[1], box[3], size_mm[1])):
        start = min(max(0.0, (low + high - side) / 2), max(0.0, most - side))
        parts.append((start, min(most, start + side)))
    return parts[0][0], parts[1][0], parts[0][1], parts[1][1]


def _empty(label_map: LabelMap) -> Volume:
    """A ground of zeros that takes no memory: one value, shown at every voxel."""
    ground = np.broadcast_to(np.zeros((), dtype=np.uint8), label_map.geometry.shape)
    return Volume(np.asfortranarray(ground), label_map.geometry)
