"""`medseg phantom`: a scan whose answers are known."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.terminal import Terminal, overwrite_option, speaking


@click.command()
@click.argument("name", required=False)
@click.option("-o", "--output", type=click.Path(), help="Folder for the scan, its label map and truth.json.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which of the endlessly many phantoms.")
@click.option("--spacing", "spacing_mm", metavar="I,J,K", help="Spacing in mm; default: the phantom's own.")
@click.option("--noise", "noise_hu", type=float, help="Standard deviation of the noise in HU; default: the phantom's own.")
@click.option("--preset", help="A named set of grid and noise, such as 'sample'.")
@click.option("--format", "form", type=click.Choice(["both", "dicom", "nifti"]), default="both", show_default=True, help="What is written.")
@click.option("--compressed", is_flag=True, help="Write the DICOM files in JPEG-LS, lossless.")
@click.option("--fault", metavar="NAME|ROW|all|list", help="The lab organ with one thing wrong, instead of NAME; list shows them all.")
@click.option("--tool", metavar="'CMD {in} {out}'", help="score: the reader to run on the faults (all, or those of --fault).")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=1), default=120, show_default=True, help="score: seconds a fault.")
@overwrite_option
@speaking
def phantom(
    name: str | None,
    output: str | None,
    seed: int,
    spacing_mm: str | None,
    noise_hu: float | None,
    preset: str | None,
    form: str,
    compressed: bool,
    fault: str | None,
    tool: str | None,
    timeout_s: float,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Make phantom NAME: a DICOM series, NIfTI, the label map and truth.json (volumes, diameters, centroids from formulas).

    With --fault: the lab organ, 502.65 ml, in files with one thing wrong, and what a careful reader does with them. With the
    name `growth`: three scans of one patient, 90 days apart, whose lesions grow, shrink, come, go, merge and split. With the
    name `score`: run a reader (--tool) on every such fault and print its errors in per cent; -o writes .csv, .md or .json.
    """
    if name == "score":
        from medseg.cli.phantom_score import score_command

        score_command(tool, fault or "all", timeout_s, terminal, output, overwrite)
        return
    if name == "growth":
        _growth(output, seed, noise_hu, terminal, overwrite)
        return
    if tool is not None:
        raise click.UsageError("--tool belongs to `medseg phantom score`")
    if fault is not None:
        _fault(fault, name, output, terminal, overwrite)
        return
    from medseg.outputs import write_phantom
    from medseg.phantom import PHANTOMS, make_phantom

    if name is None:
        from rich.table import Table

        table = Table("phantom", "what it is", header_style="bold")
        for known, (_, line) in PHANTOMS.items():
            table.add_row(known, line)
        table.add_row("growth", "three scans of one patient with lesions of known growth, for medseg change")
        terminal.show(table)
        terminal.document({"schema": "medseg.phantoms/1", "phantoms": list(PHANTOMS)})
        return
    if output is None:
        raise click.UsageError("medseg phantom needs -o FOLDER")
    options = {"spacing_mm": _spacing(spacing_mm), "noise_hu": noise_hu, "preset": preset}
    made = make_phantom(name, seed=seed, **{key: value for key, value in options.items() if value is not None})
    files = write_phantom(made, Path(output), form=form, compressed=compressed, overwrite=overwrite)
    terminal.show(*(f"wrote {path}" for path in files.values()))
    terminal.document({"schema": "medseg.phantom/1", "files": {key: str(path) for key, path in files.items()}, "truth": made.truth})


def _growth(output: str | None, seed: int, noise_hu: float | None, terminal: Terminal, overwrite: bool) -> None:
    from medseg.outputs.phantom_folder import write_growth
    from medseg.phantom.growth import make_growth

    if output is None:
        raise click.UsageError("medseg phantom growth needs -o FOLDER")
    study = make_growth(seed) if noise_hu is None else make_growth(seed, noise_hu=noise_hu)
    files = write_growth(study, Path(output), overwrite=overwrite)
    terminal.show(*(f"wrote {path}" for path in files.values()))
    terminal.document({"schema": "medseg.phantom/1", "files": {key: str(path) for key, path in files.items()}, "truth": study.truth})


def _fault(fault: str, name: str | None, output: str | None, terminal: Terminal, overwrite: bool) -> None:
    from medseg.cli.phantom_faults import list_faults, write_faults

    if name is not None:
        raise click.UsageError(f"faults are made of the lab organ: leave {name} out")
    if fault == "list":
        list_faults(terminal)
        return
    if output is None:
        raise click.UsageError("medseg phantom --fault needs -o FOLDER")
    write_faults(fault, Path(output), terminal, overwrite)


def _spacing(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        i, j, k = (float(part) for part in text.split(","))
    except ValueError as err:
        raise click.BadParameter(f"--spacing takes three numbers in mm such as 1.5,1.5,3, got {text!r}") from err
    return i, j, k
