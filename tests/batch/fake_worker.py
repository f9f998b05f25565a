"""A worker that does what a script says: it crashes, hangs, is killed, fills the disk or talks nonsense, case by case.

`python fake_worker.py SCRIPT`: a JSON file {"start": ..., "cases": {case id: [what its first attempt does, its second, ...]}};
the last entry stands for all later attempts, a case that is not there is done. What it begins goes into SCRIPT.trace.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from medseg.batch.records.case import Case
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import CaseResult
from medseg.batch.records.results import close_folder, open_folder, read_inputs

_LOCK = threading.Lock()
Message = dict[str, Any]


def say(**event: Any) -> None:
    with _LOCK:
        os.write(1, json.dumps(event).encode("ascii") + b"\n")


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


class Fake:
    def __init__(self, script: Path) -> None:
        self._script: dict[str, Any] = json.loads(script.read_text(encoding="utf-8"))
        self._trace = script.with_suffix(".trace")
        self._read: queue.Queue[Message | None] = queue.Queue(maxsize=1)
        self._start: Message = {}
        self._rss_bytes = 1 << 20

    def run(self) -> None:
        self._start = json.loads(sys.stdin.buffer.readline())
        self._begin(self._script.get("start", ""))
        say(event="ready", pid=os.getpid(), version="0")
        for target in (self._beat, self._read_ahead):
            threading.Thread(target=target, daemon=True).start()
        while (message := self._read.get()) is not None:
            self._compute(message)

    def _begin(self, how: str) -> None:
        self.note("worker", 0)
        if how == "fatal":
            say(event="fatal", message="the model is not there", exit_code=4)
            sys.exit(4)
        if how == "broken":
            sys.stderr.write("ModuleNotFoundError: No module named 'medseg'\n")
            sys.exit(1)
        if how == "asleep":
            time.sleep(600)

    def _beat(self) -> None:
        while True:
            say(event="alive", rss_bytes=self._rss_bytes, cpu_percent=1.0, device=None)
            time.sleep(0.1)

    def _read_ahead(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if self._behaviour(message) == "crash unread":
                crash()
            say(event="stage", case_id=message["case"]["case_id"], stage="read")
            self.note(message["case"]["case_id"], message["attempt"])
            if self._behaviour(message) == "hang read":
                time.sleep(600)
            self._read.put(message)
        self._read.put(None)

    def _behaviour(self, message: Message) -> str:
        script = self._script["cases"].get(message["case"]["case_id"], ["done"])
        return script[min(message["attempt"], len(script)) - 1]

    def _compute(self, message: Message) -> None:
        case_id = message["case"]["case_id"]
        say(event="stage", case_id=case_id, stage="compute")
        name, _, value = self._behaviour(message).partition(":")
        code = value if name == "code" else ""
        if name == "sleep":
            time.sleep(float(value))
        elif name == "crash":
            crash()
        elif name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif name == "exit":
            os._exit(int(value))
        elif name == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif name == "hang":
            time.sleep(600)
        elif name == "memory":
            self._rss_bytes = 1 << 50
            time.sleep(600)
        elif name == "garbage":
            os.write(1, b'progress: 50 %\n[1, 2]\n\xff\xfe\n{"event": "unheard of"}\n' + b"x" * 3_000_000 + b"\n")
            say(event="finished", case_id="f" * 16, status="done", code="", seconds={}, rss_bytes=1)
            say(event="stage", case_id=7, stage=None)
        elif name == "full":
            say(event="stopping", message="the disk is full", exit_code=5)
            os._exit(5)
        self._write(message, code)

    def _write(self, message: Message, code: str) -> None:
        case = Case.from_dict(message["case"])
        say(event="stage", case_id=case.case_id, stage="write")
        plan, layout, token = Plan.from_dict(self._start["plan"]), Layout(Path(self._start["output"])), self._start["token"]
        inputs = read_inputs([Path(self._start["root"], name) for name in case.files])
        folder = open_folder(layout, case.case_id, token)
        (folder / "out.txt").write_text(case.case_id, encoding="ascii")
        key = plan.case_key(inputs.sha256)
        status, said = ("failed", "it failed") if code else ("done", "")
        result = CaseResult(case.case_id, status, plan.key, key, code, said, inputs, attempts=message["attempt"])  # type: ignore[arg-type]
        close_folder(layout, result, token)
        say(event="finished", case_id=case.case_id, status=result.status, code=code, seconds={"compute": 0.5}, rss_bytes=1 << 20)

    def note(self, what: str, attempt: int) -> None:
        entry = json.dumps([what, attempt, os.getpid(), os.environ.get("OMP_NUM_THREADS"), time.monotonic()])
        with self._trace.open("a", encoding="ascii") as file:
            file.write(entry + "\n")


if __name__ == "__main__":
    Fake(Path(sys.argv[1])).run()
