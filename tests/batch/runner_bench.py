"""Small files as cases, a worker that does what a script says, and everything that is seen of a run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.batch.records.case import Case, case_id_of
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import read_result
from medseg.batch.run.runner import RunOptions, Summary, run_cases
from medseg.pipeline import parse_pipeline

FAKE = Path(__file__).parent / "fake_worker.py"
PIPELINE = """\
schema: medseg.pipeline/1
name: tiny
segment:
  method: threshold
  parameters: {lower: 0}
"""


class Bench:
    """Small files as cases, a fake worker, and everything that was seen."""

    def __init__(self, folder: Path, count: int) -> None:
        self.root = folder / "scans"
        self.root.mkdir()
        names = [f"{number:03}.bin" for number in range(count)]
        for name in names:
            (self.root / name).write_text(name, encoding="ascii")
        self.cases = sorted((Case(case_id_of([name]), "NIfTI", (name,)) for name in names), key=lambda case: case.case_id)
        self.layout = Layout(folder / "out")
        self.plan = Plan(parse_pipeline(PIPELINE, "tiny"), __version__, pictures="none")
        self.script = folder / "script.json"
        self.events: list[dict[str, Any]] = []

    def write_script(self, cases: Mapping[int, Sequence[str]], start: str = "") -> None:
        """Say what the fake does with the n-th case, at its first attempt, its second, ..."""
        script = {"start": start, "cases": {self.cases[number].case_id: list(what) for number, what in cases.items()}}
        self.script.write_text(json.dumps(script), encoding="ascii")

    def options(self, **options: Any) -> RunOptions:
        return RunOptions(**{"workers": 1, "worker_command": (sys.executable, str(FAKE), str(self.script)), **options})

    def run(self, cases: Mapping[int, Sequence[str]] | None = None, *, start: str = "", **options: Any) -> Summary:
        self.write_script(cases or {}, start)
        return self.again(**options)

    def again(self, observe: Any = None, **options: Any) -> Summary:
        def seen(event: dict[str, Any]) -> None:
            self.events.append(event)
            if observe is not None:
                observe(event)

        return run_cases(
            self.plan,
            iter(self.cases),
            total=len(self.cases),
            root=self.root,
            layout=self.layout,
            options=self.options(**options),
            observe=seen,
        )

    def codes(self) -> list[str]:
        """What became of every case: "" for done, "-" for no result."""
        results = [read_result(self.layout.result(case.case_id)) for case in self.cases]
        return ["-" if result is None else result.code for result in results]

    def attempts(self, number: int) -> list[int]:
        return [attempt for what, attempt, *_ in self.trace() if what == self.cases[number].case_id]

    def trace(self) -> list[list[Any]]:
        path = self.script.with_suffix(".trace")
        return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()] if path.exists() else []

    def count(self, event: str) -> int:
        return sum(seen["event"] == event for seen in self.events)

    def check_nothing_is_left(self) -> None:
        """No half-written folder, no claim, no process, and counts that agree with the log."""
        assert list(self.layout.cases.rglob(".tmp-*")) == []
        assert list(self.layout.claims.iterdir()) == []
        logged = [json.loads(line) for line in self.layout.events.read_text(encoding="ascii").splitlines()]
        assert [event for event in logged if event["event"] in ("case_stage", "worker_alive")] == []
        pids = {event["pid"] for event in self.events if event["event"] == "worker_started"}
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def wait_until(is_so: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
