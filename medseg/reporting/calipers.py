"""One picture a lesion: its slice, its outline, and both diameters drawn as a radiologist's calipers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Status
from medseg.core.volume import Volume
from medseg.measurement.diameters import Diameter
from medseg.measurement.lesions import Lesion, LesionTable
from medseg.reporting.canvas import FAINT, PAPER, Canvas
from medseg.reporting.figures import grid_remarks, position_text
from medseg.reporting.lesion_table import organ_words
from medseg.reporting.overlay import CT_LUNG, CT_SOFT_TISSUE, Cut, Style, Window, draw_slice
from medseg.reporting.planes import plane_of
from medseg.reporting.wording import format_volume, interval_of, value_of

LONGEST = "#ffd23f"
PERPENDICULAR = "#5cd6ff"
_SIDE = 840  # pixels of the slice
_MARGIN = 16
_HEAD, _FOOT, _LINE = 82, 62, 22
_LEAST_SIDE_MM = 60.0  # a small lesion is shown with what lies around it
_ROOM = 1.9  # side of the picture over the longest diameter
_ROUND_LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_AIR_BELOW = -500.0
_LUNG_HU = -400.0  # tissue around a lesion below this is lung


@dataclass(frozen=True)
class _View:
    """Where millimetres on a slice lie on the page: its corner in mm, the corner on the page in pixels, pixels a millimetre."""

    geometry: Geometry
    plane: str
    left_mm: float
    top_mm: float
    left: float
    top: float
    scale: float

    def at(self, point_mm: tuple[float, float, float]) -> tuple[float, float]:
        """The pixel of a point in RAS+ mm."""
        x, y = plane_of(self.geometry, self.plane).to_page_mm(self.geometry.world_to_index(point_mm).tolist())
        return self.left + (x - self.left_mm) * self.scale, self.top + (y - self.top_mm) * self.scale


def calipers_png(table: LesionTable, lesion: Lesion, volume: Volume | None = None, *, window: Window | None = None) -> bytes:
    """Draw the slice of a lesion's longest diameter around the lesion: outline, both calipers with their lengths, scale.

    `window` is (centre, width); the default suits the modality and, on CT, the tissue around the lesion. Without a scan the
    masks alone are drawn. Raises MissingDependencyError without the extra `report`.
    """
    layer = next(one for one in table.layers if any(segment.number == lesion.number for segment in one.segments))
    shown = volume if volume is not None else Volume(np.zeros(layer.geometry.shape, np.uint8, order="F"), layer.geometry)
    plane = lesion.slices.plane
    box = _box(layer.geometry, lesion)
    scale = _SIDE / max(box[2] - box[0], box[3] - box[1])
    chosen = window or (lesion_window(shown, layer, lesion, box) if volume is not None else (0.5, 1.0))
    index = _slice_index(layer.geometry, lesion)
    style = Style(chosen, frozenset(segment.number for segment in layer.segments))
    pixels = draw_slice(shown, layer, Cut(plane, index, box), scale, style)
    canvas = Canvas(_SIDE + 2 * _MARGIN, pixels.shape[0] + _HEAD + _foot(layer.geometry))
    left = _MARGIN + (_SIDE - pixels.shape[1]) / 2
    canvas.picture(pixels, left, _HEAD)
    view = _View(layer.geometry, plane, box[0], box[1], left, _HEAD, scale)
    _caliper(canvas, view, lesion.perpendicular, PERPENDICULAR)
    _caliper(canvas, view, lesion.longest, LONGEST)
    _lengths(canvas, view, lesion)
    _letters(canvas, view, pixels.shape)
    _scale_bar(canvas, view, pixels.shape)
    _words(canvas, lesion, index, (layer.geometry, volume), chosen)
    return canvas.png()


def lesion_window(volume: Volume, layer: LabelMap, lesion: Lesion, box: tuple[float, float, float, float]) -> Window:
    """Return the window (centre, width) for one lesion: soft tissue, or lung where lung lies around it; PET from 0 to its maximum.

    Anything else spans the 1st to 99.5th percentile of what the picture shows. A scan without modality whose slice goes below
    -500 is taken for CT: air lies there.
    """
    index = _slice_index(volume.geometry, lesion)
    plane = plane_of(volume.geometry, lesion.slices.plane)
    flat = plane.cut(volume.array, index)
    mask = plane.cut(layer.array, index) == lesion.number
    if volume.unit == "HU" or volume.modality == "CT" or (not volume.modality and float(np.min(flat)) < _AIR_BELOW):
        around = _ring(mask)
        values = flat[around & np.isfinite(flat)]
        return CT_LUNG if values.size and float(np.median(values)) < _LUNG_HU else CT_SOFT_TISSUE
    if volume.modality == "PT":
        inside = flat[mask & np.isfinite(flat)]
        top = float(inside.max()) if inside.size else 0.0
        return (top / 2, top) if top > 0 else (0.5, 1.0)
    near = _part(plane.column_mm, plane.row_mm, box, flat)
    values = near[np.isfinite(near)].astype(np.float64)
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (1.0, 99.5)))
    return (low + high) / 2, max(high - low, 1e-6)


def _ring(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels two to four steps outside a mask: beside its blurred edge."""
    from scipy.ndimage import binary_dilation

    near = binary_dilation(mask, iterations=2)
    return np.asarray(binary_dilation(near, iterations=3) & ~near)


