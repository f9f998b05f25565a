from __future__ import annotations

import itertools
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from medseg.core.errors import MissingDependencyError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow, Status
from medseg.core.provenance import InputRecord, Provenance, StepRecord
from medseg.core.segment import Segment
from medseg.core.volume import Source, Volume
from medseg.reporting.canvas import Canvas
from medseg.reporting.html import Picture, ReportContent, report_html
from medseg.reporting.methods_text import methods_of, methods_text, references
from medseg.reporting.number_check import ReportNumberError

VOID = {"meta", "img", "br", "link", "input", "hr", "wbr"}
HOSTILE = "<script>alert('x')</script>"


class _Reader(HTMLParser):
    """Collects elements and checks that every tag is closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def _table():
    liver = {
        name: Measurement("liver", name, value, unit)
        for name, value, unit in (("volume", 4242.42, "ml"), ("mean", 61.5, "HU"), ("std", 9.5, "HU"))
    }
    bad = {"volume": Measurement(HOSTILE, "volume", None, "ml", status=Status.FAILED, reason="<b>ran out</b> of memory")}
    cut = {"volume": Measurement("lung_left", "volume", 77.5, "ml", (70.0, 81.0), Status.CUT_BY_FIELD_OF_VIEW, "touches")}
    return MeasurementTable(
        (
            SegmentRow(1, "liver", Status.MEASURED, "", liver, 1234, (60.0, -12.0, 3.5)),
            SegmentRow(2, HOSTILE, Status.FAILED, "<b>ran out</b> of memory", bad, 0),
            SegmentRow(3, "lung_left", Status.CUT_BY_FIELD_OF_VIEW, "touches", cut, 55, (-60.0, 12.0, 30.5), touches=("superior",)),
        ),
        "CT",
        "HU",
    )


@pytest.fixture
def content(grids, make_scene):
    volume, label_map = make_scene(grids["LPS"])
    source = Source("/home/jane/DOE^JANE_1970/scan.nii.gz", "nifti", "1.2.840.99", ("/home/jane/DOE^JANE_1970/scan.nii.gz",))
    segments = (Segment(1, "liver"), Segment(2, HOSTILE), Segment(3, "lung_left"), Segment(4, "head"))
    provenance = Provenance(
        {"medseg": "0.1.0", "numpy": "2.0"},
        (InputRecord("scan", "nifti", "ab" * 32, 1, "1.2.840.99"),),
        (
            StepRecord(
                "threshold",
                "segment",
                {"lower": -500.0, "seeds": [(1.0, 2.0, 3.0)], "model": "/home/jane/models/abdomen"},
                "doi:10.1109/42.668699",
                1.5,
            ),
            StepRecord(HOSTILE, "segment", {"<i>": "</td>"}, HOSTILE),
        ),
        {"name": "abdomen", "licence": "Apache-2.0", "intended_use": "phantoms", "path": "/home/jane/models", "sha256": "cd" * 32},
        "cpu",
        7,
        "2026-09-01T10:00:00+00:00",
        "2026-09-01T10:01:30+00:00",
    )
    volume = Volume(volume.array, volume.geometry, "CT", "HU", source)
    label_map = LabelMap(label_map.array, label_map.geometry, segments, source)
    return ReportContent(
        title=f"Torso {HOSTILE}",
        volume=volume,
        label_map=label_map,
        table=_table(),
        findings=(
            Finding("REMARK", Severity.INFO, "a remark"),
            Finding("TILT", Severity.WARNING, "tilted by 18.5°", {"degrees": 18.5}),
            Finding(
                "MISSING_SLICES", Severity.ERROR, f"5 slices are missing {HOSTILE}", {"files": ["/home/jane/1.dcm"], "missing_count": 5}
            ),
        ),
        provenance=provenance,
        pictures=(Picture("three_planes", 'Three planes of "it" & <more>', Canvas(40, 30).png()),),
        scores={
            "segments": [{"number": 1, "label": "liver", "dice": 0.987, "reason": ""}],
            "summary": {"mean_dice": 0.987, "rule": "all count"},
        },
        truth={"liver": 4200.0, "lung_left": 78.0},
        notes=("no 3D picture: <reason>",),
    )


def test_the_report_is_well_formed_and_says_everything(content):
    page = _Reader(report_html(content))
    for text in (
        "Research software, not a medical device",
        "4,242",
        "61.5 ± 9.5",
        "cut by field of view (superior)",
        "70.0–81.0",
        "60 × 50 × 50",
        "2 × 2 × 2.5 mm",
        "10 mm³",
        "LPS",
        "ab" * 32,
        "Apache-2.0",
        "phantoms",
        "0.9870",
        "+1.01",
        "90.0 s",
        "ran out",
        "no 3D picture",
        "R 60.0",
        "P 12.0",
    ):
        assert text in page.text, text


def test_findings_stand_before_every_measured_number(content):
    """The verdict and the errors come before the first volume; errors before warnings before remarks."""
    html = report_html(content)
    first_number = min(html.index(text) for text in ("4,242", "60 × 50", "10 mm³"))
    places = [html.index(code) for code in ("must not be reported", "MISSING_SLICES", "TILT", "REMARK")]
    assert places == sorted(places)
    assert places[-1] < first_number


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [((), "No findings"), ((Finding("X", Severity.INFO, "x"),), "No errors"), ((Finding("X", Severity.WARNING, "x"),), "1 warning: read")],
)
def test_the_verdict_is_calm_where_it_can_be(content, findings, verdict):
    text = _Reader(report_html(replace(content, findings=findings))).text
    assert verdict in text
    assert "must not be reported" not in text


def test_hostile_text_is_inert(content):
    """A label, a finding, a method or a title that is markup is shown as text: the only script is the report's own."""
    html = report_html(content)
    page = _Reader(html)
    assert len(page.all("script")) == 1
    assert "<script>alert" not in html
    assert page.text.count("alert('x')") >= 5
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)


