"""A worker process that only plays one: it answers jobs from a script, dies, hangs or fills stderr as a test wants.

Run as a program with the path of its script (JSON): `{"answers": {do: [steps]}, "log": path, "ready": bool}`. A step is an
event (its id is added), {"sleep": s}, {"exit": code}, {"kill": true}, {"hang": true} (deaf to everything) or {"stderr": text}."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROTOCOL = "medseg.job/1"


class FakeWorker:
    """Test side: the command of the process, a factory for the session, and the jobs that arrived."""

    def __init__(self, folder: Path) -> None:
        self._script = folder / "fake_worker.json"
        self._log = folder / "fake_worker_jobs.jsonl"
        self._answers: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._ready = True
        self._write()

    def answer(self, do: str, *steps: Mapping[str, Any]) -> None:
        """What happens on every job of this kind from now on (jobs without an answer end with an empty result)."""
        self._answers[do] = steps
        self._write()

    def result(self, do: str, **content: Any) -> None:
        """The short form: the job is started and ends with this result."""
        self.answer(do, {"event": "started"}, {"event": "result", **content})

    def refuse(self, do: str, message: str, kind: str = "MedsegError", exit_code: int = 2) -> None:
        """The job ends with an error and its sentence."""
        self.answer(do, {"event": "started"}, {"event": "error", "kind": kind, "message": message, "exit_code": exit_code})

    def never_ready(self) -> None:
        """The process starts and says nothing."""
        self._ready = False
        self._write()

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(Path(__file__).resolve()), str(self._script)]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """All lines that arrived, cancellations too."""
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()] if self._log.exists() else []

    def factory(self, *_arguments: Any) -> Any:
        """A real client of medseg over this process, not started; fits Session(workerFactory=...)."""
        from medseg.slicer_bridge.client import Worker

        return Worker(self.command)

    def _write(self) -> None:
        content = {"answers": {key: list(steps) for key, steps in self._answers.items()}, "log": str(self._log), "ready": self._ready}
        self._script.write_text(json.dumps(content), encoding="utf-8")


def _say(event: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _hang() -> None:
    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    while True:
        time.sleep(60)


def _play(job_id: str, steps: Sequence[Mapping[str, Any]], deaf: threading.Event) -> None:
    actions: dict[str, Callable[[Any], Any]] = {
        "sleep": time.sleep,
        "exit": os._exit,
        "kill": lambda _value: os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM)),
        "stderr": lambda text: os.write(2, f"{text}\n".encode()),
    }
    for step in steps:
        if "event" in step:
            _say({**step, "id": job_id})
        elif "hang" in step:
            deaf.set()
            _hang()
        else:
            for name, value in step.items():
                actions[name](value)


def main(script: Path) -> None:
    content = json.loads(script.read_text(encoding="utf-8"))
    lines: list[dict[str, Any]] = []
    arrived, deaf = threading.Condition(), threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            request = json.loads(line)
            with Path(content["log"]).open("a", encoding="utf-8") as log:
                log.write(line)
            if "cancel" in request and not deaf.is_set():
                os._exit(130)
            with arrived:
                lines.append(request)
                arrived.notify()
        if not deaf.is_set():
            os._exit(0)

    if content["ready"]:
        _say({"event": "ready", "protocol": PROTOCOL, "version": "0.0.0", "python": sys.version.split()[0]})
    threading.Thread(target=listen, daemon=True).start()
    while True:
        with arrived:
            while not lines:
                arrived.wait()
            request = lines.pop(0)
        answers = json.loads(script.read_text(encoding="utf-8"))["answers"]  # a test may change its mind while we run
        _play(request["id"], answers.get(request["do"], [{"event": "started"}, {"event": "result"}]), deaf)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
