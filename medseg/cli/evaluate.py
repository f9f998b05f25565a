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
    from medseg.evaluation.overlap import evaluate as compare
    from medseg.io.read import read_label_map
    from medseg.reporting.table import rich_scores_table

    evaluation = compare(read_label_map(reference), read_label_map(prediction))
    if output:
        from medseg.cli.outputs import write_scores

        write_scores(evaluation, output, overwrite=overwrite)
    terminal.show(rich_scores_table(evaluation))
    terminal.document(evaluation.to_dict())
