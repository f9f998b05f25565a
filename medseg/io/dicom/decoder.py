"""Decoding of compressed frames in child processes: a file may crash or hang a decoder, but not the run."""

from __future__ import annotations

import importlib.util
import queue
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy.typing as npt

from medseg.io.dicom.codestream import JPEG, JPEG_2000, JPEG_LOSSLESS, JPEG_LS, Codestream
from medseg.io.dicom.decoder_process import SLOTS, DecoderProcess, DecodingError, NoDecoderError, OtherFrameError

__all__ = ["DecoderPool", "DecodingError", "NoDecoderError", "has_decoder"]

# the fastest first (benchmarks/bench_dicom_loading.py); OpenJPH is left out: it takes truncated frames without a word
PACKAGES = {
    JPEG: ("imagecodecs", "SimpleITK"),
    JPEG_LOSSLESS: ("imagecodecs", "SimpleITK"),
    JPEG_LS: ("imagecodecs", "jpeg_ls"),
    JPEG_2000: ("imagecodecs", "openjpeg"),
}
FRAME_SECONDS = 8.0  # what any frame may take, and ...
PIXELS_PER_SECOND = 500_000  # ... a large one in addition: a twentieth of what the slowest decoder does
_LEAST_SLOT_BYTES = 1 << 24
_ATTEMPTS = 3
_WATCH_SECONDS = 0.05


def has_decoder(kind: str, packages: Sequence[str] | None = None) -> bool:
    """Whether a package that decodes a kind of frame is installed."""
    return any(_is_installed(name) for name in (PACKAGES[kind] if packages is None else packages))


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


class DecoderPool:
    """Up to `workers` decoder processes, each started when it is first needed; safe to use from several threads.

    Twice as many threads as workers keep them busy. `frame_seconds` is what one frame may take, `packages` stand in for the
    usual decoders. Close it, or use it in `with`.
    """

    def __init__(self, workers: int = 1, frame_seconds: float = FRAME_SECONDS, packages: Sequence[str] | None = None) -> None:
        self._frame_seconds = frame_seconds
        self._packages = packages
        self._places = [_Place() for _ in range(max(workers, 1))]
        # the second slot of a process is taken when every process is at work
        self._idle: queue.PriorityQueue[tuple[int, int]] = queue.PriorityQueue()
        for slot in range(SLOTS):
            for number in range(len(self._places)):
                self._idle.put((slot, number))
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watchman: threading.Thread | None = None
        self._known: set[str] = set()

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def decode(self, stream: bytes, frame: Codestream, target: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the samples of a frame, (rows, columns), as the decoder gives them.

        They are put into `target` where it has their size and item size (the sign is then for the caller to see to).
        Raises DecodingError, or NoDecoderError where no installed package decodes such frames.
        """
        self._check_package(frame.kind)
        seat = self._idle.get()
        slot, number = seat
        try:
            for _ in range(_ATTEMPTS):
                process: DecoderProcess | None = None
                try:
                    with self._places[number].lock:
                        process = self._process(self._places[number], len(stream) + 4 * frame.rows * frame.columns)
                        ticket = process.request(slot, stream, frame, self._seconds(frame))
                    return process.reply(ticket, slot, frame, target)
                except OtherFrameError:
                    continue
                finally:
                    if process is not None and process.is_over:
                        process.end()
            raise DecodingError("was not decoded, the decoder processes keep ending over other images")
        finally:
            self._idle.put(seat)

    def close(self) -> None:
        """End all workers, also those in the middle of a frame."""
        self._closed.set()
        with self._lock:
            processes = [place.process for place in self._places if place.process is not None]
        for process in processes:
            process.end()
        if self._watchman is not None:
            self._watchman.join()

    def _check_package(self, kind: str) -> None:
        if kind in self._known:
            return
        if not has_decoder(kind, self._packages):
            raise NoDecoderError(kind)
        self._known.add(kind)

    def _seconds(self, frame: Codestream) -> float:
        return self._frame_seconds + frame.rows * frame.columns / PIXELS_PER_SECOND

    def _process(self, place: _Place, slot_bytes: int) -> DecoderProcess:
        """Return the process of a place, a new one where there is none, it has ended, or its slots are too small."""
        if place.process is not None and not place.process.is_over:
            if slot_bytes <= place.process.slot_bytes:
                return place.process
            place.process.drain()
            place.process.end()
        with self._lock:
            if self._closed.is_set():
                raise DecodingError("was not decoded, reading was stopped")
            names = self._packages if self._packages is not None else dict.fromkeys(name for group in PACKAGES.values() for name in group)
            place.process = DecoderProcess(list(names), max(2 * slot_bytes, _LEAST_SLOT_BYTES))
            if self._watchman is None:
                self._watchman = threading.Thread(target=self._watch, name="medseg-decoder-watch", daemon=True)
                self._watchman.start()
            return place.process

    def _watch(self) -> None:
        while not self._closed.wait(_WATCH_SECONDS):
            now = time.monotonic()
            for process in [place.process for place in self._places]:
                if process is not None and process.deadline < now:
                    process.stop_for_time()


class _Place:
    """Room for one process at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: DecoderProcess | None = None
