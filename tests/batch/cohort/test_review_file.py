"""Decisions: none is lost, none is applied to another result, and a file that is none is refused in words."""

from __future__ import annotations

import itertools
import json
import threading

import pytest

from medseg.batch.cohort.review_file import (
    Decision,
    mark_of,
    merge_review,
    parse_review,
    read_review,
    standing_of,
    update_review,
    write_review,
)
from medseg.batch.records.layout import Layout
from medseg.core.errors import UnreadableFileError

KEY, OTHER = "a" * 64, "b" * 64
FIRST, SECOND = "1" * 64, "2" * 64  # SHA-256 of two corrections


def decision(what, time="2026-05-01T10:00:00Z", mark=None, reviewer="A. Reader", comment=""):
    return Decision(what, reviewer, time, comment, mark_of(KEY) if mark is None else mark)


def name(n):
    return f"{n:016x}"


def test_written_and_read_back(tmp_path):
    given = {name(2): decision("accept", comment='Ünïcode\n"quoted" <script>'), name(1): decision("fix", "2026-05-01T10:00:00.123+02:00")}
    write_review(tmp_path / "review.json", given)
    assert read_review(tmp_path / "review.json") == given
    assert list(read_review(tmp_path / "review.json")) == [name(1), name(2)]
    assert read_review(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    ("what", "mark", "correction", "expected"),
    [
        ("accept", mark_of(KEY), "", "accepted"),
        ("reject", mark_of(KEY), "", "rejected"),
        ("fix", mark_of(KEY), "", "to_fix"),
        ("undecided", mark_of(KEY), "", "unreviewed"),
        ("accept", mark_of(OTHER), "", "void"),
        ("reject", "", "", "void"),
        ("accept", mark_of(KEY), FIRST, "accepted"),  # the segmentation was accepted: a correction nobody asked for is not used
        ("fix", mark_of(KEY), FIRST, "corrected"),
        ("accept", mark_of(KEY, FIRST), FIRST, "corrected"),
        ("reject", mark_of(KEY, FIRST), FIRST, "rejected"),
        ("fix", mark_of(KEY, FIRST), FIRST, "to_fix"),  # sent back once more
        ("fix", mark_of(KEY, FIRST), SECOND, "corrected"),  # and corrected again
        ("reject", mark_of(KEY, FIRST), SECOND, "corrected"),
        ("accept", mark_of(KEY, FIRST), "", "to_fix"),  # the correction that was accepted is gone
        ("accept", mark_of(OTHER, FIRST), FIRST, "void"),
    ],
)
def test_where_a_case_stands(what, mark, correction, expected):
    assert standing_of(decision(what, mark=mark), KEY, correction) == expected


def test_of_two_decisions_the_later_counts_in_every_order():
    at = ("2026-05-01T10:00:00Z", "2026-05-01T12:30:00+02:00", "2026-05-01T10:30:00.000Z")  # the last two are the same moment
    reviews = [{name(1): decision(what, time)} for what, time in zip(("accept", "reject", "fix"), at, strict=True)]
    merged = {
        json.dumps({key: one.to_dict() for key, one in merge_review(merge_review(a, b), c).items()})
        for a, b, c in itertools.permutations(reviews)
    }
    assert len(merged) == 1
    assert merge_review(reviews[0], reviews[1])[name(1)].decision == "reject"


def test_two_reviewers_at_once_lose_nothing(tmp_path):
    layout = Layout(tmp_path)
    failures = []

    def review(first):
        try:
            for n in range(first, 40, 4):
                update_review(layout, {name(n): decision("accept", reviewer=f"reader {first}")})
        except Exception as err:  # noqa: BLE001 - whatever a thread raises is told by the test
            failures.append(err)

    threads = [threading.Thread(target=review, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(read_review(layout.review)) == [name(n) for n in range(40)]


def _document(**changes):
    entry = {**decision("accept").to_dict(), **changes}
    return json.dumps({"schema": "medseg.review/1", "decisions": {name(1): entry}}).encode()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "no file of decisions"),
        (b'{"schema": "medseg.review/2", "decisions": {}}', "no file of decisions"),
        (b'{"schema": "medseg.review/1", "decisions": {"../../x": {}}}', "decision 1: a case id"),
        (b'{"schema": "medseg.review/1", "decisions": {"0000000000000001": 3}}', "case 0000000000000001"),
        (_document(decision="delete"), "accept, reject, fix, undecided"),
        (_document(time="yesterday"), "ISO 8601"),
        (_document(time="2026-05-01T10:00:00"), "time zone"),
        (_document(comment="x" * 5000), "at most 4,000"),
        (_document(reviewer=None), "reviewer should be a text"),
        (_document(result="../x"), "SHA-256"),
    ],
)
def test_what_is_no_review_is_refused(tmp_path, data, match):
    with pytest.raises(UnreadableFileError, match=match):
        parse_review(data)
    path = tmp_path / "review.json"
    path.write_bytes(data)
    with pytest.raises(UnreadableFileError, match=match):
        update_review(Layout(tmp_path), {name(2): decision("accept")})
    assert path.read_bytes() == data, "a file that cannot be read is never overwritten"
