"""medseg.lock: everything the numbers of a cohort stand on, by hash and version; the same cohort gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medseg.batch.cohort.cohort_rows import listed_cases
from medseg.batch.records.batch_file import read_batch
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import CaseResult, read_result
from medseg.core.errors import OutputVerificationError, UnreadableFileError
from medseg.io.atomic import write_verified
from medseg.io.hashing import sha256_of

SCHEMA = "medseg.lock/1"


def write_lock(layout: Layout, *, is_sorted: bool = False) -> Path:
    """Write medseg.lock and return its path: plan, models, parameters with defaults, environments, and the inputs of every case.

    A case is one line: its status, the key of plan and inputs, the SHA-256 of its inputs, the number of files. The cases are those of
    found.csv, so that what an earlier search took is not named; `is_sorted` says that they stand there in the order of their ids, and
    need no memory. Holds no times, paths or names. Raises UnreadableFileError where the folder is not that of a batch, OutputError.
    """
    batch = read_batch(layout)
    if batch is None:
        raise UnreadableFileError(f"{layout.folder.name} holds no {layout.batch.name}: it is not the output of medseg batch")
    head = {
        "schema": SCHEMA,
        "plan_key": batch.plan.key,
        "plan": batch.plan.to_dict(),
        "models": dict(sorted(batch.plan.models.items())),
        "steps": _steps(layout, batch.plan.key, is_sorted),
        "environments": [dict(entry) for entry in batch.environments],
    }
    digest = hashlib.sha256()

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for text in _text(head, layout, is_sorted):
                data = text.encode("ascii")
                digest.update(data)
                file.write(data)

    def verify(temporary: Path) -> None:
        if sha256_of(temporary) != digest.hexdigest():
            raise OutputVerificationError(f"{layout.lock.name}: what was read back is not what was written; check the disk and try again")

    return write_verified(layout.lock, write, verify, overwrite=True)


def _text(head: Mapping[str, Any], layout: Layout, is_sorted: bool) -> Iterator[str]:
    """Yield the document a case at a time, so that a million cases need no memory."""
    yield json.dumps(head, indent=1, sort_keys=False)[: -len("\n}")] + ',\n "cases": {'
    first = True
    for result in _results(layout, is_sorted):
        yield ("\n  " if first else ",\n  ") + f"{json.dumps(result.case_id)}: {json.dumps(_entry(result))}"
        first = False
    yield "\n }\n}\n"


def _entry(result: CaseResult) -> dict[str, Any]:
    """The line of a case; `key` is empty where the inputs could not be read, `plan_key` says which plan made it."""
    status = {"status": result.status} if result.status == "done" else {"status": result.status, "code": result.code}
    inputs = {} if result.inputs is None else {"inputs_sha256": result.inputs.sha256, "files": result.inputs.file_count}
    return {**status, "plan_key": result.plan_key, "key": result.key, **inputs}


def _steps(layout: Layout, plan_key: str, is_sorted: bool) -> list[dict[str, Any]]:
    """Every step with the parameters it was given and defaulted to, as the first done case records them."""
    for result in _results(layout, is_sorted):
        if result.status != "done" or result.plan_key != plan_key:
            continue
        try:
            steps = json.loads((layout.case(result.case_id) / "provenance.json").read_bytes())["steps"]
            return [{name: value for name, value in step.items() if name != "seconds"} for step in steps]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return []


def _results(layout: Layout, is_sorted: bool) -> Iterator[CaseResult]:
    for listed in listed_cases(layout, is_sorted):
        try:
            result = read_result(layout.result(listed.case_id))
        except UnreadableFileError:
            continue  # a broken result counts as none: the next run makes it anew
        if result is not None and result.case_id == listed.case_id:
            yield result
