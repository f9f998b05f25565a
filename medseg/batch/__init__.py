"""Study folders by the thousand: cases are found, run by workers that lose nothing, and counted into one cohort table.

>>> from medseg.batch import Request, RunOptions, run_batch
>>> RunOptions(workers=2).is_shared
False
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "BatchDone": "medseg.batch.batch",
    "Request": "medseg.batch.batch",
    "run_batch": "medseg.batch.batch",
    "RunOptions": "medseg.batch.run.run_options",
    "Summary": "medseg.batch.run.run_options",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - the table above is the one list


def __getattr__(name: str) -> Any:
    """Load a public name on first use: the processes of a batch import only what they need."""
    if name not in _HOMES:
        raise AttributeError(f"module 'medseg.batch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
