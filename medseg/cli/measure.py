"""`medseg measure`: one row a segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from medseg.cli.reading import reading as reading_options
from medseg.cli.terminal import Terminal, overwrite_option, speaking

if TYPE_CHECKING:
    from medseg.io.measured import Measured
    from medseg.io.options import ReadOptions


@click.command()
@click.argument("segmentation", type=click.Path())
@click.option("--image", type=click.Path(), help="The scan, for intensities and true positions: a file or a DICOM folder.")
@click.option(
    "-o", "--output", type=click.Path(), help="Write the table here: .csv, .json, or .sr.dcm (DICOM report; needs a DICOM SEG and --image)."
)
@click.option("--percentile", "percentiles", type=float, multiple=True, help="Also this percentile (50 = median); repeatable.")
@click.option("--features", multiple=True, type=click.Choice(["shape", "intensity"]), help="Also these IBSI features; repeatable.")
@click.option(
    "--bin-width", type=float, default=25.0, show_default=True, help="Of the histogram for entropy and uniformity (SUV needs less)."
)
@click.option(
    "--segment", "segments", multiple=True, metavar="NAME", help="Only this segment; one that is not there is said so. Repeatable."
)
@click.option(
    "--probability", "probabilities", multiple=True, metavar="NAME=FILE", help="Class probabilities (0 to 1) of a segment; repeatable."
)
@click.option(
    "--replicate",
    "replicates",
    multiple=True,
    type=click.Path(),
    help="The same scan segmented by another fold, augmentation or ensemble member, for the model part of the interval; repeatable.",
)
@click.option("--resample-mask", is_flag=True, help="Bring a segmentation from another grid onto that of the scan (nearest neighbour).")
@reading_options()
@overwrite_option
@speaking
def measure(
    segmentation: str,
    image: str | None,
    output: str | None,
    percentiles: tuple[float, ...],
    features: tuple[str, ...],
    bin_width: float,
    segments: tuple[str, ...],
    probabilities: tuple[str, ...],
    replicates: tuple[str, ...],
    resample_mask: bool,
    reading: ReadOptions,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Measure every segment of SEGMENTATION: volume with its 95 % interval, place, status, and intensities where --image is given.

    The interval says what the voxel grid, the border and (with --replicate) the model leave open; its parts are standard
    deviations in ml. It does not cover a border drawn too far in or out everywhere: half_voxel_shell_ml says what that costs.

    Overlapping segments are measured each in its own layer. One that was drawn on slices at uneven distances is measured on
    them with --image SERIES: area × slice width.
    """
    from medseg.io.measure_options import MeasureOptions
    from medseg.io.measured import measure_file
    from medseg.io.report import choices_of
    from medseg.reporting.table import rich_table

    options = MeasureOptions(percentiles, features, segments, _named_files(probabilities), replicates, resample_mask, bin_width)
    done = measure_file(segmentation, image, reading, options)
    record = {"findings": [finding.to_dict() for finding in done.findings], "reading": choices_of(reading)}
    document = done.table.to_dict() | record
    if output:
        _write(done, document, output, segmentation, overwrite)
    terminal.findings(done.findings)
    terminal.show(rich_table(done.table, done.segments))
    terminal.document(document)


def _named_files(given: tuple[str, ...]) -> dict[str, str]:
    files = dict(one.partition("=")[::2] for one in given)
    if any(not label or not path for label, path in files.items()):
        raise click.UsageError("--probability takes NAME=FILE, for example --probability liver=liver_probability.nii.gz")
    return files


def _write(done: Measured, document: dict[str, object], output: str, segmentation: str, overwrite: bool) -> None:
    """Write the table in the format of its suffix."""
    if output.lower().endswith(".sr.dcm"):
        from medseg.io.dicom.sr import write_sr

        if done.volume is None:
            raise click.UsageError("a DICOM report refers to its scan, read on one grid: give --image SERIES")
        write_sr(done.table, output, source=done.volume, segmentation=segmentation, overwrite=overwrite)
        return
    from medseg.cli.outputs import write_table

    write_table(document, done.table, output, overwrite=overwrite)
