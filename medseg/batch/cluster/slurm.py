"""A batch as a SLURM job array: the scripts, their submission, and waiting for what they leave.

Every task of the array runs one shard over the same claims and the same result files, so a task that is killed loses nothing:
submitting again runs what is missing. What was done is read from the results alone, never from SLURM's accounting, which many
clusters do not have. The scripts name the folder of the scans, therefore they lie in the private part of the output.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.batch.cluster.cluster_error import ClusterError
from medseg.batch.records.layout import Layout
from medseg.core.errors import OutputError
from medseg.io.atomic import write_bytes

FOLDER = "slurm"
WARNING_S = 60  # how long before the time limit a task is told to stop; SLURM may be a minute early
_OPTION = re.compile(r"--([a-z][a-z0-9-]*)(=[^\x00-\x1f\x7f]*)?")
_OURS = frozenset({"array", "wrap", "output", "error", "dependency", "parsable", "chdir", "wait", "test-only", "open-mode"})
# what the job that collects shares with the array: where it may run and who pays, not the GPUs and the memory
_SHARED = frozenset({"partition", "account", "qos", "reservation", "clusters", "constraint", "mail-user", "mail-type", "export", "comment"})
_ANSWER_S = 120
_SHORT_ANSWER_S = 30


@dataclass(frozen=True)
class SlurmOptions:
    """How the array is cut: `shards` tasks, at most `at_once` of them running, and sbatch options such as "--partition=gpu".

    Raises ValueError for what would not be one option in its long form, or is set by medseg itself.
    """

    shards: int = 8
    at_once: int | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.shards < 1 or (self.at_once is not None and self.at_once < 1):
            raise ValueError("a job array has at least one task, and at least one runs at once")
        for option in self.options:
            found = _OPTION.fullmatch(option)
            if not found:
                raise ValueError(f"{option!r} is not an option of sbatch in its long form, such as --partition=gpu or --exclusive")
            if found[1] in _OURS:
                raise ValueError(f"--{found[1]} is set by medseg itself: leave it out")


@dataclass(frozen=True)
class SlurmArray:
    """The two scripts, and where the tasks leave their logs."""

    folder: Path
    array: Path
    collect: Path


@dataclass(frozen=True)
class Submitted:
    """The numbers that SLURM gave the array and the job that collects, such as "4711"."""

    array: SlurmArray
    array_job: str
    collect_job: str


def write_array(
    layout: Layout, program: Sequence[str], arguments: Sequence[str], collect: Sequence[str], options: SlurmOptions, *, directory: Path
) -> SlurmArray:
    """Write array.sh and collect.sh below the private folder of the output; raises OutputError.

    `program` and `arguments` are the parts of a `medseg batch`, between which each task gets its shard; `collect` are those of what
    follows once every task has ended (`medseg report OUT`). Both run in `directory`, from which relative paths in them are meant.
    Any character may stand in the parts: they are quoted for the shell, and names that are no UTF-8 keep their bytes.

    >>> import tempfile
    >>> layout = Layout(Path(tempfile.mkdtemp()))
    >>> collect = ["medseg", "report", "."]
    >>> done = write_array(layout, ["medseg", "batch"], ["it's here"], collect, SlurmOptions(4), directory=Path("/data"))
    >>> print(done.array.read_text().splitlines()[-1])
    exec medseg batch --shard "$SLURM_ARRAY_TASK_ID/4" 'it'"'"'s here'
    """
    folder = layout.private / FOLDER
    try:
        layout.private.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{folder} cannot be made ({err.strerror}); check the output folder and its permissions") from err
    at_once = f"%{options.at_once}" if options.at_once else ""
    array = [
        *_head("medseg", "array-%A_%a.log"),
        f"#SBATCH --array=1-{options.shards}{at_once}",
        f"#SBATCH --signal=B:USR1@{WARNING_S}",
        "#SBATCH --open-mode=append",
        *(f"#SBATCH {shlex.quote(option)}" for option in options.options),
        *_enter(directory),
        # exec: the signal before the time limit goes to the script's own process, which is medseg then
        f'exec {shlex.join(program)} --shard "$SLURM_ARRAY_TASK_ID/{options.shards}" {shlex.join(arguments)}',
    ]
    collecting = [
        *_head("medseg-collect", "collect-%j.log"),
        *(f"#SBATCH {shlex.quote(option)}" for option in options.options if _name(option) in _SHARED),
        *_enter(directory),
        shlex.join(collect),
        "code=$?",
        f'echo "$code" > {shlex.quote(os.fspath(folder.absolute()))}/"collected-$SLURM_JOB_ID"',
        'exit "$code"',
    ]
    written = SlurmArray(folder, folder / "array.sh", folder / "collect.sh")
    for path, lines in ((written.array, array), (written.collect, collecting)):
        write_bytes(path, os.fsencode("\n".join(lines) + "\n"), overwrite=True)
        path.chmod(0o700)
    return written


def submit(array: SlurmArray, *, sbatch: str = "sbatch") -> Submitted:
    """Hand both scripts to SLURM, the second after the end of every task of the first, however it ended.

    Raises ClusterError where sbatch is missing or refuses; the scripts stay and can be submitted by hand.
    """
    array_job = _sbatch(sbatch, array, [array.array.name])
    try:
        collect_job = _sbatch(sbatch, array, [f"--dependency=afterany:{array_job}", array.collect.name])
    except ClusterError as err:
        raise ClusterError(f"the array runs as job {array_job}, but the job that collects was refused: {err}") from err
    return Submitted(array, array_job, collect_job)


def wait_for_results(
    submitted: Submitted,
    *,
    squeue: str = "squeue",
    every_s: float = 5.0,
    settle_s: float = 60.0,
    observe: Callable[[int], None] = lambda left: None,
) -> int:
    """Wait until the job that collects has left its exit code, and return it; `observe` is told how many jobs are left.

    SLURM is only asked whether the jobs are still there: where they are gone for `settle_s` and nothing was left (the job was
    cancelled, or its node died), ClusterError says how to collect by hand. A controller that does not answer ends no wait.
    """
    marker = submitted.array.folder / f"collected-{submitted.collect_job}"
    gone_since: float | None = None
    while True:
        code = _left_code(marker)
        if code is not None:
            return code
        left = _jobs_left(submitted, squeue)
        if left is not None:
            observe(left)
        if left == 0:
            gone_since = time.monotonic() if gone_since is None else gone_since
            if time.monotonic() - gone_since >= settle_s:
                raise ClusterError(
                    f"job {submitted.collect_job} ended without collecting: what was done is safe; run `medseg report` on the output, "
                    "and the same `medseg batch` again for what is missing"
                )
        else:
            gone_since = None
        time.sleep(every_s)


def _head(name: str, log: str) -> list[str]:
    return ["#!/bin/bash", f"#SBATCH --job-name={name}", f"#SBATCH --output={log}"]


def _enter(directory: Path) -> list[str]:
    return [f"cd -- {shlex.quote(os.fspath(directory))} || exit 3"]


def _name(option: str) -> str:
    return option[2:].partition("=")[0]


def _sbatch(sbatch: str, array: SlurmArray, arguments: list[str]) -> str:
    """Return the number of the job; the scripts' own folder is where the job starts, so that its log lies there."""
    by_hand = f"the scripts lie in {array.folder}: submit {array.array.name} from there on a node that has sbatch"
    try:
        done = subprocess.run(
            [sbatch, "--parsable", *arguments],
            cwd=array.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise ClusterError(f"sbatch did not answer within {_ANSWER_S} s; see whether the job is there (squeue), else {by_hand}") from err
    except OSError as err:
        raise ClusterError(f"sbatch cannot be started ({err.strerror}): this machine has no SLURM; {by_hand}") from err
    said = done.stdout.decode(errors="replace").strip().split(";")[0]  # a federation adds ";cluster"
    if done.returncode or not said.isdigit():
        lines = [line.removeprefix("sbatch: error: ") for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise ClusterError(
            f"sbatch refused ({'; '.join(lines[-2:]) or 'no reason given'}); change --slurm-option and try again, or {by_hand}"
        )
    return said


def _left_code(marker: Path) -> int | None:
    try:
        text = marker.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None


def _jobs_left(submitted: Submitted, squeue: str) -> int | None:
    """How many tasks and jobs SLURM still has, None where it does not answer."""
    arguments = ["--noheader", "--array", "--format=%i", f"--jobs={submitted.array_job},{submitted.collect_job}"]
    try:
        done = subprocess.run([squeue, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SHORT_ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:  # of jobs that it has forgotten squeue says that their number is invalid
        return 0 if b"Invalid job id" in done.stderr else None
    return len(done.stdout.splitlines())
