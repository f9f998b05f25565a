"""Cases on the workers of dask: a live pool, for those who have one or let a scheduler make one.

Done means what it means everywhere: a result on disk that fits. The pool is only asked to run what is missing, a few tasks for
each of its processes at a time, so neither the client nor the scheduler holds more of a cohort than that. A process that dies
with a case is replaced by dask; the case is tried again, and after the third death it is a failure with its reason.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from medseg.batch.cluster.cluster_error import ClusterError
from medseg.batch.cluster.dask_clusters import DaskPool, connected, device_of_pool
from medseg.batch.cluster.starts import Starts
from medseg.batch.records.case import Case
from medseg.batch.records.events import EventLog, Observe
from medseg.batch.records.identity import Identity
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.results import sweep
from medseg.batch.run.run_lock import RunLock
from medseg.batch.run.run_options import RunOptions, Summary
from medseg.batch.run.stop_signals import StopSignals
from medseg.batch.run.worker_process import Inbox
from medseg.batch.worker.messages import Start

_PREFIX = "dask-"


def run_cases_dask(
    plan: Plan, cases: Iterable[Case], *, total: int, root: Path, layout: Layout, pool: DaskPool, options: RunOptions, observe: Observe
) -> Summary:
    """Run the cases that are not done on a dask pool and return what became of them, as `run_cases` does.

    `root` and the output must have the same path on every worker. Raises BusyOutputError where another run has the output,
    ClusterError where the pool cannot be had, does not fit or is lost, OutputError, MissingDependencyError.
    """
    if options.is_shared:
        raise ClusterError("a pool of dask takes an output folder for itself: leave out --shard and --join, or use --slurm")
    try:
        device = device_of_pool(options.devices)
    except ValueError as err:
        raise ClusterError(str(err)) from err
    token = Identity.of_this_process().token
    root, layout = root.absolute(), Layout(layout.folder.absolute())  # the workers have a working directory of their own
    with ExitStack() as stack:
        if options.lock is None:
            stack.enter_context(RunLock(layout.state, timeout_s=options.claim_timeout_s))
        sweep(layout, lambda writer: False)  # nobody else has the folder
        for left in layout.state.glob(f"{_PREFIX}*"):
            Starts(left).remove()
        log = EventLog(layout.events, observe)
        stack.callback(log.close)
        starts = Starts(layout.state / f"{_PREFIX}{token}")
        starts.make()
        stack.callback(starts.remove)
        connection = stack.enter_context(connected(pool, layout, options))
        from medseg.batch.cluster.dask_run import DaskRun  # needs dask, whose absence has its sentence by now

        inbox: Inbox = queue.SimpleQueue()
        stack.enter_context(StopSignals(inbox))
        start = Start(root, layout.folder, plan, device, options.memory_gb, options.model_folders, token)
        log.write("run_started", total=total, workers=[], pool=pool.kind, plan=plan.key, version=plan.version)
        run = stack.enter_context(DaskRun(connection, start, options, log, starts, inbox))
        summary = run.all(cases)
        if not summary.stopped:  # nothing runs any more: what is half-written is of processes that died
            sweep(layout, lambda writer: False)
        log.write("run_finished", **{**vars(summary), "by_code": dict(summary.by_code), "exit_code": summary.exit_code})
    return summary
