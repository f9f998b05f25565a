"""Prepared cases on disk: what the network sees of each scan, made once by the road that inference takes too.

A case is three files: `ID.image.npy`, `ID.labels.npy` and, written last, `ID.json` with the key it was made under. The key
covers the content of the case's files and those entries of the plan that decide the prepared image, so a changed scan or
spacing is prepared anew and everything else is reused.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, MedsegError, OutputVerificationError
from medseg.core.volume import Volume
from medseg.io.atomic import write_text, write_verified
from medseg.io.hashing import sha256_of
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.description import ModelDescription
from medseg.segmentation.learned.prepared import prepare
from medseg.training.dataset import Dataset, TrainingCase, read_case
from medseg.training.label_grid import labels_on_target
from medseg.training.plan import TrainingPlan
from medseg.training.sampling import IGNORE

_VERSION = 1  # raised when the same plan and files would be prepared differently
_WORTH_PROCESSES_SECONDS = 60.0


@dataclass(frozen=True)
class CachedCase:
    """A prepared case: image (C,K,J,I) float32 normalised, labels (K,J,I) uint8, both memory maps.

    Labels are output channels: 0 the background, n the n-th label of the plan, 255 not judged. `background` is the normalised
    intensity outside the scan, one per channel. `key` changes whenever the content would.
    """

    id: str
    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    background: npt.NDArray[np.float32]
    key: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents (K,J,I)."""
        return tuple(self.labels.shape)


def cache_cases(
    dataset: Dataset, plan: TrainingPlan, folder: str | Path, progress: Progress = no_progress, *, workers: int = 1
) -> list[CachedCase]:
    """Return every case of a dataset prepared for a plan, in the order of the dataset; what `folder` holds already is reused.

    Several worker processes are used where one would take more than a minute. Raises what reading raises with the name of the
    case in front, InputError where dataset and plan do not fit, OutputError where the folder cannot be written.
    """
    check_fit(dataset, plan)
    folder = Path(folder)
    found: dict[str, CachedCase] = {}
    missing: list[TrainingCase] = []
    for case in dataset.cases:
        cached = _reusable(case, plan, folder)
        if cached is None:
            missing.append(case)
        else:
            found[case.id] = cached
    done = len(found)
    for case_id in _prepare_all(missing, dataset, plan, folder, workers):
        found[case_id] = _opened(folder, case_id)
        done += 1
        progress("preparing cases", done, len(dataset.cases))
    return [found[case.id] for case in dataset.cases]


def prepare_case(case: TrainingCase, dataset: Dataset, plan: TrainingPlan, folder: Path) -> str:
    """Prepare one case, write its files and return its id."""
    try:
        images, label = read_case(case, dataset)
        prepared = prepare(images, description_for(plan))
        labels = labels_on_target(_channels_of(label, plan, dataset.ignore_label), label.geometry, prepared.plan)
    except MedsegError as err:
        raise InputError(f"case {case.id}: {err}") from err
    image = np.ascontiguousarray(prepared.image, dtype=np.float32)
    files = _file_facts(case)
    entry = {
        "schema": "medseg.cached-case/1",
        "key": _key(plan, [fact["sha256"] for fact in files]),
        "files": files,
        "shape": list(image.shape),
        "background": [float(value) for value in np.asarray(prepared.background).ravel()],
    }
    _save(folder / f"{case.id}.image.npy", image)
    _save(folder / f"{case.id}.labels.npy", labels)
    write_text(folder / f"{case.id}.json", json.dumps(entry, indent=1) + "\n", overwrite=True)
    return case.id


def description_for(plan: TrainingPlan) -> ModelDescription:
    """Return the description of the model that a plan leads to; the weights it names do not exist yet."""
    weights = {"file": "weights.safetensors", "sha256": "0" * 64, "bytes": 1}
    return ModelDescription(**{**plan.description_entries(), "weights": weights})


