"""Why cases failed, in full, for the end of a batch: from its table, or from its log where no table is written."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.batch.batch import BatchDone
    from medseg.batch.records.layout import Layout
    from medseg.batch.run.run_options import RunOptions

_MOST = 12
_MOST_OF_A_CODE = 3  # of a hundred that fail alike three are enough
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error)


@dataclass(frozen=True)
class Failure:
    """A case that failed, as a word and a sentence."""

    case_id: str
    code: str
    message: str


@dataclass
class _Few:
    """The first failures of every code, however many come, and how many there were of each."""

    chosen: list[Failure] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def is_full(self) -> bool:
        return len(self.chosen) == _MOST

    def add(self, failure: Failure) -> None:
        self.codes[failure.code] += 1
        if self.codes[failure.code] <= _MOST_OF_A_CODE and not self.is_full:
            self.chosen.append(failure)


def failures_of(layout: Layout, done: BatchDone, options: RunOptions | None = None) -> list[Failure]:
    """Return the failures that are said in full: a few of every code, those of earlier runs among them where the table is written.

    Without a table they are those of this run, from its log; none where that cannot be told from the logs of others.
    """
    if not done.summary.failed and not done.summary.failed_before:
        return []
    few = _Few()
    with suppress(*_UNREADABLE):  # the end of a run does not fail for what is only told
        for failure in _found(layout, done, options):
            few.add(failure)
            if few.is_full:
                break
    return few.chosen


def _found(layout: Layout, done: BatchDone, options: RunOptions | None) -> Iterator[Failure]:
    if done.cohort is not None:
        yield from _of_table(layout.cohort_wide)
    elif (log := _log_of(layout, options)) is not None:
        yield from _of_log(log, done)


def _of_table(path: Path) -> Iterator[Failure]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            if row.get("case_status") == "failed":
                yield Failure(row["case_id"], row.get("case_code") or "", row.get("case_message") or "")


def _log_of(layout: Layout, options: RunOptions | None) -> Path | None:
    """The log that this run wrote; of a shard the one that was written last."""
    if options is None or not options.is_shared:
        return layout.events if layout.events.is_file() else None
    if options.shard is None:
        return None
    logs = layout.folder.glob("events-{}of{}-*.jsonl".format(*options.shard))
    return max(logs, key=lambda path: path.stat().st_mtime_ns, default=None)


def _of_log(path: Path, done: BatchDone) -> Iterator[Failure]:
    """Yield a few failures of every code of the last run in a log, if it is the one that is told of."""
    few = _Few()
    end: Mapping[str, Any] = {}
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            if '"event":"run_started"' in line:
                few = _Few()
            elif '"status":"failed"' in line and '"event":"case_finished"' in line:
                event = json.loads(line)
                few.add(Failure(str(event["case_id"]), str(event.get("code") or ""), str(event.get("message") or "")))
            elif '"event":"run_finished"' in line:
                end = json.loads(line)
    summary = done.summary
    if all(end.get(name) == getattr(summary, name) for name in ("done", "failed", "skipped", "failed_before", "stopped")):
        yield from few.chosen
