"""The report: one HTML file that holds everything it shows, and says what is wrong before it says a number."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import ModuleType
from typing import Any

from medseg.core.finding import Finding
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.provenance import Provenance
from medseg.core.volume import Volume
from medseg.reporting.comparison import Case, comparison_context
from medseg.reporting.dependencies import load
from medseg.reporting.methods_text import MethodsText, joined, methods_of
from medseg.reporting.report_measurements import measurements_context
from medseg.reporting.report_record import (
    findings_context,
    methods_context,
    provenance_context,
    scan_context,
    scores_context,
    truth_context,
    verdict,
)
from medseg.reporting.scores import Scores
from medseg.reporting.sections import Section

_TEMPLATES = ("report.html.j2", "case.html.j2", "record.html.j2", "cite.html.j2", "report.css", "report.js")
_LAST = ("axial_slices", "segments")
_MAGIC = {b"\x89PNG": "image/png", b"<svg": "image/svg+xml", b"<?xm": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """A PNG (or SVG) with its file name (without suffix) and its caption; `segment` is the label it shows, "" for all."""

    name: str
    caption: str
    png: bytes = field(repr=False)
    segment: str = ""


@dataclass(frozen=True)
class ReportContent:
    """Everything a report shows of one case.

    `volume` and `label_map` may be missing where a report is rebuilt without them; `document` is the JSON of the measurements
    that text is checked against (the table's own where None). `truth` (label → ml, or a truth document) and `scores` add a
    comparison, `sections` the tables of lesions, change or agreement.
    """

    title: str
    volume: Volume | None
    label_map: LabelMap | None
    table: MeasurementTable
    findings: tuple[Finding, ...] = ()
    provenance: Provenance | None = None
    pictures: tuple[Picture, ...] = ()
    scores: Scores | None = None
    truth: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    document: Mapping[str, Any] | None = None
    sections: tuple[Section, ...] = ()

    @property
    def geometry(self) -> Geometry | None:
        """The grid of the scan, else that of the segmentation."""
        grid = self.volume or self.label_map
        return None if grid is None else grid.geometry


def report_html(content: ReportContent | Sequence[ReportContent], title: str = "", attribution: str = "") -> str:
    """Return the report as one self-contained HTML document: styles and pictures inside, readable without scripts.

    Findings stand before every number. Several contents (the same patient in other scans, say) make one report with a comparison
    at its top. Every value is escaped; no path and no patient attribute is written; every figure is looked up in the data.
    `attribution` names the source of the scans. Raises MissingDependencyError without the extra `report`, ParameterError for a
    truth without volumes, ReportNumberError for a figure that is not in the data.
    """
    jinja2 = load("jinja2")
    folder = resources.files("medseg.reporting") / "templates"
    sources = {name: (folder / name).read_text(encoding="utf-8") for name in _TEMPLATES}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(sources), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    # Names such as lung_lower_lobe_left have no space to break at
    environment.filters["breakable"] = lambda label: _breakable(load("markupsafe"), str(label))
    contents = [content] if isinstance(content, ReportContent) else list(content)
    cases = [_case(one, number, len(contents)) for number, one in enumerate(contents, start=1)]
    return str(
        environment.get_template("report.html.j2").render(
            title=title or contents[0].title,
            style=sources["report.css"],
            script=sources["report.js"],
            cases=cases,
            methods=_methods(contents),
            comparison=comparison_context([Case(one.title, one.table) for one in contents]),
            attribution=attribution,
        )
    )


def _case(content: ReportContent, number: int, count: int) -> dict[str, Any]:
    provenance, table = content.provenance, content.table
    volume, label_map = content.volume, content.label_map
    modality, unit = (volume.modality, volume.unit) if volume is not None else (table.modality, table.unit)
    pictures = [_picture(picture) for picture in content.pictures]
    by_segment = {picture["segment"]: picture for picture in pictures if picture["segment"]}
    measurements = measurements_context(table, label_map)
    lead = next((row for row in measurements["cards"] if row["label"] in by_segment), None) if count > 1 else None
    return {
        "lead": lead,
        "id": f"case{number}-" if count > 1 else "",
        "title": content.title,
        "scan": scan_context(content.geometry, modality, unit),
        "findings": findings_context(content.findings),
        "verdict": verdict(content.findings),
        "measurements": measurements,
        "truth": truth_context(table, content.truth),
        "scores": scores_context(content.scores),
        "hero": next((picture for picture in pictures if picture["name"] == "rendering_3d"), None),
        "overview": [picture for picture in pictures if not picture["segment"] and picture["name"] not in ("rendering_3d", *_LAST)],
        "slices": [picture for picture in pictures if picture["name"] in _LAST and (picture["name"] != "segments" or not by_segment)],
        "by_segment": by_segment,
        "sections": [_section(section) for section in content.sections],
        "notes": content.notes,
        "provenance": provenance_context(provenance) if provenance else None,
    }


def _methods(contents: Sequence[ReportContent]) -> dict[str, Any] | None:
    text = methods_of_contents(contents)
    return None if text is None else methods_context(text)


def methods_of_contents(contents: Sequence[ReportContent]) -> MethodsText | None:
    """Return what a paper must say of these cases together; None where nothing recorded how they were made."""
    several = len(contents) > 1
    texts = [text for content in contents if (text := _methods_of(content, content.title if several else "")) is not None]
    return joined(texts) if texts else None


def _methods_of(content: ReportContent, case: str) -> MethodsText | None:
    if content.provenance is None:
        return None
    document = content.document or content.table.to_dict() | {"findings": [finding.to_dict() for finding in content.findings]}
    return methods_of(content.provenance, document, content.geometry, case)


def _breakable(markupsafe: ModuleType, label: str) -> Any:
    """The label escaped, with a place to break after each underscore."""
    return markupsafe.Markup("_<wbr>").join(markupsafe.escape(part) for part in label.split("_"))


def _section(section: Section) -> dict[str, Any]:
    return {**vars(section), "pictures": [_picture(Picture(name, caption, data)) for name, caption, data in section.pictures]}


def _picture(picture: Picture) -> dict[str, Any]:
    # Width and height stand in the PNG's header; given in the page they keep the text from jumping while it loads
    kind = next((kind for start, kind in _MAGIC.items() if picture.png.lstrip().startswith(start)), "image/png")
    width, height = (int.from_bytes(picture.png[start : start + 4], "big") if kind == "image/png" else 0 for start in (16, 20))
    return {
        "name": picture.name,
        "caption": picture.caption,
        "segment": picture.segment,
        "address": f"data:{kind};base64,{base64.b64encode(picture.png).decode('ascii')}",
        "width": width or 800,
        "height": height or 500,
    }
