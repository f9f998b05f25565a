"""`medseg inspect`: what is there, and what is wrong with it."""

from __future__ import annotations

import click

from medseg.cli.terminal import Terminal, speaking


@click.command()
@click.argument("path", type=click.Path())
@speaking
def inspect(path: str, terminal: Terminal) -> int:
    """Say what PATH holds: every volume with its grid and findings. Exit code 3 if a finding is an error."""
    from rich.table import Table

    from medseg.core.finding import errors_in
    from medseg.io.inspect import inspect as inspect_path

    reports = inspect_path(path)
    table = Table(title=None, header_style="bold")
    for name in ("volume", "format", "modality", "shape (i,j,k)", "spacing mm", "orientation", "voxel mm³"):
        table.add_column(name, overflow="fold")
    for number, report in enumerate(reports, 1):
        grid = report.geometry
        cells = ["?"] * 4
        if grid is not None:
            spacing = " × ".join(f"{s:.4g}" for s in grid.spacing_mm)
            oblique = f" (oblique {grid.obliqueness_degrees:.1f}°)" if grid.is_oblique else ""
            cells = [" × ".join(map(str, grid.shape)), spacing, grid.orientation + oblique, f"{grid.voxel_volume_mm3:.5g}"]
        table.add_row(f"{number}: {report.series_uid or report.path}", report.format, report.modality or "–", *cells)
    terminal.show(table)
    for number, report in enumerate(reports, 1):
        if report.findings:
            terminal.show(f"[bold]{number}[/]")
        terminal.findings(report.findings)
    terminal.document({"schema": "medseg.inspect/1", "volumes": [report.to_dict() for report in reports]})
    return 3 if any(errors_in(report.findings) for report in reports) else 0
