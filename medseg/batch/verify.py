"""Whether the numbers of a cohort come out again: random done cases are run once more and compared voxel by voxel."""

from __future__ import annotations

import random
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medseg.batch.case_difference import Difference, difference_between
from medseg.batch.records.batch_file import BatchFile, read_batch, read_source
from medseg.batch.records.case import Case
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import CaseResult, read_result
from medseg.core.errors import InputError, UnreadableFileError
from medseg.method.settings import Progress, RunSettings, no_progress

Outcome = Literal["identical", "different", "input changed", "input gone", "output changed", "failed"]
Recompute = Callable[[Case, Layout, str], CaseResult]
SCHEMA = "medseg.verify/1"


@dataclass(frozen=True)
class Verified:
    """One case that was looked at: how it came out, a sentence, and of a difference where the largest is."""

    case_id: str
    outcome: Outcome
    message: str = ""
    difference: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        difference = None if self.difference is None else self.difference.to_dict()
        return {"case_id": self.case_id, "outcome": self.outcome, "message": self.message, "difference": difference}


@dataclass(frozen=True)
class Verification:
    """What became of a sample: the cases in the order they were drawn, the seed that draws them again, and what has changed since.

    Not drawn, as no table holds their numbers: done cases that another plan made (`of_other_plans`) and results that cannot be read
    (`unreadable`), both as far as they were met; and results of cases that the last search did not find (`not_listed`).
    """

    cases: tuple[Verified, ...]
    seed: int
    changed_libraries: tuple[str, ...] = ()
    of_other_plans: int = 0
    not_listed: int = 0
    unreadable: int = 0

    @property
    def identical(self) -> int:
        """How many came out the same."""
        return sum(case.outcome == "identical" for case in self.cases)

    @property
    def is_identical(self) -> bool:
        """Whether every case of the sample did, and there was one."""
        return bool(self.cases) and self.identical == len(self.cases)

    @property
    def worst(self) -> Verified | None:
        """The case with the largest difference in ml, then in voxels; None where all that came out are the same."""
        with_difference = [case for case in self.cases if case.difference is not None]
        return max(with_difference, key=lambda case: case.difference.size, default=None)  # type: ignore[union-attr]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "sampled": len(self.cases),
            "identical": self.identical,
            "worst_case": None if self.worst is None else self.worst.case_id,
            "of_other_plans": self.of_other_plans,
            "not_listed": self.not_listed,
            "unreadable": self.unreadable,
            "changed_libraries": list(self.changed_libraries),
            "cases": [case.to_dict() for case in self.cases],
        }


def verify(
    output: Path,
    *,
    sample: int | None = 5,
    seed: int | None = None,
    folder: Path | None = None,
    device: str | None = None,
    progress: Progress = no_progress,
    recompute: Recompute | None = None,
    model_folders: tuple[Path, ...] | None = None,
) -> Verification:
    """Run random done cases of a cohort again, in a temporary folder, and compare labels voxel by voxel and every measurement.

    `sample` None takes all, `seed` None draws another sample each time; `folder` is where the scans lie now, if they were moved. A
    case runs on the device it ran on, or on `device`; `model_folders` are those of the run (None: the store of this user). Inputs
    are hashed first: a scan that changed is said, not computed. Raises UnreadableFileError where `output` is no batch, InputError
    where no case is done or the folder of the scans is gone, ModelError where a model is no longer the one that was used.
    """
    from medseg.batch.records.environment import environment

    layout = Layout(output)
    batch = read_batch(layout)
    if batch is None:
        raise UnreadableFileError(f"{output.name or output} is not the output of medseg batch: it holds no {layout.batch.name}")
    root = _root(layout, folder)
    drawn_seed = secrets.randbelow(1 << 31) if seed is None else seed
    listed = _listed(layout)
    paths = list(layout.results())
    known = [path for path in paths if path.parent.name in listed]
    drawn, others, unreadable = _draw(known, batch, sample, drawn_seed)
    if not drawn:
        hints = {"were made by another plan": others, "have a result that cannot be read": unreadable}
        hint = "".join(f"; {count} {what}: run medseg batch again first" for what, count in hints.items() if count)
        raise InputError(f"no case of this folder is done, so there is nothing to compare{hint}")
    cases = _cases_of(layout, {result.case_id for result in drawn})
    again = recompute or _Recomputer(batch, root, device, model_folders)
    found = []
    for number, result in enumerate(drawn):
        progress("cases verified", number, len(drawn))
        found.append(_verified(layout, result, cases[result.case_id], root, again))
    progress("cases verified", len(drawn), len(drawn))
    changed = tuple(_changed(batch, environment()))
    return Verification(tuple(found), drawn_seed, changed, others, len(paths) - len(known), unreadable)


