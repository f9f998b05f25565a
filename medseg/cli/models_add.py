"""`medseg models add`: install a model after reading it through and asking what it may be used for."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.models_place import store_of, store_option
from medseg.cli.terminal import Terminal, speaking

if TYPE_CHECKING:
    from medseg.segmentation.learned.store.add import Request, StagedModel

_LICENCE_QUESTION = "Licence of the weights (as its source words it, or an SPDX name such as CC-BY-4.0)"
_USE_QUESTION = "Intended use (as its source words it: which scans, which structures, research only?)"


@click.command()
@click.argument("source")
@click.option("--sha256", default="", metavar="HEX", help="What the source must hash to; required for an address.")
@click.option("--name", help="The name to install it under (default: its own).")
@click.option("--licence", metavar="TEXT", help="Licence of the weights, where the model does not state it or states it wrongly.")
@click.option("--intended-use", metavar="TEXT", help="Intended use, where the model does not state it.")
@click.option("--accept-licence", is_flag=True, help="The licence was read and is kept to: do not ask.")
@click.option("--configuration", metavar="NAME", help="Which nnU-Net configuration, where there are several (3d_fullres, 3d_lowres, …).")
@click.option("--registry", type=click.Path(dir_okay=False), help="A list of models; SOURCE is then a name in it.")
@click.option("--offline", is_flag=True, help="Use no network, even where SOURCE is an address.")
@store_option
@speaking
def add(
    source: str,
    sha256: str,
    name: str | None,
    licence: str | None,
    intended_use: str | None,
    accept_licence: bool,
    configuration: str | None,
    registry: str | None,
    offline: bool,
    store: str | None,
    terminal: Terminal,
) -> None:
    """Install the model SOURCE: a folder, a .zip, .tar or .tar.gz archive, or its http(s) address.

    medseg models, nnU-Net v2 folders (TotalSegmentator's among them) and MONAI bundles are told by their files. Nothing of
    a model is run to add it; a file that would have to be run is refused and named. A cut download goes on where it ended.
    """
    from medseg.cli.models_card import panel
    from medseg.segmentation.learned.store.add import Request, check_name, staged
    from medseg.segmentation.learned.store.card import installed_card
    from medseg.segmentation.learned.store.download import is_url

    place = store_of(store)
    request = Request(source, sha256.strip(), configuration, offline)
    if registry is not None:
        request, name, licence, intended_use = _from_registry(request, Path(registry), name, licence, intended_use)
    if is_url(request.source) and not request.sha256:
        raise click.UsageError("an address needs --sha256: the 64 digits its source states, so that nobody on the way can change the model")
    if name is not None:
        check_name(name, place)
    can_ask = not terminal.as_json and not terminal.quiet and sys.stdin.isatty()
    with contextlib.ExitStack() as stack:
        with terminal.progress() as progress:
            model = stack.enter_context(staged(request, place, progress))
        chosen = name or model.suggested_name
        check_name(chosen, place)
        licences = {**model.identity.licence, **({"weights": licence} if licence else {})}
        licences["weights"] = licences.get("weights") or _asked(_LICENCE_QUESTION, "--licence", can_ask)
        use = intended_use or model.identity.intended_use or _asked(_USE_QUESTION, "--intended-use", can_ask)
        _show(terminal, model, chosen, licences, use)
        if not accept_licence:
            _confirm(licences["weights"], can_ask)
        installed = model.install(chosen, licences, use)
    card = installed_card(installed)
    terminal.show(panel(card), f"Installed. Use it with: medseg segment model IN -o OUT --model {installed.name}")
    terminal.document({"schema": "medseg.model-added/1", "model": card.to_dict(), "left_out": list(model.left_out)})


def _from_registry(
    request: Request, registry: Path, name: str | None, licence: str | None, intended_use: str | None
) -> tuple[Request, str, str, str]:
    """Return what a registry knows about a model; flags win over the list, but its hash always holds."""
    from dataclasses import replace

    from medseg.segmentation.learned.store.registry import registered

    entry = registered(request.source, registry)
    if request.sha256 and request.sha256 != entry.sha256:
        raise click.UsageError(f"--sha256 is not the one {registry} states: leave it out, or ask who keeps the list")
    request = replace(request, source=entry.source(registry.parent), sha256=entry.sha256)
    return request, name or entry.name, licence or entry.licence, intended_use or entry.intended_use


def _asked(question: str, flag: str, can_ask: bool) -> str:
    if not can_ask:
        raise click.UsageError(f"the model does not state it, so give it with {flag} TEXT: {question}")
    answer: str = click.prompt(question, err=True)
    return answer


def _confirm(licence: str, can_ask: bool) -> None:
    if not can_ask:
        raise click.UsageError(f"read the licence of the weights ({licence[:200]!a}) and say with --accept-licence that you keep to it")
    click.confirm("Do you keep to the licence and the intended use?", abort=True, err=True)


def _show(terminal: Terminal, model: StagedModel, name: str, licences: dict[str, str], use: str) -> None:
    """Print licence and intended use before they are accepted."""
    from medseg.cli.models_card import plain
    from medseg.segmentation.learned.store.card import is_non_commercial

    terminal.show(f"[bold]{name}[/]: {len(model.segments)} segments, {model.identity.kind}")
    for what, text in licences.items():
        note = "  (NON-COMMERCIAL USE ONLY)" if is_non_commercial(text) else ""
        terminal.show(plain(f"licence, {what}: {text}{note}"))
    terminal.show(plain(f"intended use: {use}"))
    if model.left_out:
        names = ", ".join(model.left_out[:5]) + (f" and {len(model.left_out) - 5} more" if len(model.left_out) > 5 else "")
        terminal.show(plain(f"left out, because such files can run programs and are not needed: {names}"))
