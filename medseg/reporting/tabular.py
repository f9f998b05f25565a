"""What tables share: CSV text (RFC 4180), and the pieces of a table on the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def csv_of(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV with CRLF line ends; None is an empty cell, floats read back equal.

    >>> csv_of([["label", "volume_ml"], ["liver", 0.1], ["spleen", None]])
    'label,volume_ml\\r\\nliver,0.1\\r\\nspleen,\\r\\n'
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    for row in rows:
        # repr gives the shortest digits that read back as the same float
        writer.writerow(["" if cell is None else repr(float(cell)) if isinstance(cell, float) else cell for cell in row])
    return out.getvalue()


def new_table(title: str | Text) -> Table:
    """Return an empty table in the style of all commands."""
    from rich import box
    from rich.table import Table

    heading = text(title, "bold") if isinstance(title, str) else title
    return Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, caption_justify="left")


def text(content: str, style: str = "") -> Text:
    """Return a cell that shows its content as it is, brackets too."""
    from rich.text import Text

    return Text(content, style=style)