def _root(layout: Layout, folder: Path | None) -> Path:
    root = folder or read_source(layout)
    if root is None:
        raise InputError("where the scans lie cannot be read: private/ is not in this copy, or not for you; say it with --folder")
    if not root.is_dir():
        raise InputError("the folder with the scans is not where it was: say with --folder where it lies now")
    return root


def _listed(layout: Layout) -> frozenset[str]:
    from medseg.batch.cases.case_files import read_cases

    return frozenset(case.case_id for case in read_cases(layout))


def _draw(paths: Sequence[Path], batch: BatchFile, sample: int | None, seed: int) -> tuple[list[CaseResult], int, int]:
    """Draw done cases of this plan; also return how many done ones of other plans, and unreadable ones, were met on the way."""
    order = list(paths)
    random.Random(seed).shuffle(order)
    drawn: list[CaseResult] = []
    others = unreadable = 0
    for path in order:
        if sample is not None and len(drawn) >= sample:
            break
        try:
            result = read_result(path)
        except UnreadableFileError:
            unreadable += 1
            continue
        if result is not None and result.case_id != path.parent.name:  # a folder that was copied over another one
            unreadable += 1
            continue
        if result is None or result.status != "done":
            continue
        if result.plan_key == batch.plan.key:
            drawn.append(result)
        else:
            others += 1
    return drawn, others, unreadable


def _cases_of(layout: Layout, wanted: set[str]) -> dict[str, Case]:
    from medseg.batch.cases.case_files import read_cases

    return {case.case_id: case for case in read_cases(layout) if case.case_id in wanted}


def _verified(layout: Layout, result: CaseResult, case: Case, root: Path, again: Recompute) -> Verified:
    """Compare one case: stored outputs with their hashes, inputs with theirs, then what comes out now."""
    case_id = result.case_id
    if broken := _changed_outputs(layout, result):
        return Verified(case_id, "output changed", f"{broken} is not as it was written: run medseg batch again to have it made anew")
    changed = _changed_input(result, case, root)
    if changed is not None:
        return changed
    with tempfile.TemporaryDirectory(prefix="medseg-verify-") as temporary:
        fresh = Layout(Path(temporary))
        made = again(case, fresh, result.device)
        if made.status != "done":
            return Verified(case_id, "failed", f"it was done, and fails now: {made.code}: {made.message}")
        difference = difference_between(layout.case(case_id), fresh.case(case_id), sorted(result.outputs))
    if difference is None:
        return Verified(case_id, "identical")
    return Verified(case_id, "different", str(difference), difference)


def _changed_outputs(layout: Layout, result: CaseResult) -> str:
    from medseg.io.hashing import sha256_of

    for name, output in sorted(result.outputs.items()):
        path = layout.case(result.case_id) / name
        try:
            if path.stat().st_size != output.bytes or sha256_of(path) != output.sha256:
                return name
        except (OSError, UnreadableFileError):
            return name
    return ""


def _changed_input(result: CaseResult, case: Case, root: Path) -> Verified | None:
    from medseg.io.hashing import sha256_of

    try:
        now = sha256_of([root / name for name in case.files])
    except UnreadableFileError:
        return Verified(case.case_id, "input gone", "a file of the scan cannot be read any more")
    if result.inputs is None or now != result.inputs.sha256:
        return Verified(case.case_id, "input changed", "the scan is not the one that was measured: run medseg batch again to measure it")
    return None


def _changed(batch: BatchFile, now: Mapping[str, Any]) -> list[str]:
    from medseg.batch.records.environment import differences

    return differences(batch.environments[-1], now) if batch.environments else []


class _Recomputer:
    """Runs cases as the workers do; a network that was loaded is kept for the next case on that device."""

    def __init__(self, batch: BatchFile, root: Path, device: str | None, model_folders: tuple[Path, ...] | None) -> None:
        from medseg.batch.worker.models import check_models

        check_models(batch.plan, model_folders)
        self._plan, self._root, self._device, self._model_folders = batch.plan, root, device, model_folders
        self._settings: dict[str, RunSettings] = {}

    def __call__(self, case: Case, layout: Layout, device: str) -> CaseResult:
        from medseg.batch.worker.case_run import CaseRunner

        where = self._device or (device if device.startswith(("cpu", "cuda")) else "auto")
        settings = self._settings.setdefault(where, RunSettings(device=where, kept={}, model_folders=self._model_folders))
        return CaseRunner(self._plan, self._root, layout, settings=settings, token=secrets.token_hex(4)).run(case)
