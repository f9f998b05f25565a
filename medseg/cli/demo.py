"""`medseg demo`: the main job, end to end, on the sample study."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import click

from medseg.cli.terminal import Terminal, device_option, overwrite_option, speaking
from medseg.core.errors import UnreadableFileError

ALLOWED_ERROR_PERCENT = 1.0
_SAMPLE = "torso"


@click.command()
@click.option("-o", "--output", type=click.Path(), default="medseg_demo", show_default=True, help="Folder for the results.")
@device_option
@overwrite_option
@speaking
def demo(output: str, device: str, overwrite: bool, terminal: Terminal) -> int:
    """Run the main job on the sample study: read, segment with the shipped network, measure, report, and check against the truth.

    Ends with exit code 1 where a volume is further than 1 % from the known one.
    """
    from medseg.outputs import run
    from medseg.reporting.table import compare_with_truth, rich_truth_table

    study = sample_study()
    truth: dict[str, Any] = json.loads((study / "truth.json").read_text(encoding="utf-8"))
    terminal.show("[bold]medseg demo[/]: a phantom CT with known volumes, from DICOM to report. Research software, not a medical device.")
    with terminal.settings(device) as settings:
        done = run(
            "ct-phantom",
            study / "dicom",
            output,
            formats=("nii.gz", "seg.nrrd", "dcm"),
            overwrite=overwrite,
            settings=settings,
            truth=truth,
        )
    rows = compare_with_truth(done.result.table, truth)
    terminal.findings(done.result.findings)
    terminal.show(rich_truth_table(rows))
    good = all(row.is_within(ALLOWED_ERROR_PERCENT) for row in rows)
    terminal.show(f"every volume within {ALLOWED_ERROR_PERCENT:g} % of the truth" if good else "[bold red]a volume is off[/]")
    for name in ("pictures/three_planes.png", "pictures/rendering_3d.png", "report.html"):
        if name in done.files:
            terminal.show(f"{name.split('/')[-1]}: {done.files[name]}")
    terminal.document(
        done.result.table.to_dict()
        | {
            "schema": "medseg.demo/1",
            "truth": [row.to_dict() for row in rows],
            "within_limits": good,
            "files": {name: str(path) for name, path in done.files.items()},
        }
    )
    return 0 if good else 1


def sample_study() -> Path:
    """Return the folder of the sample study, in an installed package or beside the package in a checkout."""
    package = Path(str(importlib.resources.files("medseg")))
    for folder in (package / "sample_data" / _SAMPLE, package.parent / "sample_data" / _SAMPLE):
        if (folder / "truth.json").is_file():
            return folder
    raise UnreadableFileError("the sample study is not installed: make one with `medseg phantom torso --preset sample -o DIR`")
