"""A batch of tiny synthetic cases, small and large: does a case cost the same at 1,000 and at 100,000, and is memory flat?

`python benchmarks/batch_scale.py --cases 1000 10000 100000 --figures scale.json` runs the real command line, one size after the
other, each in a new folder that is deleted afterwards. A case is a 16×16×8 CT with a bright box of its own, segmented by a
threshold. `--write` puts the table of the figures into docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- batch_scale: start -->", "<!-- batch_scale: end -->"
PIPELINE = """schema: medseg.pipeline/1
name: bright
modality: CT
segment:
  method: threshold
  parameters: {lower: 0, label: bright}
"""
SHAPE = (16, 16, 8)


def make_cases(folder: Path, count: int) -> None:
    """Write `count` scans, each with other bytes, a thousand a folder."""
    header = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16, order="F"), np.diag([1.0, 1.0, 2.0, 1.0]))
    start = header.to_bytes()[:352]
    random = np.random.default_rng(8)
    for number in range(count):
        scan = np.full(SHAPE, -1000, np.int16, order="F")
        low, size = random.integers(1, 5, 3), random.integers(3, 8, 3) // (1, 1, 2)
        scan[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))] = 60
        scan[0, 0, 0], scan[1, 0, 0] = -(number % 1000) - 1, -(number // 1000) - 1
        place = folder / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07d}.nii").write_bytes(start + scan.tobytes("F"))


class Watch(threading.Thread):
    """Resident memory of a process, and the largest of its descendants, twice a second: pairs of time and MB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.parent_mb, self.worker_mb = pid, [], []  # type: ignore[var-annotated]
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            self.parent_mb.append((time.time(), _resident_mb(self.pid)))
            children = [_resident_mb(pid) for pid in _descendants(self.pid)]
            if children:
                self.worker_mb.append((time.time(), max(children)))


def peak(pairs: list[tuple[float, float]]) -> float:
    """The largest memory of all, in MB."""
    return max((megabytes for _, megabytes in pairs), default=float("nan"))


def growth(pairs: list[tuple[float, float]], until: float) -> float:
    """Mean of the last tenth of the time in which cases ran minus that of the second tenth, in MB: the first one is the start."""
    series = [megabytes for moment, megabytes in pairs if moment <= until]
    tenth = max(len(series) // 10, 1)
    return float(np.mean(series[-tenth:]) - np.mean(series[tenth : 2 * tenth])) if len(series) >= 20 else float("nan")


def _resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError, ValueError):
        return 0.0


def _descendants(pid: int) -> list[int]:
    found, pending = [], [pid]
    while pending:
        try:
            text = Path(f"/proc/{(one := pending.pop())}/task/{one}/children").read_text()
        except OSError:
            continue
        children = [int(number) for number in text.split()]
        found += children
        pending += children
    return found


def run_batch(count: int, folder: Path, workers: int) -> dict[str, Any]:
    """Run one batch of `count` cases and return its figures."""
    scans, output, pipeline = folder / "scans", folder / "out", folder / "bright.yaml"
    pipeline.write_text(PIPELINE)
    make_cases(scans, count)
    command = [sys.executable, "-m", "medseg", "batch", str(scans), "-o", str(output), "--pipeline", str(pipeline), "--json"]
    first = _timed([*command, "--workers", str(workers)])
    again = _timed([*command, "--workers", str(workers)])
    summary = json.loads((output / "summary.json").read_text())
    phases = _phases(output / "events.jsonl")
    sizes = [file.stat().st_size for file in output.rglob("*") if file.is_file()]
    return {
        "cases": count,
        "workers": workers,
        "summary": summary,
        "seconds": first["seconds"],
        "ms_per_case": first["seconds"] / count * 1e3,
        "cpu_ms_per_case": first["cpu_seconds"] / count * 1e3,
        "phases_s": phases,
        "rerun_seconds": again["seconds"],
        "rerun_ms_per_case": again["seconds"] / count * 1e3,
        "parent_peak_mb": peak(first["watch"].parent_mb),
        "parent_growth_mb": growth(first["watch"].parent_mb, phases["ended"]),
        "worker_peak_mb": peak(first["watch"].worker_mb),
        "worker_growth_mb": growth(first["watch"].worker_mb, phases["ended"]),
        "files": len(sizes),
        "output_mb": sum(sizes) / 1e6,
        "index_mb": sum(file.stat().st_size for file in (output / "state").rglob("*.sqlite*")) / 1e6,
        "log_bytes_per_case": (output / "events.jsonl").stat().st_size / count,  # of both runs
        "list_bytes_per_case": (output / "private" / "cases.jsonl").stat().st_size / count,
        "largest_folder": max((len(list(place.iterdir())) for place in (output / "cases").iterdir()), default=0),
    }


