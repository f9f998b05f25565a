"""The names, colours and volumes beside a picture; many segments are capped and summed up, never drawn over each other."""

from __future__ import annotations

from collections.abc import Sequence

from medseg.core.errors import UnknownSegmentError
from medseg.core.measurement import MeasurementTable
from medseg.reporting.canvas import FAINT, Canvas
from medseg.reporting.places import Place, is_lesion
from medseg.reporting.wording import format_volume

_ROW = 27
_TEXT = 15
_COLUMN_WIDTH = 290  # each column of names and volumes needs this much


def volume_text(table: MeasurementTable | None, label: str) -> str:
    """Return a segment's volume as a reader writes it, or "" where there is none."""
    if table is None:
        return ""
    try:
        value = table[label, "volume"].value
    except UnknownSegmentError:
        return ""
    return "" if value is None else f"{format_volume(value)} ml"


def draw_legend(
    canvas: Canvas,
    places: Sequence[Place],
    area: tuple[float, float, float, float],
    *,
    table: MeasurementTable | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """Fill `area` (left, top, width, height) with one row a segment, lesions and large segments first, then remarks."""
    left, top, width, height = area
    columns = max(1, int(width // _COLUMN_WIDTH))
    rows = max(1, int((height - 16 - 22 * len(remarks)) // _ROW) - 1)
    ranked = sorted(places, key=lambda place: (not is_lesion(place.segment), -place.voxels))
    if len(ranked) <= rows:
        columns = 1
    room = rows * columns
    shown = ranked if len(ranked) <= room else ranked[: room - 1]
    pitch = min(width / columns, 460)
    for n, place in enumerate(shown):
        x, y = left + (n // rows) * pitch, top + 12 + (n % rows) * _ROW
        amount = volume_text(table, place.segment.label)
        canvas.swatch(place.segment.rgb, x, y, 14)
        end = x + pitch - 26
        taken = canvas.text_width(amount, _TEXT) + 14 if amount else 0
        canvas.text(canvas.fitted(place.segment.label, end - taken - x - 24, _TEXT), x + 24, y, size=_TEXT)
        if amount:
            canvas.text(amount, end, y, size=_TEXT, colour=FAINT, align="right")
    last = len(shown)
    if last < len(ranked):
        x, y = left + (last // rows) * pitch, top + 12 + (last % rows) * _ROW
        canvas.text(f"and {len(ranked) - last} more, in the table", x + 24, y, size=_TEXT, colour=FAINT)
    if not ranked:
        canvas.text("no segment has voxels", left, top + 12, size=_TEXT, colour=FAINT)
    for n, remark in enumerate(remarks):
        y = top + height - 10 - 22 * (len(remarks) - 1 - n)
        canvas.text(canvas.fitted(remark, width, 14), left, y, size=14, colour=FAINT)
