"""How values are said to a reader: status in words, numbers with the digits that mean something, nothing that is not there."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from medseg.core.measurement import Measurement, SegmentRow, Status

STATUS_WORDS = {
    Status.MEASURED: "measured",
    Status.ABSENT: "not found",
    Status.CUT_BY_FIELD_OF_VIEW: "cut by field of view",
    Status.NOT_ATTEMPTED: "not attempted",
    Status.FAILED: "failed",
}

_PATH = re.compile(r"^(?:[A-Za-z]:[\\/]|\\\\|~?/)\S|^file:", re.IGNORECASE)


def status_words(row: SegmentRow) -> str:
    """Return the status of a row in words, with the sides where it is cut.

    >>> status_words(SegmentRow(1, "liver", Status.CUT_BY_FIELD_OF_VIEW, "", {}, 9, touches=("superior",)))
    'cut by field of view (superior)'
    """
    words = STATUS_WORDS[row.status]
    return f"{words} ({', '.join(row.touches)})" if row.status is Status.CUT_BY_FIELD_OF_VIEW and row.touches else words


def format_volume(volume_ml: float) -> str:
    """Return millilitres with the digits that mean something: none from 1000 ml, one from 10, two from 1, three below.

    >>> format_volume(1512.42), format_volume(25.2), format_volume(4.318), format_volume(0.0214), format_volume(0.0)
    ('1,512', '25.2', '4.32', '0.021', '0')
    """
    size = abs(volume_ml)
    digits = 0 if size >= 999.5 or size == 0 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{volume_ml:,.{digits}f}" if size >= 0.0005 or size == 0 else f"{volume_ml:.1e}"


def format_measured(volume_ml: float, interval: tuple[float, float] | None) -> tuple[str, str]:
    """Return a volume and its interval ("low–high") with the digits that the interval leaves: two of its half width.

    >>> format_measured(33.2107, (32.118, 34.402)), format_measured(1512.4, (1511.93, 1512.88)), format_measured(4.0, None)
    (('33.2', '32.1–34.4'), ('1,512.40', '1,511.93–1,512.88'), ('4.00', ''))
    """
    if interval is None:
        return format_volume(volume_ml), ""
    half = (interval[1] - interval[0]) / 2
    digits = min(4, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 4
    return f"{volume_ml:,.{digits}f}", "–".join(f"{bound:,.{digits}f}" for bound in interval)


def format_number(value: float) -> str:
    """Return an intensity or another figure in at most five significant digits, never in more than it needs.

    >>> format_number(63.25), format_number(-1024.0), format_number(0.00123)
    ('63.2', '-1,024', '0.00123')
    """
    if not math.isfinite(value):
        return ""
    if value == 0:
        return "0"
    if abs(value) >= 100 or float(value).is_integer():
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3e}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def value_of(row: SegmentRow, quantity: str) -> float | None:
    """Return a quantity of a row, None where it has none."""
    measurement = row.measurements.get(quantity)
    return None if measurement is None else measurement.value


def reason_of(row: SegmentRow) -> str:
    """Return why a row is not simply measured: its own reason, else that of its measurements."""
    if row.reason:
        return row.reason
    reasons = [m.reason for m in row.measurements.values() if m.reason]
    return "; ".join(dict.fromkeys(reasons))


def interval_of(row: SegmentRow) -> tuple[float, float] | None:
    """Return the 95 % interval of the volume, where there is one."""
    volume: Measurement | None = row.measurements.get("volume")
    return None if volume is None else volume.interval


def plain(value: Any) -> str:
    """Return a parameter as a reader writes it; a path is cut down to its last name, for reports hold no paths.

    >>> plain([1.0, 2.5]), plain({"radius_mm": 3}), plain("/home/someone/models/abdomen"), plain(None)
    ('1, 2.5', 'radius_mm = 3', 'abdomen', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {plain(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [plain(entry) for entry in value]
        nested = any(isinstance(entry, (list, tuple, Mapping)) for entry in value)
        return "; ".join(f"({part})" for part in parts) if nested else ", ".join(parts)
    return without_path(str(value))


def without_path(text: str) -> str:
    """Return a text, or only the last name where the whole of it is an absolute path.

    >>> without_path("C:\\\\scans\\\\a.nii"), without_path("otsu")
    ('a.nii', 'otsu')
    """
    if not _PATH.match(text):
        return text
    name = PureWindowsPath(text).name if "\\" in text else PurePosixPath(text.removeprefix("file://")).name
    return name or "(path)"
