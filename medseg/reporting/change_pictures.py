"""A lesion at two scans side by side: the same millimetres, the same scale, outlined, with its volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.reporting.canvas import FAINT, Canvas
from medseg.reporting.overlay import Cut, Style, Window, automatic_window, draw_slice
from medseg.reporting.planes import patient_axes, plane_of

if TYPE_CHECKING:
    from medseg.measurement.change import ChangeTable, LesionChange, Sizes, TimePoint

_PANE = 420  # pixels
_MARGIN, _TITLE, _FOOT = 16, 58, 30
_AROUND_MM = 22.0
_HALF_MM = 28.0, 120.0  # least and most shown on each side of the middle
_SHOWN = Segment(1, "this lesion", colour=(240, 200, 60))
_OTHER = Segment(2, "other lesions", colour=(120, 170, 220))


def lesion_pair_png(table: ChangeTable, row: LesionChange) -> bytes:
    """Draw the axial slice with most of a lesion when first seen and at a follow-up; where it is not there, its place.

    The lesion is outlined in yellow, others in blue; both panes show the same width in mm in radiological convention. A scan
    that was not given is said so. Raises MissingDependencyError without the extra `report`.
    """
    since = row.since if row.status != "new" else 0
    points = table.time_points[since], table.time_points[row.time_point]
    places = _places(row, points)
    longest = max((s.longest_mm or 0.0 for s in (row.before, row.after)), default=0.0)
    half = float(np.clip(longest / 2 + _AROUND_MM, *_HALF_MM))
    canvas = Canvas(2 * _PANE + 3 * _MARGIN, _PANE + _TITLE + _FOOT + _MARGIN)
    for n, (point, place, sizes) in enumerate(zip(points, places, (row.before, row.after), strict=True)):
        left = _MARGIN + n * (_PANE + _MARGIN)
        canvas.text(_heading(since if n == 0 else row.time_point, point), left, 18, size=15, bold=True)
        canvas.text(_volume_text(sizes, row if n else None), left, 42, size=14, colour=FAINT)
        pixels = _pane(point, place, sizes, half)
        if isinstance(pixels, str):
            canvas.text(pixels, left + _PANE / 2, _TITLE + _PANE / 2, size=14, colour=FAINT, align="center")
            continue
        canvas.picture(pixels, left, _TITLE)
        canvas.text("R", left + 6, _TITLE + _PANE / 2, size=14, bold=True)
        canvas.text("L", left + _PANE - 6, _TITLE + _PANE / 2, size=14, align="right", bold=True)
        bar = 20.0 * _PANE / (2 * half)
        canvas.line([(left + 12, _TITLE + _PANE - 12), (left + 12 + bar, _TITLE + _PANE - 12)], width=3)
        canvas.text("20 mm", left + 12, _TITLE + _PANE - 18, size=13, anchor="bottom")
    text = f"{row.track}: {row.status.replace('_', ' ')}" + (f" ({row.reason})" if row.reason else "")
    canvas.text(canvas.fitted(text, canvas.width - 2 * _MARGIN, 14), _MARGIN, canvas.height - 16, size=14)
    return canvas.png()


def _places(row: LesionChange, points: Sequence[TimePoint]) -> list[npt.NDArray[np.float64]]:
    """The middle of the lesion in the world of each scan; where it is not there, the place that its other scan points to."""
    before, after = row.before.centre_mm, row.after.centre_mm
    first, second = points
    known = np.asarray(before if before is not None else after, dtype=np.float64)[None]
    if before is not None and after is None:
        return [known[0], np.asarray(second.to_here(first.to_base(known)))[0]]
    if before is None:
        return [np.asarray(first.to_here(second.to_base(known)))[0], known[0]]
    return [known[0], np.asarray(after, dtype=np.float64)]


def _pane(point: TimePoint, place: npt.NDArray[np.float64], sizes: Sizes, half_mm: float) -> npt.NDArray[np.uint8] | str:
    """The pixels of one scan, or the words that stand in their stead."""
    if point.volume is None:
        return "the scan was not given (--image)"
    volume = point.volume
    if not volume.geometry.contains(volume.geometry.world_to_index(place)):
        return "this scan does not show the place"
    reach = [int(np.ceil(half_mm * 1.5 / step)) + 1 for step in volume.geometry.spacing_mm]
    middle = np.rint(volume.geometry.world_to_index(place)).astype(int)
    start = np.maximum(middle - reach, 0)
    stop = np.minimum(middle + np.asarray(reach) + 1, volume.geometry.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    grid = volume.geometry.cropped(start.tolist(), (stop - start).tolist())
    shown = _labels(point, box, sizes.ids)
    part = Volume(np.asfortranarray(volume.array[box]), grid, volume.modality, volume.unit)
    across = patient_axes(grid).axis[2]
    index = middle - start
    counts = (shown == 1).sum(axis=tuple(n for n in range(3) if n != across))
    if counts.any():
        index[across] = int(counts.argmax())
    labels = LabelMap(shown, grid, (_SHOWN, _OTHER))
    x, y = plane_of(grid, "axial").to_page_mm(grid.world_to_index(place).tolist())
    cut = Cut("axial", (int(index[0]), int(index[1]), int(index[2])), (x - half_mm, y - half_mm, x + half_mm, y + half_mm))
    return draw_slice(part, labels, cut, _PANE / (2 * half_mm), Style(_window(volume), frozenset({1, 2})))


def _labels(point: TimePoint, box: tuple[slice, ...], ids: Sequence[str]) -> npt.NDArray[np.uint8]:
    """This lesion as 1, others as 2."""
    numbers = [lesion.number for lesion in point.lesions if lesion.id in ids]
    layers = [layer.array[box] for layer in point.lesions.layers]
    shown = np.zeros(layers[0].shape, np.uint8, order="F")
    for array in layers:
        shown[array > 0] = 2
    for array in layers:
        shown[np.isin(array, numbers) & (array > 0)] = 1
    return shown


def _window(volume: Volume) -> Window:
    return automatic_window(volume)


def _heading(n: int, point: TimePoint) -> str:
    name = "base" if n == 0 else f"follow-up {n}"
    return name if point.days is None or n == 0 else f"{name}, day {point.days:g}"


def _volume_text(sizes: Sizes, row: LesionChange | None) -> str:
    volume = sizes.volume
    if volume.value is None:
        return "no lesion here"
    text = f"{volume.value:.2f} ml" + (f" [{volume.interval[0]:.2f}, {volume.interval[1]:.2f}]" if volume.interval else "")
    if row is not None and row.change.value is not None:
        text += f"   {row.change.value:+.0f} %"
        if row.change.low is not None:
            text += f" [{row.change.low:+.0f}, {'…' if row.change.high is None else f'{row.change.high:+.0f}'}]"
    return text
