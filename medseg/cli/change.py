"""`medseg change`: lesions over time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.reading import reading as reading_options
from medseg.cli.terminal import Terminal, overwrite_option, speaking

if TYPE_CHECKING:
    from medseg.io.options import ReadOptions
    from medseg.measurement.change import ChangeTable

_FILES = ("change.csv", "change.json", "responses.csv", "waterfall.svg", "spider.svg")


@click.command()
@click.argument("base", type=click.Path())
@click.argument("follow_ups", metavar="FOLLOWUP...", nargs=-1, type=click.Path())
@click.option("--image", "images", type=click.Path(), multiple=True, help="The scan of each segmentation, base first.")
@click.option(
    "--organs",
    type=click.Path(),
    multiple=True,
    help="A segmentation of organs for each scan, base first: RECIST takes 2 targets an organ.",
)
@click.option("-o", "--output", type=click.Path(), help="Folder for tables, waterfall, spider plot and pictures/.")
@click.option(
    "--date", "dates", multiple=True, metavar="DATE", help="Date of each scan, base first; default: from DICOM. Only days go into outputs."
)
@click.option("--days", type=float, multiple=True, help="Days since base of each follow-up, in place of --date.")
@click.option("--segment", "segments", multiple=True, help="Only this segment (name or number) holds lesions; repeatable.")
@click.option("--node", "nodes", multiple=True, help="This segment holds lymph nodes: followed by the short axis; repeatable.")
@click.option(
    "--target", "targets", multiple=True, metavar="ID", help="Follow this lesion of base as a target; default: the largest measurable."
)
@click.option(
    "--registration",
    type=click.Choice(["auto", "none", "rigid", "deformable"]),
    default="auto",
    show_default=True,
    help="How follow-ups are brought onto base; auto: none within one frame of reference, else rigid.",
)
@click.option(
    "--tolerance",
    "tolerance_mm",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Gap in mm up to which lesions that share no volume may be one.",
)
@click.option(
    "--overlap",
    "least_overlap",
    type=click.FloatRange(0.01, 1),
    default=0.25,
    show_default=True,
    help="Shared part of the smaller lesion from which two are one.",
)
@click.option(
    "--repeatability",
    "repeatability_percent",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="PERCENT",
    help="Within-subject CV of the reader (medseg agreement), added to the error.",
)
@click.option("--volumetric", is_flag=True, help="Also the response by volume: -35 % and +55 % (doi:10.1186/s40644-015-0052-2).")
@click.option(
    "--plane",
    type=click.Choice(["acquired", "axial", "coronal", "sagittal"]),
    default="acquired",
    show_default=True,
    help="The slices in which diameters are taken.",
)
@click.option("--whole", "is_whole", is_flag=True, help="Each segment is one lesion, in however many parts.")
@click.option(
    "--at-least", "keep_at_least_mm3", type=click.FloatRange(min=0), default=0.0, help="Leave out parts below this volume in mm³."
)
@click.option(
    "--pictures", "most_pictures", type=click.IntRange(min=0), default=60, show_default=True, help="Draw at most so many lesions."
)
@reading_options()
@overwrite_option
@speaking
def change(
    base: str,
    follow_ups: tuple[str, ...],
    output: str | None,
    targets: tuple[str, ...],
    tolerance_mm: float,
    least_overlap: float,
    repeatability_percent: float,
    volumetric: bool,
    most_pictures: int,
    reading: ReadOptions,
    overwrite: bool,
    terminal: Terminal,
    **wishes: Any,
) -> None:
    """Compare the lesions of BASE with those of one or more FOLLOWUPs, the oldest first: growth or measurement error?

    Each is a segmentation, or a folder of `medseg run` or `medseg lesions`. Lesions are matched after registration (new,
    gone, merged, split); the change of each has a 95 % interval and says whether it is beyond measurement error. Volumes and
    diameters are measured on each scan's own grid. The response by RECIST 1.1 shows every number it comes from.
    """
    from medseg.cli.change_scans import Wishes, read_time_points
    from medseg.io.report import choices_of
    from medseg.measurement.change import change as compare
    from medseg.reporting.change_table import response_lines, rich_change

    if output:
        _check(Path(output), overwrite)
    points, found = read_time_points([base, *follow_ups], Wishes(**wishes), reading)
    table = compare(
        points[0],
        points[1:],
        tolerance_mm=tolerance_mm,
        least_overlap=least_overlap,
        repeatability_percent=repeatability_percent,
        targets=targets,
        volumetric=volumetric,
    )
    document = table.to_dict() | {"findings": [finding.to_dict() for finding in found], "reading": choices_of(reading)}
    if output:
        _write(table, document, Path(output), most_pictures, overwrite)
    terminal.findings(found)
    terminal.show(rich_change(table), *response_lines(table))
    terminal.document(document)


def _check(folder: Path, overwrite: bool) -> None:
    """Raise before anything is computed what writing would raise afterwards."""
    from medseg.core.errors import OutputExistsError
    from medseg.io.atomic import check_writable

    there = [name for name in _FILES if (folder / name).exists()]
    if there and not overwrite:
        raise OutputExistsError(f"{folder.name} holds {there[0]} already: choose another folder or give --overwrite")
    check_writable(folder)


def _write(table: ChangeTable, document: dict[str, Any], folder: Path, most_pictures: int, overwrite: bool) -> None:
    from medseg.io.atomic import check_folder, write_text
    from medseg.reporting.change_figures import spider_of, waterfall_of
    from medseg.reporting.change_table import change_csv, responses_csv

    check_folder(folder)
    write_text(folder / "change.csv", change_csv(table), overwrite=overwrite)
    write_text(folder / "responses.csv", responses_csv(table), overwrite=overwrite)
    write_text(folder / "waterfall.svg", waterfall_of(table), overwrite=overwrite)
    write_text(folder / "spider.svg", spider_of(table), overwrite=overwrite)
    _draw(table, folder, most_pictures, overwrite)
    # written last: its presence says that the folder is complete
    write_text(folder / "change.json", json.dumps(document, indent=2, allow_nan=False) + "\n", overwrite=overwrite)


def _draw(table: ChangeTable, folder: Path, most_pictures: int, overwrite: bool) -> None:
    """Draw what changed first, then the rest; without the extra that draws, the tables still count."""
    from medseg.core.errors import MissingDependencyError
    from medseg.io.atomic import check_folder, write_bytes
    from medseg.reporting.change_pictures import lesion_pair_png

    if all(point.volume is None for point in table.time_points) or not most_pictures:
        return
    rows = sorted(table.rows, key=lambda row: row.status == "stable")[:most_pictures]
    pictures = folder / "pictures"
    try:
        for row in rows:
            name = re.sub(r"[^\w.+-]+", "-", row.track)[:80]
            write_bytes(check_folder(pictures) / f"{name}_{row.time_point}.png", lesion_pair_png(table, row), overwrite=overwrite)
    except MissingDependencyError:
        return
