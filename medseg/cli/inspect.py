"""`medseg inspect`: what is there, what is wrong with it, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from medseg.cli.reading import reading
from medseg.cli.terminal import Terminal, speaking

if TYPE_CHECKING:
    from medseg.io.options import ReadOptions


@click.command()
@click.argument("path", type=click.Path())
@click.option("--segmentation", type=click.Path(), help="Price the faults for each segment of this, in ml.")
@reading()
@speaking
def inspect(path: str, segmentation: str | None, reading: ReadOptions, terminal: Terminal) -> int:
    """Say what PATH holds: every volume with its grid, findings and advice. Exit code 3 if one must not be reported.

    With --segmentation, drawn on the slices as scanned or on a complete grid, each segment gets its volume as careless readers
    stack it, on true positions, and how much of it was never scanned.
    """
    from medseg.io.inspect import inspect as inspect_path
    from medseg.reporting.inspection import inspection

    reports = inspect_path(path, reading, segmentation=segmentation)
    entries = [report.to_dict() for report in reports]
    for number, entry in enumerate(entries, 1):
        terminal.show(inspection(entry, number))
    terminal.document({"schema": "medseg.inspect/1", "volumes": entries})
    return 0 if all(report.is_reportable for report in reports) else 3
