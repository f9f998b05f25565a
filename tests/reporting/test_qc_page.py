"""The contact sheet as a document: nothing of a scan is markup, the same cases give the same bytes, colours can be read."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest

from medseg.reporting.qc_page import FILE_MODE, QcCase, QcPicture, QcSheet, QcVolume, qc_page

NASTY = "</script><script>alert(1)</script><!--<script>&lt; \u2028 ' \""


class _Page(HTMLParser):
    """The text of each script and style, and every element."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.elements: list[str] = []
        self.texts: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        if tag in ("script", "style", "meta"):
            self.texts.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            tag, attributes, text = self.texts[-1]
            self.texts[-1] = (tag, attributes, text + data)


def _data(page: str) -> dict[str, Any]:
    return json.loads(next(text for tag, attributes, text in _Page(page).texts if attributes.get("type") == "application/json"))


def _case(name: str = "liver", **changes: Any) -> QcCase:
    volumes = [QcVolume(name, 1512.42, 1498.0, 1526.9, "cut_by_field_of_view"), QcVolume("spleen", None, None, None, "absent")]
    return QcCase("0" * 16, "done", suspicion=41.6, reasons=[name], volumes=volumes, mark="ab", standing="unreviewed", **changes)


def test_what_comes_from_a_scan_or_a_reviewer_is_never_markup() -> None:
    decision = {"decision": "fix", "reviewer": NASTY, "time": "2026-05-01T10:00:00Z", "comment": NASTY, "result": ""}
    plain = qc_page([_case()], {}, QcSheet("Contact sheet"))
    nasty = qc_page([_case(NASTY, message=NASTY, code=NASTY, modality=NASTY, decision=decision)], {}, QcSheet(NASTY, [NASTY]))
    assert Counter(_Page(nasty).elements) - Counter(_Page(plain).elements) == Counter(p=1), "the note, and nothing else"
    assert "alert(1)</script>" not in nasty
    assert _data(nasty)["cases"][0]["volumes"][0][0] == NASTY, "it is there all the same, as text"
    assert _data(nasty)["cases"][0]["decision"]["comment"] == NASTY


def test_only_the_page_s_own_script_and_style_may_run() -> None:
    page = qc_page([_case()], {}, QcSheet("Contact sheet"))
    texts = _Page(page).texts
    policy = next(str(attributes["content"]) for tag, attributes, _ in texts if attributes.get("http-equiv") == "Content-Security-Policy")
    for kind in ("script", "style"):
        text = next(text for tag, attributes, text in texts if tag == kind and "type" not in attributes)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://", page), "nothing is named that lies elsewhere"
    assert not re.search(r"\son\w+=|style=", page.split("<script")[0]), "no inline handler or style: the policy forbids them"
    assert page.count(FILE_MODE) == 1


def test_volumes_have_the_digits_that_their_interval_leaves_and_absent_ones_no_number() -> None:
    picture = QcPicture("cases/00/thumbnail.png", {"liver": "#aa0000"})
    entry = _data(qc_page([_case()], {"0" * 16: picture}, QcSheet("", lazy=True)))["cases"][0]
    assert entry["volumes"] == [
        ["liver", "1,512", "1,498–1,527", "cut by field of view", 1512.42, "#aa0000"],
        ["spleen", "", "", "not found", None, ""],
    ]
    assert entry["score"] == 42
    assert entry["picture"] == "cases/00/thumbnail.png"


def test_lesions_come_before_the_organs_that_would_hide_them() -> None:
    volumes = [QcVolume(label, 1.0, None, None, "measured") for label in ("liver", "spleen", "", "liver_tumour", "Lesion 2")]
    entry = _data(qc_page([QcCase("0" * 16, "done", volumes=volumes)], {}, QcSheet("")))["cases"][0]
    assert [volume[0] for volume in entry["volumes"]] == ["liver_tumour", "Lesion 2", "liver", "spleen", ""]


def test_the_order_of_the_cases_does_not_change_a_byte() -> None:
    cases = [QcCase(f"{n:016x}", status, suspicion=n % 3) for n, status in enumerate(("done", "failed", "done", "not_run", "done"))]
    pages = {qc_page(order, {}, QcSheet("Contact sheet")) for order in itertools.permutations(cases)}
    assert len(pages) == 1
    assert [entry["id"][-1] for entry in _data(pages.pop())["cases"]] == ["2", "4", "0", "1", "3"], "suspicious first, failed after done"


def test_the_sheet_needs_no_package_beyond_the_standard_library() -> None:
    names = ("jinja2", "matplotlib", "numba", "torch", "scipy")
    code = f"import sys, medseg.reporting.qc_page, medseg.batch.cohort.qc; print([n for n in {names} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_everyone_can_read(theme: int) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    style = (resources.files("medseg.reporting") / "templates" / "qc.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", style.split(":root {")[theme + 1].split("}")[0]))
    pairs = [(ink, paper) for ink in ("ink", "soft", "accent") for paper in ("paper", "raised")]
    pairs += [(name, f"{name}-paper") for name in ("good", "caution", "bad", "accent")] + [
        (name, "paper") for name in ("good", "caution", "bad")
    ]
    pairs += [("on", "accent"), ("ink", "caution-paper"), ("ink", "bad-paper")]
    for ink, paper in pairs:
        light, dark = sorted((_luminance(colours[ink]), _luminance(colours[paper])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{ink} on {paper}"
