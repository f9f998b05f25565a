"""The results of cases on disk: whether one still stands, how a failure is written, what dead writers left behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from medseg.batch.records.case import Case
from medseg.batch.records.layout import RESULT, Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import CaseResult, Inputs, Output, read_result
from medseg.core.errors import MedsegError, OutputError, UnreadableFileError
from medseg.io.atomic import TEMPORARY_PREFIX, give_name, remove_tree, write_text
from medseg.io.hashing import sha256_of

INPUT_CODES = frozenset({"INPUT_CHANGED", "INPUT_GONE"})  # the next run looks at these again by itself
_ID_DIGITS = 16
_ASIDE = ".old"


@dataclass(frozen=True)
class Standing:
    """Whether a case is to be run, and why.

    "done": its result stands. "failed": so does its failure. "missing": it was not run yet, or its input could not be read
    then. "stale": plan, inputs or outputs are others than those of its result. `result` is what lies there, None for
    nothing readable.
    """

    status: Literal["done", "failed", "missing", "stale"]
    reason: str = ""
    result: CaseResult | None = None


def paths_of(case: Case, root: Path) -> list[Path]:
    """Return the files of a case."""
    return [root / name for name in case.files]


def signature_of(files: Iterable[Path]) -> str:
    """Return the hash over size, modification and change time of every file, in order; raises OSError where one is gone."""
    return _look(files).signature


def seen_inputs(files: Iterable[Path]) -> Inputs | None:
    """Return what can be said of inputs without reading them (`sha256` is ""), None where one is gone."""
    try:
        return _look(files)
    except OSError:
        return None


def _look(files: Iterable[Path]) -> Inputs:
    digest, count, total = hashlib.sha256(), 0, 0
    for file in files:
        found = os.stat(file)
        digest.update(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n".encode("ascii"))
        count, total = count + 1, total + found.st_size
    return Inputs("", count, total, digest.hexdigest())


def read_inputs(files: list[Path]) -> Inputs:
    """Return what is in the files and when they were last touched; raises OSError, UnreadableFileError."""
    before = _look(files)
    return replace(before, sha256=sha256_of(files))


def is_done(layout: Layout, case: Case, plan: Plan, root: Path, *, quick: bool = False) -> Standing:
    """Say whether the result of a case still stands: same plan, same inputs, every output as it was written.

    Inputs that look untouched (`signature_of`) are not read again, others are hashed. `quick` compares the sizes of outputs
    and not their hashes. Where inputs are gone, what was made of them before stands: it cannot be made again.
    """
    try:
        result = read_result(layout.result(case.case_id))
    except UnreadableFileError as err:
        return Standing("stale", str(err))
    if result is None:
        return Standing("missing", "it was not run yet")
    if result.case_id == case.case_id and result.plan_key == plan.key and result.code in INPUT_CODES:
        return Standing("missing", "its files could not be read when it was tried", result)
    reason = _other_plan(result, case, plan) or _changed_inputs(result, plan, paths_of(case, root))
    if not reason and result.status == "done":
        reason = _broken_output(layout.case(case.case_id), result, quick)
    return Standing("stale", reason, result) if reason else Standing(result.status, result.message, result)


def _other_plan(result: CaseResult, case: Case, plan: Plan) -> str:
    if result.case_id != case.case_id:
        return "its folder holds the result of another case"
    return "" if result.plan_key == plan.key else "it was run with another pipeline, model, way of reading or version of medseg"


def _changed_inputs(result: CaseResult, plan: Plan, files: list[Path]) -> str:
    """Say how inputs differ from those of a result; "" where they do not, or where they are gone from under a done case."""
    known = result.inputs
    try:
        if known is not None and signature_of(files) == known.signature:
            return ""
        if known is not None and known.sha256 and plan.case_key(sha256_of(files)) == result.key:
            return ""
    except (OSError, MedsegError):
        return "" if result.status == "done" else "its files cannot be read now"
    return "its files have changed"


def _broken_output(folder: Path, result: CaseResult, quick: bool) -> str:
    """Say which output is not what was written; "" where all are."""
    for name, output in result.outputs.items():
        path = folder / name
        try:
            if path.stat().st_size != output.bytes or (not quick and sha256_of(path) != output.sha256):
                return f"{name} was changed after it was written"
        except (OSError, MedsegError):
            return f"{name} is missing or cannot be read"
    return "" if result.outputs else "it names no outputs"


def write_failure(
    layout: Layout, case: Case, plan: Plan, code: str, message: str, *, attempts: int, token: str, root: Path | None = None
) -> CaseResult:
    """Write a failed case and return its result: for whoever saw a worker die, which could not say so itself.

    `message` must name neither path nor patient. With `root` the inputs are looked at, so that the failure stands until they
    change. Raises OutputError.
    """
    inputs = None if root is None else seen_inputs(paths_of(case, root))
    result = CaseResult(
        case.case_id, "failed", plan.key, code=code, message=message, inputs=inputs, modality=case.modality, attempts=attempts
    )
    open_folder(layout, case.case_id, token)
    return close_folder(layout, result, token)


def open_folder(layout: Layout, case_id: str, token: str) -> Path:
    """Make the empty folder in which a case is written before it gets its name; raises OutputError."""
    folder = layout.temporary(case_id, token)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:  # of an attempt of this writer that was broken off
            remove_tree(folder)
            folder.mkdir()
    except OSError as err:
        raise OutputError(f"{layout.folder} cannot be written ({err.strerror}); free some space or check its permissions") from err
    return folder


def close_folder(layout: Layout, result: CaseResult, token: str) -> CaseResult:
    """Give the folder of a case its name, with sizes and hashes of all that lies there in its result, which is returned.

    A done result of the same key that another writer finished meanwhile stays, and ours goes. Nothing is left behind where
    OutputError is raised.
    """
    folder = layout.temporary(result.case_id, token)
    final = layout.case(result.case_id)
    try:
        result = replace(result, outputs=_outputs_of(folder), finished=datetime.now(timezone.utc).isoformat(timespec="seconds"))
        write_text(folder / RESULT, result.to_json())
        there = _done_there(layout, result)
        if there is not None:
            return there
        give_name(folder, final)
    except OSError as err:
        raise err if isinstance(err, OutputError) else OutputError(f"{layout.folder} cannot be read back ({err.strerror})") from err
    finally:
        remove_tree(folder)
    return result


def _outputs_of(folder: Path) -> dict[str, Output]:
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            found[os.path.relpath(path, folder).replace(os.sep, "/")] = Output(os.path.getsize(path), sha256_of(path))
    return found


def _done_there(layout: Layout, ours: CaseResult) -> CaseResult | None:
    if not layout.case(ours.case_id).exists():
        return None
    try:
        there = read_result(layout.result(ours.case_id))
    except UnreadableFileError:
        return None
    if there is None or there.status != "done" or not ours.key or there.key != ours.key:
        return None
    return there if not _broken_output(layout.case(ours.case_id), there, quick=False) else None


def sweep(layout: Layout, is_live: Callable[[str], bool]) -> int:
    """Delete what writers that are gone left half-written and return how much; `is_live` is asked with the token of each.

    A folder that was set aside in the very moment its successor should have got its name goes back to its place.
    """
    count = 0
    for group in sorted(layout.cases.glob("[0-9a-f][0-9a-f]")):
        for left in sorted(group.glob(f"{TEMPORARY_PREFIX}*")):
            name = left.name.removeprefix(TEMPORARY_PREFIX)
            case_id, token = name[:_ID_DIGITS], name[_ID_DIGITS + 1 :]
            if is_live(token.removesuffix(_ASIDE)):
                continue
            if token.endswith(_ASIDE) and not layout.case(case_id).exists():
                with contextlib.suppress(OSError):  # it may be the only copy: it stays for the next run to try again
                    os.rename(left, layout.case(case_id))
                continue
            remove_tree(left)
            count += 1
    return count