def _timed(command: list[str]) -> dict[str, Any]:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    watch = Watch(process.pid)
    watch.start()
    _, status, usage = os.wait4(process.pid, 0)  # with the processor time of every process that it started
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.over.set()
    watch.join()
    if process.returncode != 0:
        raise SystemExit(f"the batch ended with {process.returncode}")
    return {"seconds": time.perf_counter() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime, "watch": watch}


def _phases(events: Path) -> dict[str, float]:
    """Seconds between the milestones of the first run: search, cases, tables."""
    times: dict[str, float] = {}
    finished = 0.0
    with events.open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            moment = np.datetime64(event["time"].removesuffix("Z").split("+")[0]).astype("datetime64[ms]").astype(float) / 1e3
            if event["event"] == "case_finished":
                finished = moment
            times.setdefault(event["event"], moment)
            if event["event"] == "run_finished":
                break
    start, found = times.get("run_started", 0.0), times.get("case_started", 0.0)
    return {"until_first_case": found - start, "cases": finished - found, "ended": finished}


def table(figures: list[dict[str, Any]]) -> str:
    """Return the figures as a table of Markdown."""
    rows = [
        "| cases | ms a case | CPU ms a case | ms without search and tables | second run, ms a case "
        "| parent MB (growth) | worker MB (growth) | files | MB | index MB | log, list: bytes a case |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        work = one["phases_s"]["cases"] / one["cases"] * 1e3
        rows.append(
            f"| {one['cases']:,} | {one['ms_per_case']:.1f} | {one['cpu_ms_per_case']:.1f} | {work:.1f} | {one['rerun_ms_per_case']:.1f} "
            f"| {one['parent_peak_mb']:.0f} ({one['parent_growth_mb']:+.0f}) | {one['worker_peak_mb']:.0f} "
            f"({one['worker_growth_mb']:+.0f}) | {one['files']:,} | {one['output_mb']:.0f} | {one['index_mb']:.1f} "
            f"| {one.get('log_bytes_per_case', float('nan')):.0f}, {one.get('list_bytes_per_case', float('nan')):.0f} |"
        )
    return "\n".join(rows)


def write(figures: list[dict[str, Any]]) -> None:
    """Put the table between its marks in docs/scale.md."""
    page = ROOT / "docs" / "scale.md"
    before, rest = page.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    page.write_text(f"{before}{START}\n\n{table(figures)}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="where the cases are made (a local disk); a temporary folder otherwise")
    parser.add_argument("--figures", type=Path, default=Path("batch_scale.json"))
    parser.add_argument("--write", action="store_true", help="only put the figures into docs/scale.md")
    given = parser.parse_args()
    figures = json.loads(given.figures.read_text()) if given.figures.is_file() else []
    if not given.write:
        for count in given.cases:
            folder = Path(tempfile.mkdtemp(prefix="medseg-scale-", dir=given.folder))
            try:
                one = run_batch(count, folder, given.workers)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            figures = sorted([*(old for old in figures if old["cases"] != count), one], key=lambda old: old["cases"])
            given.figures.write_text(json.dumps(figures, indent=1))
        print(table(figures))
        return
    write(figures)


if __name__ == "__main__":
    main()
