"""The contact sheet of a batch: which cases it shows, and where their pictures lie."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable
from pathlib import Path

from medseg.batch.records.layout import Layout
from medseg.io.atomic import write_text
from medseg.reporting.png_text import COLOURS, text_of_png
from medseg.reporting.qc_page import QcCase, QcPicture, QcSheet, QcVolume, order_of, picture_of, qc_page

__all__ = ["QcCase", "QcVolume", "write_qc"]

MOST_EMBEDDED = 200  # pictures that lie in the page itself: it can be sent as one file of a few MB
MOST_CASES = 10_000  # that one page holds and a browser shows without waiting
_HEAD = 1 << 14  # of a picture: its colours stand before its pixels


def write_qc(layout: Layout, cases: Iterable[QcCase], *, title: str = "") -> Path:
    """Write the contact sheet of a batch and return its path.

    Up to 200 cases have their pictures in the page; of more they are loaded from the case folders when they are seen. Of more
    than 10,000 cases the sheet shows the most suspicious and says so; cases flow through, memory does not grow with them. The
    same cases give the same bytes. Raises OutputError.
    """
    given = _Counted(cases)
    shown = heapq.nsmallest(MOST_CASES, given, key=order_of)
    embedded = len(shown) <= MOST_EMBEDDED
    pictures = {}
    for case in shown:
        picture = _picture(layout.folder, case.thumbnail, embedded)
        if picture is not None:
            pictures[case.case_id] = picture
    notes = []
    if given.count > len(shown):
        notes.append(
            f"This sheet shows the {len(shown):,} most suspicious of {given.count:,} cases. The others are in {layout.cohort.name}."
        )
    page = qc_page(shown, pictures, QcSheet(title or "Contact sheet", notes, lazy=not embedded))
    return write_text(layout.qc, page, overwrite=True)


class _Counted:
    """Cases that are counted while they pass."""

    def __init__(self, cases: Iterable[QcCase]) -> None:
        self.cases = cases
        self.count = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        for case in self.cases:
            self.count += 1
            yield case


def _picture(folder: Path, name: str, embedded: bool) -> QcPicture | None:
    """The strip of a case, None where it has none or the file is gone."""
    if not name:
        return None
    try:
        with (folder / name).open("rb") as file:
            data = file.read() if embedded else file.read(_HEAD)
    except OSError:
        return None
    try:
        found = json.loads(text_of_png(data).get(COLOURS, "{}"))
        colours = {str(label): str(colour) for label, colour in found.items()}
    except (ValueError, AttributeError):
        colours = {}
    return picture_of(data, colours) if embedded else QcPicture(name, colours)
