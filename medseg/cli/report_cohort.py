"""`medseg report` of a cohort: decisions taken in, tables and figures made anew, and what they say shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.terminal import Terminal
from medseg.core.errors import UnreadableFileError

if TYPE_CHECKING:
    from rich.table import Table

    from medseg.batch.cohort.review_file import Decision
    from medseg.batch.cohort.write_cohort import CohortSummary
    from medseg.batch.records.layout import Layout


def report_cohort(layout: Layout, title: str, identify: bool, reviews: Sequence[Path], terminal: Terminal) -> None:
    """Take in the decisions of these files, write the cohort anew and show it."""
    from medseg.batch.cohort.review_file import merge_review, read_review, update_review
    from medseg.batch.cohort.write_cohort import write_cohort

    decisions: dict[str, Decision] = {}
    for path in reviews:
        if not path.is_file():
            raise UnreadableFileError(f"{path.name} is not there: give the review.json that qc.html saved")
        decisions = merge_review(decisions, read_review(path))
    if decisions:
        update_review(layout, decisions)
    show_cohort(write_cohort(layout, identify=identify, title=title), terminal)
    if identify:
        terminal.show("[yellow]The tables name patients and paths: do not share them.[/]")


def show_cohort(summary: CohortSummary, terminal: Terminal) -> None:
    """Show the counts, the segments, what a person should know, and where the files lie; with --json, the one document."""
    from rich.text import Text

    terminal.show(_counts_table(summary))
    if summary.segments:
        terminal.show(_segments_table(summary))
    for note in summary.notes:
        terminal.show(Text(note, style="yellow"))
    for name, path in summary.files.items():
        terminal.show(Text(f"{name}: {path}"))
    terminal.document(summary.to_dict() | {"files": {name: str(path) for name, path in summary.files.items()}})


def _counts_table(summary: CohortSummary) -> Table:
    from medseg.batch.cohort.counts import words_of
    from medseg.reporting.tabular import new_table, text

    counts, shown = summary.counts, new_table("cohort")
    shown.add_column("", overflow="fold")
    shown.add_column("n", justify="right", no_wrap=True)

    def add(name: str, count: int, style: str = "") -> None:
        shown.add_row(text(name, style), text(f"{count:,}", style))

    add("series found", counts["found"], "bold")
    for reason, count in counts["left_out"]["by_reason"].items():
        add(f"  left out: {reason}", count, "dim")
    add("cases", counts["cases"], "bold")
    for code, count in counts["failed"]["by_code"].items():
        add(f"  failed: {words_of(code)} ({code})", count, "red")
    if counts["not_run"]:
        add("  not run yet", counts["not_run"], "yellow")
    add("segmented and measured", counts["done"], "bold")
    for name, words in (("rejected", "rejected in review"), ("to_fix", "waiting for a correction")):
        if counts["review"][name]:
            add(f"  {words}", counts["review"][name], "yellow")
    add("analysed", counts["analysed"], "bold green")
    return shown


def _segments_table(summary: CohortSummary) -> Table:
    from medseg.reporting.tabular import new_table, text
    from medseg.reporting.wording import format_volume

    shown = new_table("segments of the analysed cases")
    shown.add_column("segment", overflow="fold")
    for column in ("measured", "cut", "absent", "failed"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("median (ml)", justify="right", no_wrap=True)
    shown.add_column("quartiles (ml)", justify="right", no_wrap=True)
    for one in summary.segments[:40]:
        volume = one["volume_ml"]
        known = volume["median"] is not None
        quartiles = f"{format_volume(volume['lower_quartile'])}–{format_volume(volume['upper_quartile'])}" if known else "–"
        counts = [f"{one[name]:,}" for name in ("measured", "cut_by_field_of_view", "absent", "failed")]
        median = format_volume(volume["median"]) if known else "–"
        shown.add_row(text(one["label"], "bold"), *(text(count) for count in counts), text(median), text(quartiles))
    if len(summary.segments) > 40:
        shown.caption = text(f"… {len(summary.segments) - 40:,} more in summary.json", "dim")
    return shown
