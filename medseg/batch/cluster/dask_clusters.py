"""Where the workers of dask come from: a scheduler that runs already, or jobs of SLURM, PBS, LSF or SGE that are asked for.

dask runs whatever code a client sends, so a scheduler that listens on a network without TLS gives this account to everybody on that
network. One that is started here therefore always speaks TLS, with a certificate made for this run.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from medseg.batch.cluster.cluster_error import ClusterError
from medseg.batch.records.layout import Layout
from medseg.batch.run.run_options import RunOptions
from medseg.core.errors import MissingDependencyError, OutputError

Scheduler = Literal["slurm", "pbs", "lsf", "sge"]
_CLASSES: dict[str, str] = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
# options of dask-jobqueue by the type of their value; a list takes one value an option
_NUMBERS = frozenset({"cores", "processes", "job_cpu", "ncpus", "mem", "death_timeout"})
_LISTS = frozenset({"job_extra_directives", "job_script_prologue", "job_directives_skip", "worker_extra_args"})
_TEXTS = frozenset({"memory", "queue", "account", "project", "walltime", "interface", "local_directory", "job_mem", "resource_spec"})
OPTION_NAMES = _NUMBERS | _LISTS | _TEXTS
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)  # what may stand in a job script without quotes
_KEYWORD = re.compile(r"unexpected keyword argument '(\w+)'")
_CONNECT_S = 60


@dataclass(frozen=True)
class DaskPool:
    """A pool of workers: the `address` of a scheduler (tcp://, tls://), or `jobs` jobs of a `jobqueue`.

    `options` are those of dask-jobqueue, as text: {"cores": ["4"], "memory": ["16GB"], "walltime": ["04:00:00"]}; what is not given
    comes from dask's own configuration (~/.config/dask/jobqueue.yaml). Raises ValueError.
    """

    address: str = ""
    jobqueue: Scheduler | None = None
    jobs: int = 1
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.address) == bool(self.jobqueue):
            raise ValueError("a pool is either at an address or made of jobs")
        if self.jobs < 1:
            raise ValueError("a pool has at least one job")
        self.settings()

    @property
    def kind(self) -> str:
        """What the log calls it; an address may name machines and is left out."""
        return self.jobqueue or "dask"

    def settings(self) -> dict[str, Any]:
        """Return the options with their types; raises ValueError for an unknown one."""
        found: dict[str, Any] = {}
        for name, values in self.options.items():
            if name in _LISTS:
                found[name] = list(values)
            elif name in _NUMBERS and len(values) == 1 and values[0].isdecimal():
                found[name] = int(values[0])
            elif name in _TEXTS and len(values) == 1:
                found[name] = values[0]
            elif name in OPTION_NAMES:
                raise ValueError(f"{name} takes one {'whole number' if name in _NUMBERS else 'value'}, not {', '.join(values)!r}")
            else:
                raise ValueError(f"{name!r} is no option of a pool; known: {', '.join(sorted(OPTION_NAMES))}")
        return found


def device_of_pool(devices: Sequence[str]) -> str:
    """Return the one device that a worker of a pool computes on; raises ValueError for several, which none could tell apart."""
    if len(devices) != 1:
        raise ValueError(
            f"a pool of dask takes one --device, which means the same in each of its workers, not {len(devices)} "
            f"({', '.join(devices)}): give --device cuda, and have one worker for each GPU. Workers of your own: CUDA_VISIBLE_DEVICES=0 "
            "dask worker … --nthreads 1 --resources GPU=1, the next with CUDA_VISIBLE_DEVICES=1; jobs of --dask-jobqueue: --dask-jobs N, "
            "each with one GPU (on SLURM --dask-option job_extra_directives=--gres=gpu:1)"
        )
    return devices[0]


@dataclass(frozen=True)
class Connection:
    """A client of a pool, and what the scheduler said of jobs that it refused: dask waits for those for ever."""

    client: Any
    refusals: list[str]


@contextmanager
def connected(pool: DaskPool, layout: Layout, options: RunOptions) -> Iterator[Connection]:
    """Yield a connection to the pool; jobs that were asked for end with it. Raises ClusterError, MissingDependencyError."""
    distributed = _load("distributed")
    refusals: list[str] = []
    with ExitStack() as stack:
        try:
            jobs = _job_cluster(pool, pool.jobqueue, layout, options, refusals) if pool.jobqueue else None
            target = stack.enter_context(jobs) if jobs is not None else pool.address
            client = stack.enter_context(distributed.Client(target, timeout=_CONNECT_S, set_as_default=False))
        except (OSError, TimeoutError, ValueError) as err:
            where = "the jobs of the pool" if pool.jobqueue else "the scheduler"
            raise ClusterError(
                f"{where} cannot be reached ({type(err).__name__}): check the address, that the scheduler runs, and that it "
                "speaks the same protocol (tcp:// or tls://)"
            ) from err
        yield Connection(client, refusals)


@contextmanager
def _job_cluster(pool: DaskPool, kind: Scheduler, layout: Layout, options: RunOptions, refusals: list[str]) -> Iterator[Any]:
    dask = _load("dask")
    kind_of_cluster = getattr(_load("dask_jobqueue"), _CLASSES[kind])
    folder = layout.private.absolute() / "dask"
    _check_plain(str(folder))
    is_device = any(device.startswith("cuda") for device in options.devices)
    # a task that holds a device is where it is; moving it would only move the wait
    stealing = {"distributed.scheduler.work-stealing": not is_device}
    with ExitStack() as stack:
        security = stack.enter_context(_certificates(folder))
        stack.enter_context(dask.config.set(stealing))
        settings = _job_settings(pool, options)
        _check_settings(kind_of_cluster.job_cls, settings, kind)
        cluster = kind_of_cluster(
            job_cls=_attentive(kind_of_cluster.job_cls, refusals),
            **settings,
            log_directory=str(folder),
            security=security,
            protocol="tls://",
            scheduler_options={"dashboard_address": ":0"},  # any free port: None would be 8787, with a warning where that is taken
        )
        stack.enter_context(cluster)
        # not scale: that does not replace a job whose time is over
        cluster.adapt(minimum_jobs=pool.jobs, maximum_jobs=pool.jobs)
        yield cluster


def _check_settings(job: Any, settings: dict[str, Any], kind: Scheduler) -> None:
    """Let a job be made that is never submitted: a cluster that refuses its options leaves half of itself behind."""
    try:
        job("tls://127.0.0.1:0", name="medseg", **settings)
    except (ValueError, TypeError) as err:
        if "how much cores and memory" in str(err):
            raise ClusterError("say what a job has: --dask-option cores=4 --dask-option memory=16GB") from err
        unknown = _KEYWORD.search(str(err))
        what = f"the option {unknown[1]}" if unknown else f"these options ({_first_line(err)})"
        raise ClusterError(f"dask-jobqueue does not take {what} for {kind}: leave it out, or see its documentation") from err


def _attentive(job: Any, refusals: list[str]) -> Any:
    """Return a class of jobs that notes what the scheduler says where it does not take one."""

    class AttentiveJob(job):  # type: ignore[misc]
        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, OSError) as err:
                self.status = _load("distributed.core").Status.failed
                refusals.append(_words_of(err))

    return AttentiveJob


def _words_of(err: Exception) -> str:
    """Return the last line of what the scheduler's program said; dask-jobqueue quotes its whole output."""
    if isinstance(err, OSError):
        return f"{err.filename or 'its program'}: {err.strerror}"
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return lines[-1] if lines else type(err).__name__


@contextmanager
def _certificates(folder: Path) -> Iterator[Any]:
    """Yield what makes a pool speak TLS: keys and certificate of this run alone, in files that only this user can read."""
    distributed = _load("distributed")
    try:
        temporary = distributed.Security.temporary()
    except ImportError as err:
        raise MissingDependencyError("a pool speaks TLS, which needs cryptography: pip install 'medseg[cluster]'") from err
    files: dict[str, str] = {}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = Path(tempfile.mkdtemp(prefix="tls-", dir=folder))  # mode 0700
    except OSError as err:
        raise OutputError(f"{folder} cannot be written ({err.strerror}); check the output folder and its permissions") from err
    try:
        for name in ("tls_ca_file", *(f"tls_{role}_{part}" for role in ("client", "scheduler", "worker") for part in ("cert", "key"))):
            (keys / name).write_text(getattr(temporary, name), encoding="ascii")
            files[name] = str(keys / name)
        yield distributed.Security(require_encryption=True, **files)
    finally:
        shutil.rmtree(keys, ignore_errors=True)


def _job_settings(pool: DaskPool, options: RunOptions) -> dict[str, Any]:
    settings = {"processes": 1, **pool.settings()}
    threads = options.threads or max(1, settings.get("cores", 1) // settings["processes"])
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    settings["job_script_prologue"] = [*settings.get("job_script_prologue", []), *(f"export {name}={threads}" for name in names)]
    # one case at a time in a process: its threads are those of the kernels, not dask's
    settings["worker_extra_args"] = ["--nthreads", "1", *settings.get("worker_extra_args", [])]
    if any(device.startswith("cuda") for device in options.devices):
        settings["worker_extra_args"] += ["--resources", "GPU=1"]
    return settings


def _check_plain(path: str) -> None:
    if not _PLAIN.fullmatch(path):
        raise ClusterError(
            "dask-jobqueue takes no output folder with spaces or special characters in its path: choose another, or use --slurm"
        )


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [""])[0]


def _load(module: str) -> Any:
    """The one place where dask is loaded."""
    try:
        return import_module(module)
    except ImportError as err:
        raise MissingDependencyError(f"a pool needs {module}, which is not installed: pip install 'medseg[cluster]'") from err
