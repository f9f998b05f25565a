"""What runs inside a worker process of dask: one case at a time, with a model that is loaded once.

A task gets and returns plain values (text, numbers, dictionaries), never an object that would have to be unpickled into the same
version of anything. Nothing is decided by the answer alone: the result is on disk before it is given, so a scheduler, a client
or a connection that is lost meanwhile costs no work.
"""

from __future__ import annotations

import faulthandler
import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin, get_worker

from medseg.batch.cluster.cluster_error import ClusterError
from medseg.batch.cluster.starts import Starts
from medseg.batch.records.case import Case
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import CaseResult, read_result
from medseg.batch.records.results import write_failure
from medseg.batch.worker.messages import STAGES, Run, Start
from medseg.batch.worker.worker import DEVICE_LOST_EXIT
from medseg.core.errors import MedsegError, OutputError, UnreadableFileError

if TYPE_CHECKING:
    from medseg.batch.worker.case_run import CaseRunner

MOST_STARTS = 3  # a process can die of something else than its case (the wall time of its job), but hardly three times
HELD_S = 30.0  # what a case is late that ends its process with no word
TIMED_OUT = 75  # the exit code of a process that ends itself because a case takes too long
DIED = "the worker process ended {count} times in a row with this case: a crash, too little memory, or the time limit of its job"


class CasePlugin(WorkerPlugin):
    """Holds the runner of a worker process; `document` is the JSON form of `Start`, `starts` the folder of what was begun."""

    def __init__(self, document: Mapping[str, Any], starts: str, timeout_s: float, topic: str) -> None:
        self.name = topic
        self._document, self._timeout_s, self._topic = dict(document), timeout_s, topic
        self._folder = starts
        self._runner: CaseRunner | None = None

    def setup(self, worker: Any) -> None:
        """Remember the worker; everything that takes time waits for the first case."""
        self._worker = worker
        self._lock = threading.Lock()
        self._nowhere = os.open(os.devnull, os.O_WRONLY)  # a traceback names files of this machine
        self._starts = Starts(Path(self._folder))
        self._start = Start.from_dict(self._document)
        self._layout = Layout(self._start.output)

    def teardown(self, worker: Any) -> None:
        """Let go of what `setup` took."""
        os.close(self._nowhere)

    def run(self, text: str) -> dict[str, Any]:
        """Run one case and return what became of it; `fatal` and `stopping` answers concern the whole run."""
        with self._lock:  # numba's and torch's threads are those of the process: two cases at once would fight for them
            try:
                run = Run.from_dict(json.loads(text))
                return self._run(run.case, run.attempt)
            except OutputError as err:
                return {"event": "stopping", "message": str(err), "exit_code": err.exit_code}
            except MedsegError as err:
                return _fatal(str(err))
            except Exception as err:  # noqa: BLE001 - what leaves a task is logged by dask with the names of the files
                return _fatal(f"unexpected {type(err).__name__} in a worker: a fault of medseg, please report it")

    def _run(self, case: Case, attempt: int) -> dict[str, Any]:
        path = self._layout.result(case.case_id)
        begun = self._starts.begin(case.case_id, path)
        if begun > 1 and self._starts.is_news(case.case_id, path):
            known = _known(path)
            if known is not None:  # it was written, and the process died or was cut off before it could say so
                return answer_of(known)
        if begun > MOST_STARTS:
            return answer_of(self._fail(case, "CRASH", DIED.format(count=MOST_STARTS), attempt))
        said = {"case_id": case.case_id, "attempt": attempt, "worker": self._worker.address, "pid": os.getpid()}
        self._worker.log_event(self._topic, said)
        runner = self._made_runner()
        from medseg.batch.worker.work import Work

        work = Work(case, attempt)
        for stage in STAGES:
            with self._watched(case, attempt, stage):
                runner.step(work, stage)
        assert work.result is not None  # the last stage gives it or raises
        if work.result.code == "DEVICE_LOST":
            os._exit(DEVICE_LOST_EXIT)  # nothing more can be computed in this process; the next one finds the result and says it
        return answer_of(work.result)

    def _made_runner(self) -> CaseRunner:
        if self._runner is None:
            from medseg.batch.worker.case_run import CaseRunner
            from medseg.batch.worker.models import check_models
            from medseg.batch.worker.worker_setup import contain
            from medseg.method.settings import RunSettings
            from medseg.pipeline import package_versions

            here, there = package_versions().get("medseg", "unknown"), self._start.plan.version
            if here != there:
                raise ClusterError(f"this worker has medseg {here}, the run {there}: install the same version everywhere")
            check_models(self._start.plan, self._start.model_folders)
            if self._start.memory_gb:  # for as long as the process lives: it may be that of somebody's pool
                contain(self._start.memory_gb)
            settings = RunSettings(device=self._start.device, model_folders=self._start.model_folders)
            token = f"{self._start.token}-{uuid.uuid4().hex[:8]}"
            self._runner = CaseRunner(self._start.plan, self._start.root, self._layout, settings=settings, token=token)
        return self._runner

    def _fail(self, case: Case, code: str, message: str, attempt: int) -> CaseResult:
        token = f"{self._start.token}-{uuid.uuid4().hex[:8]}"
        return write_failure(self._layout, case, self._start.plan, code, message, attempts=attempt, token=token, root=self._start.root)

    @contextmanager
    def _watched(self, case: Case, attempt: int, stage: str) -> Iterator[None]:
        """End this process where a stage takes longer than it may.

        A timer needs the interpreter, which a library may never let go of; behind it stands one of the system's own threads.
        """
        faulthandler.dump_traceback_later(self._timeout_s + HELD_S, exit=True, file=self._nowhere)
        timer = threading.Timer(self._timeout_s, self._time_out, (case, attempt, stage))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            faulthandler.cancel_dump_traceback_later()

    def _time_out(self, case: Case, attempt: int, stage: str) -> None:
        """Write that a case took too long and end this process, which is the one way to stop a thread that computes."""
        try:
            message = f"to {stage} it took longer than {self._timeout_s:g} s, and was ended: allow more with --timeout"
            self._fail(case, "TIMEOUT", message, attempt)
        finally:
            os._exit(TIMED_OUT)  # the nanny starts a new process; the task is run again there and finds this result


def run_case(topic: str, text: str) -> dict[str, Any]:
    """The task of dask: run one case in the process that has the plugin of this run."""
    plugin = get_worker().plugins.get(topic)
    if not isinstance(plugin, CasePlugin):
        return {"event": "lost"}  # it is being restarted
    return plugin.run(text)


def _known(path: Path) -> CaseResult | None:
    try:
        return read_result(path)
    except UnreadableFileError:
        return None


def answer_of(result: CaseResult) -> dict[str, Any]:
    """Return what a task says of a result."""
    return {
        "event": "finished",
        "case_id": result.case_id,
        "status": result.status,
        "code": result.code,
        "message": result.message,
        "seconds": dict(result.seconds),
        "rss_bytes": result.peak_memory_bytes,
    }


def _fatal(message: str) -> dict[str, Any]:
    return {"event": "fatal", "message": message, "exit_code": 4}
