"""How cases are run, and what became of them: the two values that go into `run_cases` and come out of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.batch.records.plan import Plan
from medseg.io.memory import free_memory_bytes

if TYPE_CHECKING:
    from medseg.batch.run.run_lock import RunLock

_MEMORY_A_WORKER_BYTES = 2 << 30  # a worker of a pipeline without a network at a scan of usual size
_GB = 1_000_000_000
_SHARE_OF_FREE = 0.9


@dataclass(frozen=True)
class RunOptions:
    """Where and how cases are run; none of it changes a result.

    `devices`: "cpu" stands for `workers` processes (None: see `worker_devices`), "cuda:0" for one. `threads` of one process,
    None for its share of the cores. `timeout_s` is what each stage of a case may take: reading, computing, writing.
    `memory_gb` is the most one worker may take (None: see `capped`). `retry_failed` runs every failed case again, `quick`
    compares sizes of outputs and not their hashes. `shard` (i, n), 1 <= i <= n, takes the n-th part of the cases that belongs to
    i; with it, or with `join`, other processes may work in the same folder. `grace_s` is what running cases get to end after a
    signal. A worker that is silent for `silence_s`, or has not started after `start_s`, is ended; a claim of a process that is
    silent for `claim_timeout_s` is taken over. `worker_command` is the program of a worker, empty for that of medseg. `lock` is that
    of the output folder, where the caller holds it; None: a run that shares the folder with nobody takes it.
    """

    devices: tuple[str, ...] = ("cpu",)
    workers: int | None = None
    threads: int | None = None
    timeout_s: float = 3600.0
    memory_gb: float | None = None
    retry_failed: bool = False
    quick: bool = False
    shard: tuple[int, int] | None = None
    join: bool = False
    grace_s: float = 30.0
    model_folders: tuple[Path, ...] | None = None
    silence_s: float = 600.0
    start_s: float = 600.0
    claim_timeout_s: float = 600.0
    worker_command: tuple[str, ...] = ()
    lock: RunLock | None = None

    def __post_init__(self) -> None:
        if not self.devices:
            raise ValueError("a run needs a device")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]} of {self.shard[1]} is none: the first is 1")
        for name in ("workers", "threads", "timeout_s", "memory_gb", "silence_s", "start_s", "claim_timeout_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")

    @property
    def is_shared(self) -> bool:
        """Whether other processes may work in the same output folder."""
        return self.join or self.shard is not None

    @property
    def command(self) -> tuple[str, ...]:
        """The program of a worker."""
        return self.worker_command or (sys.executable, "-m", "medseg.batch.worker.worker")


@dataclass(frozen=True)
class Summary:
    """What became of the cases of one run.

    `done` and `failed` were run now; `skipped` were done before and `failed_before` had failed before, both as this plan has it.
    `by_code` counts the failures of both kinds. `stopped` is "" where every case was looked at, else "SIGINT", "SIGTERM",
    "OUTPUT" or "MODEL", and `message` says why.
    """

    done: int = 0
    failed: int = 0
    skipped: int = 0
    failed_before: int = 0
    by_code: Mapping[str, int] = field(default_factory=dict)
    stopped: str = ""
    message: str = ""

    @property
    def exit_code(self) -> int:
        """0 where all are done, 1 where some failed, 4 model, 5 output, 130 SIGINT, 143 SIGTERM."""
        codes = {"SIGINT": 130, "SIGTERM": 143, "OUTPUT": 5, "MODEL": 4}
        return codes.get(self.stopped, 1 if self.failed or self.failed_before else 0)


def core_count() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity
        return os.cpu_count() or 1


def capped(options: RunOptions) -> RunOptions:
    """Return the options with a cap on memory: without one, a worker on "cpu" may take most of what is free now.

    A scan that is too large for the machine then fails with its reason, and does not take other programs with it. What a GPU
    driver reserves cannot be told from what a scan needs, so that there is no cap by default on other devices.
    """
    free = free_memory_bytes()
    if options.memory_gb is not None or free is None or set(options.devices) != {"cpu"}:
        return options
    return replace(options, memory_gb=max(round(_SHARE_OF_FREE * free / _GB, 1), 0.5))


def worker_devices(options: RunOptions, plan: Plan) -> list[str]:
    """Return the device of every worker process.

    One a device that is no "cpu". On "cpu" as many as `workers` says; by default one where the pipeline has a network, which
    uses every core by itself, and else one a core, as far as the memory that is free reaches.
    """
    found: list[str] = []
    for device in options.devices:
        found += [device] * (_count_on_cpu(options, plan) if device == "cpu" else 1)
    return found


def _count_on_cpu(options: RunOptions, plan: Plan) -> int:
    if options.workers is not None:
        return options.workers
    if plan.models:
        return 1
    free = free_memory_bytes()
    each = int(options.memory_gb * _GB) if options.memory_gb is not None else _MEMORY_A_WORKER_BYTES
    return core_count() if free is None else max(1, min(core_count(), free // max(each, 1)))


def worker_environment(options: RunOptions, count: int) -> dict[str, str]:
    """Return the environment of a worker: that of this process, with its share of the cores for every library with threads."""
    threads = str(options.threads or max(1, core_count() // max(count, 1)))
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    return {**os.environ, **dict.fromkeys(names, threads)}
