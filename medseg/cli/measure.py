"""`medseg measure`: one row a segment."""

from __future__ import annotations

import click

from medseg.cli.terminal import Terminal, overwrite_option, series_option, speaking


@click.command()
@click.argument("segmentation", type=click.Path())
@click.option("--image", type=click.Path(), help="The scan, for intensities: a file or a DICOM folder.")
@click.option("-o", "--output", type=click.Path(), help="Write the table here (.csv or .json).")
@click.option("--percentile", "percentiles", type=float, multiple=True, help="Also this percentile (50 = median); repeatable.")
@series_option
@overwrite_option
@speaking
def measure(
    segmentation: str,
    image: str | None,
    output: str | None,
    percentiles: tuple[float, ...],
    series: str | None,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Measure every segment of SEGMENTATION: volume, place, status, and intensities where --image is given."""
    from medseg.core.finding import Finding
    from medseg.io.read import read, read_label_map
    from medseg.measurement.measure import measure as measure_segments
    from medseg.preprocessing.resample import fit_to

    label_map = read_label_map(segmentation)
    volume = read(image, series=series) if image else None
    if volume is not None:
        label_map = fit_to(label_map, volume.geometry)
    table = measure_segments(label_map, volume, percentiles=percentiles)
    findings: list[Finding] = [*label_map.findings, *(volume.findings if volume else ())]
    document = table.to_dict() | {"findings": [finding.to_dict() for finding in findings]}
    if output:
        from medseg.cli.outputs import write_table

        write_table(document, table, output, overwrite=overwrite)
    from medseg.reporting.table import rich_table

    terminal.findings(findings)
    terminal.show(rich_table(table, label_map.segments))
    terminal.document(document)
