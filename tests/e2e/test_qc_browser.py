"""The contact sheet in a real browser without a window: buttons are pressed, files go out and come in, pages are served."""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_folder import write_pipeline, write_studies
from headless_browser import Browser, browser_path

from medseg.batch.cohort.qc import QcCase, QcVolume, write_qc
from medseg.batch.cohort.review_file import Decision, mark_of, parse_review, read_review, update_review
from medseg.batch.cohort.review_server import ReviewServer
from medseg.batch.records.layout import Layout


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = browser_path()
    if path is None:
        pytest.skip("no chromium: install one to test the contact sheet in a browser")
    browser = Browser(path)
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    chromium.resize(1280, 800)
    chromium.open("about:blank")
    chromium.requests.clear()
    chromium.complaints.clear()
    return chromium


NASTY = '<script>document.title="run"</script><img src=x onerror="document.title=1">&amp;</script>'
FIELD = "document.activeElement === document.querySelector"


def _id(n: int) -> str:
    return f"{n:016x}"


def _cases(count: int, **changes: Any) -> list[QcCase]:
    volumes = [QcVolume("liver", 1512.4, 1498.0, 1526.9, "measured"), QcVolume(NASTY, None, None, None, "absent")]
    return [
        QcCase(
            _id(n),
            "done",
            suspicion=99 - n % 100,
            reasons=[f"reason {n} {NASTY}"],
            thumbnail=f"cases/{_id(n)[:2]}/{_id(n)}/thumbnail.png",
            volumes=volumes,
            modality="CT",
            mark=mark_of(f"key {n}"),
            standing="unreviewed",
            **changes,
        )
        for n in range(count)
    ]


def _write(folder: Path, cases: list[QcCase]) -> Layout:
    layout = Layout(folder)
    for case in cases[:300]:
        if case.thumbnail:
            (folder / case.thumbnail).parent.mkdir(parents=True)
            (folder / case.thumbnail).write_bytes(_PICTURE)
    folder.mkdir(exist_ok=True)
    write_qc(layout, cases)
    return layout


_PICTURE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGOQkFOCIAYIBQANvAH5hC8xhwAAAABJRU5ErkJggg==")


def _open(browser: Browser, layout: Layout, reviewer: str = "A. Reader") -> None:
    browser.open(layout.qc.as_uri())
    browser.run("localStorage.clear(); document.getElementById('reviewer').value = ''")
    if reviewer:
        browser.click("#reviewer")
        browser.write(reviewer)
        browser.press("Enter")


def _progress(browser: Browser) -> str:
    return str(browser.run("document.getElementById('progress').textContent"))


def _case_classes(browser: Browser, case_id: str) -> list[str]:
    return str(browser.run(f"document.getElementById('case-{case_id}').className")).split()


def _downloaded(browser: Browser, folder: Path) -> dict[str, Decision]:
    folder.mkdir()
    browser.downloads_to(folder)
    browser.click("#save")
    browser.until(lambda: (folder / "review.json").exists() and (folder / "review.json").stat().st_size, "the download")
    return parse_review((folder / "review.json").read_bytes())


def test_buttons_and_keys_decide_and_the_file_holds_it(browser: Browser, tmp_path: Path) -> None:
    cases = [*_cases(5), QcCase(_id(9), "failed", "MISSING_SLICES", "slices are missing")]
    layout = _write(tmp_path / "out", cases)
    _open(browser, layout)
    assert _progress(browser) == "0 of 5 reviewed", "a failed case has nothing to review"
    browser.click(f"#case-{_id(1)} .reject")
    assert "rejected" in _case_classes(browser, _id(1))
    assert browser.run(f"document.querySelector('#case-{_id(1)} .reject').getAttribute('aria-pressed')") == "true"
    browser.click(f"#case-{_id(1)} .decide input")
    browser.write("leaks into the spleen")
    browser.press("Enter")
    browser.press("ArrowUp")
    browser.press("a")  # the first case; the second follows
    browser.press("ArrowDown")
    browser.press("f")  # the third; the fourth follows
    browser.press("c")
    browser.write("araf are letters here")
    browser.press("Escape")
    browser.press("a")
    browser.press("u")  # the last: nothing to take back
    assert _progress(browser) == "4 of 5 reviewed"
    decisions = _downloaded(browser, tmp_path / "downloads")
    assert {case_id: entry.decision for case_id, entry in decisions.items()} == {
        _id(0): "accept",
        _id(1): "reject",
        _id(2): "fix",
        _id(3): "accept",
        _id(4): "undecided",
    }
    assert decisions[_id(1)].comment == "leaks into the spleen"
    assert decisions[_id(3)].comment == "araf are letters here"
    assert {entry.reviewer for entry in decisions.values()} == {"A. Reader"}
    assert decisions[_id(2)].result == mark_of("key 2")
    assert browser.complaints == []


