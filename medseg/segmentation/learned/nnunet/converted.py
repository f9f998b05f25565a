"""nnU-Net models in medseg's keeping: weights as safetensors, plans and data set in one `model.json` beside them.

A converted model runs by nnU-Net's rules and gives the labels of the original; it holds no pickle any more.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, OutputExistsError, UnsafeModelError
from medseg.segmentation.learned.dependencies import import_safetensors
from medseg.segmentation.learned.nnunet.cascade import Stage, check_cascade, make_stage, read_stages
from medseg.segmentation.learned.nnunet.folder import Fold, find_model_folder
from medseg.segmentation.learned.nnunet.model import NnunetModel
from medseg.segmentation.learned.nnunet.network import Checkpoint, plain_weights
from medseg.segmentation.learned.nnunet.plans import Entry, checked, read_json

SCHEMA = "medseg.nnunet-model/1"
DESCRIPTION_FILE = "model.json"
UNKNOWN_LICENCE = "unknown"
_PLAIN_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.safetensors")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")

Text = Annotated[str, Field(max_length=10_000)]


class WeightsFile(Entry):
    """The weights of a fold: the file beside `model.json`, and what it must be."""

    fold: int | None
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)


class StageEntry(Entry):
    """One stage: the configuration of the plans, its folds, and the axes it was trained to be mirrored along."""

    configuration: str
    trainer: str = ""
    mirror_axes: tuple[Literal[0, 1, 2], ...] = ()
    weights: tuple[WeightsFile, ...] = Field(min_length=1, max_length=100)


class Description(Entry):
    """`model.json` of a converted model; `stages` in the order they run, plans and data set as nnU-Net wrote them."""

    schema_: Literal["medseg.nnunet-model/1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    version: Text
    title: Text
    licence: dict[str, str]
    intended_use: Text = ""
    dataset_folder: Text = ""
    plans: dict[str, Any]
    dataset: dict[str, Any]
    stages: tuple[StageEntry, ...] = Field(min_length=1, max_length=2)


@dataclass(frozen=True)
class ConvertedFold(Fold):
    """A fold whose weights are a safetensors file named by its hash."""

    entry: WeightsFile
    stage: StageEntry

    @property
    def sha256(self) -> str:
        """SHA-256 its file must have."""
        return self.entry.sha256

    @cached_property
    def about(self) -> Checkpoint:
        """What is known before the weights are read."""
        return Checkpoint(self.stage.configuration, self.stage.mirror_axes or None, self.stage.trainer, {})

    @property
    def checkpoint(self) -> Checkpoint:  # not kept: the network that is built of it holds its own copy
        """Its weights, after comparing size and hash; raises ChecksumError, ModelNotFoundError."""
        return Checkpoint(self.stage.configuration, self.stage.mirror_axes or None, self.stage.trainer, self._weights())

    def _weights(self) -> Mapping[str, Any]:
        if not self.path.is_file() or self.path.is_symlink():
            raise ModelNotFoundError(f"{self.path} is missing or a link: install the model again")
        content = self.path.read_bytes()  # what is hashed is what is loaded: a file that changes in between cannot slip in
        if len(content) != self.entry.bytes or hashlib.sha256(content).hexdigest() != self.entry.sha256:
            raise ChecksumError(f"{self.path} has another size or SHA-256 than its description names: install the model again")
        try:
            weights: dict[str, Any] = import_safetensors().load(content)
        except Exception as err:  # safetensors' own error class is not part of its stable interface
            raise IncompatibleModelError(f"{self.path} is no valid safetensors file: install the model again") from err
        return weights


def is_converted(folder: Path) -> bool:
    """Whether a folder holds a converted nnU-Net model; False too where its `model.json` cannot be read."""
    try:
        entries = read_json(folder / DESCRIPTION_FILE)
    except (ModelNotFoundError, IncompatibleModelError):
        return False
    return isinstance(entries, dict) and entries.get("schema") == SCHEMA


def open_converted(folder: Path) -> NnunetModel:
    """Return a converted model, ready to run; its weights are read, and compared with their hash, when they are needed.

    Raises IncompatibleModelError, UnsafeModelError, ModelNotFoundError.
    """
    where = str(folder / DESCRIPTION_FILE)
    about: Description = checked(Description, read_json(folder / DESCRIPTION_FILE), where)
    stages = tuple(_stage(folder, about, entry, where) for entry in about.stages)
    if len(stages) == 2:
        check_cascade(stages[0], stages[1], where)
    if (stages[-1].configuration.previous_stage is not None) != (len(stages) == 2):
        raise IncompatibleModelError(f"{where}: the number of stages does not fit the plans")
    return NnunetModel.from_stages(
        stages, about.dataset_folder, name=about.name, described=(about.title, about.licence, about.intended_use)
    )


def convert_nnunet(
    folder: Path,
    out: Path,
    *,
    name: str | None = None,
    licence: Mapping[str, str] | None = None,
    intended_use: str = "",
) -> Path:
    """Write an nnU-Net model as a converted one into the new folder `out`; return the path of its `model.json`.

    `licence` names those of code, weights and data; what is not given is said to be unknown. The caller sees to
    writing it all or nothing. Raises OutputExistsError, ModelError and its children, OSError where the disk refuses.
    """
    folder = find_model_folder(Path(folder))
    stages = read_stages(folder)
    if out.exists():
        raise OutputExistsError(f"{out} is there already: choose a new folder")
    out.mkdir(parents=True)
    plans, dataset = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    model = NnunetModel.open(folder)
    about = {
        "schema": SCHEMA,
        "name": name or _plain_name(model.name),
        "version": stages[-1].configuration.name,
        "title": model.title,
        "licence": {"code": UNKNOWN_LICENCE, "weights": UNKNOWN_LICENCE, "data": stages[-1].dataset.licence or UNKNOWN_LICENCE}
        | dict(licence or {}),
        "intended_use": intended_use,
        "dataset_folder": folder.parent.name,
        "plans": plans,
        "dataset": {key: value for key, value in dataset.items() if key not in ("training", "test")},
        "stages": [_write_stage(stage, out) for stage in stages],
    }
    checked(Description, about, str(out / DESCRIPTION_FILE))
    path = out / DESCRIPTION_FILE
    path.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _stage(folder: Path, about: Description, entry: StageEntry, where: str) -> Stage:
    for weights in entry.weights:
        if not _PLAIN_FILE.fullmatch(weights.file):
            raise UnsafeModelError(f"{where}: weights {weights.file[:100]!r} must be the plain name of a .safetensors file beside it")
    folds = tuple(ConvertedFold(weights.fold, folder / weights.file, weights, entry) for weights in entry.weights)
    return make_stage(about.plans, about.dataset, folds, (where, where))


def _write_stage(stage: Stage, out: Path) -> dict[str, Any]:
    weights = []
    for fold in stage.folds:
        stage.network(fold)  # says in time what does not fit
        file = f"{stage.configuration.name}_fold_{fold.name}.safetensors"
        tensors = {name: tensor.contiguous().clone() for name, tensor in plain_weights(fold.checkpoint.weights, str(fold.path)).items()}
        content = import_safetensors().save(tensors)
        (out / file).write_bytes(content)
        weights.append({"fold": fold.number, "file": file, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)})
    trainer = stage.folds[0].about.trainer
    return {"configuration": stage.configuration.name, "trainer": trainer, "mirror_axes": list(stage.mirror_axes), "weights": weights}


def _plain_name(name: str) -> str:
    return _NOT_IN_A_NAME.sub("-", name.lower()).strip("-._")[:64] or "nnunet-model"
