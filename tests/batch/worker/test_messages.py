"""The lines between a parent and its workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.batch.records.case import Case
from medseg.batch.records.plan import Plan
from medseg.batch.worker import messages
from medseg.batch.worker.messages import MessageError, Run, Start, parse_event, parse_line, to_line
from medseg.io.options import ReadOptions
from medseg.pipeline import builtin_pipelines

PLAN = Plan(builtin_pipelines()["ct-phantom"], "0.1", ("nrrd",), ReadOptions(spacing_mm=(1.0, 2.0, 3.0)), "report", {"m": "1" * 64})


def test_a_start_comes_back_as_it_was() -> None:
    """Every field, through a line, with and without the ones that may be missing."""
    for start in (
        Start(Path("/a b/\udce9"), Path("/out"), PLAN, "cuda:1", 3.5, (Path("/m"),), "token"),
        Start(Path("/a"), Path("/out"), PLAN),
    ):
        back = Start.from_dict(parse_line(to_line(start.to_dict())))
        assert back == start
        assert back.plan.key == PLAN.key


def test_a_case_comes_back_with_any_name_of_a_file() -> None:
    """Bytes that are no UTF-8, line breaks and quotes stay within one ASCII line."""
    case = Case("0" * 16, "DICOM", ("a\nb", 'c"d', "\udcff\udce9", "é/Ω", " "), "CT", "1.2.3")
    line = to_line(Run(case, 2).to_dict())
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert Run.from_dict(parse_line(line)) == Run(case, 2)


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"[" * 100_000, b'{"event": "done"}', b'{"do": "run"}', b"Traceback (most"]
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    """Garbage a library printed must not be taken for an event."""
    with pytest.raises(MessageError):
        parse_event(line)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"do": "run"},
        {"do": "run", "case": {}, "attempt": 1},
        {"do": "run", "case": {"case_id": "x", "kind": "NIfTI", "files": ["a"]}, "attempt": 1},
        {"do": "run", "case": {"case_id": "0" * 16, "kind": "NIfTI", "files": []}, "attempt": 1},
        {"do": "run", "case": {"case_id": "0" * 16, "kind": "NIfTI", "files": ["a"]}, "attempt": "x"},
        {"do": "stop"},
    ],
)
def test_what_is_no_case_is_refused(document: dict) -> None:
    """Whatever is missing or wrong."""
    with pytest.raises(MessageError):
        Run.from_dict(document)
    with pytest.raises(MessageError):
        Start.from_dict(document)


def test_every_event_has_the_fields_of_the_protocol() -> None:
    """As written down between parent and worker."""
    events = [
        (messages.ready(7, "1"), {"pid", "version"}),
        (messages.stage("0" * 16, "read"), {"case_id", "stage"}),
        (messages.finished("0" * 16, "done", "", {"read": 0.5}, 9), {"case_id", "status", "code", "seconds", "rss_bytes"}),
        (messages.alive(1, 2.0, None), {"rss_bytes", "cpu_percent", "device"}),
        (messages.stopping("full"), {"message", "exit_code"}),
        (messages.fatal("no model"), {"message", "exit_code"}),
    ]
    assert [event["event"] for event, _ in events] == list(messages.EVENTS)
    for event, names in events:
        assert set(event) == {"event", *names}
        assert parse_event(to_line(event)) == event
