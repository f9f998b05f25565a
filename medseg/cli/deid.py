"""`medseg deid`: copies of DICOM files without what names the patient."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.terminal import Terminal, speaking


@click.command()
@click.argument("path", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="New folder for the copies.")
@click.option(
    "--dates", type=click.Choice(["removed", "shifted", "full"]), default="removed", show_default=True, help="What becomes of dates."
)
@click.option("--retain-uids", is_flag=True, help="Keep the UIDs of studies, series and images.")
@click.option("--retain-device", is_flag=True, help="Keep what names the scanner.")
@click.option("--retain-institution", is_flag=True, help="Keep what names the institution.")
@click.option("--retain-patient-characteristics", is_flag=True, help="Keep sex, age, size, weight and the like.")
@click.option("--retain-safe-private", is_flag=True, help="Keep private attributes known to describe the picture alone.")
@click.option("--key-file", type=click.Path(), help="File with a secret of 16 bytes or more: the same secret gives the same pseudonyms.")
@click.option("--include-burned-in", is_flag=True, help="Copy images too that say that text is burned into their pixels.")
@speaking
def deid(
    path: str,
    output: str,
    dates: str,
    retain_uids: bool,
    retain_device: bool,
    retain_institution: bool,
    retain_patient_characteristics: bool,
    retain_safe_private: bool,
    key_file: str | None,
    include_burned_in: bool,
    terminal: Terminal,
) -> int:
    """Copy the DICOM files of PATH by the basic profile of PS3.15, Annex E. Best effort: look at the result before you share it."""
    from medseg.io.dicom.deidentification.deidentify import LIMITS, deidentify, read_key
    from medseg.io.dicom.deidentification.profile import DeidOptions

    options = DeidOptions(dates, retain_uids, retain_device, retain_institution, retain_patient_characteristics, retain_safe_private)
    key = read_key(key_file) if key_file else None
    with terminal.progress() as progress:
        report = deidentify(path, output, options, key=key, include_burned_in=include_burned_in, progress=progress)
    from rich.table import Table

    counts = f"{report.patients} patient(s), {report.studies} studies, {report.series} series"
    terminal.show(f"[green]wrote {len(report.files)} files[/] to {Path(output)}: {counts}")
    table = Table("what was done to attributes", "times", header_style="bold")
    for action, count in sorted(report.actions.items()):
        table.add_row(action.replace("_", " "), str(count))
    terminal.show(table)
    for reason, count in sorted(report.left_out.items()):
        terminal.show(f"[yellow]left out[/] {count} × {reason}")
    for reason, count in sorted(report.failed.items()):
        terminal.show(f"[bold red]failed[/] {count} × {reason}")
    terminal.show(f"[bold]{LIMITS}[/]")
    terminal.document(
        {
            "schema": "medseg.deid/1",
            "output": str(output),
            "files": len(report.files),
            "patients": report.patients,
            "studies": report.studies,
            "series": report.series,
            "methods": [{"code": code, "meaning": meaning} for code, meaning in options.methods()],
            "actions": dict(report.actions),
            "left_out": dict(report.left_out),
            "failed": dict(report.failed),
            "limits": LIMITS,
        }
    )
    return 1 if report.failed else 0
