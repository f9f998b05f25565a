"""Everything a training run decides, as one checked value that a person can read and edit (`plan.yaml`)."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from medseg.core.errors import IncompatibleModelError, ParameterError
from medseg.core.segment import Segment
from medseg.core.terminology import described
from medseg.segmentation.learned.networks.registry import channels_of, fixed_patch, patch_multiple
from medseg.segmentation.learned.networks.table import NETWORKS

SCHEMA: Final = "medseg.training-plan/1"

Scalar = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=1, le=1024)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkPlan(_Entry):
    """A network of MONAI by name with its arguments; kernels and strides are in the order of the array axes (k, j, i)."""

    name: str
    arguments: dict[str, Any]


class Normalisation(_Entry):
    """How intensities are brought to one scale, by one of the three rules of `model.json`.

    `z-score`: the scan's own mean and standard deviation; `clip-and-z-score`: clip to lower..upper, subtract `mean`, divide
    by `std` (of the foreground of the whole dataset); `clip-and-scale`: clip, then linearly to [-1, 1].
    """

    kind: Literal["z-score", "clip-and-z-score", "clip-and-scale"]
    lower: Scalar | None = None
    upper: Scalar | None = None
    mean: Scalar | None = None
    std: Positive | None = None
    nonzero: bool | None = None

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Normalisation:
        needed = {"z-score": (), "clip-and-z-score": ("lower", "upper", "mean", "std"), "clip-and-scale": ("lower", "upper")}[self.kind]
        allowed = (*needed, "nonzero") if self.kind == "z-score" else needed
        for name in ("lower", "upper", "mean", "std", "nonzero"):
            if name in needed and getattr(self, name) is None:
                raise ValueError(f"{self.kind} needs {name}")
            if name not in allowed and getattr(self, name) is not None:
                raise ValueError(f"{self.kind} takes no {name}")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError("lower must be below upper")
        return self


class Augmentation(_Entry):
    """How likely each change of a patch is, each time it is drawn; how far the first two go (degrees; factors).

    Mirroring happens along `mirror_axes` of the plan, each with probability 1/2.
    """

    rotation: Share = 0.5
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 20.0
    scaling: Share = 0.4
    scale_range: tuple[Positive, Positive] = (0.8, 1.25)
    noise: Share = 0.15
    smoothing: Share = 0.2
    brightness: Share = 0.3
    contrast: Share = 0.3
    low_resolution: Share = 0.2
    gamma: Share = 0.35

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Augmentation:
        if self.scale_range[0] > self.scale_range[1]:
            raise ValueError(f"scale_range must be [low, high], got {list(self.scale_range)}")
        return self


class Optimiser(_Entry):
    """`adamw`, or `sgd` with Nesterov momentum 0.99."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 3e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-2


class Schedule(_Entry):
    """Learning rate: up linearly over `warmup_steps`, then down by (1 - step / steps) ** power."""

    steps: int = Field(default=2000, ge=1, le=10_000_000)
    warmup_steps: int = Field(default=50, ge=0)
    power: Annotated[float, Field(ge=0, le=5)] = 0.9


