"""Pictures of a scan with its segments: three planes, a contact sheet of axial slices, one thumbnail a segment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.volume import Volume
from medseg.reporting.canvas import FAINT, Canvas
from medseg.reporting.legend import draw_legend, volume_text
from medseg.reporting.overlay import Cut, Style, Window, automatic_window, draw_slice, page_box
from medseg.reporting.places import Index, find_places, is_lesion, largest_slice, outer_numbers, point_of_interest, union_box
from medseg.reporting.planes import OPPOSITE, PLANES, WORLD_LETTERS, patient_axes, plane_of

_WIDTH = 1320  # pixels of a full-width picture: sharp on a page of 1000 css pixels
_MAX_HEIGHT = 1700
_MARGIN = 16
_TITLE = 30  # height of the line above a slice
_MIN_PANE = 260  # narrower slices (thin slabs) keep room for their title
_ROUND_LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class _Pane:
    """One slice on the page: its pixels' place, and the millimetres of its top left corner."""

    plane: str
    index: Index
    left: float
    top: float
    width: float
    height: float


def three_planes_png(
    volume: Volume,
    label_map: LabelMap,
    *,
    window: Window | None = None,
    at: Sequence[int] | None = None,
    table: MeasurementTable | None = None,
) -> bytes:
    """Draw the axial, coronal and sagittal slice through one voxel, all at one scale, in radiological convention.

    `at` is an index (i,j,k); the default is the largest lesion, else the centre of mass of all segments. `window` is
    (centre, width) in the scan's unit. Volumes stand in the legend where `table` is given. An oblique or sheared grid is
    shown on its own axes with the nearest letters and true proportions, and says so. Raises GeometryMismatchError,
    ParameterError for an index off the grid, MissingDependencyError without the extra `report`.
    """
    _check(volume, label_map)
    places = find_places(label_map)
    index = _on_grid(volume.geometry, at) if at is not None else point_of_interest(label_map, places)
    style = Style(window or automatic_window(volume, label_map.segments), outer_numbers(places))
    panes, scale, size, legend = _arranged(volume.geometry, index)
    canvas = Canvas(*size)
    for pane in panes:
        _draw_pane(canvas, volume, label_map, pane, scale, style)
    _draw_crosshair(canvas, volume.geometry, panes, scale)
    lines = [_window_text(volume, style.window), *grid_remarks(volume.geometry)]
    draw_legend(canvas, places, legend, table=table, remarks=lines)
    return canvas.png()


def axial_montage_png(
    volume: Volume,
    label_map: LabelMap,
    *,
    count: int = 12,
    window: Window | None = None,
    margin_mm: float = 25.0,
) -> bytes:
    """Draw `count` axial slices from the lowest to the highest segment, cropped to the segments plus a margin.

    Raises GeometryMismatchError, ParameterError, MissingDependencyError (extra `report`).
    """
    _check(volume, label_map)
    if count < 1:
        raise ParameterError(f"a montage needs at least one slice, got count={count}")
    places = find_places(label_map)
    style = Style(window or automatic_window(volume, label_map.segments), outer_numbers(places))
    axes = patient_axes(volume.geometry)
    first, last = union_box(places, volume.geometry.shape)
    across = axes.axis[2]
    indices = sorted({round(n) for n in np.linspace(first[across], last[across], min(count, last[across] - first[across] + 1) + 2)[1:-1]})
    if axes.sign[2] > 0:
        indices.reverse()  # from head to feet, as a film is read
    box = page_box(plane_of(volume.geometry, "axial"), volume.geometry, first, last, margin_mm)
    tiles = [_Tile(_moved(first, across, n), box) for n in indices]
    return _contact_sheet(volume, label_map, tiles, style, columns=min(4, len(tiles)))


