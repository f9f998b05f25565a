"""What a worker does to itself: a cap on its memory, first in line when memory runs out, a sign of life, an end with its parent."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medseg.batch.worker.memory_use import data_bytes, rss_bytes
from medseg.batch.worker.messages import ALIVE_EVERY_S, alive

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_FIRST_TO_GO = "500"  # before its parent and everything else of this user
_PARENT_EVERY_S = 0.25
OUT_OF_MEMORY_EXIT = 76  # the cap was reached, and nothing goes on
_NEAR_CAP, _IDLE_PERCENT, _STUCK_S = 0.9, 2.0, 30.0


def contain(memory_gb: float | None) -> int:
    """Let the system end this process first when memory runs out; return the cap on its data in bytes, 0 where there is none.

    The cap counts what the process allocates, not files it maps nor what a GPU driver reserves (RLIMIT_DATA of Linux).
    """
    with contextlib.suppress(OSError):  # no Linux, or not allowed: the system chooses by size
        _OOM_SCORE.write_text(_FIRST_TO_GO)
    if not memory_gb:
        return 0
    try:
        import resource

        limit = int(memory_gb * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    except (ImportError, AttributeError, OSError, ValueError):
        return 0
    return limit


class Heartbeat:
    """Says every two seconds that the process is there, and ends it when its parent is gone.

    With `watch` also where memory is at its cap and nothing goes on: a thread that finds no memory for its first step ends before
    whoever started it knows of it, and who started it waits for ever.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None], device: str) -> None:
        self._send, self._device = send, device
        self._parent = os.getppid()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._cap_bytes, self._is_computing, self._stuck_s = 0, _never, 0.0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def watch(self, cap_bytes: int, is_computing: Callable[[], bool]) -> None:
        """End the process with `OUT_OF_MEMORY_EXIT` where it computes, its data reach the cap (0: none), and nothing goes on."""
        self._is_computing, self._cap_bytes = is_computing, cap_bytes

    def _end_where_stuck(self, percent: float, passed_s: float) -> None:
        is_stuck = self._cap_bytes and percent < _IDLE_PERCENT and self._is_computing() and data_bytes() > _NEAR_CAP * self._cap_bytes
        self._stuck_s = self._stuck_s + passed_s if is_stuck else 0.0
        if self._stuck_s > _STUCK_S:
            os._exit(OUT_OF_MEMORY_EXIT)

    def _beat(self) -> None:
        said, used = time.monotonic(), time.process_time()
        while True:
            time.sleep(_PARENT_EVERY_S)
            if os.getppid() != self._parent:
                os._exit(1)  # its files would be swept from under it by the next run
            now = time.monotonic()
            if now - said >= ALIVE_EVERY_S:
                busy = time.process_time()
                percent = 100 * (busy - used) / (now - said)
                self._send(alive(rss_bytes(), round(percent, 1), device_use(self._device)))
                self._end_where_stuck(percent, now - said)
                said, used = now, busy


def _never() -> bool:
    return False


def device_use(device: str) -> Mapping[str, Any] | None:
    """Return name and memory of the CUDA device this process computes on, None where it does not (yet)."""
    torch: Any = sys.modules.get("torch")  # looked at only where a network brought it
    if not device.startswith("cuda") or torch is None or not getattr(torch, "cuda", None) or not torch.cuda.is_initialized():
        return None
    try:
        free, total = torch.cuda.mem_get_info(device)
        return {"name": torch.cuda.get_device_name(device), "used_bytes": int(total - free), "total_bytes": int(total)}
    except RuntimeError:  # the device is lost; whoever computes on it says so
        return None
