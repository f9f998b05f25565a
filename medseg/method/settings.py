"""How to run, as opposed to what to compute: device and progress never change the parameters of a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]
"""Called with what is being done, steps done and steps in all."""


def no_progress(description: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class RunSettings:
    """Device ("auto", "cpu", "cuda", "cuda:1") and where progress is reported."""

    device: str = "auto"
    progress: Progress = no_progress
