"""`medseg evaluate`: a segmentation, or a folder of them, against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg.cli.terminal import Terminal, overwrite_option, speaking


class _NamePair(click.ParamType):
    """A name in the prediction and the one that the reference has for it, as PRED=REF."""

    name = "PRED=REF"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return both names, or fail with what was given."""
        if isinstance(value, tuple):
            return value[0], value[1]
        theirs, sign, ours = str(value).partition("=")
        if not sign or not theirs.strip() or not ours.strip():
            self.fail(f"{value!r} does not name two segments, as in tumor=GTV", param, ctx)
        return theirs.strip(), ours.strip()


_PERCENTILE = click.FloatRange(0, 100, min_open=True)


@click.command()
@click.argument("reference", type=click.Path())
@click.argument("prediction", type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(), help="Write the scores here: .csv (one row a case and segment) or .json (with the summary)."
)
@click.option(
    "--map", "names", type=_NamePair(), multiple=True, help="This segment of the prediction is that one of the reference; repeatable."
)
@click.option(
    "--resample", is_flag=True, help="Bring a prediction from another grid onto the reference's (volumes before and after are said)."
)
@click.option("--image", type=click.Path(), help="The scan that contours (RTSTRUCT) were drawn on; for two files.")
@click.option(
    "--tolerance", "tolerances_mm", type=float, multiple=True, default=(1.0,), show_default=True, help="Of NSD and boundary F1, mm."
)
@click.option("--percentile", type=_PERCENTILE, default=95.0, show_default=True, help="Of the surface distances: 95 gives HD95.")
@click.option(
    "--definition",
    type=click.Choice(["max-directed", "pooled"]),
    default="max-directed",
    show_default=True,
    help="HD95 as the larger of the two directed percentiles, or the percentile of both directions together.",
)
@click.option("--no-surfaces", is_flag=True, help="Overlap and volumes only.")
@click.option("--lesions", is_flag=True, help="Also match the lesions (connected components) of every segment.")
@click.option(
    "--match", default="any-overlap", show_default=True, metavar="RULE", help="Lesions match by any-overlap, iou>=T or centre-inside."
)
@click.option("--bootstrap", "resamples", type=int, default=10_000, show_default=True, help="Resamples of the cases for the intervals.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap: the same seed gives the same intervals.")
@click.option("--crosscheck", is_flag=True, help="Recompute with SimpleITK, and MONAI where installed, and say the largest differences.")
@overwrite_option
@speaking
def evaluate(
    reference: str,
    prediction: str,
    output: str | None,
    names: tuple[tuple[str, str], ...],
    resample: bool,
    image: str | None,
    tolerances_mm: tuple[float, ...],
    percentile: float,
    definition: str,
    no_surfaces: bool,
    lesions: bool,
    match: str,
    resamples: int,
    seed: int,
    crosscheck: bool,
    overwrite: bool,
    terminal: Terminal,
) -> int:
    """Compare PREDICTION with REFERENCE: two files, or two folders whose files have the same names.

    Segment by segment, and lesion by lesion with --lesions. A miss is counted, never left out: the summary gives the mean
    without misses, with misses as the worst case, and the interval over the cases.
    """
    from medseg.cli.evaluation_run import Comparison
    from medseg.core.errors import OutputExistsError
    from medseg.evaluation.bootstrap import Bootstrap

    is_folder = Path(reference).is_dir() and Path(prediction).is_dir()
    if is_folder and image:
        raise click.UsageError("--image is the scan of one case: give two files, not two folders")
    if output and Path(output).suffix.lower() not in (".csv", ".json"):
        raise click.UsageError(f"scores are written as .csv or .json, not {Path(output).name}")
    if output and Path(output).exists() and not overwrite:
        raise OutputExistsError(f"{output} is there already; choose another name or allow overwriting (--overwrite)")
    settings = {
        "surfaces": not no_surfaces,
        "tolerances_mm": tolerances_mm,
        "percentile": percentile,
        "definition": definition,
        "lesions": lesions,
        "match": match,
    }
    comparison = Comparison(settings, dict(names), resample, image, crosscheck, Bootstrap(resamples, seed))
    with terminal.progress() as progress:
        document, code = comparison.folders(reference, prediction, progress) if is_folder else comparison.files(reference, prediction)
    if output:
        _write(document, Path(output), overwrite)
    _show(document, terminal)
    terminal.document(document)
    return code


def _write(document: dict[str, Any], path: Path, overwrite: bool) -> None:
    import json

    from medseg.io.atomic import write_text
    from medseg.reporting.scores import scores_csv

    text = scores_csv(document) if path.suffix.lower() == ".csv" else json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_text(path, text, overwrite=overwrite)


def _show(document: dict[str, Any], terminal: Terminal) -> None:
    """Print findings, tables and what the other packages say."""
    if terminal.as_json or terminal.quiet:
        return
    from medseg.core.finding import Finding, Severity
    from medseg.reporting.scores import crosscheck_lines, score_tables

    found = [(entry, "") for entry in document["findings"]]
    found += [(entry, f"{case['case']}: ") for case in document.get("cases", ()) for entry in case["findings"]]
    terminal.findings(Finding(one["code"], Severity(one["severity"]), case + one["message"], one["details"]) for one, case in found)
    terminal.show(*score_tables(document), *crosscheck_lines(document.get("crosscheck", ())))
