"""`medseg batch` killed at random moments and started again: nothing may be lost, done twice, or different.

    python benchmarks/batch_kill.py [--kills 100] [--cases 150] [--workers 2] [--seed 0] [--folder DIR] [--json FILE]

Tiny phantoms are run once undisturbed. Then the same batch is started again and again in a second folder and killed (SIGKILL) at
a random moment between its start and the end of an undisturbed run: every other time its own process group alone, so that its
workers find themselves without a parent, else every process of it. When it comes to its end by itself, its tables and files are
compared with the undisturbed run's, and a new round begins. Counted are
  midway: kills of runs that had done some cases and not all;
  acknowledged: cases that a killed run had told of in events.jsonl (case_finished);
  lost: acknowledged cases whose result was not there afterwards;
  redone: acknowledged cases whose result was written again by a later run;
  wrong: files of cases that differ from those of the undisturbed run (provenance.json holds times and is left out);
  tables: cohort tables that are not the undisturbed run's to the byte;
  strays: half-written folders and claims after the last run of a round.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

PIPELINE = "schema: medseg.pipeline/1\nname: tiny\nmodality: CT\nsegment:\n  method: threshold\n  parameters: {lower: 0}\n"
TABLES = ("cohort.csv", "cohort_wide.csv")


def write_phantoms(folder: Path, count: int) -> None:
    """Cubes in air, each of another length and with another voxel of its own, so that no two scans are the same."""
    folder.mkdir(parents=True)
    for number in range(count):
        array = np.full((12, 12, 4 * (number % 8 + 1) + 4), -1000, np.int16)
        array[4:8, 4:8, 2:-2] = 60
        array[0, 0, 0] = -900 + number
        nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), folder / f"{number:05}.nii.gz")


class Batch:
    """One output folder and the runs in it."""

    def __init__(self, folder: Path, output: Path, workers: int) -> None:
        self.output = output
        self._command = [sys.executable, "-m", "medseg", "batch", str(folder / "scans"), "-o", str(output)]
        self._command += ["--pipeline", str(folder / "pipeline.yaml"), "--workers", str(workers), "--quiet"]

    def start(self) -> subprocess.Popen[bytes]:
        nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
        return subprocess.Popen(self._command, stdin=nothing, stdout=nothing, stderr=pipe, start_new_session=True)

    def run(self) -> float:
        """Run undisturbed; return the seconds."""
        begun = time.monotonic()
        process = self.start()
        _, said = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"medseg batch ended with {process.returncode}: {said.decode('utf-8', 'replace')[-2000:]}")
        return time.monotonic() - begun

    def run_and_kill(self, after_s: float, *, with_workers: bool) -> bool:
        """Run, and kill after so many seconds; False where it had ended before."""
        process = self.start()
        try:
            _, said = process.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            doomed = list(descendants(process.pid)) if with_workers else []
            os.killpg(process.pid, signal.SIGKILL)
            for pid in doomed:
                with_suppressed_kill(pid)
            process.communicate()
            return True
        if process.returncode != 0:
            raise SystemExit(f"medseg batch ended with {process.returncode}: {said.decode('utf-8', 'replace')[-2000:]}")
        return False

    def acknowledged(self) -> set[str]:
        """The cases that were told of as finished."""
        found = set()
        path = self.output / "events.jsonl"
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                event = json.loads(line)
            except ValueError:  # the half line of a killed process
                continue
            if event.get("event") == "case_finished":
                found.add(event["case_id"])
        return found

    def result(self, case_id: str) -> Path:
        return self.output / "cases" / case_id[:2] / case_id / "result.json"

    def times(self) -> dict[str, int | None]:
        """When the result of each acknowledged case was written; None where it is not there."""
        paths = {case_id: self.result(case_id) for case_id in self.acknowledged()}
        return {case_id: path.stat().st_mtime_ns if path.exists() else None for case_id, path in paths.items()}

    def files(self) -> dict[str, str]:
        """The hash of every file of the cases, but for what holds times."""
        every = (path for path in (self.output / "cases").rglob("*") if path.is_file())
        paths = [path for path in every if path.name not in ("provenance.json", "result.json")]
        return {path.relative_to(self.output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def strays(self) -> list[Path]:
        claims = self.output / "state" / "claims"
        return [*(self.output / "cases").rglob(".tmp-*"), *(claims.iterdir() if claims.exists() else ())]


def with_suppressed_kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def descendants(pid: int) -> Iterator[int]:
    """Every process below one, in whatever session it is."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return
    for child in children:
        yield int(child)
        yield from descendants(int(child))


def compare(batch: Batch, reference: Batch, counts: Counter[str]) -> None:
    """Compare a folder that came to its end with the undisturbed one."""
    ours, theirs = batch.files(), reference.files()
    counts["wrong"] += sum(ours.get(name) != theirs.get(name) for name in {*ours, *theirs})
    counts["tables"] += sum((batch.output / name).read_bytes() != (reference.output / name).read_bytes() for name in TABLES)
    counts["strays"] += len(batch.strays())
    counts["rounds"] += 1


def kill_rounds(folder: Path, *, kills: int, cases: int, workers: int, seed: int) -> Counter[str]:
    """Do it all, and return the counts."""
    write_phantoms(folder / "scans", cases)
    (folder / "pipeline.yaml").write_text(PIPELINE, encoding="ascii")
    reference = Batch(folder, folder / "undisturbed", workers)
    whole_s = reference.run()
    random_moments, counts = random.Random(seed), Counter({"cases": cases})
    while counts["kills"] < kills:
        batch = Batch(folder, folder / f"round{counts['rounds']}", workers)
        known: dict[str, int | None] = {}
        was_killed = True
        while was_killed:
            if counts["kills"] < kills:
                was_killed = batch.run_and_kill(random_moments.uniform(0.0, whole_s), with_workers=counts["kills"] % 2 == 1)
            else:
                batch.run()
                was_killed = False
            counts["kills"] += was_killed
            now = batch.times()
            counts["lost"] += sum(time is None for time in now.values())
            counts["redone"] += sum(now.get(case_id) != time for case_id, time in known.items())
            counts["acknowledged"] += len(now.keys() - known.keys()) if was_killed else 0
            counts["midway"] += was_killed and len(known) < len(now) < cases
            known = now
        compare(batch, reference, counts)
        shutil.rmtree(batch.output)
    return counts


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--cases", type=int, default=150)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="where to work (default: a temporary folder)")
    parser.add_argument("--json", type=Path, default=None, help="write the counts here too")
    return parser.parse_args(arguments)


def main() -> int:
    given = options()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        counts = kill_rounds(Path(folder), kills=given.kills, cases=given.cases, workers=given.workers, seed=given.seed)
    names = ("kills", "midway", "rounds", "cases", "acknowledged", "lost", "redone", "wrong", "tables", "strays")
    figures: dict[str, Any] = {name: counts[name] for name in names}
    figures["minutes"] = round((time.monotonic() - begun) / 60, 1)
    for name, value in figures.items():
        print(f"{name:13} {value}")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="ascii")
    return int(any(counts[name] for name in ("lost", "redone", "wrong", "tables", "strays")))


if __name__ == "__main__":
    sys.exit(main())
