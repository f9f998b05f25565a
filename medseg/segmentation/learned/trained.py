"""What every trained model has in common, whoever made it: who it is, what it finds, how it is asked, what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy.typing as npt

from medseg.core.finding import Finding
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.settings import Progress, no_progress

Uncertainty = Literal["none", "mirror", "folds", "dropout"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ModelIdentity:
    """Which model it is: `kind` "medseg", "nnunet", "monai-bundle", ...; `sha256` of the weights, "" where unknown."""

    name: str
    version: str
    title: str
    kind: str
    sha256: str = ""
    licence: Mapping[str, str] = field(default_factory=dict)
    intended_use: str = ""
    modality: str = ""
    channels: tuple[str, ...] = ()
    spacing_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Request:
    """How a model is to run.

    `mirroring`, `step` (share of the patch between patches, 0 to 1) and `folds` are None for what the model's origin
    does by default. `memory_mb` bounds what the engine plans to hold beside image, labels and network.
    """

    device: str = "auto"
    mirroring: bool | None = None
    step: float | None = None
    folds: tuple[int, ...] | None = None
    uncertainty: Uncertainty = "none"
    deterministic: bool = False
    precision: Precision = "auto"
    compile: bool = False
    backend: Literal["torch", "openvino"] = "torch"
    memory_mb: int | None = None
    progress: Progress = no_progress


@dataclass(frozen=True)
class ModelUncertainty:
    """How far the passes of one model differ: `volumes_ml` per segment number, one per pass, on the grid of the scan.

    `entropy` (K,J,I) is that of the mean probabilities in nats (0 sure, ln(channels) no idea), on the same grid; None
    where it was not asked for.
    """

    passes: tuple[str, ...]
    volumes_ml: Mapping[int, tuple[float, ...]]
    entropy: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """Labels (K,J,I) on the grid of the scan, C-contiguous and unsigned, and how they came about."""

    labels: npt.NDArray[Any]
    segments: tuple[Segment, ...]
    findings: tuple[Finding, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: ModelUncertainty | None = None


@runtime_checkable
class TrainedModel(Protocol):
    """A model that is ready to run."""

    @property
    def identity(self) -> ModelIdentity:
        """Which model it is."""
        ...

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What it finds."""
        ...

    def segment(self, volumes: tuple[Volume, ...], request: Request) -> Outcome:
        """Segment one scan: one volume per channel, all on one grid.

        Raises ModelError and its children, InputError for scans that hold nothing to segment.
        """
        ...

    def leave_device(self) -> None:
        """Move networks that the last scan left on a CUDA device to main memory; the next scan finds them there."""
        ...
