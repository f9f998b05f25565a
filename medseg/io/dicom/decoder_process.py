"""One decoder process: its start, the memory it shares with us, its requests and replies, and its end."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.io.dicom import decode_worker as protocol
from medseg.io.dicom.codestream import Codestream

SLOTS = 2  # one frame is decoded while the next one waits in memory already
START_SECONDS = 60.0  # imports from a cold network disk can take this long
SPARE_MIB = 1024  # what a decoder may allocate, and ...
BYTES_PER_PIXEL = 48  # ... in addition: JPEG 2000 needs 16 or so
_NEVER = float("inf")


class DecodingError(Exception):
    """A frame could not be decoded; the message says why, without the file. Never leaves `medseg.io.dicom`."""


class NoDecoderError(Exception):
    """No installed package decodes a kind of frame; never leaves `medseg.io.dicom`."""


class OtherFrameError(Exception):
    """The process ended over another frame: this one is to be tried again. Never leaves `medseg.io.dicom`."""


class DecoderProcess:
    """A child process with `SLOTS` places for frames; replies come in the order of the requests."""

    def __init__(self, packages: Sequence[str], slot_bytes: int) -> None:
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.deadline = time.monotonic() + START_SECONDS
        self._seconds: dict[int, float] = {}
        self._sent = self._received = 0
        self._is_late = self._is_over = self._has_greeted = False
        self._turn = threading.Condition()
        self._memory, name, handles = _shared_memory(SLOTS * self.slot_bytes)
        if not sys.executable:
            raise DecodingError("needs a process of its own to be decoded, but there is no Python program to start (sys.executable)")
        try:
            self._process = subprocess.Popen(
                _command([name, str(SLOTS * self.slot_bytes), *packages]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                pass_fds=handles,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as err:
            raise DecodingError(f"needs a process of its own to be decoded, which could not be started ({err.strerror})") from None
        finally:
            for handle in handles:
                os.close(handle)

    def request(self, slot: int, stream: bytes, frame: Codestream, seconds: float) -> int:
        """Hand a frame over; return the ticket for its reply. One thread at a time."""
        at = slot * self.slot_bytes
        self._memory[at : at + len(stream)] = stream
        mebibytes = SPARE_MIB + (BYTES_PER_PIXEL * frame.rows * frame.columns >> 20)
        kind = protocol.KINDS.index(frame.kind)
        room = self.slot_bytes - len(stream)
        head = protocol.REQUEST.pack(kind, frame.rows, frame.columns, at, len(stream), room, 2 * seconds + 1, mebibytes)
        with self._turn:
            if self._is_over:
                raise OtherFrameError
            ticket = self._sent
            self._sent += 1
            self._seconds[ticket] = seconds
            if ticket == self._received and self._has_greeted:
                self.deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):  # it has ended; whoever reads next learns how
            self._process.stdin.write(head)  # type: ignore[union-attr] # far less than a pipe holds: goes out whole
        return ticket

    def reply(self, ticket: int, slot: int, frame: Codestream, target: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
        """Wait for the reply to a ticket and return the samples, in `target` where they fit its size and item size."""
        with self._turn:
            self._turn.wait_for(lambda: self._is_over or self._received == ticket)
            if self._is_over:
                raise OtherFrameError
        try:
            return self._next_reply(slot, frame, target, self._seconds[ticket])
        finally:
            with self._turn:
                self._received += 1
                del self._seconds[ticket]
                following = self._seconds.get(self._received)
                self.deadline = _NEVER if following is None else time.monotonic() + following
                self._turn.notify_all()

    def drain(self) -> None:
        """Wait until every request has its reply."""
        with self._turn:
            self._turn.wait_for(lambda: self._is_over or self._received == self._sent)

    def end(self) -> None:
        """Stop the process, whatever it does, and wait for it."""
        with self._turn:
            self._is_over = True
            self.deadline = _NEVER
            self._turn.notify_all()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def stop_for_time(self) -> None:
        """Kill the process from a watching thread; the thread that waits for a reply then sees its end."""
        self._is_late = True
        self.deadline = _NEVER
        self._process.kill()

    @property
    def is_over(self) -> bool:
        """Whether it takes no more requests."""
        return self._is_over

    def _next_reply(self, slot: int, frame: Codestream, target: npt.NDArray[Any] | None, seconds: float) -> npt.NDArray[Any]:
        if not self._has_greeted:
            if self._receive(len(protocol.GREETING)) != protocol.GREETING:
                raise self._death()
            self._has_greeted = True
            self.deadline = time.monotonic() + seconds
        status, sign, item, at = protocol.REPLY.unpack(self._receive(protocol.REPLY.size))
        if status == protocol.MISSING:
            raise NoDecoderError(frame.kind)
        if status == protocol.NO_MEMORY:
            raise DecodingError("needs more memory to be decoded than such an image can need: it is damaged")
        if status != protocol.DONE or item not in (1, 2, 4) or sign not in (b"u", b"i"):
            raise DecodingError("cannot be decoded, it is damaged: copy the file again")
        size = (frame.rows, frame.columns)
        dtype = np.dtype(f"{sign.decode()}{item}")
        if not slot * self.slot_bytes <= at <= (slot + 1) * self.slot_bytes - size[0] * size[1] * item:
            raise DecodingError("cannot be decoded, the decoder's answer makes no sense")
        samples = np.frombuffer(self._memory, dtype, size[0] * size[1], at).reshape(size)
        if target is None or target.shape != size or target.dtype.itemsize != item:
            return samples.copy()
        np.copyto(target.view(dtype), samples)
        return target.view(dtype)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                part = self._process.stdout.read(size - len(data))  # type: ignore[union-attr]
            except (OSError, ValueError):  # closed, when reading was stopped
                part = b""
            if not part:
                raise self._death()
            data += part
        return data

    def _death(self) -> DecodingError:
        """Say how the process ended; called where its end of a pipe was found closed."""
        with self._turn:
            self._is_over = True
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._is_late:
            return DecodingError("took the decoder too long and was given up: the file is damaged, copy it again")
        if not self._has_greeted:
            return DecodingError("could not be decoded, the decoder process does not start")
        if code == -getattr(signal, "SIGKILL", 9):
            return DecodingError("was not decoded, the system ended the decoder process, most likely for want of memory")
        return DecodingError(f"made the decoder crash ({_how_it_ended(code)}): the file is damaged, copy it again")


def _shared_memory(size: int) -> tuple[mmap.mmap, str, tuple[int, ...]]:
    """Return memory that a child can open, the name it finds it by, and the handles it has to inherit."""
    if sys.platform == "win32":  # pragma: no cover - other system
        tag = f"medseg-{uuid.uuid4().hex}"
        return mmap.mmap(-1, size, tagname=tag), f"tag={tag}", ()
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("medseg-frames")
    else:  # pragma: no cover - other system
        with tempfile.TemporaryFile(prefix="medseg-") as file:
            handle = os.dup(file.fileno())
    try:
        os.ftruncate(handle, size)
        return mmap.mmap(handle, size), f"handle={handle}", (handle,)
    except OSError as err:
        os.close(handle)
        raise DecodingError(f"needs memory to be decoded that the system does not give ({err.strerror})") from None


_CODE = """import sys
count = int(sys.argv[1])
sys.path[:] = sys.argv[2 : 2 + count]
from medseg.io.dicom.decode_worker import main
main(sys.argv[2 + count :])"""


def _command(arguments: Sequence[str]) -> list[str]:
    """The child gets this process's import path, the working folder last and nothing of the environment's.

    A folder of scans may hold a numpy.py, and must not be able to run it.
    """
    here = os.getcwd()
    known = dict.fromkeys([*(os.path.abspath(path) for path in sys.path if path), str(Path(__file__).resolve().parents[3])])
    paths = sorted(known, key=lambda path: path == here)
    return [sys.executable, "-I", "-S", "-c", _CODE, str(len(paths)), *paths, *arguments]


def _how_it_ended(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"exit code {code}"
