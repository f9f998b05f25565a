"""The one worker process of this Slicer: started on first need, watched by a timer, started anew after it died or was cancelled.

Everything heavy happens in that process; here only lines of JSON are passed on. All calls are made on the main thread.
"""

from __future__ import annotations

import itertools
import time

import qt
import slicer
from slicer.i18n import tr as _

POLL_INTERVAL_MS = 20  # how often the worker's lines are looked for while a job runs
CANCELLED = 130  # the exit code of a run that was cancelled, as on the command line

# Questions that take the worker a moment: they queue behind one another and never block a run
QUICK_JOBS = frozenset({"describe", "doctor", "forget", "audit"})


class JobError(RuntimeError):
    """A job that gave no result; the text is the sentence for the user, `kind` is for programs."""

    def __init__(self, message, kind="", exitCode=1):
        super().__init__(message)
        self.kind = kind
        self.exitCode = exitCode


class Session:
    """Owns the worker: `submit` a job and be called with its events, or `runBlocking` where the answer comes at once.

    `workerFactory` takes the session and returns a worker that is not started (medseg.slicer_bridge.client.Worker, or one of a test).
    """

    _instance = None

    @classmethod
    def instance(cls):
        """Return the session of this Slicer, made on the first call."""
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    @classmethod
    def discard(cls):
        """End the session, as when the application closes: the worker goes, its files too."""
        if cls._instance is not None:
            cls._instance.close()
            cls._instance = None

    def __init__(self, workerFactory=None):
        self.workerFactory = workerFactory or _installedWorker
        self._worker = None
        self._jobs = {}
        self._kinds = {}
        self._numbers = itertools.count(1)
        self._timer = None
        self._files = None
        self._leaving = []  # cancelled workers on their way out

    # What runs

    @property
    def busy(self):
        """Whether a run is going on; questions such as `describe` do not count."""
        return any(kind not in QUICK_JOBS for kind in self._kinds.values())

    @property
    def isAlive(self):
        """Whether the worker process is there."""
        return self._worker is not None and bool(self._worker.is_alive)

    @property
    def files(self):
        """The folder for what is handed over; removed when the session ends."""
        if self._files is None:
            from MedSegLib.handover import HandoverFolder

            self._files = HandoverFolder()
        return self._files

    def submit(self, job, onEvent):
        """Send a job and return its id; `onEvent` is called with each event, the last one is `result` or `error`.

        Raises JobError where another run is going on, where nothing is installed, and where the worker does not start.
        """
        if job["do"] not in QUICK_JOBS and self.busy:
            raise JobError(_("Another MedSeg run is still going on. Wait for it, or press Cancel."), "Busy", 2)
        worker = self._running()
        jobId = f"{job['do']}-{next(self._numbers)}"
        self._jobs[jobId] = onEvent
        self._kinds[jobId] = job["do"]
        try:
            worker.send({**job, "id": jobId})
        except medsegErrors() as err:  # a job that is none: a fault of ours, said as it is
            self._forget(jobId)
            raise JobError(str(err), "Job", 2) from err
        self._watch()
        return jobId

    def runBlocking(self, job, timeout_s=30):
        """Send a job and return its result while the windows stay alive; raises JobError with the sentence of what failed."""
        ended = []

        def onEvent(event):
            if event["event"] in ("result", "error"):
                ended.append(event)

        jobId = self.submit(job, onEvent)
        deadline = time.monotonic() + timeout_s
        while not ended:
            self.poll()
            if ended:
                break
            if time.monotonic() > deadline:
                self.cancel(jobId)
                raise JobError(_("MedSeg gave no answer in {0:g} seconds and was stopped.").format(timeout_s), "Timeout")
            slicer.app.processEvents()
            time.sleep(0.001)
        if ended[0]["event"] == "error":
            raise JobError(ended[0].get("message", ""), ended[0].get("kind", ""), ended[0].get("exit_code", 1))
        return ended[0]

    def cancel(self, jobId=None):
        """Stop the worker and every job it had; each job gets one error event of the kind "Cancelled"."""
        if jobId is not None and jobId not in self._jobs:
            return
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()  # returns at once; the process is gone within a second
            self._leaving.append(worker)
        self._endAll({"event": "error", "kind": "Cancelled", "message": _("Cancelled."), "exit_code": CANCELLED})

    def close(self):
        """Stop everything and remove the files that were handed over."""
        self._jobs.clear()
        self._kinds.clear()
        self._unwatch()
        self._drop()
        while self._leaving:
            self._leaving.pop().close()
        if self._files is not None:
            self._files.remove()
            self._files = None

    def poll(self):
        """Pass on what the worker has said since the last call; the timer calls this."""
        worker = self._worker
        if worker is None:
            self._unwatch()
            return
        for event in worker.poll():
            self._deliver(event)
        if worker is self._worker and not worker.is_alive:
            for event in worker.poll():  # what it said between the look and its end
                self._deliver(event)
            self._drop()
            self._endAll({"event": "error", "kind": "WorkerDied", "message": _diedSentence(), "exit_code": 1})
        if not self._jobs:
            self._unwatch()

    # Inside

    def _running(self):
        if self._worker is not None and not self._worker.is_alive:
            self._drop()
        if self._worker is None:
            self._leaving = [worker for worker in self._leaving if worker.is_alive]
            worker = self.workerFactory(self)
            worker.start()
            self._worker = worker
        return self._worker

    def _deliver(self, event):
        jobId = event.get("id")
        if jobId is None:
            if event.get("event") == "error":  # the worker itself ended: that is the answer to all its jobs
                self._drop()
                self._endAll(event)
            return
        onEvent = self._jobs.get(jobId)
        if onEvent is None:
            return
        if event["event"] in ("result", "error"):
            self._forget(jobId)
        onEvent(event)

    def _endAll(self, event):
        jobs = list(self._jobs.items())
        self._jobs.clear()
        self._kinds.clear()
        self._unwatch()
        for jobId, onEvent in jobs:
            onEvent({**event, "id": jobId})

    def _forget(self, jobId):
        self._jobs.pop(jobId, None)
        self._kinds.pop(jobId, None)

    def _drop(self):
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _watch(self):
        if self._timer is None:
            self._timer = qt.QTimer()
            self._timer.setInterval(POLL_INTERVAL_MS)
            self._timer.connect("timeout()", self.poll)
        self._timer.start()

    def _unwatch(self):
        if self._timer is not None:
            self._timer.stop()


def medsegErrors():
    """Return the class of medseg's own errors for an `except`, () where medseg is not there yet."""
    try:
        from medseg.core.errors import MedsegError
    except ImportError:
        return ()
    return (MedsegError,)


def _installedWorker(session):
    """Return the worker of what the user installed; raises JobError that says to install where nothing is."""
    from MedSegLib.install import Installation

    installation = Installation()
    installation.pythonCommand()  # says what to install where nothing is, before anything of medseg is imported
    return installation.worker(session.files.path)


def _diedSentence():
    return _("The MedSeg process ended unexpectedly. Slicer is not affected: press Apply to start again, or Doctor to look for the cause.")
