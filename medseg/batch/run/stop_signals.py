"""Signals that ask a run to stop, heard as messages in its inbox."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from medseg.batch.run.worker_process import Inbox

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")


@dataclass(frozen=True)
class StopAsked:
    """Someone wants the run to end: the name of the signal."""

    name: str


class StopSignals:
    """Within a `with` block signals become `StopAsked` in the inbox; elsewhere than in the main thread nothing changes."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)  # Windows has no SIGUSR1 and no SIGHUP
                is_ignored = name == "SIGHUP" and number is not None and signal.getsignal(number) == signal.SIG_IGN  # by nohup
                if number is not None and not is_ignored:
                    self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._inbox.put(StopAsked(signal.Signals(number).name))