def test_a_file_that_is_loaded_shows_its_decisions_and_the_later_one_stands(browser: Browser, tmp_path: Path) -> None:
    layout = _write(tmp_path / "out", _cases(4))
    _open(browser, layout)
    browser.press("r")
    given = {
        _id(0): Decision("accept", "B. Early", "2020-01-01T00:00:00Z", result=mark_of("key 0")),
        _id(1): Decision("fix", "B. Early", "2020-01-01T00:00:00Z", NASTY, mark_of("key 1")),
        _id(2): Decision("accept", "B. Early", "2020-01-01T00:00:00Z", result=mark_of("another result")),
    }
    path = tmp_path / "review.json"
    path.write_text(json.dumps({"schema": "medseg.review/1", "decisions": {name: entry.to_dict() for name, entry in given.items()}}))
    browser.give_file("#file", path)
    browser.until(lambda: "taken" in browser.run("document.getElementById('said').textContent"), "the file")
    browser.click('[data-filter="all"]')
    assert "rejected" in _case_classes(browser, _id(0)), "this reviewer decided later"
    assert "to_fix" in _case_classes(browser, _id(1))
    assert "void" in _case_classes(browser, _id(2)), "made on another result: to be decided again"
    assert _progress(browser) == "2 of 4 reviewed"
    for content in (b"no JSON", b"{}", b'{"schema": "medseg.review/1", "decisions": {"0000000000000003": {"decision": "maybe"}}}'):
        path.write_bytes(content)
        browser.run("document.getElementById('said').textContent = ''")
        browser.give_file("#file", path)
        browser.until(lambda: browser.run("document.getElementById('said').textContent"), "an answer")
    assert _progress(browser) == "2 of 4 reviewed"
    assert browser.complaints == []


def test_a_decision_needs_a_name_and_is_there_after_a_reload(browser: Browser, tmp_path: Path) -> None:
    layout = _write(tmp_path / "out", _cases(3))
    _open(browser, layout, reviewer="")
    browser.press("a")
    assert _progress(browser) == "0 of 3 reviewed"
    assert browser.run(f"{FIELD}('#reviewer')"), "the place for the name is where one writes next"
    browser.write("C. Reader")
    browser.press("Enter")
    browser.press("a")
    browser.open(layout.qc.as_uri())
    assert _progress(browser) == "1 of 3 reviewed", "kept by the browser until it is downloaded"
    assert browser.run("document.getElementById('reviewer').value") == "C. Reader"


def test_nothing_of_a_scan_is_run_and_nothing_is_asked_of_a_network(browser: Browser, tmp_path: Path) -> None:
    cases = [
        *_cases(2, message=NASTY, code=NASTY, report="javascript:document.title=1"),
        QcCase(_id(7), "failed", NASTY, NASTY, modality=NASTY),
    ]
    layout = _write(tmp_path / "out", cases)
    _open(browser, layout)
    browser.click('[data-filter="all"]')
    assert browser.run("document.title") == "Contact sheet · medseg"
    assert browser.run("document.querySelectorAll('main script, main img:not(.strip img)').length") == 0
    assert browser.run(f"document.querySelector('#case-{_id(0)} .volumes tr:nth-child(2) th').textContent") == NASTY
    assert browser.run("document.querySelectorAll('a[href^=javascript]').length") == 0
    assert {address.split(":")[0] for address in browser.requests} <= {"file", "data", "about"}
    assert browser.complaints == [], "the page keeps its own content security policy"