def segment_gallery_png(
    volume: Volume,
    label_map: LabelMap,
    *,
    window: Window | None = None,
    table: MeasurementTable | None = None,
    limit: int = 20,
) -> bytes:
    """Draw each segment's largest axial slice, cropped to the segment; lesions first, then by number, at most `limit`.

    Raises GeometryMismatchError, MissingDependencyError (extra `report`).
    """
    _check(volume, label_map)
    style = Style(window or automatic_window(volume, label_map.segments))
    plane = plane_of(volume.geometry, "axial")
    across = plane.grid_axes[2]
    places = sorted(find_places(label_map), key=lambda place: not is_lesion(place.segment))[:limit]
    tiles = []
    for place in places:
        middle = [round(c) for c in place.centroid]
        middle[across] = largest_slice(label_map, place, across)
        box = _square(page_box(plane, volume.geometry, place.first, place.last, 15.0), plane.size_mm)
        tiles.append(
            _Tile(
                (middle[0], middle[1], middle[2]), box, place.segment.label, volume_text(table, place.segment.label), place.segment.number
            )
        )
    if not tiles:
        i, j, k = (n // 2 for n in volume.geometry.shape)
        tiles = [_Tile((i, j, k), (0.0, 0.0, *plane.size_mm), "no segment has voxels")]
    return _contact_sheet(volume, label_map, tiles, style, columns=min(5, max(3, len(tiles))))


def grid_remarks(geometry: Geometry) -> list[str]:
    """Return what a reader must know of a grid that is not along the patient axes."""
    remarks = []
    if geometry.is_oblique:
        remarks.append(f"oblique grid ({geometry.obliqueness_degrees:.1f}°): letters give the nearest direction")
    if geometry.is_sheared:
        remarks.append(f"sheared grid ({geometry.shear_degrees:.1f}°, gantry tilt): drawn with true angles")
    return remarks


@dataclass(frozen=True)
class _Tile:
    index: Index
    box_mm: tuple[float, ...]
    title: str = ""
    note: str = ""
    only: int | None = None


def _contact_sheet(volume: Volume, label_map: LabelMap, tiles: list[_Tile], style: Style, columns: int) -> bytes:
    """Tiles in rows; those of one sheet share the cell size, each fills its cell at its own scale with its own bar."""
    cell = (_WIDTH - _MARGIN * (columns + 1)) / columns
    shapes = [(t.box_mm[2] - t.box_mm[0], t.box_mm[3] - t.box_mm[1]) for t in tiles]
    height = min(cell * 1.25, max(cell * h / w for w, h in shapes))
    rows = math.ceil(len(tiles) / columns)
    canvas = Canvas(_WIDTH, round(rows * (height + _TITLE + _MARGIN) + _MARGIN + 28))
    for n, (tile, (width_mm, height_mm)) in enumerate(zip(tiles, shapes, strict=True)):
        scale = min(cell / width_mm, height / height_mm)
        pixels = draw_slice(volume, label_map, Cut("axial", tile.index, tile.box_mm, tile.only), scale, style)
        left = _MARGIN + (n % columns) * (cell + _MARGIN)
        top = _MARGIN + (n // columns) * (height + _TITLE + _MARGIN)
        inset = left + (cell - pixels.shape[1]) / 2
        canvas.picture(pixels, inset, top + _TITLE)
        position = position_text(volume.geometry, "axial", tile.index)
        note = tile.note or position
        canvas.text(note, left + cell, top + 14, size=14, colour=FAINT, align="right")
        if tile.title:
            canvas.text(canvas.fitted(tile.title, cell - canvas.text_width(note, 14) - 12, 15), left, top + 14, size=15, bold=False)
        middle = top + _TITLE + pixels.shape[0] / 2
        canvas.text("R", inset + 6, middle, size=14, bold=True)
        canvas.text("L", inset + pixels.shape[1] - 6, middle, size=14, align="right", bold=True)
        draw_scale_bar(canvas, inset, top + _TITLE, pixels.shape[:2], scale)
    remarks = [_window_text(volume, style.window), "patient right on the left", *grid_remarks(volume.geometry)]
    canvas.text("   ·   ".join(remarks), _MARGIN, canvas.height - 18, size=14, colour=FAINT)
    return canvas.png()


def _arranged(geometry: Geometry, index: Index) -> tuple[list[_Pane], float, tuple[int, int], tuple[float, float, float, float]]:
    """Axial above coronal (one R axis), sagittal beside coronal (one S axis), the legend in the free corner."""
    size = {name: plane_of(geometry, name).size_mm for name in PLANES}
    wide = size["axial"][0], size["sagittal"][0]
    left_mm = max(size["axial"][0], size["coronal"][0])
    lower_mm = max(size["coronal"][1], size["sagittal"][1])
    scale = (_WIDTH - 3 * _MARGIN) / (left_mm + wide[1])
    scale = min(scale, (_MAX_HEIGHT - 2 * _TITLE - 3 * _MARGIN) / (size["axial"][1] + lower_mm))
    for _ in range(2):  # a pane that needs its least width leaves less for the other
        columns = max(_MIN_PANE, left_mm * scale), max(_MIN_PANE * 1.6, wide[1] * scale)
        scale *= min(1.0, (_WIDTH - 3 * _MARGIN) / sum(columns))
    columns = max(_MIN_PANE, left_mm * scale), max(_MIN_PANE * 1.6, wide[1] * scale)
    upper, lower = max(_MIN_PANE, size["axial"][1] * scale), max(90, lower_mm * scale)
    second = _MARGIN * 2 + columns[0]
    tops = _MARGIN + _TITLE, _MARGIN * 2 + 2 * _TITLE + upper
    corners: dict[str, tuple[float, float, float, float]] = {
        "axial": (_MARGIN, tops[0], columns[0], upper),
        "coronal": (_MARGIN, tops[1], columns[0], lower),
        "sagittal": (second, tops[1], columns[1], lower),
    }
    panes = []
    for name, (left, top, width, height) in corners.items():
        w, h = (length * scale for length in size[name])
        panes.append(_Pane(name, index, left + (width - w) / 2, top + (height - h) / 2, w, h))
    page = math.ceil(sum(columns) + 3 * _MARGIN), math.ceil(tops[1] + lower + _MARGIN)
    return panes, scale, page, (second, _MARGIN, columns[1], upper + _TITLE)


def _draw_pane(canvas: Canvas, volume: Volume, label_map: LabelMap, pane: _Pane, scale: float, style: Style) -> None:
    pixels = draw_slice(volume, label_map, Cut(pane.plane, pane.index), scale, style)
    canvas.picture(pixels, pane.left, pane.top)
    height, width = pixels.shape[:2]
    title = f"{pane.plane.capitalize()}   {position_text(volume.geometry, pane.plane, pane.index)}"
    canvas.text(title, pane.left, pane.top - 14, size=16)
    left, right, top, bottom = plane_of(volume.geometry, pane.plane).letters
    size = 19 if min(height, width) > 130 else 14
    middle_x, middle_y = pane.left + width / 2, pane.top + height / 2
    canvas.text(left, pane.left + 8, middle_y, size=size, bold=True)
    canvas.text(right, pane.left + width - 8, middle_y, size=size, align="right", bold=True)
    canvas.text(top, middle_x, pane.top + 6, size=size, align="center", anchor="top", bold=True)
    canvas.text(bottom, middle_x, pane.top + height - 6, size=size, align="center", anchor="bottom", bold=True)
    draw_scale_bar(canvas, pane.left, pane.top, (height, width), scale)


def _draw_crosshair(canvas: Canvas, geometry: Geometry, panes: list[_Pane], scale: float) -> None:
    """Thin lines that stop short of the point and of the letters, so that they hide neither."""
    gap, letter = 26.0, 34.0
    for pane in panes:
        x_mm, y_mm = plane_of(geometry, pane.plane).to_page_mm(pane.index)
        x, y = pane.left + x_mm * scale, pane.top + y_mm * scale
        right, bottom = pane.left + pane.width, pane.top + pane.height
        across = ((pane.left + letter, y), (x - gap, y)), ((x + gap, y), (right - letter, y))
        down = ((x, pane.top + letter), (x, y - gap)), ((x, y + gap), (x, bottom - letter))
        for start, end in (*across, *down):
            if end[0] - start[0] > 1 or end[1] - start[1] > 1:
                canvas.line([start, end], colour="#ffffff", width=1.0, alpha=0.32)


def draw_scale_bar(canvas: Canvas, left: float, top: float, shape: tuple[int, ...], scale: float) -> None:
    """Draw a bar of a round length in mm in the lower left corner of a picture; none where it is too small for one."""
    height, width = shape[:2]
    fitting = [length for length in _ROUND_LENGTHS_MM if length * scale <= 0.32 * width]
    if not fitting or height < 60:
        return
    length = fitting[-1] * scale
    x, y = left + 10, top + height - 12
    canvas.line([(x - 1, y), (x + length + 1, y)], colour="#0a0d12", width=5)
    canvas.line([(x, y), (x + length, y)], width=3)
    canvas.text(f"{fitting[-1]} mm", x, y - 6, size=13, anchor="bottom")


def position_text(geometry: Geometry, plane: str, index: Index) -> str:
    """Return where a slice lies along its normal direction, such as "S 133.3 mm" (at the shown point)."""
    world = PLANES[plane][2]
    value = float(geometry.index_to_world(index)[world])
    letter = WORLD_LETTERS[world] if value >= 0 else OPPOSITE[WORLD_LETTERS[world]]
    return f"{letter} {abs(value):.1f} mm"


def _window_text(volume: Volume, window: Window) -> str:
    centre, width = window
    digits = 0 if width >= 20 else 2
    unit = f" {volume.unit}" if volume.unit else ""
    return f"window {width:,.{digits}f}, level {centre:,.{digits}f}{unit}"


def _square(box: tuple[float, ...], size_mm: tuple[float, float]) -> tuple[float, ...]:
    """Widen a box to a square about its middle, kept on the slice where it can be."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    grown = []
    for low, high, most in ((left, right, size_mm[0]), (top, bottom, size_mm[1])):
        start = min(max(0.0, (low + high - side) / 2), max(0.0, most - side))
        grown.append((start, min(most, start + side)))
    return grown[0][0], grown[1][0], grown[0][1], grown[1][1]


def _moved(index: Index, axis: int, to: int) -> Index:
    i, j, k = (to if n == axis else index[n] for n in range(3))
    return i, j, k


def _on_grid(geometry: Geometry, at: Sequence[int]) -> Index:
    if len(at) != 3 or not bool(geometry.contains([float(n) for n in at])):
        raise ParameterError(f"the point {tuple(at)} is not an index (i,j,k) on a grid of {geometry.shape}")
    i, j, k = (round(float(n)) for n in at)
    return i, j, k


def _check(volume: Volume, label_map: LabelMap) -> None:
    if not volume.geometry.matches(label_map.geometry):
        raise GeometryMismatchError(
            "the scan and the segmentation are not on one grid: resample the segmentation onto the scan first",
            volume.geometry,
            label_map.geometry,
        )
