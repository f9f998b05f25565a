"""`medseg finetune`: from a trained model to one for other labels or other scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg.cli.terminal import Terminal, speaking
from medseg.cli.train import Origin, carried_out, training_options


@click.command()
@click.argument("model")
@click.argument("dataset", type=click.Path(path_type=Path))
@training_options
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="By default a tenth of that of a training from the start.")
@click.option("--frozen-steps", type=click.IntRange(min=0), help="Steps in which only the way up learns (0).")
@speaking
def finetune(model: str, dataset: Path, learning_rate: float | None, frozen_steps: int | None, terminal: Terminal, **options: Any) -> int:
    """Train MODEL on with DATASET: its network, voxel size and intensities, the labels of the dataset.

    MODEL is the name or folder of any model with a known network: medseg's own, nnU-Net's, a MONAI bundle. Output channels of
    labels with the same name are kept. The licence of the model goes on to what is made of it: see plan.yaml.
    """
    return carried_out(terminal, dataset, options, Origin(model, learning_rate, frozen_steps))