def test_nothing_is_loaded_from_elsewhere(content):
    """Pictures are inline, links are citations only, and the page forbids itself every other source."""
    html = report_html(content)
    page = _Reader(html)
    sources = [attrs["src"] for _, attrs in page.elements if "src" in attrs]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    addresses = {attrs["href"] for _, attrs in page.elements if "href" in attrs}
    assert addresses == {"https://doi.org/10.1109/42.668699", "https://doi.org/10.1038/s41586-020-2649-2"}
    assert not page.all("link")
    assert "url(" not in html
    assert "@import" not in html
    assert any("default-src 'none'" in attrs.get("content", "") for attrs in page.all("meta"))


def test_no_path_and_no_patient_is_written(content):
    html = report_html(content)
    for secret in ("jane", "DOE", "1970", "scan.nii", "1.2.840.99", "/home", "1.dcm"):
        assert secret not in html, secret
    assert "abdomen" in html


def test_the_report_is_accessible(content):
    """One h1, no level skipped, alt texts, header cells with a scope, a language, a title."""
    page = _Reader(report_html(content))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(attrs["alt"] and attrs["width"] and attrs["height"] for attrs in page.all("img"))
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("title")


def test_rows_and_heads_have_the_same_number_of_cells(content):
    html = report_html(content)
    for table in re.findall(r"<table.*?</table>", html, re.DOTALL):
        head, body = table.split("</thead>")
        columns = len(re.findall(r"<th[ >]", head))
        rows = body.split("<tr>")[1:]
        assert columns
        assert rows
        assert {len(re.findall(r"<t[hd][ >]", row)) for row in rows} == {columns}


def test_a_bare_report_is_whole(content):
    """Without provenance, truth, scores, pictures and segments the page still stands."""
    bare = ReportContent("Bare", content.volume, content.label_map, MeasurementTable(()))
    page = _Reader(report_html(bare))
    assert "No segments." in page.text
    assert "Provenance" not in page.text
    assert not page.all("img")


def test_the_colours_are_those_of_the_segments(content):
    red, green, blue = content.label_map["liver"].rgb
    assert f"background:#{red:02x}{green:02x}{blue:02x}" in report_html(content)


def test_without_jinja2_the_extra_is_named(content, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError, match=r"medseg\[report\]"):
        report_html(content)


