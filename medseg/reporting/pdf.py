"""The report as PDF, printed from its HTML by PlutoPrint: no browser and no system library is needed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from medseg.core.errors import OutputError
from medseg.reporting.dependencies import load

_FONT_ADDRESS = "medseg:font/"
_FACES = (("DejaVuSans.ttf", "normal"), ("DejaVuSans-Bold.ttf", "bold"))


def report_pdf(html: str) -> bytes:
    """Print a report of `report_html` as PDF (A4).

    Nothing is fetched from anywhere: pictures lie in the page, and a font is brought along for machines without any. Raises
    MissingDependencyError without PlutoPrint (extra `report`), OutputError where the page cannot be printed.
    """
    plutoprint = load("plutoprint")
    book = plutoprint.Book(plutoprint.PAGE_SIZE_A4, media=plutoprint.MEDIA_TYPE_PRINT)
    book.custom_resource_fetcher = _fetcher(plutoprint)
    try:
        book.load_html(_with_font(html), base_url="medseg:report")  # links within the page need one
        out = io.BytesIO()
        book.write_to_pdf_stream(out)
    except plutoprint.Error as err:
        raise OutputError("the report could not be printed as PDF: open report.html in a browser and print it there") from err
    pdf = out.getvalue()
    if not pdf.startswith(b"%PDF"):
        raise OutputError("the report could not be printed as PDF: open report.html in a browser and print it there")
    return pdf


def _with_font(html: str) -> str:
    """The page with a font of last resort behind those the machine has."""
    faces = "".join(
        f'@font-face {{ font-family: "medseg"; font-weight: {weight}; src: url("{_FONT_ADDRESS}{name}"); }}\n' for name, weight in _FACES
    )
    last = html.replace(" sans-serif;", ' "medseg", sans-serif;').replace(" monospace;", ' "medseg", monospace;')
    return last.replace("<style>", f"<style>{faces}", 1)


def _fetcher(plutoprint: Any) -> Any:
    """A fetcher that knows the data of the page and our font, and refuses every other address."""
    fonts = Path(load("matplotlib").get_data_path()) / "fonts" / "ttf"

    class OnlyTheReport(plutoprint.ResourceFetcher):  # type: ignore[misc]
        """Serves what the report holds."""

        def fetch_url(self, url: str) -> Any:
            if url.startswith("data:"):
                return plutoprint.default_resource_fetcher.fetch_url(url)
            name = url.removeprefix(_FONT_ADDRESS)
            if url.startswith(_FONT_ADDRESS) and name in {face for face, _ in _FACES}:
                return plutoprint.ResourceData((fonts / name).read_bytes(), mime_type="font/ttf", text_encoding="")
            return plutoprint.ResourceData(b"", mime_type="text/plain", text_encoding="")  # a report loads nothing from elsewhere

    return OnlyTheReport()
