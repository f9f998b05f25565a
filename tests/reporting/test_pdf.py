from __future__ import annotations

import base64
import sys

import pytest

from medseg.core.errors import MissingDependencyError
from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow, Status
from medseg.reporting.canvas import Canvas
from medseg.reporting.html import Picture, ReportContent, report_html
from medseg.reporting.pdf import report_pdf


@pytest.fixture
def html(grids, make_scene):
    volume, label_map = make_scene(grids["LPS"])
    liver = SegmentRow(1, "liver", Status.MEASURED, "", {"volume": Measurement("liver", "volume", 4242.42, "ml", (4200.0, 4300.0))}, 1234)
    picture = Picture("three_planes", "Three planes", Canvas(400, 300).png())
    return report_html(ReportContent("Torso", volume, label_map, MeasurementTable((liver,)), pictures=(picture,)))


def test_the_pdf_holds_text_picture_and_pages(html, capfd):
    """Read back with another library: the words, the picture, A4, and nothing said on the terminal."""
    pdfium = pytest.importorskip("pypdfium2")
    document = pdfium.PdfDocument(report_pdf(html))
    text = " ".join(page.get_textpage().get_text_bounded() for page in document)
    for words in ("Torso", "4,242", "4,200", "Research software, not a medical device", "Three planes", f"1 / {len(document)}"):
        assert words in text, words
    assert document[0].get_size() == pytest.approx((595.3, 841.9), abs=1)
    kinds = {obj.type for page in document for obj in page.get_objects()}
    assert pdfium.raw.FPDF_PAGEOBJ_IMAGE in kinds
    assert capfd.readouterr() == ("", "")


def test_nothing_is_fetched_from_elsewhere(html, tmp_path, capfd):
    """An address in the page is not followed, be it a file or the web."""
    pdfium = pytest.importorskip("pypdfium2")
    secret = tmp_path / "secret.png"
    secret.write_bytes(Canvas(500, 500).png())

    def pictures(page):
        document = pdfium.PdfDocument(report_pdf(page))
        return sum(obj.type == pdfium.raw.FPDF_PAGEOBJ_IMAGE for page in document for obj in page.get_objects())

    linked = html.replace("</main>", f'<img src="{secret.as_uri()}" width="500" height="500"></main>')
    inline = base64.b64encode(secret.read_bytes()).decode("ascii")
    assert pictures(linked) == pictures(html)
    assert pictures(html.replace("</main>", f'<img src="data:image/png;base64,{inline}"></main>')) == pictures(html) + 1
    assert "Traceback" not in capfd.readouterr().err


def test_without_plutoprint_the_extra_is_named(html, monkeypatch):
    monkeypatch.setitem(sys.modules, "plutoprint", None)
    with pytest.raises(MissingDependencyError, match=r"medseg\[report\]"):
        report_pdf(html)
