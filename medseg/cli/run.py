"""`medseg run`: a pipeline on one scan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.reading import reading as reading_options
from medseg.cli.terminal import Terminal, device_option, overwrite_option, speaking
from medseg.core.errors import UnreadableFileError

if TYPE_CHECKING:
    from medseg.io.options import ReadOptions


@click.command()
@click.argument("pipeline", required=False)
@click.argument("input", type=click.Path(), required=False)
@click.option("-o", "--output", type=click.Path(), help="Folder for the results.")
@click.option("--format", "formats", multiple=True, metavar="nii.gz|seg.nrrd|dcm|nrrd|nii", help="Format of the segmentation; repeatable.")
@click.option("--truth", type=click.Path(), help="truth.json of a phantom, to compare with.")
@click.option("--list", "list_pipelines", is_flag=True, help="List the built-in pipelines.")
@reading_options()
@device_option
@overwrite_option
@speaking
def run(
    pipeline: str | None,
    input: str | None,
    output: str | None,
    formats: tuple[str, ...],
    truth: str | None,
    list_pipelines: bool,
    reading: ReadOptions,
    device: str,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Run PIPELINE (a built-in name or a YAML file) on INPUT (a file or a DICOM folder).

    Writes segmentation, measurements.csv and .json, report.html, pictures and provenance.json into the output folder.
    """
    if list_pipelines:
        _list(terminal)
        return
    if pipeline is None or input is None or output is None:
        raise click.UsageError("medseg run needs a pipeline, a scan and -o FOLDER (medseg run --list shows the pipelines)")
    from medseg.outputs import run as run_pipeline

    with terminal.settings(device) as settings:
        done = run_pipeline(
            pipeline,
            input,
            output,
            reading=reading,
            formats=formats,
            overwrite=overwrite,
            settings=settings,
            truth=read_truth(truth) if truth else None,
        )
    from medseg.io.report import choices_of
    from medseg.reporting.table import rich_table

    terminal.findings(done.result.findings)
    terminal.show(rich_table(done.result.table, done.result.label_map.segments))
    report = done.files.get("report.html")
    terminal.show(f"report: {report}" if report else "no report: install medseg[report]")
    terminal.document(
        done.result.table.to_dict()
        | {
            "schema": "medseg.run/1",
            "pipeline": done.result.pipeline.name,
            "reading": choices_of(reading),
            "findings": [finding.to_dict() for finding in done.result.findings],
            "files": {name: str(path) for name, path in done.files.items()},
        }
    )


def read_truth(path: str) -> dict[str, Any]:
    """Return the truth.json of a phantom; raises UnreadableFileError."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise UnreadableFileError(f"the truth file {Path(path).name} cannot be read as JSON: {err}") from err
    if not isinstance(content, dict) or "segments" not in content:
        raise UnreadableFileError(f"{Path(path).name} is not a truth.json of medseg phantom: it has no segments")
    return content


def _list(terminal: Terminal) -> None:
    from rich.table import Table

    from medseg.pipeline import builtin_pipelines

    table = Table("pipeline", "for", "what it does", header_style="bold")
    found = builtin_pipelines()
    for pipeline in found.values():
        table.add_row(pipeline.name, pipeline.modality or "any", f"{pipeline.title}. {pipeline.description}".strip())
    terminal.show(table)
    terminal.document({"schema": "medseg.pipelines/1", "pipelines": [pipeline.model_dump(by_alias=True) for pipeline in found.values()]})
