"""Why a worker died, as the code and sentence of the case it died of."""

from __future__ import annotations

from medseg.batch.run.worker_process import WorkerProcess
from medseg.batch.worker.worker_setup import OUT_OF_MEMORY_EXIT
from medseg.core.child_process import signal_name

_DOING = {"": "start with it", "read": "read its files", "compute": "segment and measure it", "write": "write its results"}
_KILLED = -9


def death_of(worker: WorkerProcess, stage: str, *, timeout_s: float, silence_s: float, memory_gb: float | None) -> tuple[str, str]:
    """Return code and message for a case whose worker died in this stage; nothing of what it or its libraries said is in them."""
    doing = _DOING.get(stage, "run it")
    if worker.ended_by == "TIMEOUT":
        return "TIMEOUT", f"it took longer than {timeout_s:g} s to {doing}, and was ended: allow more with --timeout, or crop the scan"
    if worker.ended_by == "SILENT":
        return "TIMEOUT", f"the process that was to {doing} gave no sign of life for {silence_s:g} s, and was ended"
    code = worker.exit_code
    if worker.ended_by == "MEMORY" or code == OUT_OF_MEMORY_EXIT:
        return "OUT_OF_MEMORY", f"to {doing} took more than the {memory_gb:g} GB of memory that are allowed: allow more with --memory-gb"
    if code == _KILLED and worker.was_out_of_memory:
        return (
            "OUT_OF_MEMORY",
            f"memory ran out when the process was to {doing}: give fewer --workers, or crop the scan",
        )
    if code == _KILLED:
        return "KILLED", f"the process that was to {doing} was killed from outside, most likely for want of memory: give fewer --workers"
    how = f"signal {signal_name(-code)}" if code is not None and code < 0 else f"exit code {code}"
    return "CRASH", f"the process crashed ({how}) when it was to {doing}: a file may be damaged, or a library at fault; please report it"
