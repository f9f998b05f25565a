"""The contact sheet of a folder: pictures in the page or beside it, and a page that stays small whatever the cohort."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.batch.cohort import qc
from medseg.batch.cohort.qc import QcCase, QcVolume, write_qc
from medseg.batch.records.layout import Layout
from medseg.core.errors import OutputError
from medseg.reporting.palette_png import indexed_png
from medseg.reporting.png_text import COLOURS

PNG = indexed_png(np.zeros((4, 6, 3), np.float32), 8, np.zeros((0, 3), np.float32), {COLOURS: json.dumps({"liver": "#ff8800"})})


def _layout(folder: Path, count: int) -> Layout:
    layout = Layout(folder)
    for n in range(count):
        case = layout.case(f"{n:016x}")
        case.mkdir(parents=True)
        (case / "thumbnail.png").write_bytes(PNG)
    return layout


def _cases(layout: Layout, count: int) -> Iterator[QcCase]:
    for n in range(count):
        case_id = f"{n:016x}"
        yield QcCase(
            case_id,
            "done",
            suspicion=n % 100,
            thumbnail=f"cases/{case_id[:2]}/{case_id}/thumbnail.png",
            volumes=[QcVolume("liver", 3.5, 3.1, 3.9, "measured")],
        )


def _entries(layout: Layout) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', layout.qc.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])["cases"]


def test_few_pictures_lie_in_the_page_and_their_colours_name_the_segments(tmp_path: Path) -> None:
    layout = _layout(tmp_path, 3)
    assert write_qc(layout, _cases(layout, 3)) == layout.qc
    for entry in _entries(layout):
        assert entry["picture"].startswith("data:image/png;base64,")
        assert entry["volumes"][0][5] == "#ff8800"


def test_many_pictures_are_linked_relative_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qc, "MOST_EMBEDDED", 2)
    layout = _layout(tmp_path, 3)
    write_qc(layout, _cases(layout, 3))
    for entry in _entries(layout):
        assert (tmp_path / entry["picture"]).read_bytes() == PNG
        assert entry["volumes"][0][5] == "#ff8800"
    assert str(tmp_path) not in layout.qc.read_text()


def test_a_picture_that_is_gone_or_none_is_no_failure(tmp_path: Path) -> None:
    layout = _layout(tmp_path, 3)
    (layout.case(f"{0:016x}") / "thumbnail.png").unlink()
    (layout.case(f"{1:016x}") / "thumbnail.png").write_bytes(b"no picture")
    write_qc(layout, _cases(layout, 3))
    entries = {entry["id"]: entry for entry in _entries(layout)}
    assert "picture" not in entries[f"{0:016x}"]
    assert entries[f"{1:016x}"]["volumes"][0][5] == ""


def test_of_too_many_cases_the_most_suspicious_are_shown_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qc, "MOST_CASES", 5)
    layout = _layout(tmp_path, 0)
    tmp_path.mkdir(exist_ok=True)
    write_qc(layout, _cases(layout, 1_234))
    assert [entry["score"] for entry in _entries(layout)] == [99] * 5
    assert "the 5 most suspicious of 1,234 cases" in layout.qc.read_text()


def test_memory_does_not_grow_with_the_cases_that_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qc, "MOST_CASES", 100)
    layout = Layout(tmp_path)
    peaks = []
    for count in (1_000, 10_000):
        tracemalloc.start()
        write_qc(layout, _cases(layout, count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000


def test_the_same_cases_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    layout = _layout(tmp_path, 4)
    cases = list(_cases(layout, 4))
    write_qc(layout, cases)
    first = layout.qc.read_bytes()
    write_qc(layout, reversed(cases))
    assert layout.qc.read_bytes() == first


def test_a_batch_without_cases_has_a_sheet_and_a_full_folder_its_sentence(tmp_path: Path) -> None:
    write_qc(Layout(tmp_path), [])
    assert _entries(Layout(tmp_path)) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"qc\.html"):
        write_qc(Layout(tmp_path / "file"), [])
