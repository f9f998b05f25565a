"""The log of a run: whole lines, in order, before anyone hears of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg.batch.records.events import EventLog
from medseg.core.errors import OutputError


def test_events_are_in_the_file_before_they_are_handed_on(tmp_path: Path) -> None:
    path, seen = tmp_path / "events.jsonl", []

    def observe(event: dict[str, Any]) -> None:
        seen.append((event["event"], path.read_text(encoding="ascii").count("\n")))

    log = EventLog(path, observe)
    log.write("case_started", case_id="0" * 16, name=chr(0xDCE9))
    log.write("worker_alive", rss_bytes=1)
    log.write("case_finished", case_id="0" * 16)
    log.close()
    log.close()
    assert seen == [("case_started", 1), ("worker_alive", 1), ("case_finished", 2)]
    first, second = (json.loads(line) for line in path.read_text(encoding="ascii").splitlines())
    assert list(first) == ["time", "event", "case_id", "name"]
    assert first["time"] <= second["time"]
    assert first["time"].endswith("+00:00")


def test_a_half_line_of_a_killed_run_stays_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"run_started"}\n{"event":"case_fin')
    log = EventLog(path, lambda event: None)
    log.write("run_started")
    log.close()
    lines = path.read_bytes().splitlines()
    assert lines[:2] == [b'{"event":"run_started"}', b'{"event":"case_fin']
    assert json.loads(lines[2])["event"] == "run_started"


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        EventLog(tmp_path, lambda event: None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said() -> None:
    log = EventLog(Path("/dev/full"), lambda event: None)
    with pytest.raises(OutputError, match="No space left"):
        log.write("run_started")
    log.close()
