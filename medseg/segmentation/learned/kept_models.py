"""Models that serve scan after scan: opened once, and one at a time on a device."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar, cast

from medseg.method.settings import RunSettings


class LeavesDevice(Protocol):
    """A model whose networks may lie on a device between scans."""

    def leave_device(self) -> None:
        """Move them to main memory."""
        ...


M = TypeVar("M", bound=LeavesDevice)
_LAST = ("learned", "the model that ran last")


def opened(settings: RunSettings, name: Hashable, open_it: Callable[[], M]) -> M:
    """Return a model as the scan before left it where the settings keep models, else a new one.

    A model that is kept stays what it was when it was opened, whatever becomes of its folder: its networks are copies in memory
    of the weights whose hash it names. Another one that ran before it gives its place on the device free.
    """
    if settings.kept is None:
        return open_it()
    model = settings.kept.get(name)
    if model is None:
        model = settings.kept.setdefault(name, open_it())  # of two threads one opens it in vain
    before = settings.kept.get(_LAST)
    settings.kept[_LAST] = model
    if before is not None and before is not model:
        before.leave_device()
    return cast(M, model)
