"""What ran: enough to run it again and to say in a paper what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class InputRecord:
    """One input by what it holds, not by its path: role, format, DICOM series UID, SHA-256 and number of files."""

    role: str
    format: str
    sha256: str
    file_count: int = 1
    series_uid: str | None = None


@dataclass(frozen=True)
class StepRecord:
    """One method as it ran: its name, the parameters it was given and defaulted to, its source and how long it took."""

    method: str
    stage: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Provenance:
    """The record of a run: versions, inputs by hash, steps with their parameters, model, device, seed, times.

    Holds no path, user, machine name or patient attribute.
    """

    versions: Mapping[str, str]
    inputs: tuple[InputRecord, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    model: Mapping[str, Any] | None = None
    device: str = "cpu"
    seed: int | None = None
    started: str = ""
    finished: str = ""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema": "medseg.provenance/1",
            "versions": dict(self.versions),
            "inputs": [dict(vars(record)) for record in self.inputs],
            "steps": [{**vars(step), "parameters": dict(step.parameters)} for step in self.steps],
            "model": dict(self.model) if self.model is not None else None,
            "device": self.device,
            "seed": self.seed,
            "started": self.started,
            "finished": self.finished,
            "notes": list(self.notes),
        }
