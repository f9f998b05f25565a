"""What a batch costs beside computing: overhead per tiny case, throughput against the cores, and against one process per case.

    python benchmarks/batch_speed.py [--cases 200] [--model-cases 50] [--workers N] [--pictures thumbnail] [--out batch_speed.json]

Overhead: steady time per tiny case of a run with one worker, minus that of segmenting and measuring the same scans in memory.
Throughput: steady rate of a run with one worker a core, over cores × the rate of one process that computes in memory, in turn
(A B A B). `--cpu` compares processor time instead, parent included: for a machine with other work.
One process per case: the worker started anew for each, so that every case loads its model; same results either way.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medseg import __version__
from medseg.batch.records.case import Case, case_id_of
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import read_result
from medseg.batch.run.run_options import RunOptions
from medseg.batch.run.runner import run_cases
from medseg.batch.worker.messages import Run, Start, parse_event, to_line
from medseg.pipeline import builtin_pipelines, parse_pipeline

TINY = "schema: medseg.pipeline/1\nname: tiny\nmodality: CT\nsegment:\n  method: threshold\n  parameters: {lower: 0}\n"
STEADY = """\
schema: medseg.pipeline/1
name: steady
modality: CT
preprocess:
- method: non-local-means
  parameters: {}
segment:
  method: threshold
  parameters: {lower: 0}
postprocess:
- method: keep-largest
  parameters: {}
"""
ONE_THREAD = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
WARM = 0.2  # share of the cases that pass before the steady rate is taken


def make_scans(folder: Path, count: int, size: int) -> tuple[Case, ...]:
    """Write so many CT-like scans: a bright body of noise in air, each another."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    grid = np.indices((size, size, max(8, size // 2))) - np.array([size / 2, size / 2, max(8, size // 2) / 2]).reshape(3, 1, 1, 1)
    inside = (grid**2).sum(axis=0) < (size / 3.2) ** 2
    cases = []
    for number in range(count):
        array = np.where(inside, 60, -1000) + random.integers(-40, 40, inside.shape)
        name = f"{number:06}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.diag([1.0, 1.0, 2.0, 1.0])), folder / name)
        cases.append(Case(case_id_of([name]), "NIfTI", (name,)))
    return tuple(cases)


def steady_seconds(marks: list[float]) -> float:
    """Return the time per case once the first of them are done."""
    first = max(1, int(len(marks) * WARM))
    return (marks[-1] - marks[first]) / (len(marks) - 1 - first)


def batch_seconds(plan: Plan, cases: tuple[Case, ...], root: Path, options: RunOptions) -> tuple[float, float]:
    """Run a batch; return steady seconds per case, and seconds in all."""
    marks: list[float] = []

    def observe(event: dict[str, Any]) -> None:
        if event["event"] == "case_finished":
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory(dir=root.parent) as out:
        begin = time.perf_counter()
        summary = run_cases(plan, cases, total=len(cases), root=root, layout=Layout(Path(out)), options=options, observe=observe)
        seconds = time.perf_counter() - begin
        if summary.done != len(cases):
            raise SystemExit(f"{summary.done} of {len(cases)} cases are done: {summary}")
    return steady_seconds(marks), seconds


