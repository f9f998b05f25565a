"""The score of a reader as a table for people, as CSV, Markdown and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import UnsupportedFormatError

if TYPE_CHECKING:
    from rich.table import Table

    from medseg.phantom.faults.score import Judgement

COLUMNS = ("row", "fault", "do", "result", "verdict", "remark")
_COLOURS = {"right": "green", "silently wrong": "bold red", "refused": "yellow"}


def _cells(one: Judgement) -> tuple[str, ...]:
    return one.fault.row, one.fault.name, one.fault.action.value, one.result, one.verdict.value, one.remark


def rich_score_table(judgements: Sequence[Judgement]) -> Table:
    """Return the table for the terminal."""
    from rich.table import Table

    table = Table(*COLUMNS, header_style="bold")
    for one in judgements:
        *start, verdict, remark = _cells(one)
        table.add_row(*start, f"[{_COLOURS[verdict]}]{verdict}[/]", remark)
    return table


def score_document(tool: str, judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Return the JSON document of a score."""
    from medseg.phantom.faults.score import totals

    return {"schema": "medseg.score/1", "tool": tool, "totals": totals(judgements), "faults": [one.to_dict() for one in judgements]}


def render(path: Path, tool: str, judgements: Sequence[Judgement]) -> str:
    """Return the score as the suffix of a path asks: .csv, .md or .json; raises UnsupportedFormatError for another."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        return json.dumps(score_document(tool, judgements), indent=2, allow_nan=False) + "\n"
    if suffix == ".md":
        lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        return "\n".join([*lines, *("| " + " | ".join(_cells(one)) + " |" for one in judgements)]) + "\n"
    if suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_cells(one) for one in judgements)
        return text.getvalue()
    raise UnsupportedFormatError(f"a score is written as .csv, .md or .json, not {suffix or 'without suffix'}: {path.name}")
