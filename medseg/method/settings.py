"""How to run, as opposed to what to compute: device and progress never change the parameters of a method."""

from __future__ import annotations

from collections.abc import Callable, Hashable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with what is being done, steps done and steps in all."""


def no_progress(description: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class RunSettings:
    """Device ("auto", "cpu", "cuda", "cuda:1"), where progress is reported, and the folders in which models are looked for.

    `model_folders` None: the store of this user (`medseg models add`). `kept` holds what a method wants to have again for the
    next scan, such as a network with its weights; None: nothing outlives a scan.
    """

    device: str = "auto"
    progress: Progress = no_progress
    model_folders: tuple[Path, ...] | None = None
    kept: MutableMapping[Hashable, Any] | None = None