def test_text_keeps_enough_contrast():
    """Every ink on its paper reaches 4.5 : 1 (WCAG 2.2, 1.4.3) in the light and in the dark."""
    from importlib import resources

    css = (resources.files("medseg.reporting") / "templates" / "report.css").read_text(encoding="utf-8")
    palettes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)]
    assert len(palettes) == 3

    def luminance(colour):
        parts = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    pairs = [
        ("ink", "paper"),
        ("soft", "paper"),
        ("soft", "raised"),
        ("accent", "paper"),
        ("good", "good-paper"),
        ("caution", "caution-paper"),
        ("bad", "bad-paper"),
    ]
    for palette in palettes:
        for ink, paper in pairs:
            dark, light = sorted((luminance(palette[ink]), luminance(palette[paper])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)


def test_every_segment_has_its_strip_beside_its_volume(content):
    """A strip stands under the name, volume and status of its own segment; a segment without picture has none."""
    strip = Picture("segment_1", "liver where it is largest", Canvas(40, 30).png(), segment="liver")
    html = report_html(replace(content, pictures=(*content.pictures, strip)))
    figures = re.findall(r'<figure class="strip">.*?</figure>', html, re.DOTALL)
    assert len(figures) == 1
    assert "liver" in figures[0]
    assert "4,242" in figures[0]


def test_intervals_are_drawn_to_one_scale(content):
    """The widest interval spans the whole line, another as much of it as its relative width."""
    parts = {"grid": 3.0, "boundary": 4.0}
    rows = [
        SegmentRow(n, label, Status.MEASURED, "", {"volume": Measurement(label, "volume", 100.0, "ml", bounds, parts=parts)}, 9)
        for n, label, bounds in ((1, "liver", (80.0, 120.0)), (2, "spleen", (95.0, 110.0)))
    ]  # fmt: skip
    html = report_html(replace(content, table=MeasurementTable(tuple(rows)), truth=None, pictures=()))
    assert "lines span ±20 %" in html
    assert re.findall(r'<i style="left:([\d.]+)%;width:([\d.]+)%">', html) == [("0.0", "100.0"), ("37.5", "37.5")]
    # shares of the variance: 9 and 16 of 25
    assert re.findall(r'class="(grid|boundary)" style="width:([\d.]+)%"', html)[:2] == [("grid", "36.0"), ("boundary", "64.0")]


def test_several_scans_make_one_report_with_a_comparison(content):
    """Findings of all stand first, then the comparison, then each scan; ids are unique, references are numbered once."""
    other = replace(content, title="MR", findings=())
    html = report_html([replace(content, title="CT"), other], title="Patient scans")
    page = _Reader(html)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    places = [
        html.index(text) for text in ("must not be reported", "The same structure in each scan", 'class="chapter">CT', 'class="chapter">MR')
    ]
    assert places == sorted(places)
    assert html.count("10.1109/42.668699</a>") == 1
    targets = {attrs["href"] for _, attrs in page.elements if attrs.get("href", "").startswith("#")}
    assert {target.removeprefix("#") for target in targets} <= set(ids)


def test_a_number_that_is_not_in_the_data_stops_the_report(content):
    """The text is checked against the document on disk: one changed figure there, and no report is made."""
    document = content.table.to_dict()
    assert report_html(replace(content, document=document))
    document["segments"][0]["volume_interval_ml"] = [4200.0, 4300.0]
    assert report_html(replace(content, document=document))
    other = replace(
        content, document=document, provenance=replace(content.provenance, steps=(StepRecord("threshold", "segment", {"lower": 4711.25}),))
    )
    assert "4711.25" in report_html(other)
    broken = methods_of(content.provenance, document)
    changed = replace(broken, results=tuple(replace(one, text=one.text.replace("4,242", "4,243")) for one in broken.results))
    with pytest.raises(ReportNumberError, match="4,243"):
        changed.markdown()


def test_methods_and_references(content):
    """The methods text names version, steps, parameters and weights; each source is listed once, DOIs as links."""
    text = methods_text(content.provenance)
    for part in ("medseg 0.1.0", "threshold (lower -500", "abdomen", "cdcdcdcdcdcd"):
        assert part in text
    assert "/home" not in text
    found = references(content.provenance)
    assert [one.address for one in found] == ["https://doi.org/10.1109/42.668699", "", "https://doi.org/10.1038/s41586-020-2649-2"]
    twice = replace(content.provenance, steps=content.provenance.steps * 2)
    assert references(twice) == found