def _part(column_mm: float, row_mm: float, box: tuple[float, ...], flat: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    left, top, right, bottom = box
    rows, columns = (
        slice(int(max(0, top / row_mm)), int(bottom / row_mm) + 1),
        slice(int(max(0, left / column_mm)), int(right / column_mm) + 1),
    )
    return flat[rows, columns]


def _slice_index(geometry: Geometry, lesion: Lesion) -> tuple[int, int, int]:
    """A voxel in the slice, in the middle of the longest diameter."""
    middle = geometry.world_to_index(np.mean(lesion.longest.ends_mm, axis=0))
    i, j, k = (int(np.clip(round(float(n)), 0, size - 1)) for n, size in zip(middle, geometry.shape, strict=True))
    index = [i, j, k]
    if lesion.longest.slice_index is not None:
        index[lesion.slices.axis] = lesion.longest.slice_index
    return index[0], index[1], index[2]


def _box(geometry: Geometry, lesion: Lesion) -> tuple[float, float, float, float]:
    """The part of the slice that is shown, in page mm: a square about the calipers, as far as the slice reaches."""
    plane = plane_of(geometry, lesion.slices.plane)
    points = np.array([plane.to_page_mm(geometry.world_to_index(end).tolist()) for d in _drawn(lesion) for end in d.ends_mm])
    side = max(_LEAST_SIDE_MM, _ROOM * float(np.ptp(points, axis=0).max()))
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    limits = []
    for centre, size in zip(middle.tolist(), plane.size_mm, strict=True):
        start = min(max(0.0, centre - side / 2), max(0.0, size - side))
        limits.append((start, min(size, start + side)))
    return limits[0][0], limits[1][0], limits[0][1], limits[1][1]


def _drawn(lesion: Lesion) -> tuple[Diameter, Diameter]:
    return lesion.longest, lesion.perpendicular


def _caliper(canvas: Canvas, view: _View, diameter: Diameter, colour: str) -> None:
    """A line with a cap across each end, over a dark one that keeps it visible on bright tissue."""
    (x0, y0), (x1, y1) = (view.at(end) for end in diameter.ends_mm)
    length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
    across = -(y1 - y0) / length, (x1 - x0) / length
    cap = min(11.0, 0.2 * length)
    lines = [[(x0, y0), (x1, y1)]]
    lines += [[(x - cap * across[0], y - cap * across[1]), (x + cap * across[0], y + cap * across[1])] for x, y in ((x0, y0), (x1, y1))]
    for line in lines:
        canvas.line(line, colour=PAPER, width=4.6, alpha=0.8)
    for line in lines:
        canvas.line(line, colour=colour, width=2.2)


def _lengths(canvas: Canvas, view: _View, lesion: Lesion) -> None:
    """The length beside an end of each caliper, outside the lesion and on the picture; the two never share a place."""
    taken: list[tuple[float, float]] = []
    for diameter, colour in ((lesion.longest, LONGEST), (lesion.perpendicular, PERPENDICULAR)):
        ends = [view.at(end) for end in diameter.ends_mm]
        text = f"{diameter.length_mm:.1f} mm"
        half = canvas.text_width(text, 17) / 2
        middle = np.mean(ends, axis=0)
        places = []
        for end in ends:
            way = np.subtract(end, middle)
            way = way / max(float(np.linalg.norm(way)), 1e-6)
            x, y = float(end[0] + way[0] * (half + 14)), float(end[1] + way[1] * 24)
            x = min(max(x, view.left + half + 34), view.left + _SIDE - half - 34)
            y = min(max(y, view.top + 44), canvas.height - _foot(view.geometry) - 44)
            # far from what is written already, and a step rightwards where all else is equal
            room = min((abs(x - a) / 2 + abs(y - b) for a, b in taken), default=0.0)
            places.append((min(room, 60.0), x, y))
        _, x, y = max(places)
        taken.append((x, y))
        canvas.text(text, x, y, size=17, colour=colour, align="center", bold=True)


def _letters(canvas: Canvas, view: _View, shape: tuple[int, ...]) -> None:
    height, width = shape[:2]
    left, right, top, bottom = plane_of(view.geometry, view.plane).letters
    middle = view.left + width / 2, view.top + height / 2
    canvas.text(left, view.left + 8, middle[1], size=19, bold=True)
    canvas.text(right, view.left + width - 8, middle[1], size=19, align="right", bold=True)
    canvas.text(top, middle[0], view.top + 6, size=19, align="center", anchor="top", bold=True)
    canvas.text(bottom, middle[0], view.top + height - 6, size=19, align="center", anchor="bottom", bold=True)


def _scale_bar(canvas: Canvas, view: _View, shape: tuple[int, ...]) -> None:
    height, width = shape[:2]
    fitting = [length for length in _ROUND_LENGTHS_MM if length * view.scale <= 0.3 * width]
    if not fitting:
        return
    x, y = view.left + 12, view.top + height - 14
    length = fitting[-1] * view.scale
    canvas.line([(x - 1, y), (x + length + 1, y)], colour=PAPER, width=5)
    canvas.line([(x, y), (x + length, y)], width=3)
    canvas.text(f"{fitting[-1]} mm", x, y - 6, size=14, anchor="bottom")


def _words(canvas: Canvas, lesion: Lesion, index: tuple[int, int, int], scan: tuple[Geometry, Volume | None], window: Window) -> None:
    """Above: which lesion, how large, where; below: measurable or why not, and how the picture was made."""
    geometry, volume = scan
    right = canvas.width - _MARGIN
    amount, interval = value_of(lesion.row, "volume"), interval_of(lesion.row)
    size = "" if amount is None else f"{format_volume(amount)} ml"
    if interval is not None:
        size += f"  [{format_volume(interval[0])}, {format_volume(interval[1])}]"
    if lesion.row.status is Status.CUT_BY_FIELD_OF_VIEW:
        size += "  (visible part)"
    canvas.text(size, right, 26, size=16, align="right")
    room = canvas.width - 2 * _MARGIN - canvas.text_width(size, 16) - 20
    canvas.text(canvas.fitted(lesion.id, room, 21), _MARGIN, 25, size=21, bold=True)
    where = f"{position_text(geometry, lesion.slices.plane, index)}, {'ijk'[lesion.slices.axis]} = {lesion.longest.slice_index}"
    line = "   ·   ".join(part for part in (lesion.slices.plane, where, organ_words(lesion)) if part)
    canvas.text(canvas.fitted(line, canvas.width - 2 * _MARGIN, 15), _MARGIN, 58, size=15, colour=FAINT)
    bottom = canvas.height - _foot(geometry)
    word = "measurable: " if lesion.measurable else "not measurable: "
    canvas.text(canvas.fitted(word + lesion.measurable_reason, canvas.width - 2 * _MARGIN, 15), _MARGIN, bottom + 18, size=15)
    if volume is None:
        notes = ["no scan was given: the mask alone"]
    else:
        digits = 0 if window[1] >= 20 else 2
        notes = [f"window {window[1]:,.{digits}f}, level {window[0]:,.{digits}f} {volume.unit}".strip()]
    for n, note in enumerate((*notes, *grid_remarks(geometry))):
        canvas.text(canvas.fitted(note, canvas.width - 2 * _MARGIN, 14), _MARGIN, bottom + 44 + n * _LINE, size=14, colour=FAINT)


def _foot(geometry: Geometry) -> int:
    """Height of the words below the slice: measurable or not, the window, and a line for each remark on the grid."""
    return _FOOT + _LINE * len(grid_remarks(geometry))
