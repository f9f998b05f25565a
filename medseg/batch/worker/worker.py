"""The process that runs cases: messages on standard input, events on standard output (see `messages`).

`python -m medseg.batch.worker.worker`. Three threads: one reads the scan of the next case, one computes, one writes the last; each
waits for room before the next, so that at most one scan stands at every stage. Cases that are done in a moment are done in one
thread. Whatever libraries print goes to standard error. When its parent is gone the process ends at once; what was half-written
is swept by the next run.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

from medseg import __version__
from medseg.batch.records.layout import Layout
from medseg.batch.worker.memory_use import rss_bytes
from medseg.batch.worker.messages import MessageError, Run, Stage, Start, fatal, finished, parse_line, ready, stage, stopping, to_line
from medseg.batch.worker.work import Work
from medseg.batch.worker.worker_setup import Heartbeat, contain
from medseg.core.errors import MedsegError, OutputError
from medseg.core.served_process import LineChannel, quieten, take_streams

if TYPE_CHECKING:
    from medseg.batch.worker.case_run import CaseRunner

DEVICE_LOST_EXIT = 75  # the process must go for the device to come back; its cases may be tried again
_STOPPING_EXIT = 5
_SWITCH_S = 1e-3  # kernels and files let go of the interpreter often: waiting 5 ms each time to have it back adds up
_GARBLED_EXIT = 2
_SHORT_S = 0.1  # reading, computing and writing together


class Line:
    """Cases on their way through the three stages; at each stands one at most, with its scan in memory."""

    def __init__(self, runner: CaseRunner, channel: LineChannel) -> None:
        self._runner, self._channel = runner, channel
        self._given: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._stages: set[Stage] = set()
        self._is_short = False  # the last case written was: three threads would mostly wait for one another

    @property
    def is_only_computing(self) -> bool:
        """Whether a case is being computed now, and no other one read or written: those may wait for a disk."""
        return self._stages == {"compute"}

    def give(self, run: Run | None) -> None:
        """Add a case, or None behind the last."""
        self._given.put(run)

    def work(self) -> None:
        """Do every case until None was given; computing stays in this thread."""
        # not as contexts: where a thread cannot be started, what the other one waits for never comes
        reader, writer = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "write")
        written: Future[None] | None = None
        work = self._next()
        while work is not None:
            ahead = None if self._is_short else reader.submit(self._next)
            self._step(work, "compute")
            if written is not None:
                written.result()  # the case before this one is written: there is room
                written = None
            if ahead is None:
                self._step(work, "write")
                work = self._next()
            else:
                written = writer.submit(self._step, work, "write")
                work = ahead.result()
        if written is not None:
            written.result()

    def _next(self) -> Work | None:
        """Wait for the next case and read its scan; None behind the last."""
        run = self._given.get()
        if run is None:
            return None
        work = Work(run.case, run.attempt)
        self._step(work, "read")
        return work

    def _step(self, work: Work, name: Stage) -> None:
        """Do a stage; what the runner raises is no fault of the case and ends the process, whichever thread it is in."""
        self._channel.send(stage(work.case.case_id, name))
        self._stages.add(name)
        begin = time.perf_counter()
        try:
            self._runner.step(work, name)
        except OutputError as err:
            self._channel.send(stopping(str(err)))
            os._exit(_STOPPING_EXIT)
        except MedsegError as err:
            self._channel.send(fatal(str(err), err.exit_code))
            os._exit(err.exit_code)
        except BaseException as err:
            _crashed(type(err), self._channel)
            raise
        self._stages.discard(name)
        work.took_s += time.perf_counter() - begin
        if name == "write":
            self._is_short = work.took_s < _SHORT_S
            self._tell(work)

    def _tell(self, work: Work) -> None:
        result = work.result
        assert result is not None  # the last stage gives it or raises
        self._channel.send(finished(result.case_id, result.status, result.code, result.seconds, rss_bytes()))
        if result.code == "DEVICE_LOST":
            os._exit(DEVICE_LOST_EXIT)


def _take(messages: IO[bytes], line: Line, channel: LineChannel) -> None:
    """Hand over cases until the parent closes the pipe."""
    for text in messages:
        try:
            line.give(Run.from_dict(parse_line(text)))
        except MessageError as err:
            channel.send(fatal(str(err), _GARBLED_EXIT))
            os._exit(_GARBLED_EXIT)
    line.give(None)


def _runner(start: Start, channel: LineChannel) -> CaseRunner:
    """Return what runs the cases; where it cannot be made the process ends, for no case could be run."""
    try:
        from medseg.batch.worker.case_run import CaseRunner
        from medseg.batch.worker.models import check_models
        from medseg.method.settings import RunSettings

        check_models(start.plan, start.model_folders)  # of a worker that is started again hours later

        settings = RunSettings(device=start.device, model_folders=start.model_folders)
        return CaseRunner(start.plan, start.root, Layout(start.output), settings=settings, token=start.token)
    except MedsegError as err:
        channel.send(fatal(str(err), err.exit_code))
        sys.exit(err.exit_code)
    except (ImportError, MemoryError, OSError) as err:
        channel.send(fatal(f"the worker cannot start ({type(err).__name__}): allow more memory, or install medseg again"))
        sys.exit(4)


def _crashed(kind: type[BaseException], channel: LineChannel) -> None:
    """End the process where one of its threads would end and the others wait forever; the text of the error stays out."""
    channel.send(fatal(f"unexpected {kind.__name__} in the worker: a fault of medseg, please report it", 1))
    os._exit(1)


def main() -> None:
    """Run until the parent closes standard input and every case is written."""
    messages, events = take_streams()
    channel = LineChannel(events, to_line, exit_code=1)
    quieten()
    threading.excepthook = lambda args: _crashed(args.exc_type, channel)
    sys.excepthook = lambda kind, err, trace: _crashed(kind, channel)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    sys.setswitchinterval(_SWITCH_S)
    try:
        start = Start.from_dict(parse_line(messages.readline()))
    except MessageError as err:
        channel.send(fatal(str(err), _GARBLED_EXIT))
        sys.exit(_GARBLED_EXIT)
    heartbeat = Heartbeat(channel.send, start.device)
    heartbeat.start()
    line = Line(_runner(start, channel), channel)
    cap_bytes = contain(start.memory_gb)  # not before: a library that finds no memory while it is loaded may try for ever
    heartbeat.watch(cap_bytes, lambda: line.is_only_computing)
    channel.send(ready(os.getpid(), __version__))
    threading.Thread(target=_take, args=(messages, line, channel), name="messages", daemon=True).start()
    line.work()


if __name__ == "__main__":
    main()
