"""Commands run one after another in the background while Slicer stays alive: what an installation is made of."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from dataclasses import dataclass

import qt
from slicer.i18n import tr as _

POLL_INTERVAL_MS = 50
LAST_LINES = 40  # of what a command said, kept to find out why it failed


@dataclass(frozen=True)
class Step:
    """A command, what it does in words, and the environment it runs in (None: Slicer's own)."""

    title: str
    command: tuple
    environment: dict = None


class Steps:
    """Runs steps until one fails. `onLine` gets titles and output, `onDone` (succeeded, sentence) comes exactly once."""

    def __init__(self, steps, onLine, onDone):
        self._steps = list(steps)
        self._count = len(self._steps)
        self._onLine = onLine
        self._onDone = onDone
        self._process = None
        self._lines = queue.Queue()
        self._last = []
        self._title = ""
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self.poll)

    @property
    def running(self):
        """Whether steps are left."""
        return self._onDone is not None

    def start(self):
        """Begin with the first step."""
        self._timer.start()
        self._next()

    def cancel(self):
        """Stop the command that runs, and with it everything."""
        if self.running:
            self._kill()
            self._finish(False, _("Cancelled. Nothing is used of what was installed so far."))

    def poll(self):
        """Pass on the lines that came, and go on to the next step; the timer calls this."""
        while self.running:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return
            if isinstance(line, int):
                self._ended(line)
            else:
                self._last = [*self._last, line][-LAST_LINES:]
                self._onLine(line)

    # Inside

    def _next(self):
        if not self._steps:
            self._finish(True, "")
            return
        step = self._steps.pop(0)
        self._title = step.title
        self._last = []
        self._onLine(_("Step {0} of {1}: {2}").format(self._count - len(self._steps), self._count, step.title))
        try:
            self._process = _started(step)
        except OSError:
            self._finish(False, _("{0}: the program could not be started. Choose another Python.").format(step.title))
            return
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()

    def _ended(self, code):
        self._process = None
        if code == 0:
            self._next()
        else:
            self._finish(False, whyFailed(self._title, self._last))

    def _finish(self, succeeded, sentence):
        self._timer.stop()
        onDone, self._onDone = self._onDone, None
        onDone(succeeded, sentence)

    def _kill(self):
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        if os.name == "nt":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], check=False, capture_output=True)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def whyFailed(title, lines):
    """Return what a failed step means for the user, from the last lines it said."""
    text = "\n".join(lines).lower()
    if "no space left" in text or "errno 28" in text or "not enough space" in text:
        return _("{0}: the disk is full. Free some space (a full installation takes about 6 GB) or choose another folder.").format(title)
    if "permission denied" in text or "errno 13" in text or "read-only file system" in text:
        return _("{0}: the folder cannot be written. Choose a folder of your own.").format(title)
    if "no matching distribution" in text or "could not find a version" in text or "temporary failure in name resolution" in text:
        return _(
            "{0}: the packages were not found. Without internet, choose the folder that `medseg bundle` made on another computer; "
            "with it, choose a newer Python (3.10 to 3.13)."
        ).format(title)
    return _("{0}: this step failed; the log says why.").format(title)


def _started(step):
    extra = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
    return subprocess.Popen(
        list(step.command),
        env=step.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        **extra,
    )


def _read(process, lines):
    with process.stdout as output:
        for line in output:
            lines.put(line.rstrip())
    lines.put(process.wait())
