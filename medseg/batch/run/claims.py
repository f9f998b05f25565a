"""Who works on what, in files that any number of processes on any number of machines can share.

A claim is a file that exists once: a hard link to the file that names its process, which appears whole and fails where there is
one already, on network file systems too. All claims of a process are one inode, so that touching it once keeps all of them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from medseg.batch.records.identity import Identity
from medseg.core.errors import OutputError

OWNER_PREFIX = ".owner-"
_GUARD_SUFFIX = ".taking"
_FULL = "free some space or check its permissions, then go on"


class Claims:
    """The claims of one process in a folder.

    A claim whose process is known to have ended, or was not touched for `timeout_s`, is taken over. Times are those of the
    file server on both sides, so clocks need not agree.
    """

    def __init__(self, folder: Path, *, timeout_s: float = 600.0, identity: Identity | None = None) -> None:
        self.identity = identity or Identity.of_this_process()
        self._folder = folder
        self._timeout_s = timeout_s
        self._owner = folder / f"{OWNER_PREFIX}{self.identity.token}"
        self._has_links = True
        self._held: set[str] = set()
        self._taking: set[str] = set()
        self._guard = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._owner.write_bytes(self.identity.to_bytes())
        except OSError as err:
            raise self._error(err) from err

    def take(self, name: str) -> bool:
        """Claim what has this name; False where it is claimed, by whomever. Raises OutputError."""
        if not self._begin(name):
            return False
        try:
            is_taken = self._place(self._folder / name) or self._is_ours(name)
            if is_taken:
                self._held.add(name)
            return is_taken
        finally:
            self._taking.discard(name)

    def take_over(self, name: str) -> bool:
        """Take the claim of a process that is gone or silent; False where it may live, or another process is taking it.

        Of several that try, one succeeds: it alone holds the guard file while it looks again and replaces the claim.
        """
        claim, guard = self._folder / name, self._folder / f"{name}{_GUARD_SUFFIX}"
        if self.is_live(name) or not self._begin(name):
            return False
        try:
            if not self._place(guard):
                self._drop_old_guard(guard)
                return False
            return self._replace(name, claim, guard)
        finally:
            self._taking.discard(name)

    def _replace(self, name: str, claim: Path, guard: Path) -> bool:
        try:
            if self.is_live(name):
                return False
            ours = self._folder / f".{name}-{self.identity.token}"
            self._place(ours)
            os.replace(ours, claim)
            self._held.add(name)
            return True
        except OSError as err:
            raise self._error(err) from err
        finally:
            guard.unlink(missing_ok=True)

    def release(self, name: str) -> None:
        """Give a claim back; one that another process has taken over stays."""
        self._held.discard(name)
        with contextlib.suppress(OSError):
            if self._is_ours(name):
                (self._folder / name).unlink()

    def holder(self, name: str) -> Identity | None:
        """Return whose claim it is, None where there is none that can be read."""
        return Identity.from_file(self._folder / name)

    def is_live(self, name: str) -> bool:
        """Whether a process that may still live has this claim."""
        try:
            touched = (self._folder / name).stat().st_mtime
        except OSError:
            return False
        identity = self.holder(name)
        if identity is not None and (identity == self.identity or identity.is_gone):
            return identity == self.identity
        # touched in the future: the clock was set back, and whoever lives touches it again by the new one
        return abs(self._now() - touched) <= self._timeout_s

    def is_live_owner(self, token: str) -> bool:
        """Whether the process with this token may still live."""
        return token == self.identity.token or self.is_live(f"{OWNER_PREFIX}{token}")

    def beat(self) -> None:
        """Say that this process lives."""
        with contextlib.suppress(OSError):  # a moment without the server: the next beat comes long before the claims are lost
            os.utime(self._owner)
            if not self._has_links:
                for name in tuple(self._held):
                    os.utime(self._folder / name)

    def remove_dead(self, pattern: str = "*") -> None:
        """Remove what processes that are gone have left, where nobody else works in the folder."""
        for path in sorted(self._folder.glob(pattern)):
            if path.is_file() and not self.is_live(path.name):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give everything back."""
        for name in tuple(self._held):
            self.release(name)
        with contextlib.suppress(OSError):
            self._owner.unlink(missing_ok=True)

    def _begin(self, name: str) -> bool:
        """Keep other threads of this process from a claim meanwhile: they would find it to be ours; False where one was first."""
        with self._guard:
            if name in self._held or name in self._taking:
                return False
            self._taking.add(name)
            return True

    def _place(self, path: Path) -> bool:
        """Make a file that names this process, whole or not at all; False where one is there."""
        try:
            if self._has_links:
                try:
                    os.link(self._owner, path)
                    return True
                except (FileExistsError, FileNotFoundError):
                    raise
                except (OSError, AttributeError, NotImplementedError):
                    self._has_links = False  # this file system has none
            with open(path, "xb") as file:
                file.write(self.identity.to_bytes())
            return True
        except FileExistsError:
            return False
        except OSError as err:
            raise self._error(err) from err

    def _is_ours(self, name: str) -> bool:
        """Whether a claim is ours; also where the server made it and its answer was lost on the way."""
        try:
            found, own = (self._folder / name).stat(), self._owner.stat()
        except OSError:
            return False
        if self._has_links:
            return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)
        return self.holder(name) == self.identity

    def _drop_old_guard(self, guard: Path) -> None:
        """Remove the guard of a process that was killed within the moment it needs one."""
        with contextlib.suppress(OSError):
            if guard.exists() and not self.is_live(guard.name):
                guard.unlink()

    def _now(self) -> float:
        """Return the time as the server of the files has it."""
        self.beat()
        try:
            return self._owner.stat().st_mtime
        except OSError:
            return time.time()

    def _error(self, err: OSError) -> OutputError:
        return OutputError(f"{self._folder} cannot be written ({err.strerror or err}): {_FULL}")
