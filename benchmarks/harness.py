"""Side by side: alternating runs, medians, extra peak memory in a child process, a table and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from inputs import load_ct

SMALL = (64, 96, 96)
FULL = (300, 512, 512)

Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One operation. ``build`` turns a CT (k, j, i) into named calls, ours first; ``agree`` compares two results."""

    name: str
    build: Callable[[np.ndarray], dict[str, Run]]
    agree: Callable[[Any, Any], float] | None = None
    shape: tuple[int, int, int] = FULL


@dataclass(frozen=True)
class Row:
    case: str
    contender: str
    median_s: float
    fastest_s: float
    ratio: float
    peak_mb: float | None
    agreement: float | None


def time_once(run: Run) -> float:
    start = time.perf_counter()
    result = run()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def measure(case: Case, image: np.ndarray, rounds: int, peak: Callable[[str, str], float | None]) -> list[Row]:
    """Warm up and compare once, then let all contenders run in turn."""
    runs = case.build(image)
    ours, *_ = runs
    agreement: dict[str, float | None] = {}
    reference = runs[ours]()
    for name, run in runs.items():
        result = run()
        agreement[name] = case.agree(reference, result) if case.agree and name != ours else None
        del result
    del reference
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(time_once(run))
    base = statistics.median(times[ours])
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        Row(case.name, name, medians[name], min(times[name]), medians[name] / base, peak(case.name, name), agreement[name]) for name in runs
    ]


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise LookupError(key)


def extra_peak_mb(case: Case, contender: str, data: Path, small: bool) -> float:
    """Highest memory during one call minus the memory before it; compiled and imported on a small volume first."""
    case.build(load_ct(data, SMALL))[contender]()
    run = case.build(load_ct(data, SMALL if small else case.shape))[contender]
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back
    before = _status("VmRSS")
    result = run()
    peak = (_status("VmHWM") - before) / 1024
    del result
    return peak


def as_markdown(rows: Sequence[Row]) -> str:
    lines = ["| case | contender | median s | fastest s | times ours | extra peak MB | agreement |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        peak = "" if row.peak_mb is None else f"{row.peak_mb:.0f}"
        agreement = "" if row.agreement is None else f"{row.agreement:.7g}"
        lines.append(
            f"| {row.case} | {row.contender} | {row.median_s:.4f} | {row.fastest_s:.4f} | {row.ratio:.1f} | {peak} | {agreement} |"
        )
    return "\n".join(lines)


def main(cases: Sequence[Case], script: str) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a small volume, to try the benchmark itself")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks")
    parser.add_argument("--only", help="cases whose name holds this text")
    parser.add_argument("--case", help="the case of exactly this name")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "CONTENDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        case = next(case for case in cases if case.name == options.peak[0])
        print(json.dumps(extra_peak_mb(case, options.peak[1], options.data, options.small)))
        return

    def peak(case: str, contender: str) -> float | None:
        if options.no_memory or not sys.platform.startswith("linux"):
            return None
        command = [sys.executable, script, "--data", str(options.data), "--peak", case, contender] + ["--small"] * options.small
        return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    rows = []
    for case in cases:
        if (options.only is None or options.only in case.name) and options.case in (None, case.name):
            rows += measure(case, load_ct(options.data, SMALL if options.small else case.shape), options.rounds, peak)
    print(as_markdown(rows))
    if options.out:
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        options.out.write_text(json.dumps({"machine": machine, "rounds": options.rounds, "rows": [vars(row) for row in rows]}, indent=1))
