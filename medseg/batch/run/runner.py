"""Run cases by worker processes and lose nothing: the parent, which never opens an image."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medseg.batch.records.case import Case
from medseg.batch.records.events import EventLog, Observe
from medseg.batch.records.index import Index
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.results import is_done, sweep, write_failure
from medseg.batch.run.claims import Claims
from medseg.batch.run.dispatcher import Dispatcher
from medseg.batch.run.feed import Feed
from medseg.batch.run.jobs import Job
from medseg.batch.run.ledger import Ledger
from medseg.batch.run.run_lock import BusyOutputError, RunLock
from medseg.batch.run.run_options import RunOptions, Summary, capped, worker_devices, worker_environment
from medseg.batch.run.slot import Slot
from medseg.batch.run.stop_signals import StopSignals
from medseg.batch.run.worker_process import Inbox, WorkerProcess
from medseg.batch.worker.messages import Start
from medseg.core.errors import OutputError
from medseg.io.atomic import TEMPORARY_PREFIX, check_folder, remove_tree

__all__ = ["BusyOutputError", "RunOptions", "Summary", "of_shard", "run_cases"]

_END_S = 5.0


def run_cases(
    plan: Plan,
    cases: Iterable[Case],
    *,
    total: int | None,
    root: Path,
    layout: Layout,
    options: RunOptions | None = None,
    observe: Observe = lambda event: None,
) -> Summary:
    """Run every case that is not done yet, below `root` into the folder of `layout`, and count what became of them.

    `cases` are taken as they are needed, never all at once; `total` says how many there are. Signals (SIGINT, SIGTERM, SIGUSR1, SIGHUP)
    let what runs end within `grace_s`, a second one ends it at once. `observe` gets every event, in the thread of the caller.
    Raises BusyOutputError where another run has the folder, OutputError where it cannot be written; a disk that gets full
    later, or a model that cannot be loaded, is said in the summary.
    """
    options = options or RunOptions()
    check_folder(layout.folder)
    root = Path(os.path.abspath(root))
    layout = Layout(Path(os.path.abspath(layout.folder)))
    with contextlib.ExitStack() as stack:
        if options.lock is None and not options.is_shared:
            stack.enter_context(RunLock(layout.state, timeout_s=options.claim_timeout_s))
        claims = Claims(layout.claims, timeout_s=options.claim_timeout_s)
        stack.callback(claims.close)
        run = _Run(plan, root, layout, options, claims)
        return run.run(cases, total, observe)


class _Run:
    """One run: puts its parts together, and takes them apart however it ends."""

    def __init__(self, plan: Plan, root: Path, layout: Layout, options: RunOptions, claims: Claims) -> None:
        self._plan = plan
        self._root = root
        self._layout = layout
        self._options = capped(options)
        self._claims = claims
        self._inbox: Inbox = Inbox()
        devices = worker_devices(options, plan)
        self._slots = [Slot(str(number), device, self._worker) for number, device in enumerate(devices, start=1)]
        self._environment = worker_environment(options, len(devices))

    def run(self, cases: Iterable[Case], total: int | None, observe: Observe) -> Summary:
        """Run the cases and return the counts."""
        if not self._options.is_shared:
            self._claims.remove_dead()
        if self._options.shard is None:  # of a thousand shards each would list every folder; they clear the cases they take over
            sweep(self._layout, self._is_live)
        with contextlib.ExitStack() as stack:
            log = EventLog(self._log_path(), observe)
            stack.callback(log.close)
            index = Index(self._layout, is_shared=self._options.is_shared)
            stack.callback(index.close)
            if index.rebuilt:
                log.write("index_rebuilt", reason=index.rebuilt)
            ledger = Ledger(self._layout, self._plan.key, log=log, index=index, claims=self._claims)
            feed = self._feed(cases)
            stack.callback(feed.close)
            dispatcher = Dispatcher(
                self._slots,
                feed,
                ledger,
                options=self._options,
                inbox=self._inbox,
                write_failure=self._write_failure,
                beat=self._claims.beat,
            )
            devices = [slot.device for slot in self._slots]
            log.write("run_started", total=total, workers=devices, plan=self._plan.key, version=self._plan.version)
            return self._run(dispatcher, ledger, log)

    def _run(self, dispatcher: Dispatcher, ledger: Ledger, log: EventLog) -> Summary:
        stopped = message = ""
        try:
            with StopSignals(self._inbox):
                dispatcher.run()
                stopped, message = dispatcher.stopped, dispatcher.message
        except OutputError as err:
            stopped, message = "OUTPUT", str(err)
        finally:
            self._end_workers()
        summary = ledger.summary(stopped, message)
        with contextlib.suppress(OutputError):  # on a full disk the log is no longer what counts
            log.write("run_finished", **_told(summary))
        return summary

    def _feed(self, cases: Iterable[Case]) -> Feed:
        options = self._options
        return Feed(
            of_shard(cases, options.shard),
            stand=lambda case: is_done(self._layout, case, self._plan, self._root, quick=options.quick),
            claims=self._claims,
            clear=self._clear,
            retry_failed=options.retry_failed,
            inbox=self._inbox,
        )

    def _worker(self, slot: Slot) -> WorkerProcess:
        options = self._options
        start = Start(
            root=self._root,
            output=self._layout.folder,
            plan=self._plan,
            device=slot.device,
            memory_gb=options.memory_gb,
            model_folders=options.model_folders,
            token=f"{self._claims.identity.token}-{slot.name}-{slot.starts}",
        )
        return WorkerProcess(f"worker-{slot.name}", options.command, self._environment, start.to_dict(), self._inbox)

    def _write_failure(self, job: Job, code: str, message: str, has_files: bool) -> None:
        token, root = self._claims.identity.token, self._root if has_files else None
        write_failure(self._layout, job.case, self._plan, code, message, attempts=job.attempt, token=token, root=root)

    def _log_path(self) -> Path:
        """The log of this run: of its own where others may write one at the same time."""
        if not self._options.is_shared:
            return self._layout.events
        part = "" if self._options.shard is None else "{}of{}-".format(*self._options.shard)
        return self._layout.folder / f"events-{part}{self._claims.identity.token}.jsonl"

    def _clear(self, case: Case) -> None:
        """Remove what processes that are gone left half-written of one case."""
        folder = self._layout.case(case.case_id).parent
        start = f"{TEMPORARY_PREFIX}{case.case_id}-"
        for left in sorted(folder.glob(f"{start}*")):
            if not self._is_live(left.name.removeprefix(start)):
                remove_tree(left)

    def _is_live(self, token: str) -> bool:
        """Whether what has the token of a worker, or of its parent, may still be written."""
        return self._claims.is_live_owner(token.partition("-")[0])

    def _end_workers(self) -> None:
        """Let idle workers end, kill the others, and remove what those had begun to write."""
        workers = [slot.worker for slot in self._slots if slot.worker is not None]
        for slot in self._slots:
            if slot.worker is not None and slot.is_idle:
                slot.worker.close_input()
            elif slot.worker is not None:
                slot.worker.kill("STOP")
        for worker in workers:
            if not worker.join(_END_S):
                worker.kill("STOP")
                worker.join(_END_S)
        has_lost_one = sum(slot.starts for slot in self._slots) > len(workers)
        if has_lost_one or any(worker.ended_by for worker in workers):
            own = self._claims.identity.token
            sweep(self._layout, lambda token: token.partition("-")[0] != own)


def of_shard(cases: Iterable[Case], shard: tuple[int, int] | None) -> Iterator[Case]:
    """Yield the cases of a shard; ids are hashes, so the shards get equal parts."""
    for case in cases:
        if shard is None or int(case.case_id, 16) % shard[1] == shard[0] - 1:
            yield case


def _told(summary: Summary) -> dict[str, Any]:
    told = {name: value for name, value in vars(summary).items() if name != "by_code"}
    return {**told, "by_code": dict(summary.by_code), "exit_code": summary.exit_code}
