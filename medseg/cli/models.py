"""`medseg models`: which trained networks there are, what they may be used for, and how they come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medseg.cli.models_add import add
from medseg.cli.models_convert import convert
from medseg.cli.models_place import store_of, store_option
from medseg.cli.terminal import Terminal, speaking


@click.group()
def models() -> None:
    """Trained networks: list them, show the card of one, add, convert and remove them."""


@models.command("list")
@store_option
@speaking
def list_(store: str | None, terminal: Terminal) -> None:
    """List the models that come with medseg and those that were added."""
    from rich.table import Table

    from medseg.cli.models_card import megabytes, plain
    from medseg.segmentation.learned.store.card import card_of, described_card, installed_card
    from medseg.segmentation.learned.store.find import list_models, list_prompt_models
    from medseg.segmentation.learned.store.installed import find_broken, list_installed

    place = store_of(store)
    cards = {model.name: installed_card(model) for model in list_installed([place])}
    for model in list_models([place]):
        cards.setdefault(model.description.name, described_card(model))
    for folder in list_prompt_models([place]):
        cards.setdefault(folder.name, card_of(folder))
    broken = find_broken([place])
    table = Table("model", "kind", "what it does", "segments", "licence of the weights", "MB", header_style="bold")
    for name, card in sorted(cards.items()):
        licence = card.identity.licence.get("weights", "")
        mark = f"{plain(licence)} (non-commercial)" if card.non_commercial else plain(licence)
        table.add_row(name, card.identity.kind, plain(card.identity.title), str(len(card.segments)), mark, megabytes(card.bytes))
    terminal.show(table)
    for name, fault in broken.items():
        terminal.show(f"{name} cannot be used: {plain(fault).markup}")
    entries: list[dict[str, Any]] = [card.to_dict() for _, card in sorted(cards.items())]
    broken_entries = [{"name": name, "fault": fault} for name, fault in broken.items()]
    terminal.document({"schema": "medseg.models/1", "store": str(place), "models": entries, "broken": broken_entries})


@models.command()
@click.argument("model")
@store_option
@click.option("--verify", is_flag=True, help="Compare every file with the hash it was installed with.")
@speaking
def info(model: str, store: str | None, verify: bool, terminal: Terminal) -> None:
    """Show the card of MODEL (a name or a folder): what it finds, licences, intended use, size, hash, scores."""
    from medseg.cli.models_card import panel
    from medseg.segmentation.learned.store.card import card_of
    from medseg.segmentation.learned.store.convert import check_weights
    from medseg.segmentation.learned.store.find import DESCRIPTION_FILE
    from medseg.segmentation.learned.store.installed import find_installed

    place = store_of(store)
    card = card_of(model, [place])
    if verify:
        installed = find_installed(model, [place])
        if installed is not None:
            installed.check()
        elif (card.folder / DESCRIPTION_FILE).is_file():
            check_weights(card.folder)
        else:
            raise click.UsageError("--verify needs a model of the store or a medseg folder: only these keep hashes to compare with")
    terminal.show(panel(card))
    if verify:
        terminal.show("Every file is what was installed.")
    terminal.document({"schema": "medseg.model-card/1", "verified": verify, "model": card.to_dict()})


@models.command()
@click.argument("name")
@store_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@speaking
def remove(name: str, store: str | None, yes: bool, terminal: Terminal) -> None:
    """Delete an added model, whole or broken, from the store."""
    import sys

    from medseg.segmentation.learned.store.installed import remove_installed

    place = store_of(store)
    if not yes:
        if terminal.as_json or not sys.stdin.isatty():
            raise click.UsageError(f"to delete {name!r} without being asked, give --yes")
        click.confirm(f"Delete {name} from {place}?", abort=True, err=True)
    folder = remove_installed(name, place)
    terminal.show(f"Removed {name} ({folder}).")
    terminal.document({"schema": "medseg.model-removed/1", "name": name, "folder": str(Path(folder))})


@models.command("hash")
@click.argument("bundle", type=click.Path(exists=True))
@speaking
def hash_(bundle: str, terminal: Terminal) -> None:
    """Print the SHA-256 of a whole MONAI BUNDLE, which --trust-bundle asks for; read its code before you use it."""
    from medseg.segmentation.learned.bundle.trust import bundle_sha256

    digest = bundle_sha256(Path(bundle))
    terminal.show(digest)
    terminal.document({"schema": "medseg.bundle-hash/1", "path": bundle, "sha256": digest})


models.add_command(add)
models.add_command(convert)
