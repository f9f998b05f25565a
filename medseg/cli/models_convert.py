"""`medseg models convert`: a model of another kind as a medseg model with safetensors weights."""

from __future__ import annotations

import click

from medseg.cli.models_place import store_of, store_option
from medseg.cli.terminal import Terminal, overwrite_option, speaking


@click.command()
@click.argument("model")
@click.option("-o", "--output", type=click.Path(file_okay=False), required=True, help="The folder of the converted model; it must be new.")
@click.option("--name", help="The name of the converted model (default: made from its own).")
@click.option("--licence", metavar="TEXT", help="Licence of the weights, where the model does not state it.")
@click.option("--intended-use", metavar="TEXT", default="", help="Intended use, where the model does not state it.")
@store_option
@overwrite_option
@speaking
def convert(
    model: str,
    output: str,
    name: str | None,
    licence: str | None,
    intended_use: str,
    store: str | None,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Write MODEL (a name or a folder) as a medseg model: model.json and safetensors weights, which can run no code.

    nnU-Net v2 folders keep nnU-Net's rules and give the same labels. MONAI bundles cannot be converted.
    """
    from pathlib import Path

    from medseg.cli.models_card import panel
    from medseg.segmentation.learned.store.card import card_of
    from medseg.segmentation.learned.store.convert import convert_model

    licences = {"weights": licence} if licence else {}
    with terminal.progress() as progress:
        folder = convert_model(
            model,
            Path(output),
            [store_of(store)],
            name=name,
            licence=licences,
            intended_use=intended_use,
            overwrite=overwrite,
            progress=progress,
        )
    card = card_of(folder)
    terminal.show(panel(card))
    terminal.document({"schema": "medseg.model-converted/1", "model": card.to_dict()})
