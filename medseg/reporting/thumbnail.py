"""One small strip a case for a contact sheet: three planes with outlines and the surfaces, in milliseconds by loops that numba compiles."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.volume import Volume
from medseg.reporting.overlay import BACKGROUND, Window, automatic_window, page_box
from medseg.reporting.palette_png import CodedPicture, coded_png, empty_picture
from medseg.reporting.places import Index, Place, find_places, is_lesion, outer_numbers, point_of_interest, union_box
from medseg.reporting.planes import PLANES, Plane, plane_of
from medseg.reporting.png_text import COLOURS
from medseg.reporting.small_text import HEIGHT, draw_small, small_width
from medseg.reporting.thumbnail_pixels import GREYS, labels_below, paint_plane
from medseg.reporting.thumbnail_surfaces import surfaces

Codes = npt.NDArray[np.uint16]
_Halves = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]  # room for labels and outlines of half pixels

CELL = 160  # pixels a side of each picture of the strip
GAP = 2
_MARGIN_MM = 10.0
_LEAST_MM = 40.0  # a tiny lesion is shown with what lies around it
_MOST_BYTES = 40_000
_LEVELS = (32, 20, 14, 10, 7)  # of grey, tried in turn until the strip is small enough: only noise needs so many bytes
_FILL, _FAINT_FILL = 0.16, 0.03
_MOST_SURFACES = 100
_SAMPLE_VOXELS = 1 << 16  # enough to know the window of a picture of few levels of grey
# What every strip has in its palette, and the codes of these: see `thumbnail_pixels`
_KEPT = ((235.0, 238.0, 243.0), (255.0, 70.0, 58.0))
_GROUND, _INK, _CUT = GREYS, GREYS + 1, GREYS + 2
_ROUND_LENGTHS_MM = (5, 10, 20, 50, 100, 200, 500)
_SCENE_LETTERS = ("R", "L", "S", "I")  # of the surfaces, seen from the front
# sides of the scan that a segment touches → letter at the edge of a picture
_SIDES = {"right": "R", "left": "L", "anterior": "A", "posterior": "P", "superior": "S", "inferior": "I"}


@dataclass(frozen=True)
class _View:
    """What the planes share: the index they go through, window, page mm a side, faint segments, and sides where a segment is cut.

    `middles` are those of the pictures in page mm, by plane; `colours` and `fill` have a row a segment, after that of background.
    """

    index: Index
    window: Window
    side_mm: float
    middles: dict[str, tuple[float, float]]
    cut: frozenset[str]
    colours: npt.NDArray[np.float32]
    fill: npt.NDArray[np.float32]


def thumbnail_png(volume: Volume, label_map: LabelMap, table: MeasurementTable) -> bytes:
    """Draw axial, coronal and sagittal plane through the largest lesion, else the segments' centre, and the surfaces from the front.

    A PNG with a palette, 646 × 160 pixels, about 40 kB at most, all planes at one scale in true millimetres; patient right lies
    left, anterior left in the sagittal plane. An edge of the scan at which `table` says that a segment is cut is drawn red. Of
    more than 100 segments the lesions and the largest have surfaces. The colours of the segments stand in the PNG as text.
    Without voxels of segments it shows the middle of the scan. `volume` and `label_map` have one grid, of which `table` holds
    the measurements, or nothing. The same input gives the same bytes.
    """
    places = _measured_places(label_map, table)
    if places is None:
        places = find_places(label_map)
    planes = [plane_of(label_map.geometry, name) for name in PLANES]
    outer = outer_numbers(places)
    view = _view(volume, label_map, places, (planes, outer, table))
    shown = tuple(sorted(places, key=lambda place: (not is_lesion(place.segment), -place.voxels))[:_MOST_SURFACES])
    kept = np.array([BACKGROUND, *_KEPT, *(place.segment.rgb for place in shown)], dtype=np.float32)
    strip = empty_picture(CELL, 4 * CELL + 3 * GAP, kept)
    halves = np.empty((2 * CELL, 2 * CELL), dtype=np.int32), np.empty((2 * CELL, 2 * CELL), dtype=np.uint8)
    for n, plane in enumerate(planes):
        _draw_plane((strip, n * (CELL + GAP)), (volume, label_map), plane, view, halves)
    if shown and (scene := surfaces(label_map, shown, outer, CELL)) is not None:
        strip.paint(scene, 3 * (CELL + GAP), CELL)
    for code, pixels in zip((_GROUND, _INK), _letters((*(plane.letters for plane in planes), _SCENE_LETTERS)), strict=True):
        strip.codes.reshape(-1)[pixels] = code
    _draw_scale_bar(strip.codes, CELL / view.side_mm)
    text = {COLOURS: json.dumps({place.segment.label: "#{:02x}{:02x}{:02x}".format(*place.segment.rgb) for place in shown})}
    return coded_png(strip, _LEVELS, text, _MOST_BYTES)


def _measured_places(label_map: LabelMap, table: MeasurementTable) -> tuple[Place, ...] | None:
    """Where the segments are as the table has it, which saves a pass over the voxels; None where it does not say so of all."""
    rows = {row.number: row for row in table.rows}
    if rows.keys() != {segment.number for segment in label_map.segments}:
        return None
    places = []
    inverse = np.linalg.inv(label_map.geometry.affine)[:3]
    for segment in label_map.segments:
        row = rows[segment.number]
        if row.voxel_count == 0:
            continue
        if row.bounding_box is None or row.centroid_mm is None:
            return None
        i, j, k = (inverse @ (*row.centroid_mm, 1.0)).tolist()
        places.append(Place(segment, row.voxel_count, (i, j, k), *row.bounding_box))
    return tuple(places)


def _view(
    volume: Volume, label_map: LabelMap, places: tuple[Place, ...], drawn: tuple[list[Plane], frozenset[int], MeasurementTable]
) -> _View:
    planes, outer, table = drawn
    geometry, segments = label_map.geometry, label_map.segments
    inner = tuple(place for place in places if place.segment.number not in outer) or places
    first, last = union_box(inner, geometry.shape)
    side, middles = _LEAST_MM, {}
    for plane in planes:
        left, top, right, bottom = page_box(plane, geometry, first, last, 0.0)
        middles[plane.name] = (left + right) / 2, (top + bottom) / 2
        width, height = plane.size_mm
        side = max(side, min(width, right + _MARGIN_MM) - max(0.0, left - _MARGIN_MM))
        side = max(side, min(height, bottom + _MARGIN_MM) - max(0.0, top - _MARGIN_MM))
    labels = {place.segment.label for place in places}
    cut = frozenset(_SIDES[touch] for row in table.rows if row.label in labels for touch in row.touches if touch in _SIDES)
    colours = np.array([(0, 0, 0), *(segment.rgb for segment in segments)], dtype=np.float32)
    fill = np.array([0.0, *(_FAINT_FILL if segment.number in outer else _FILL for segment in segments)], dtype=np.float32)
    window = _window(volume, tuple(place.segment for place in inner))
    return _View(_index(label_map, inner), window, side, middles, cut, colours, fill)


def _window(volume: Volume, segments: tuple[Any, ...]) -> Window:
    """The window of a scan; that of a large one is taken of every n-th voxel along each axis."""
    step = math.ceil((volume.array.size / _SAMPLE_VOXELS) ** (1 / 3))
    if step > 1 and not (volume.unit == "HU" or volume.modality == "CT"):
        part = volume.array[::step, ::step, ::step]
        volume = volume.with_array(part, volume.geometry.transformed(np.eye(3) * step, (0, 0, 0), part.shape))
    return automatic_window(volume, segments)


def _index(label_map: LabelMap, places: tuple[Place, ...]) -> Index:
    """The centroid of the largest lesion where it lies inside it, which is known without searching all its voxels."""
    lesions = [place for place in places if is_lesion(place.segment)]
    if lesions:
        largest = max(lesions, key=lambda place: place.voxels)
        index = _on_grid(label_map, [round(value) for value in largest.centroid])
        if label_map.array[index] == largest.segment.number:
            return index
    return _on_grid(label_map, point_of_interest(label_map, places))


def _on_grid(label_map: LabelMap, index: Sequence[int]) -> Index:
    """The nearest index on the grid: centroids of a table may be those of uneven slices."""
    i, j, k = (min(max(value, 0), count - 1) for value, count in zip(index, label_map.geometry.shape, strict=True))
    return i, j, k


def _draw_plane(where: tuple[CodedPicture, int], scan: tuple[Volume, LabelMap], plane: Plane, view: _View, halves: _Halves) -> None:
    """Fill one picture with grey values, translucent segments and their outlines."""
    (strip, left), (volume, label_map) = where, scan
    target = strip.codes[:, left : left + CELL]
    x, y = (middle - view.side_mm / 2 for middle in view.middles[plane.name])
    page = _page(plane, x, y, view.side_mm / (2 * CELL))
    with np.errstate(over="ignore"):
        grey = np.array(plane.cut(volume.array, view.index), dtype=np.float32, order="C")
    if volume.array.dtype.kind == "f":
        np.nan_to_num(grey, copy=False, nan=0.0, posinf=3e38, neginf=-3e38)
    part = labels_below(_rows_of(label_map, plane.cut(label_map.array, view.index)), page, *halves)
    tones = view.colours, view.fill, BACKGROUND, view.window
    paint_plane(grey, halves, part, page, tones, strip.counted, target)
    _mark_cut(target, plane, (x, y, CELL / view.side_mm), view.cut)


def _page(plane: Plane, left: float, top: float, step_mm: float) -> npt.NDArray[np.float64]:
    """The fractional row and column at the first half pixel, their steps downwards, and that of the column to the right.

    They are those of `Plane.voxels_of_pixels`, which are an affine map.
    """
    row, down, right = (top + step_mm / 2) / plane.row_mm, step_mm / plane.row_mm, step_mm / plane.column_mm
    lean = plane.lean_mm / plane.column_mm
    column = (left + step_mm / 2) / plane.column_mm - row * lean - max(0.0, -lean) * plane.shape[0]
    return np.array([row - 0.5, column - 0.5, down, -down * lean, right])


def _rows_of(label_map: LabelMap, labels: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """The place of each label among the segments, from 1; numbers may be in the millions."""
    numbers = np.array([0, *(segment.number for segment in label_map.segments)])
    if labels.dtype.itemsize > 2:
        return np.searchsorted(numbers, labels).astype(np.int32)
    place_of = np.zeros(int(numbers.max()) + 1, dtype=np.int32)
    place_of[numbers] = np.arange(len(numbers))
    return np.ascontiguousarray(place_of[labels.astype(np.uint16)])


def _mark_cut(target: Codes, plane: Plane, place: tuple[float, float, float], cut: frozenset[str]) -> None:
    """A red line along each edge of the scan at which a segment is cut."""
    left, top, scale = place
    width, height = plane.size_mm
    ends = (-left, width - left, -top, height - top)
    x0, x1, y0, y1 = (min(CELL, max(0, round(end * scale))) for end in ends)
    for letter, end in zip(plane.letters, ends, strict=True):
        if letter not in cut or not -0.5 <= end * scale <= CELL + 0.5:
            continue
        at = round(end * scale)
        if letter == plane.letters[0]:
            target[y0:y1, max(0, at) : max(0, at) + 2] = _CUT
        elif letter == plane.letters[1]:
            target[y0:y1, min(CELL, at) - 2 : min(CELL, at)] = _CUT
        elif letter == plane.letters[2]:
            target[max(0, at) : max(0, at) + 2, x0:x1] = _CUT
        else:
            target[min(CELL, at) - 2 : min(CELL, at), x0:x1] = _CUT


@cache
def _letters(of_cells: tuple[tuple[str, ...], ...]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The pixels of a strip around its letters, and those of the letters: the same in every strip."""
    drawn = np.zeros((CELL, 4 * CELL + 3 * GAP), dtype=np.uint8)
    middle, centred = (CELL - HEIGHT) // 2, (CELL - 5) // 2
    corners = ((4, middle), (CELL - 9, middle), (centred, 4), (centred, CELL - HEIGHT - 4))
    for n, letters in enumerate(of_cells):
        for letter, (left, top) in zip(letters, corners, strict=True):
            draw_small(drawn, letter, n * (CELL + GAP) + left, top, 2, 1)
    return np.flatnonzero(drawn == 1), np.flatnonzero(drawn == 2)


def _draw_scale_bar(strip: Codes, scale: float) -> None:
    fitting = [length for length in _ROUND_LENGTHS_MM if length * scale <= 0.3 * CELL]
    if not fitting:
        return
    length, top = round(fitting[-1] * scale), CELL - 6
    strip[top - 1 : top + 3, 4 : 6 + length] = _GROUND
    strip[top : top + 2, 5 : 5 + length] = _INK
    text = f"{fitting[-1]} mm"
    draw_small(strip, text, 5 + max(0, (length - small_width(text)) // 2), top - HEIGHT - 3, _INK, _GROUND)
