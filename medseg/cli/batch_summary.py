"""The end of a batch: what became of the cases, counted by reason, and where the files lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cli.terminal import Terminal

if TYPE_CHECKING:
    from medseg.batch.batch import BatchDone, Request
    from medseg.batch.run.run_options import RunOptions

SCHEMA = "medseg.batch_run/1"
_FILES = {
    "cohort": "one row a case and segment",
    "cohort_wide": "one row a case",
    "qc": "contact sheet: look at every case, accept or reject",
    "flow": "flow diagram: found, left out, failed, analysed",
    "lock": "hashes of inputs, models, parameters, libraries",
    "events": "log of the run",
    "private": "which case is which file: not to be shared",
}
_SUBMITTED = "SUBMITTED"  # to a cluster, which works by itself from here on
_STOPPED = {
    "SIGINT": "stopped by you: what is finished is kept, the same command goes on",
    "SIGTERM": "stopped by a signal: what is finished is kept, the same command goes on",
    "OUTPUT": "stopped: the output cannot be written",
    "MODEL": "stopped: no case can be run",
}


def show_summary(request: Request, done: BatchDone, terminal: Terminal, *, options: RunOptions | None = None) -> None:
    """Print the counts, why cases failed, and the files for people; `options` are those of the run."""
    from rich.markup import escape
    from rich.table import Table

    summary = done.summary
    if summary.stopped == _SUBMITTED:
        terminal.show(escape(summary.message))
        return
    table = Table("cases", "", header_style="bold")
    is_shard = options is not None and options.shard is not None
    for name, count in counts_of(done, _share_of(request, options), is_shard=is_shard).items():
        table.add_row(escape(name), str(count))
    terminal.show(table)
    _show_failures(request, done, options, terminal)
    if summary.stopped:
        reason = f" ({escape(summary.message)})" if summary.message and not summary.stopped.startswith("SIG") else ""
        terminal.show(f"[bold red]{_STOPPED.get(summary.stopped, 'stopped')}[/]{reason}")
    if done.cohort is None:
        terminal.show(f"the cohort table is not written yet: medseg report {escape(str(request.output))} makes it from what is there")
    for name, path in files_of(request, done).items():
        terminal.show(f"{escape(str(path))}  [dim]{_FILES[name]}[/]")


def _show_failures(request: Request, done: BatchDone, options: RunOptions | None, terminal: Terminal) -> None:
    """Print the sentences of some failures in full, wrapped, and say where all of them stand."""
    from rich.padding import Padding
    from rich.text import Text

    from medseg.cli.batch_failures import failures_of

    count = done.summary.failed + done.summary.failed_before
    if not count:
        return
    said = failures_of(request.layout, done, options)
    for failure in said:
        terminal.show(Text(f"{failure.case_id}  {failure.code}", style="bold"))
        terminal.show(Padding(Text(failure.message), (0, 0, 0, 4), expand=False))
    more = f"{count - len(said):,} more failed; " if said and count > len(said) else ""
    later = "" if done.cohort is not None else " when it is written"
    terminal.show(f"{more}why each case failed: column case_message of {request.layout.cohort.name}{later}")


def _share_of(request: Request, options: RunOptions | None) -> tuple[int, int] | None:
    """How many cases are those of this shard, and how many there are; None for a run of all."""
    if options is None or options.shard is None:
        return None
    from medseg.batch.cases.case_files import count_cases, read_cases
    from medseg.batch.run.runner import of_shard
    from medseg.core.errors import UnreadableFileError

    try:
        return sum(1 for _ in of_shard(read_cases(request.layout), options.shard)), count_cases(request.layout)
    except UnreadableFileError:  # gone since: what was done is told all the same
        return None


def counts_of(done: BatchDone, share: tuple[int, int] | None = None, *, is_shard: bool = False) -> dict[str, int]:
    """Return what became of what, in words with counts; they add up to what was found.

    `share` is how many cases belong to the shard that ran, and how many there are; None where `is_shard` and that is not known.
    """
    summary = done.summary
    rows = {"done": summary.done, "done before": summary.skipped}
    rows |= {f"failed: {code}": count for code, count in sorted(summary.by_code.items())}
    ended = summary.done + summary.skipped + summary.failed + summary.failed_before
    if share is not None:
        rows |= {"not run": share[0] - ended, "of other shards": share[1] - share[0]}
    elif done.found is not None:
        # a run that came to its end and counts no cohort is a part of one
        is_part = done.cohort is None and not summary.stopped
        others = "not of this shard" if is_shard else "run by others"
        rows[others if is_part else "not run"] = done.found.get("cases", 0) - ended
    rows |= {f"left out: {reason}": count for reason, count in ((done.found or {}).get("left_out") or {}).items()}
    return {name: count for name, count in rows.items() if count or name == "done"}


def files_of(request: Request, done: BatchDone) -> dict[str, Path]:
    """Return the files that are there now."""
    layout = request.layout
    later = () if done.cohort is not None else ("cohort", "cohort_wide", "qc", "flow", "lock")
    return {name: getattr(layout, name) for name in _FILES if name not in later and getattr(layout, name).exists()}


def summary_document(request: Request, done: BatchDone, notes: Sequence[str]) -> dict[str, Any]:
    """Return the document of --json; `found` is null where the list of an earlier search was used."""
    summary = done.summary
    return {
        "schema": SCHEMA,
        "found": None if done.found is None else dict(done.found),
        "done": summary.done,
        "done_before": summary.skipped,
        "failed": summary.failed,
        "failed_before": summary.failed_before,
        "by_code": dict(sorted(summary.by_code.items())),
        "stopped": summary.stopped,
        "message": summary.message,
        "notes": list(notes),
        "files": {name: str(path) for name, path in files_of(request, done).items()},
        "exit_code": summary.exit_code,
    }
