"""When a scan was made and of whom, to compare scans with each other; neither ever goes into an output."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.core.errors import InputError
from medseg.core.volume import Volume
from medseg.io.dicom.foreign import FOREIGN_ERRORS

_IMAGE_DATES = ("AcquisitionDate", "StudyDate")
_OBJECT_DATES = ("StudyDate",)  # a segmentation's own date is the day it was drawn


@dataclass(frozen=True)
class Visit:
    """The day of a scan, and a digest by which two scans of one patient can be told from two of different ones."""

    day: datetime.date | None = None
    patient: str | None = field(default=None, repr=False)


def visit_of(volume: Volume | None, segmentation: str | Path) -> Visit:
    """Return the visit of a scan from its DICOM header, or from that of the segmentation; empty for other formats."""
    files = volume.source.files if volume is not None and volume.source is not None else ()
    if files and volume is not None and volume.source is not None and volume.source.format.startswith("DICOM"):
        return _read(Path(files[0]), _IMAGE_DATES)
    path = Path(segmentation)
    return _read(path, _OBJECT_DATES) if path.is_file() else Visit()


def day_of(text: str) -> datetime.date:
    """Return a day written as YYYY-MM-DD or YYYYMMDD; raises InputError for anything else.

    >>> (day_of("2024-03-01") - day_of("20240131")).days
    30
    """
    try:
        return datetime.date.fromisoformat(text if "-" in text or len(text) != 8 else f"{text[:4]}-{text[4:6]}-{text[6:]}")
    except ValueError as err:
        raise InputError(f"a date is written as 2024-03-01 or 20240301, not {text!r}") from err


def days_between(days: Sequence[datetime.date | None]) -> list[float | None]:
    """Return the days since the first date; None where either is not known.

    >>> days_between([datetime.date(2024, 1, 31), None, datetime.date(2024, 3, 1)])
    [0.0, None, 30.0]
    """
    first = days[0]
    return [None if first is None or day is None else float((day - first).days) for day in days]


def _read(path: Path, names: Sequence[str]) -> Visit:
    import pydicom

    from medseg.io.dicom.find import is_dicom

    if not is_dicom(path):
        return Visit()
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*names, "PatientID", "PatientName"], force=True)
        texts = [str(header.get(name, "") or "") for name in names]
        person = f"{header.get('PatientID', '') or ''}|{header.get('PatientName', '') or ''}"
    except FOREIGN_ERRORS:
        return Visit()
    days = [day for text in texts if (day := _day(text))]
    digest = hashlib.sha256(person.encode("utf-8", "replace")).hexdigest() if person.strip("| ") else None
    return Visit(days[0] if days else None, digest)


def _day(text: str) -> datetime.date | None:
    try:
        return day_of(text.strip()) if text.strip() else None
    except InputError:
        return None
