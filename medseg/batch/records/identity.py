"""Which process this is, so that another one, perhaps on another machine, can tell whether it still lives."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

_PROCESSES = Path("/proc")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MACHINE = Path("/etc/machine-id")
_MOST_BYTES = 1 << 16


@dataclass(frozen=True)
class Identity:
    """A process: its machine, boot and container, its number and start time there, and a token of its own.

    What a system does not tell is "".
    """

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: str
    token: str

    @classmethod
    def of_this_process(cls) -> Identity:
        """Return the identity of this process, with a new token."""
        return cls(
            host=socket.gethostname(),
            machine=_text(_MACHINE),
            boot=_text(_BOOT),
            namespace=_namespace(),
            pid=os.getpid(),
            started=_start_of(os.getpid()),
            token=uuid.uuid4().hex[:12],
        )

    @property
    def is_gone(self) -> bool:
        """Whether it is certain, seen from here, that this process has ended; one on another machine never is."""
        here = Identity.of_this_process()
        if (self.host, self.machine) != (here.host, here.machine) or not self.boot:
            return False
        if self.boot != here.boot:
            return bool(self.machine)  # the machine was started again since
        if self.namespace != here.namespace or not self.started:
            return False
        return _start_of(self.pid) != self.started

    def to_bytes(self) -> bytes:
        """Return the content of a file that names this process."""
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def from_file(cls, path: Path) -> Identity | None:
        """Return the identity in a file, None where there is none or something else in it."""
        try:
            with path.open("rb") as file:
                document = json.loads(file.read(_MOST_BYTES))
            found = cls(**document)
        except (OSError, ValueError, TypeError):
            return None
        texts = (found.host, found.machine, found.boot, found.namespace, found.started, found.token)
        return found if isinstance(found.pid, int) and all(isinstance(text, str) for text in texts) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _namespace() -> str:
    try:
        return os.readlink(_PROCESSES / "self/ns/pid")
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Return when a process started, in ticks since the boot; "" where there is none that runs, or nobody says."""
    try:
        text = (_PROCESSES / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()  # a program's name may hold anything, but not after the last bracket
    return fields[19] if len(fields) > 19 and fields[0] not in ("Z", "X") else ""
