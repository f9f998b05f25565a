"""Where added models lie: the option every model command has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

store_option: Callable[[Any], Any] = click.option(
    "--store", type=click.Path(file_okay=False), help="The folder of added models (default: the one of this user)."
)


def store_of(given: str | None) -> Path:
    """Return the folder of added models: the one given, or the default one of this user."""
    if given is not None:
        return Path(given)
    from medseg.segmentation.learned.store.installed import default_store

    return default_store()
