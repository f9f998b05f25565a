"""`medseg evaluate`: a segmentation against a reference."""

from __future__ import annotations

import click

from medseg.cli.terminal import Terminal, overwrite_option, speaking


@click.command()
@click.argument("reference", type=click.Path())
@click.argument("prediction", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="Write the table here (.csv or .json).")
@overwrite_option
@speaking
def evaluate(reference: str, prediction: str, output: str | None, overwrite: bool, terminal: Terminal) -> None:
    """Compare PREDICTION with REFERENCE, segment by segment: Dice, IoU, sensitivity, precision, volumes.

    Segments are matched by label where both files name at least one alike, else by number. What is undefined is empty, with the reason.
    """
    from medseg.core.errors import GeometryMismatchError
    from medseg.evaluation.overlap import evaluate as compare
    from medseg.io.dicom_objects import is_contours
    from medseg.io.read import read_label_map
    from medseg.preprocessing.resample import fit_to
    from medseg.reporting.table import rich_scores_table

    # contours have no grid of their own: they are filled on the other's
    of_contours = read_label_map(prediction).geometry if is_contours(reference) and not is_contours(prediction) else None
    expected = read_label_map(reference, geometry=of_contours)
    # A DICOM SEG or .seg.nrrd may be stored cropped: its voxels are moved onto the reference's grid, never resampled
    found = fit_to(read_label_map(prediction, geometry=expected.geometry if is_contours(prediction) else None), expected.geometry)
    if any(finding.code == "LABELS_OUTSIDE_GRID" for finding in found.findings):
        raise GeometryMismatchError("the prediction has voxels outside the reference's grid: compare both on the grid of the scan")
    evaluation = compare(expected, found)
    if output:
        from medseg.cli.outputs import write_scores

        write_scores(evaluation, output, overwrite=overwrite)
    terminal.show(rich_scores_table(evaluation))
    terminal.document(evaluation.to_dict())