def test_ten_thousand_cases_stay_usable_and_pictures_come_from_their_folders(browser: Browser, tmp_path: Path) -> None:
    layout = _write(tmp_path / "out", _cases(10_000))
    _open(browser, layout)
    assert browser.run("document.querySelectorAll('article').length") == 200, "no more is laid out than is looked at"
    assert browser.run("document.getElementById('page').textContent") == "page 1 of 50"
    assert browser.run("document.querySelector('article img').loading") == "lazy"
    browser.until(lambda: browser.run("document.querySelector('article img').naturalWidth") == 2, "a picture from its folder")
    browser.run("document.querySelectorAll('article')[150].dataset.seen = 'yes'")
    for _ in range(10):
        browser.press("a")
    assert browser.run("document.querySelectorAll('article[data-seen]').length") == 1, "a decision does not lay the page out anew"
    assert _progress(browser) == "10 of 10,000 reviewed"
    browser.click("#after")
    browser.until(lambda: browser.run("document.getElementById('page').textContent").startswith("page 2"), "the next page")
    browser.press("/")
    browser.write(_id(7777))
    browser.until(lambda: browser.run("document.querySelectorAll('article').length") == 1, "the case that was looked for")
    assert browser.complaints == []


def test_pages_turn_with_the_arrow_keys(browser: Browser, tmp_path: Path) -> None:
    layout = _write(tmp_path / "out", _cases(201))
    _open(browser, layout)
    browser.run("document.querySelector('article:last-of-type .strip').focus()")
    browser.press("ArrowDown")
    assert browser.run("document.querySelectorAll('article').length") == 1
    browser.press("ArrowUp")
    assert browser.run("document.querySelectorAll('article').length") == 200
    assert browser.run("document.querySelector('article:last-of-type').classList.contains('current')")


def test_sorting_by_a_volume_puts_the_largest_first_and_the_absent_last(browser: Browser, tmp_path: Path) -> None:
    amounts = (3.0, None, 250.0, 12.0)
    cases = [
        QcCase(
            _id(n),
            "done",
            volumes=[QcVolume("spleen", ml, None, None, "measured" if ml else "absent")],
            mark=mark_of("k"),
            standing="unreviewed",
        )
        for n, ml in enumerate(amounts)
    ]
    _open(browser, _write(tmp_path / "out", cases))
    browser.run("(() => { const s = document.getElementById('sort'); s.value = 'volume 0'; s.dispatchEvent(new Event('change')); })()")
    assert browser.run("[...document.querySelectorAll('article code')].map(e => e.textContent)") == [_id(n) for n in (2, 3, 0, 1)]


