"""How many claims a second a folder gives, and whether each is given once: run it on the storage that a cluster shares.

`python benchmarks/batch_claims.py --folder /shared/tmp --processes 8 --claims 5000`: processes race for the same names, as the
tasks of an array do at their worst; then each takes names of its own, as shards do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path

from medseg.batch.run.claims import Claims


def take_all(folder: Path, names: list[str], start_at: float, won: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    """Take as many of the names as are left, from a common moment on."""
    claims = Claims(folder)
    time.sleep(max(start_at - time.time(), 0))
    begin = time.perf_counter()
    taken = [name for name in names if claims.take(name)]
    won.put((taken, time.perf_counter() - begin))


def race(folder: Path, names: list[list[str]]) -> tuple[int, int, float]:
    """Let one process a list run; return claims tried, claims given twice or not at all, and seconds of the slowest."""
    won: multiprocessing.Queue = multiprocessing.Queue()  # type: ignore[type-arg]
    start_at = time.time() + 2.0
    processes = [multiprocessing.Process(target=take_all, args=(folder, part, start_at, won)) for part in names]
    for process in processes:
        process.start()
    results = [won.get() for _ in processes]
    for process in processes:
        process.join()
    taken = [name for part, _ in results for name in part]
    wanted = {name for part in names for name in part}
    wrong = len(taken) - len(set(taken)) + len(wanted - set(taken))
    return sum(map(len, names)), wrong, max(seconds for _, seconds in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a folder on the storage to be measured; a temporary one otherwise")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--claims", type=int, default=5000)
    given = parser.parse_args()
    names = [f"{number:016x}" for number in range(given.claims)]
    for what, parts in (
        ("all race for the same", [names] * given.processes),
        ("each its own shard", [names[n :: given.processes] for n in range(given.processes)]),
    ):
        folder = Path(tempfile.mkdtemp(prefix=".medseg-claims-", dir=given.folder))
        try:
            tried, wrong, seconds = race(folder, parts)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{what}: {given.claims / seconds:,.0f} claims given a second ({tried:,} tried in {seconds:.2f} s), wrong: {wrong}")


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
