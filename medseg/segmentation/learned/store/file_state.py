"""Whether a file is still the one that was read or hashed before."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medseg.core.errors import ChecksumError, ModelNotFoundError

T = TypeVar("T")


@dataclass(frozen=True)
class FileState:
    """What changes when a file is written or replaced: its size, its time and its place on the disk."""

    path: Path
    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file now; raises ModelNotFoundError where it is missing."""
        try:
            found = os.stat(path)
        except OSError as err:
            raise ModelNotFoundError(f"{path} cannot be read ({err.strerror}): install the model again") from err
        return cls(path, found.st_size, found.st_mtime_ns, found.st_ino)

    def check(self) -> None:
        """Raise ChecksumError where the file has changed since."""
        if FileState.of(self.path) != self:
            raise ChecksumError(
                f"{self.path} changed while the model was in use: its hash and its weights may not belong together; wait until it is "
                "copied, and run again or open the model anew"
            )


def while_unchanged(path: Path, load: Callable[[], T]) -> Callable[[], T]:
    """Return a function that loads from a file, and raises ChecksumError where the file is not what it is now: call it before hashing."""
    state = FileState.of(path)

    def loaded() -> T:
        found = load()
        state.check()
        return found

    return loaded