@pytest.mark.parametrize("width", [1280, 800, 360])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_its_window(browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    cases = [*_cases(3), QcCase(_id(8), "failed", "A_VERY_LONG_CODE_" * 6, "x" * 300)]
    browser.resize(width, 800, dark)
    _open(browser, _write(tmp_path / "out", cases))
    browser.click('[data-filter="all"]')
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("getComputedStyle(document.body).backgroundColor") == ("rgb(18, 22, 29)" if dark else "rgb(255, 255, 255)")
    usable = "button, input:not([hidden]), select, img"
    named = "e.textContent.trim() || e.alt || e.labels?.length || e.ariaLabel"
    unnamed = f"[...document.querySelectorAll('{usable}')].filter(e => !({named})).map(e => e.outerHTML)"
    assert browser.run(unnamed) == [], "everything that can be used or seen has a name for who does not see it"


@contextlib.contextmanager
def _served(layout: Layout, port: int = 0) -> Iterator[ReviewServer]:
    with ReviewServer(layout, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_served_decisions_are_saved_at_once_and_those_of_others_come_in(browser: Browser, tmp_path: Path) -> None:
    layout = _write(tmp_path / "out", _cases(4))
    with _served(layout) as server:
        browser.open(server.address)
        browser.click("#reviewer")
        browser.write("A. Reader")
        browser.press("Enter")
        browser.press("a")
        browser.until(lambda: read_review(layout.review).get(_id(0)), "the decision in the file")
        browser.until(
            lambda: browser.run("document.getElementById('save').textContent") == "Saved in review.json", "the word that it is saved"
        )
        other = Decision("reject", "B. Reader", "2100-01-01T00:00:00Z", result=mark_of("key 2"))
        update_review(layout, {_id(2): other})
        browser.press("f")  # the answer brings what the other reviewer decided
        browser.until(lambda: "rejected" in _case_classes(browser, _id(2)), "the decision of the other reviewer")
        browser.until(lambda: _id(1) in read_review(layout.review), "the second decision in the file")
        assert set(read_review(layout.review)) == {_id(0), _id(1), _id(2)}
        browser.until(lambda: browser.run("document.querySelector('article img').naturalWidth") == 2, "the picture")
        assert all(address.startswith((server.address, "data:", "about:")) for address in browser.requests)
        assert browser.complaints == []


def test_a_program_that_ended_loses_nothing_and_is_told_later(browser: Browser, tmp_path: Path) -> None:
    layout = _write(tmp_path / "out", _cases(3))
    with _served(layout) as server:
        port, token = server.server_address[1], server.token
        browser.open(server.address)
        browser.click("#reviewer")
        browser.write("A. Reader")
        browser.press("Enter")
        server.token = "ended"  # a connection that the browser opened beforehand is still answered here: a program takes it along
    browser.press("r")
    browser.until(lambda: "Not saved yet" in browser.run("document.getElementById('said').textContent"), "the word that it is not saved")
    with ReviewServer(layout, port) as again:
        again.token = token
        thread = threading.Thread(target=again.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            browser.until(lambda: read_review(layout.review).get(_id(0)), "the decision after all")
        finally:
            again.shutdown()
            thread.join()
    assert read_review(layout.review)[_id(0)].decision == "reject"


def test_decisions_made_in_the_browser_are_counted_by_the_next_report(browser: Browser, tmp_path: Path, medseg: Any) -> None:
    """The whole way: studies, batch, a reviewer with the file, a reviewer with the program, the table."""
    studies, layout = write_studies(tmp_path / "studies"), Layout(tmp_path / "out")
    pipeline = write_pipeline(tmp_path / "boxes.yaml")
    assert medseg("batch", studies, "-o", layout.folder, "--pipeline", pipeline, "--workers", "1", "--quiet").code == 1, (
        "one scan is broken"
    )
    _open(browser, layout)
    browser.until(lambda: browser.run("document.querySelector('.strip img').naturalWidth") == 646, "a picture of the batch")
    assert _progress(browser) == "0 of 4 reviewed"
    first, second, third, fourth = browser.run("[...document.querySelectorAll('article code')].map(e => e.textContent)")
    browser.press("a")
    browser.press("r")
    decisions = _downloaded(browser, tmp_path / "downloads")
    assert {case_id: entry.decision for case_id, entry in decisions.items()} == {first: "accept", second: "reject"}
    layout.review.write_bytes((tmp_path / "downloads" / "review.json").read_bytes())
    with _served(layout) as server:
        browser.open(server.address)
        browser.until(lambda: _progress(browser) == "2 of 4 reviewed", "what was decided before")
        browser.click("#reviewer")
        browser.write("B. Reader")
        browser.press("Enter")
        browser.click(f"#case-{third} .fix")
        browser.until(lambda: third in read_review(layout.review), "the decision in the file")
    before = layout.cohort.read_bytes()
    assert medseg("report", layout.folder, "--quiet").code == 0
    with layout.cohort.open(encoding="utf-8", newline="") as file:
        rows = {row["case_id"]: row for row in csv.DictReader(file)}
    assert {case_id: rows[case_id]["review"] for case_id in (first, second, third, fourth)} == {
        first: "accepted",
        second: "rejected",
        third: "to_fix",
        fourth: "unreviewed",
    }
    counts = json.loads(layout.summary.read_text())["counts"]
    assert counts["analysed"] == 2
    assert layout.cohort.read_bytes() != before
    _open(browser, layout)
    assert _progress(browser) == "3 of 4 reviewed", "the new sheet holds the decisions"
    browser.click('[data-filter="rejected"]')
    assert browser.run("document.querySelector('article').id") == f"case-{second}"