def check_fit(dataset: Dataset, plan: TrainingPlan) -> None:
    """Raise InputError where a plan was made for other channels or labels than the dataset has."""
    if len(plan.channels) != len(dataset.channels):
        raise InputError(
            f"the plan is for channels {', '.join(plan.channels)}, the dataset has {', '.join(dataset.channels)}: make a new plan"
        )
    if set(plan.labels) != set(dataset.labels):
        raise InputError(f"the plan is for label numbers {sorted(plan.labels)}, the dataset has {sorted(dataset.labels)}: make a new plan")


def _prepare_all(cases: list[TrainingCase], dataset: Dataset, plan: TrainingPlan, folder: Path, workers: int) -> Iterator[str]:
    """Ids as they are done; the first case tells whether starting processes pays."""
    if not cases:
        return
    started = time.monotonic()
    for case in cases[:2]:  # the first also compiles
        yield prepare_case(case, dataset, plan, folder)
    rest = cases[2:]
    if workers < 2 or (time.monotonic() - started) / 2 * len(rest) < _WORTH_PROCESSES_SECONDS:
        for case in rest:
            yield prepare_case(case, dataset, plan, folder)
        return
    yield from _in_processes(rest, dataset, plan, folder, workers)


def _in_processes(cases: Iterable[TrainingCase], dataset: Dataset, plan: TrainingPlan, folder: Path, workers: int) -> Iterator[str]:
    import multiprocessing

    # spawn: a forked process would inherit the locks of torch's and numba's threads
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(prepare_case, case, dataset, plan, folder) for case in cases]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _channels_of(label: Volume, plan: TrainingPlan, ignore_label: int | None) -> npt.NDArray[np.uint8]:
    """Label numbers as output channels, (K,J,I)."""
    values = label.array.T
    channels = np.zeros(values.shape, np.uint8)
    for channel, number in enumerate(sorted(plan.labels), 1):
        channels[values == number] = channel
    if ignore_label is not None:
        channels[values == ignore_label] = IGNORE
    return channels


def _reusable(case: TrainingCase, plan: TrainingPlan, folder: Path) -> CachedCase | None:
    """The cached case where it was made from these very files under this plan, else None."""
    try:
        entry = json.loads((folder / f"{case.id}.json").read_text(encoding="utf-8"))
        key = _key(plan, [fact["sha256"] for fact in _file_facts(case, entry["files"])])
        return _opened(folder, case.id) if entry["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None


def _opened(folder: Path, case_id: str) -> CachedCase:
    entry = json.loads((folder / f"{case_id}.json").read_text(encoding="utf-8"))
    image = np.load(folder / f"{case_id}.image.npy", mmap_mode="r")
    labels = np.load(folder / f"{case_id}.labels.npy", mmap_mode="r")
    if list(image.shape) != entry["shape"] or image.shape[1:] != labels.shape or labels.dtype != np.uint8:
        raise ValueError(f"the cached files of {case_id} do not belong together")
    background = np.asarray(entry["background"], np.float32)
    return CachedCase(case_id, image, labels, background, str(entry["key"]))


def _file_facts(case: TrainingCase, known: Iterable[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Size, time and SHA-256 of a case's files; a file of the same size and time is not read again."""
    remembered = {(fact["name"], fact["bytes"], fact["mtime_ns"]): fact["sha256"] for fact in known}
    facts = []
    for path in (*case.images, case.label):
        stat = path.stat()
        identity = (path.name, stat.st_size, stat.st_mtime_ns)
        digest = remembered.get(identity) or sha256_of(path)
        facts.append({"name": identity[0], "bytes": identity[1], "mtime_ns": identity[2], "sha256": digest})
    return facts


def _key(plan: TrainingPlan, hashes: list[str]) -> str:
    return hashlib.sha256(json.dumps([_VERSION, plan.key(), hashes]).encode()).hexdigest()


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    def verify(temporary: Path) -> None:
        if np.load(temporary, mmap_mode="r").shape != array.shape:
            raise OutputVerificationError(f"{path}: what was read back is not what was written; check the disk and try again")

    write_verified(path, write, verify, overwrite=True)
