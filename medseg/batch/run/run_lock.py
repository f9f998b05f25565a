"""One run at a time has an output folder for itself."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from medseg.batch.records.identity import Identity
from medseg.batch.run.claims import OWNER_PREFIX, Claims
from medseg.core.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: the file that names its process has to do
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"
_HOLDER = "run"


class BusyOutputError(OutputError):
    """Another run works in the output folder."""

    exit_code = 2


class RunLock:
    """The lock of an output folder, held by a `with` block.

    A lock of the system, which ends with its process however it ends, and a file that names the process, for file systems
    on which such locks mean nothing; a thread touches it as long as the process lives, however long a search takes. Raises
    BusyOutputError where another run has it.
    """

    def __init__(self, state: Path, *, timeout_s: float = 600.0) -> None:
        self._state = state
        self._timeout_s = timeout_s
        self._file = -1
        self._claims: Claims | None = None
        self._is_locked = False  # by the system; False also where the file system has no locks
        self._is_over = threading.Event()

    def __enter__(self) -> RunLock:
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._state / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            is_ours = self._lock()
        except OSError as err:
            raise OutputError(f"{self._state} cannot be written ({err.strerror or err}): check the folder and its permissions") from err
        holder = Identity.from_file(self._state / _HOLDER)
        if not is_ours:
            os.close(self._file)
            self._file = -1
            raise _busy(holder)
        if holder is None and self._is_locked:
            (self._state / _HOLDER).unlink(missing_ok=True)  # what a crash made of it names nobody, and the lock is ours
        try:
            self._claims = Claims(self._state, timeout_s=self._timeout_s)
            if not self._claims.take(_HOLDER) and not self._claims.take_over(_HOLDER):
                raise _busy(holder)
            self._claims.remove_dead(f"{OWNER_PREFIX}*")
        except BaseException:
            self._release()
            raise
        self._is_over = threading.Event()
        alive = threading.Thread(target=self._keep_alive, args=(self._claims, self._is_over), daemon=True, name="medseg-run-lock")
        alive.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._release()

    def remove(self) -> None:
        """Remove the file of the lock while it is held: for a folder that is to go as if it had never been there."""
        if self._claims is not None:
            with contextlib.suppress(OSError):
                (self._state / _LOCK).unlink(missing_ok=True)

    def _keep_alive(self, claims: Claims, is_over: threading.Event) -> None:
        while not is_over.wait(self._timeout_s / 10):
            claims.beat()

    def _release(self) -> None:
        self._is_over.set()
        if self._claims is not None:
            self._claims.close()
            self._claims = None
        if self._file >= 0:
            os.close(self._file)
            self._file, self._is_locked = -1, False

    def _lock(self) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        self._is_locked = True
        return True


def is_anyone_at_work(folder: Path, *, timeout_s: float) -> bool:
    """Whether another process that may live has claims in a folder; those of this process do not count."""
    if not folder.is_dir():
        return False
    claims = Claims(folder, timeout_s=timeout_s)
    try:
        names = [path.name for path in folder.glob(f"{OWNER_PREFIX}*")]
        return any(claims.is_live(name) for name in names if not _is_same_process(claims.holder(name), claims.identity))
    finally:
        claims.close()


def _is_same_process(one: Identity | None, other: Identity) -> bool:
    return one is not None and replace(one, token=other.token) == other


def _busy(holder: Identity | None) -> BusyOutputError:
    who = f" (process {holder.pid} on {holder.host})" if holder is not None else ""
    return BusyOutputError(
        f"another run works in this output folder{who}: wait until it ends, work beside it with --join, or give another folder"
    )
