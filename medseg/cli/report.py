"""`medseg report`: pictures, volumes with their intervals, and what a paper must say, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.reading import reading as reading_options
from medseg.cli.terminal import Terminal, overwrite_option, speaking

if TYPE_CHECKING:
    from medseg.io.options import ReadOptions
    from medseg.outputs.report_folder import Given, ReportOutput


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(), metavar="[FOLDER]...")
@click.option("--segmentation", "segmentations", type=click.Path(), multiple=True, help="Report on this segmentation instead; repeatable.")
@click.option(
    "--image", "images", type=click.Path(), multiple=True, help="Its scan: one for each --segmentation; with FOLDER, redraw on it."
)
@click.option("--name", "names", multiple=True, help="What to call each --segmentation; its modality otherwise.")
@click.option("-o", "--output", type=click.Path(), help="Folder for the report; that of the run otherwise.")
@click.option("--title", default="", help="Title of the report. Name no patient.")
@click.option("--attribution", default="", help="Whom the scans are owed to: stands at the foot of the report.")
@click.option("--pdf", is_flag=True, help="Also write report.pdf.")
@click.option("--methods-text", is_flag=True, help="Also write methods.md and references.bib: text, citations, licences of what ran.")
@click.option("--parquet", is_flag=True, help="Also write every table as .parquet.")
@click.option("--lesions", is_flag=True, help="With --segmentation: also the diameters of each lesion, with calipers drawn.")
@click.option("--identify", is_flag=True, help="Of a cohort: add patient IDs and paths to its tables. Do not share them then.")
@click.option("--review", "reviews", type=click.Path(), multiple=True, help="Of a cohort: take in the decisions of this file.")
@reading_options()
@overwrite_option
@speaking
def report(
    folders: tuple[str, ...],
    segmentations: tuple[str, ...],
    images: tuple[str, ...],
    names: tuple[str, ...],
    output: str | None,
    title: str,
    attribution: str,
    pdf: bool,
    methods_text: bool,
    parquet: bool,
    lesions: bool,
    identify: bool,
    reviews: tuple[str, ...],
    reading: ReadOptions,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Make the report of FOLDER (of medseg run, lesions or change) anew; of several FOLDERs, one that compares them.

    Or give segmentations that were drawn elsewhere, each with its scan: they are measured, and their folder is written. Of the
    folder of medseg batch, the tables, flow.svg and qc.html of the cohort are made anew, with what reviewers decided.

    \b
    medseg report out/ --pdf --methods-text
    medseg report cohort/ --review review.json
    medseg report --segmentation tumour.dcm --image CT/ -o report/
    """
    from medseg.batch.records.layout import Layout
    from medseg.cli.report_cohort import report_cohort
    from medseg.outputs.report_folder import ReportOptions, report_of_folders, report_of_segmentations
    from medseg.reporting.dependencies import load

    if len(folders) == 1 and not segmentations and Layout(Path(folders[0])).batch.is_file():
        if output is not None or images or pdf or methods_text or lesions:
            raise click.UsageError("of a cohort only its own files are made anew: give --title, --review, --identify or --parquet")
        if parquet:
            load("pyarrow")  # it is written wherever this is installed; who asks for it learns that it is not
        report_cohort(Layout(Path(folders[0])), title, identify, [Path(review) for review in reviews], terminal)
        return
    if identify or reviews:
        raise click.UsageError("--identify and --review are for the FOLDER of medseg batch")
    options = ReportOptions(title, attribution, pdf, methods_text, parquet, lesions, overwrite)
    if segmentations:
        if folders or output is None:
            raise click.UsageError("--segmentation makes a folder of its own: give -o FOLDER, and no other FOLDER")
        done = report_of_segmentations(_given(segmentations, images, names), output, reading=reading, options=options)
    else:
        if not folders:
            raise click.UsageError("medseg report needs the FOLDER of a run, or --segmentation SEG --image SCAN -o FOLDER")
        if len(images) > 1 or (images and len(folders) > 1):
            raise click.UsageError("one --image belongs to one FOLDER")
        done = report_of_folders(folders, output, image=images[0] if images else None, reading=reading, options=options)
    _show(done, methods_text, terminal)


def _given(segmentations: tuple[str, ...], images: tuple[str, ...], names: tuple[str, ...]) -> list[Given]:
    from medseg.outputs.report_folder import Given

    if images and len(images) != len(segmentations):
        raise click.UsageError(f"{len(segmentations)} --segmentation and {len(images)} --image: give one scan for each, in the same order")
    if names and len(names) != len(segmentations):
        raise click.UsageError(f"{len(segmentations)} --segmentation and {len(names)} --name: give one name for each, in the same order")
    scans = images or (None,) * len(segmentations)
    called = names or ("",) * len(segmentations)
    return [
        Given(Path(one), None if scan is None else Path(scan), name) for one, scan, name in zip(segmentations, scans, called, strict=True)
    ]


def _show(done: ReportOutput, methods_text: bool, terminal: Terminal) -> None:
    from medseg.reporting.table import rich_table

    for content in done.contents:
        terminal.findings(content.findings)
        if len(content.table):
            terminal.show(rich_table(content.table, content.label_map.segments if content.label_map is not None else ()))
    from rich.text import Text

    text = done.text if methods_text else None
    if text is not None:
        text.check()
        terminal.show(Text(f"\n{text.paragraph}\n"))
    for name in ("report.html", "report.pdf", "methods.md", "references.bib"):
        if name in done.files:
            terminal.show(Text(f"{name}: {done.files[name]}"))
    terminal.document(
        {
            "schema": "medseg.report/1",
            "cases": [
                content.table.to_dict() | {"title": content.title, "findings": [finding.to_dict() for finding in content.findings]}
                for content in done.contents
            ],
            "methods": None if text is None else text.to_dict(),
            "files": {name: str(path) for name, path in done.files.items()},
        }
    )
