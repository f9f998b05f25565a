"""`medseg inspect`: what is there, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from medseg.cli.terminal import Terminal, speaking

if TYPE_CHECKING:
    from medseg.io.report import VolumeReport


@click.command()
@click.argument("path", type=click.Path())
@speaking
def inspect(path: str, terminal: Terminal) -> int:
    """Say what PATH holds: every volume with its grid and findings. Exit code 3 if a finding is an error."""
    from rich.markup import escape

    from medseg.core.finding import errors_in
    from medseg.io.inspect import inspect as inspect_path

    reports = inspect_path(path)
    for number, report in enumerate(reports, 1):
        terminal.show(f"[bold]{number}[/]  {escape(_grid(report))}", f"   [dim]{escape(report.series_uid or report.path)}[/]")
        terminal.findings(report.findings)
        if not report.findings:
            terminal.show("[green]no findings[/]")
    terminal.document({"schema": "medseg.inspect/1", "volumes": [report.to_dict() for report in reports]})
    return 3 if any(errors_in(report.findings) for report in reports) else 0


def _grid(report: VolumeReport) -> str:
    """Return one line: format, modality, shape, spacing, orientation, volume of a voxel."""
    kind = " ".join(part for part in (report.format, report.modality) if part)
    grid = report.geometry
    if grid is None:
        return f"{kind}: no usable grid"
    parts = [" × ".join(map(str, grid.shape)), " × ".join(f"{s:.4g}" for s in grid.spacing_mm) + " mm", grid.orientation]
    if grid.is_oblique:
        parts.append(f"oblique {grid.obliqueness_degrees:.1f}°")
    if grid.is_sheared:
        parts.append(f"sheared {grid.shear_degrees:.1f}°")
    return f"{kind}  {'  '.join(parts)}  voxel {grid.voxel_volume_mm3:.5g} mm³"
