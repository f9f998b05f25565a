"""Which weights and label maps a pipeline stands on, by hash: part of the key under which a result counts as done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medseg.batch.records.plan import Plan
from medseg.core.errors import ChecksumError, InputError, MethodError, ModelError, ModelNotFoundError, PipelineError
from medseg.io.hashing import sha256_of
from medseg.method import catalog
from medseg.method.schema import ParameterInfo, parameters_of
from medseg.pipeline import Pipeline, Step

_MODEL_PARAMETER = "model"
_LEARNED = "medseg.segmentation.learned."


def models_of(pipeline: Pipeline, model_folders: Iterable[Path] | None = None) -> dict[str, str]:
    """Return the SHA-256 of every trained model and every label map that a pipeline uses, by name; torch is not loaded.

    That of a model is the hash of the hashes of all its files, wherever it lies and whenever it was installed. `model_folders`
    None: the store of this user. Raises ModelError for a model that is missing or broken, PipelineError for a label map that
    cannot be read.

    >>> from medseg.pipeline import load_pipeline
    >>> models_of(load_pipeline("ct-body-composition"))
    {}
    """
    found: dict[str, str] = {}
    for _, step in pipeline.steps():
        try:
            method = catalog.find(step.method)
            fields = parameters_of(method.params)
        except MethodError as err:
            raise PipelineError(f"pipeline {pipeline.name}, step {step.method}: {err}") from err
        for info in fields:
            if info.kind == "label-map":
                _add_label_map(found, pipeline, step, info)
            elif info.name == _MODEL_PARAMETER and method.function.__module__.startswith(_LEARNED):
                _add_model(found, str(step.parameters.get(info.name, info.default)), model_folders)
    return found


def check_models(plan: Plan, model_folders: Iterable[Path] | None = None) -> None:
    """Raise ChecksumError where a model or label map is no longer the one that the plan, and so the key of every result, names."""
    if not plan.models:
        return
    try:
        now = models_of(plan.pipeline, model_folders)
    except (ModelError, PipelineError):  # a disk that stumbles; what is gone is said by who wants to use it
        return
    changed = [name for name, digest in plan.models.items() if now.get(name) != digest]
    if changed:
        raise ChecksumError(f"{changed[0]} has changed since the batch began: bring it back, or run medseg batch again with the new one")


def _add_label_map(found: dict[str, str], pipeline: Pipeline, step: Step, info: ParameterInfo) -> None:
    value = step.parameters.get(info.name)
    if not isinstance(value, str):
        return
    try:
        _add(found, f"{step.method}.{info.name}", sha256_of(Path(value)))
    except InputError as err:
        raise PipelineError(f"pipeline {pipeline.name}, step {step.method}: the label map of {info.name} cannot be read") from err


def _add_model(found: dict[str, str], name: str, folders: Iterable[Path] | None) -> None:
    from medseg.segmentation.learned.store.durable import hash_files, hash_of_hashes
    from medseg.segmentation.learned.store.find import locate_model
    from medseg.segmentation.learned.store.installed import ENTRY_FILE, default_store

    path = locate_model(name, (default_store(),) if folders is None else tuple(folders))
    try:
        if path.is_file():
            digest = sha256_of(path)
        else:  # when and from where it was installed is no part of what it computes
            files = {file: entry for file, entry in hash_files(path).items() if file != ENTRY_FILE}
            digest = hash_of_hashes(files)
    except (OSError, InputError) as err:
        raise ModelNotFoundError(f"model {Path(name).name!r} cannot be read: install it again") from err
    _add(found, Path(name).name, digest)


def _add(found: dict[str, str], name: str, digest: str) -> None:
    number, free = 1, name
    while found.get(free, digest) != digest:
        number += 1
        free = f"{name} ({number})"
    found[free] = digest
