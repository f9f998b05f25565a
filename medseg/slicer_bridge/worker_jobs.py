"""What each job does, by its name; the heavy modules are imported by the job that needs them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from medseg.core.finding import Finding
from medseg.slicer_bridge.worker_context import Context

# job → module:function that takes the context and returns the fields of its result
JOBS: dict[str, str] = {
    "describe": "medseg.slicer_bridge.worker_describe:describe",
    "segment": "medseg.slicer_bridge.worker_segment:segment",
    "run": "medseg.slicer_bridge.worker_segment:run",
    "measure": "medseg.slicer_bridge.worker_measure:measure",
    "lesions": "medseg.slicer_bridge.worker_lesions:lesions",
    "change": "medseg.slicer_bridge.worker_lesions:change",
    "audit": "medseg.slicer_bridge.worker_measure:audit",
    "export": "medseg.slicer_bridge.worker_export:export",
    "doctor": "medseg.slicer_bridge.worker_describe:doctor",
    "forget": "medseg.slicer_bridge.worker_describe:forget",
}


_WARM = ("numba", "medseg.segmentation.segment", "medseg.slicer_bridge.worker_segment", "medseg.io.file_report", "medseg.pipeline")


def perform(context: Context) -> dict[str, Any]:
    """Do the job of a context; raises what it raises."""
    module, _, name = JOBS[context.job.do].partition(":")
    values: dict[str, Any] = getattr(importlib.import_module(module), name)(context)
    return values


def warm() -> None:
    """Load what most jobs need while the host has nothing to do, so that the first click does not wait for it."""
    for module in _WARM:
        try:
            importlib.import_module(module)
        except ImportError:  # the job that needs it says so
            return
    if _are_kernels_compiled():  # compiling them takes far longer than the host may stay idle
        _click()


def _are_kernels_compiled() -> bool:
    import medseg

    return any((Path(medseg.__file__).parent / "kernels" / "__pycache__").glob("star_surface*.nbi"))


def _click() -> None:
    """Click on a small ball, which loads the compiled kernels of clicks and of growing."""
    import numpy as np

    from medseg.core.errors import MedsegError
    from medseg.core.geometry import Geometry
    from medseg.core.volume import Volume
    from medseg.segmentation.segment import segment

    k, j, i = np.ogrid[-12:13, -12:13, -12:13]
    ball = np.where(k * k + j * j + i * i < 36, 100, 0).astype(np.int16)
    scan = Volume(ball.T, Geometry(ball.shape, np.eye(4)), "CT", "HU")
    try:
        segment(scan, "click-lesion", seeds=[(12.0, 12.0, 12.0)])
    except MedsegError:  # nothing hangs on it
        return


def as_json(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
    """Return findings for a result, each once."""
    return [finding.to_dict() for finding in {(one.code, one.message): one for one in findings}.values()]
