"""The card of a model on a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from medseg.segmentation.learned.store.card import ModelCard

_MOST_TEXT = 2000
_MOST_SEGMENTS = 150
_MOST_SCORES = 16
_SCORE = re.compile(r"dice|score|iou|hd95|nsd|accuracy|error", re.IGNORECASE)


def plain(text: str) -> Text:
    """Return the text of a stranger as text: no markup, and nothing that a terminal would obey."""
    kept = "".join(c for c in text[:_MOST_TEXT] if c in "\n\t" or unicodedata.category(c)[0] != "C")
    return Text(kept)


def megabytes(count: int) -> str:
    """Return a size in MB with a digit where it is small."""
    return f"{count / 1e6:.1f}" if count < 100e6 else f"{count / 1e6:.0f}"


def panel(card: ModelCard) -> Panel:
    """Return the card as a panel: title, facts, segments, licences, scores."""
    identity = card.identity
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(overflow="fold")
    rows.add_row("title", plain(identity.title or card.name))
    rows.add_row("kind", plain(f"{identity.kind}, version {identity.version or 'not stated'}"))
    rows.add_row("input", plain(_input(card)))
    rows.add_row("finds", _segments(card))
    rows.add_row("intended use", plain(identity.intended_use or "not stated: ask its author before using a result"))
    for what in dict.fromkeys(("weights", "data", "code", *identity.licence)):
        rows.add_row(f"licence, {what}", _licence(card, what))
    rows.add_row("size", f"{megabytes(card.bytes)} MB")
    rows.add_row("SHA-256", plain(identity.sha256 or "of the weights not stated"))
    if card.origin is not None:
        rows.add_row("from", plain(f"{card.origin.source}, added {card.origin.added}, SHA-256 {card.origin.sha256}"))
    rows.add_row("folder", plain(str(card.folder)))
    told = sorted(_flat(card.training), key=lambda entry: not _SCORE.search(entry[0]))  # scores first
    if told:
        more = [f"and {len(told) - _MOST_SCORES} more in model.json"] if len(told) > _MOST_SCORES else []
        rows.add_row("training", plain("\n".join([*(f"{name}: {value}" for name, value in told[:_MOST_SCORES]), *more])))
    return Panel(rows, title=plain(card.name), title_align="left", border_style="yellow" if card.non_commercial else "green")


def _input(card: ModelCard) -> str:
    identity = card.identity
    spacing = f" at {' × '.join(f'{value:g}' for value in identity.spacing_mm)} mm" if identity.spacing_mm else ""
    channels = f" ({', '.join(identity.channels)})" if identity.channels else ""
    return f"{identity.modality or 'modality not stated'}{channels}{spacing}"


def _segments(card: ModelCard) -> Text:
    lines = []
    for segment in card.segments[:_MOST_SEGMENTS]:
        code = segment.type
        side = f", {segment.modifier.meaning}" if segment.modifier is not None else ""
        coded = f" ({code.scheme} {code.value} {code.meaning}{side})" if code is not None else ""
        lines.append(f"{segment.number} {segment.label}{coded}")
    if len(card.segments) > _MOST_SEGMENTS:
        lines.append(f"and {len(card.segments) - _MOST_SEGMENTS} more")
    return plain("\n".join(lines) or "not stated")


def _licence(card: ModelCard, what: str) -> Text:
    text = plain(card.identity.licence.get(what) or "not stated")
    if what in card.non_commercial:
        text.append("  NON-COMMERCIAL USE ONLY", style="bold yellow")
    return text


def _flat(entries: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield the plain values of nested entries with their path; long lists are no score."""
    for name, value in entries.items():
        path = f"{before} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        elif isinstance(value, float):
            yield path, f"{value:.4g}"
        elif isinstance(value, (str, int)):
            yield path, str(value)
        elif isinstance(value, (list, tuple)) and len(value) <= 10 and all(isinstance(one, (int, float, str)) for one in value):
            yield path, ", ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in value)
