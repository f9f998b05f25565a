"""The process that runs cases: messages on standard input, events on standard output (see `messages`).

`python -m medseg.batch.worker.worker`. Three threads: one reads the scan of the next case, one computes, one writes the last; each
waits for room before the next, so that at most one scan stands at every stage. Whatever libraries print goes to standard
error. When its parent is gone the process ends at once; what was half-written is swept by the next run.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
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


class Line:
    """Cases on their way through the three stages; at each stands one at most, with its scan in memory."""

    def __init__(self, runner: CaseRunner, channel: LineChannel) -> None:
        self._runner, self._channel = runner, channel
        self._given: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._to_compute: queue.Queue[Work | None] = queue.Queue()
        self._to_write: queue.Queue[Work | None] = queue.Queue()
        self._stages: set[Stage] = set()

    @property
    def is_only_computing(self) -> bool:
        """Whether a case is being computed now, and no other one read or written: those may wait for a disk."""
        return self._stages == {"compute"}

    def give(self, run: Run | None) -> None:
        """Add a case, or None behind the last."""
        self._given.put(run)

    def work(self) -> None:
        """Do every case until None was given; computing stays in this thread."""
        reader = threading.Thread(target=self._read, name="read", daemon=True)
        writer = threading.Thread(target=self._write, name="write", daemon=True)
        reader.start()
        writer.start()
        while True:
            work = self._to_compute.get()
            self._to_compute.task_done()
            if work is None:
                break
            self._step(work, "compute")
            self._to_write.join()
            self._to_write.put(work)
            del work
        self._to_write.put(None)
        writer.join()

    def _read(self) -> None:
        while (run := self._given.get()) is not None:
            self._to_compute.join()  # the scan before this one is being computed: there is room
            work = Work(run.case, run.attempt)
            self._step(work, "read")
            self._to_compute.put(work)
            del work
        self._to_compute.put(None)

    def _write(self) -> None:
        while (work := self._to_write.get()) is not None:
            self._step(work, "write")
            del work
            self._to_write.task_done()

    def _step(self, work: Work, name: Stage) -> None:
        """Do a stage; what the runner raises is no fault of the case and ends the process."""
        self._channel.send(stage(work.case.case_id, name))
        self._stages.add(name)
        try:
            self._runner.step(work, name)
        except OutputError as err:
            self._channel.send(stopping(str(err)))
            os._exit(_STOPPING_EXIT)
        except MedsegError as err:
            self._channel.send(fatal(str(err), err.exit_code))
            os._exit(err.exit_code)
        self._stages.discard(name)
        if name == "write" and work.result is not None:
            result = work.result
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