class TrainingPlan(_Entry):
    """A training run as data. Sizes, spacings and axes are in the order (i, j, k) of the scan brought to `orientation`.

    Output channel n of the network is the n-th of `labels` (in the order of their numbers), channel 0 the background.
    `deep_supervision` is the number of lower levels with an output of their own during training. `normalisation` holds one
    rule for all channels, or one each. `early_stop_after` counts validations without a better score (null: never).
    """

    schema_: Literal["medseg.training-plan/1"] = Field(default=SCHEMA, alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    title: str = Field(min_length=1)
    version: str = Field(default="1.0.0", min_length=1)
    channels: tuple[str, ...] = Field(min_length=1)
    modality: str = Field(min_length=1)
    labels: dict[Annotated[int, Field(ge=1, le=65535)], Annotated[str, Field(min_length=1)]] = Field(min_length=1, max_length=254)
    spacing_mm: tuple[Positive, Positive, Positive]
    orientation: str = Field(default="RAS", pattern=r"^[RLAPSI]{3}$")
    alignment: Literal["patient", "grid"] = "grid"
    normalisation: tuple[Normalisation, ...] = Field(min_length=1)
    background: Scalar | None = None
    patch_size: tuple[Size, Size, Size]
    batch_size: int = Field(default=2, ge=1, le=1024)
    network: NetworkPlan
    deep_supervision: int = Field(default=0, ge=0, le=8)
    mirror_axes: tuple[Literal[0, 1, 2], ...] = ()
    overlap: float = Field(default=0.5, ge=0, lt=1)
    augmentation: Augmentation = Augmentation()
    foreground_share: Share = 1 / 3
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    gradient_clip: Positive = 12.0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    folds: int = Field(default=5, ge=1, le=100)
    validation_every_steps: int = Field(default=250, ge=1)
    early_stop_after: int | None = Field(default=None, ge=1)
    time_budget_minutes: Positive | None = None
    seed: int = Field(default=0, ge=0)
    licence: dict[Literal["code", "weights", "data"], str]
    intended_use: str = Field(min_length=1)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _with_channels(cls, entries: Any) -> Any:
        """Fill in the network's arguments that follow from channels and labels, where they are left out."""
        network = entries.get("network") if isinstance(entries, dict) else None
        if not isinstance(network, dict) or not isinstance(network.get("arguments"), dict) or network.get("name") not in NETWORKS:
            return entries
        rules = NETWORKS[network["name"]]
        known = {"spatial_dims": 3} if rules.takes_spatial_dims else {}
        for name, key, more in ((rules.in_channels, "channels", 0), (rules.out_channels, "labels", 1)):
            if isinstance(entries.get(key), list | tuple | dict):
                known[name] = len(entries[key]) + more
        return {**entries, "network": {**network, "arguments": {**known, **network["arguments"]}}}

    @pydantic.field_validator("labels")
    @classmethod
    def _in_order(cls, labels: dict[int, str]) -> dict[int, str]:
        return dict(sorted(labels.items()))

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> TrainingPlan:
        if {"RL": 0, "AP": 1, "SI": 2}.keys() != {pair for code in self.orientation for pair in ("RL", "AP", "SI") if code in pair}:
            raise ValueError(f"orientation {self.orientation!r} must name each patient axis once, as RAS or LPS do")
        if len(self.normalisation) not in (1, len(self.channels)):
            raise ValueError(f"{len(self.normalisation)} normalisation rules for {len(self.channels)} channels: give one, or one each")
        if len(set(self.labels.values())) != len(self.labels):
            raise ValueError("two labels have the same name")
        self._check_network()
        if self.schedule.warmup_steps > self.schedule.steps:
            raise ValueError(f"warmup_steps {self.schedule.warmup_steps} are more than all steps {self.schedule.steps}")
        return self

    def _check_network(self) -> None:
        """Raise ValueError where network, patch, channels and labels do not go together."""
        name, arguments = self.network.name, self.network.arguments
        try:
            multiple, only = self.patch_multiple, fixed_patch(name, arguments)
            inputs, outputs = channels_of(name, arguments)
        except IncompatibleModelError as err:
            raise ValueError(f"network: {err}") from err
        for size, axis in zip(self.patch_size, "ijk", strict=True):
            if size % multiple:
                raise ValueError(f"patch_size {size} along {axis} must be a multiple of {multiple}, the strides of the network together")
        if only is not None and self.patch_size[::-1] != only:
            raise ValueError(f"patch_size {list(self.patch_size)} must be what {name} was built for: {list(only[::-1])}")
        for what, given, needed in (("in", inputs, len(self.channels)), ("out", outputs, len(self.labels) + 1)):
            if given != needed:
                raise ValueError(f"the network has {given} {what}put channels, but channels and labels need {needed}")

    @property
    def patch_multiples(self) -> tuple[int, int, int]:
        """What the patch must be a multiple of along i, j, k: the same along each, as `model.json` holds one number."""
        return (self.patch_multiple,) * 3

    @property
    def patch_multiple(self) -> int:
        """What the patch must be a multiple of along every axis: the largest product of the network's strides along one."""
        return max(patch_multiple(self.network.name, self.network.arguments))

    def key(self) -> str:
        """Return a SHA-256 of everything that decides the prepared images, so that only those are made anew that change."""
        names = ("channels", "labels", "spacing_mm", "orientation", "alignment", "normalisation", "background")
        entries = self.to_dict()
        return _digest({name: entries.get(name) for name in names})

    def digest(self) -> str:
        """Return a SHA-256 of the whole plan: a run resumes only under the same one."""
        return _digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.model_dump(mode="json", by_alias=True)

    def description_entries(self) -> dict[str, Any]:
        """Return what `model.json` says of a network trained by this plan, all but `weights` and `training`."""
        rules = [rule.model_dump(exclude_none=True) for rule in self.normalisation]
        entries: dict[str, Any] = {
            "schema": "medseg.model/1",
            "name": self.name,
            "version": self.version,
            "title": self.title,
            "network": {"name": self.network.name, "arguments": dict(self.network.arguments)},
            "channels": list(self.channels),
            "modality": self.modality,
            "spacing_mm": list(self.spacing_mm),
            "orientation": self.orientation,
            "alignment": self.alignment,
            "normalisation": rules[0] if len(rules) == 1 else rules,
            "patch_size": list(self.patch_size),
            "patch_multiple": self.patch_multiple,
            "overlap": self.overlap,
            "mirror_axes": list(self.mirror_axes),
            "mirroring": bool(self.mirror_axes),
            "segments": [described(Segment(number, label)).to_dict() for number, label in sorted(self.labels.items())],
            "licence": dict(self.licence),
            "intended_use": self.intended_use,
        }
        return entries if self.background is None else {**entries, "background": self.background}


def parse_plan(entries: Any, where: str = "plan.yaml") -> TrainingPlan:
    """Return the checked plan of a JSON value; raises ParameterError that names every wrong entry."""
    if not isinstance(entries, dict):
        raise ParameterError(f"{where} is no mapping of names to values")
    if entries.get("schema") != SCHEMA:
        raise ParameterError(f"{where} has schema {entries.get('schema')!r}; this version of medseg reads {SCHEMA!r}")
    try:
        return TrainingPlan(**entries)
    except pydantic.ValidationError as err:
        raise ParameterError(f"{where} cannot be used: {'; '.join(_fault(fault) for fault in err.errors()[:8])}") from err


def read_plan(path: str | Path) -> TrainingPlan:
    """Read a plan.yaml; raises ParameterError with a sentence for every wrong entry."""
    import yaml

    path = Path(path)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise ParameterError(f"{path} cannot be read: {err.strerror}") from err
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as err:
        mark = getattr(err, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise ParameterError(f"{path} is no valid YAML{line}: check indentation and quotes") from err
    return parse_plan(entries, str(path))


def model_name(text: str) -> str:
    """Return a text as the name of a model: small letters, digits, dots and dashes.

    >>> model_name("Task04 Hippocampus!")
    'task04-hippocampus'
    """
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")[:64] or "model"


def _fault(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "plan"
    kinds = {"missing": "is missing", "extra_forbidden": "is no entry of a plan (misspelt?)"}
    message = kinds.get(fault["type"], str(fault["msg"]).removeprefix("Value error, "))
    return f"{place} {message}" if fault["type"] in kinds else f"{place}: {message}"


def _digest(entries: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
