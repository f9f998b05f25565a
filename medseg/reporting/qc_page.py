"""The contact sheet: one HTML file with a picture, the volumes and the doubts of every case, in which a reviewer decides."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any, NamedTuple

from medseg.core.measurement import Status
from medseg.core.segment import Segment
from medseg.reporting.places import is_lesion
from medseg.reporting.wording import STATUS_WORDS, format_measured

FILE_MODE = '<meta name="medseg-mode" content="file">'
SERVER_MODE = '<meta name="medseg-mode" content="server">'
_WORDS = {status.value: words for status, words in STATUS_WORDS.items()} | {Status.MEASURED.value: ""}
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class QcVolume(NamedTuple):
    """The volume of a segment in ml with its 95 % interval, None where it has none, and its status as in `Status`."""

    label: str
    ml: float | None
    low: float | None
    high: float | None
    status: str


@dataclass(frozen=True)
class QcCase:
    """A case on the sheet.

    `status` is done, failed or not_run; `code` and `message` say why. `suspicion` (0 to 100) orders the sheet, `reasons` are its
    sentences. `thumbnail` and `report` are paths relative to the sheet, "" where there is none. `mark` names the result that a
    decision is made on, `decision` is the JSON form of the one that stands, and `standing` says where the case stands with it:
    unreviewed, accepted, rejected, to_fix, corrected or void.
    """

    case_id: str
    status: str
    code: str = ""
    message: str = ""
    suspicion: float = 0.0
    reasons: Sequence[str] = ()
    thumbnail: str = ""
    volumes: Sequence[QcVolume] = ()
    modality: str = ""
    mark: str = ""
    standing: str = ""
    decision: Mapping[str, str] | None = None
    report: str = ""


@dataclass(frozen=True)
class QcPicture:
    """The strip of a case: its address (relative, or a data address), and the colours of its segments by label."""

    address: str
    colours: Mapping[str, str]


@dataclass(frozen=True)
class QcSheet:
    """What the page is given besides its cases: the title, what is to be said above them, and whether pictures load when seen."""

    title: str
    notes: Sequence[str] = ()
    lazy: bool = False


def order_of(case: QcCase) -> tuple[Any, ...]:
    """Return what the sheet is ordered by: finished cases, the most suspicious first, then failed ones, then by id.

    >>> order_of(QcCase("b", "done", suspicion=3)) < order_of(QcCase("a", "done", suspicion=2)) < order_of(QcCase("a", "failed"))
    True
    """
    return ("done", "failed").index(case.status) if case.status in ("done", "failed") else 2, -case.suspicion, case.case_id


def qc_page(cases: Sequence[QcCase], pictures: Mapping[str, QcPicture], sheet: QcSheet) -> str:
    """Return the sheet as one HTML document that asks no network for anything and works from a file.

    `pictures` are by case id. Everything that comes from a scan or a reviewer is data that the page shows as text: it is never
    part of its markup. A reviewer saves review.json with it, or `medseg review` serves it and saves every decision.
    """
    folder = resources.files("medseg.reporting") / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8").strip() for name in ("qc.css", "qc.js"))
    data = {
        "lazy": sheet.lazy,
        "cases": [_entry(case, pictures.get(case.case_id)) for case in sorted(cases, key=order_of)],
    }
    # decisions that a browser kept belong to this sheet, whatever is decided or run on it later
    data["sheet"] = hashlib.sha256(" ".join(sorted(case.case_id for case in cases)).encode()).hexdigest()[:16]
    return Template((folder / "qc.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(sheet.title),
        notes="".join(f'<p class="note">{html.escape(note)}</p>\n' for note in sheet.notes),
        mode=FILE_MODE,
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=_data(data),
    )


def picture_of(png: bytes, colours: Mapping[str, str]) -> QcPicture:
    """Return a picture that lies in the page itself."""
    return QcPicture(f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}", colours)


def _entry(case: QcCase, picture: QcPicture | None) -> dict[str, Any]:
    colours = picture.colours if picture is not None else {}
    entry: dict[str, Any] = {
        "id": case.case_id,
        "status": case.status,
        "code": case.code,
        "message": case.message,
        "score": round(case.suspicion),
        "reasons": list(case.reasons),
        "picture": picture.address if picture is not None else "",
        "volumes": [_volume(volume, colours) for volume in sorted(case.volumes, key=_is_plain)],
        "modality": case.modality,
        "mark": case.mark,
        "standing": case.standing,
        "decision": dict(case.decision) if case.decision is not None else None,
        "report": case.report,
    }
    return {name: value for name, value in entry.items() if value not in ("", [], None)}


def _is_plain(volume: QcVolume) -> bool:
    """Whether a segment is no lesion by its name: of many segments the sheet shows the first few at once, and lesions come first."""
    return not (volume.label.strip() and is_lesion(Segment(1, volume.label)))


def _volume(volume: QcVolume, colours: Mapping[str, str]) -> list[Any]:
    """Label, volume and interval as they are read, status in words, the bare number to sort by, and the colour."""
    interval = (volume.low, volume.high) if volume.low is not None and volume.high is not None else None
    text, bounds = ("", "") if volume.ml is None else format_measured(volume.ml, interval)
    words = _WORDS.get(volume.status, volume.status)
    return [volume.label, text, bounds, words, volume.ml, colours.get(volume.label, "")]


def _data(document: Mapping[str, Any]) -> str:
    """JSON that can stand in a page: nothing in it can end the element it stands in."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign, escape in _UNSAFE.items():
        text = text.replace(sign, escape)
    return text


def _hash(text: str) -> str:
    """What a content security policy names an inline script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