def batch_cpu_seconds(plan: Plan, cases: tuple[Case, ...], root: Path, options: RunOptions) -> float:
    """Return the processor seconds that one more case costs: of all processes of a run, less those of one with few cases."""

    def spent(some: tuple[Case, ...]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time()
        batch_seconds(plan, some, root, options)
        after = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time()
        return after[1] - before[1] + sum(getattr(after[0], name) - getattr(before[0], name) for name in ("ru_utime", "ru_stime"))

    few = max(3, len(cases) // 4)
    return (spent(cases) - spent(cases[:few])) / (len(cases) - few)


def memory_seconds(plan: Plan, cases: tuple[Case, ...], root: Path, clock: str = "perf_counter") -> float:
    """Return steady seconds per case of a process that has the scans in memory and only segments and measures them."""
    code = (
        "import json, sys, time\n"
        "from pathlib import Path\n"
        "from medseg.batch.records.case import Case\nfrom medseg.batch.worker.case_run import CaseRunner\n"
        "from medseg.batch.records.layout import Layout\nfrom medseg.batch.worker.messages import Start\n"
        "start, cases = json.load(sys.stdin)\n"
        "start = Start.from_dict(start)\n"
        "runner = CaseRunner(start.plan, start.root, Layout(start.output), token='t')\n"
        "scans = [runner.read(Case.from_dict(case)) for case in cases]\n"
        "marks = []\n"
        "for scan in scans:\n"
        "    runner.compute(scan)\n"
        f"    marks.append(time.{clock}())\n"
        "print(json.dumps(marks))\n"
    )
    given = json.dumps([Start(root, root.parent / "none", plan).to_dict(), [case.to_dict() for case in cases]])
    ended = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True, env=ONE_THREAD)
    return steady_seconds(json.loads(ended.stdout.splitlines()[-1]))


def process_seconds(plan: Plan, cases: tuple[Case, ...], root: Path) -> tuple[float, dict[str, str]]:
    """Run one process per case; return the seconds in all and the hash of each segmentation."""
    hashes = {}
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=root.parent) as out:
        for case in cases:
            lines = to_line(Start(root, Path(out), plan, token="t").to_dict()) + to_line(Run(case).to_dict())
            ended = subprocess.run([sys.executable, "-m", "medseg.batch.worker.worker"], input=lines, capture_output=True, check=True)
            if not any(parse_event(line)["event"] == "finished" for line in ended.stdout.splitlines()):
                raise SystemExit(ended.stdout.decode() + ended.stderr.decode())
        seconds = time.perf_counter() - begin
        for case in cases:
            result = read_result(Layout(Path(out)).result(case.case_id))
            assert result is not None
            hashes[case.case_id] = result.outputs["segmentation.nii.gz"].sha256
    return seconds, hashes


def compared(plan: Plan, cases: tuple[Case, ...], root: Path, options: RunOptions, arguments: argparse.Namespace) -> tuple[float, float]:
    """Return seconds per case of the batch and in memory, in turn."""
    pairs = []
    for _ in range(arguments.rounds):
        if arguments.cpu:
            pairs.append((batch_cpu_seconds(plan, cases, root, options), memory_seconds(plan, cases, root, "process_time")))
        else:
            pairs.append((batch_seconds(plan, cases, root, options)[0], memory_seconds(plan, cases, root)))
    batch, memory = (min(values) if arguments.fastest else statistics.median(values) for values in zip(*pairs, strict=True))
    return batch, memory


def overhead(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    root = folder / "tiny"
    cases = make_scans(root, arguments.cases, 16)
    plan = Plan(parse_pipeline(TINY, "tiny"), __version__, pictures=arguments.pictures)
    batch, memory = compared(plan, cases, root, RunOptions(workers=1, threads=1), arguments)
    return {"batch_ms": batch * 1e3, "in_memory_ms": memory * 1e3, "overhead_ms": (batch - memory) * 1e3}


def throughput(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    root, workers = folder / "steady", arguments.workers
    cases = make_scans(root, arguments.steady_cases, arguments.size)
    plan = Plan(parse_pipeline(STEADY, "steady"), __version__, pictures=arguments.pictures)
    batch, memory = compared(plan, cases, root, RunOptions(workers=workers, threads=1), arguments)
    share = memory / batch / (1 if arguments.cpu else workers)
    return {"workers": workers, "batch_s": batch, "in_memory_s": memory, "share_of_cores": share}


def against_processes(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    root = folder / "model"
    cases = make_scans(root, arguments.model_cases, 32)
    plan = Plan(builtin_pipelines()["ct-phantom"], __version__, pictures="none")
    _, batch = batch_seconds(plan, cases, root, RunOptions(workers=1))
    alone, _ = process_seconds(plan, cases, root)
    return {"cases": len(cases), "batch_s": batch, "process_per_case_s": alone, "ratio": alone / batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200, help="tiny cases")
    parser.add_argument("--steady-cases", type=int, default=40, help="cases of the throughput")
    parser.add_argument("--size", type=int, default=96, help="voxels along i and j of these")
    parser.add_argument("--model-cases", type=int, default=50, help="cases with a network")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", default="thumbnail", choices=("thumbnail", "none"))
    parser.add_argument("--fastest", action="store_true", help="the fastest round instead of the median: for a machine with other work")
    parser.add_argument("--cpu", action="store_true", help="processor time instead of wall-clock time")
    parser.add_argument("--only", choices=("overhead", "throughput", "model"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    parts = {"overhead": overhead, "throughput": throughput, "model": against_processes}
    found: dict[str, Any] = {}
    for name, part in parts.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                found[name] = part(Path(folder), arguments)
            print(name, json.dumps({key: round(value, 3) for key, value in found[name].items()}))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
