"""What a batch does with every case, and the key under which a result of it counts as done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from medseg.io.options import ReadOptions
from medseg.pipeline import Pipeline

SCHEMA = "medseg.batch/1"
Pictures = Literal["thumbnail", "report", "none"]


@dataclass(frozen=True)
class Plan:
    """What is done with every case: the pipeline, the formats of the segmentation, how scans are read, and the pictures.

    `models` are the SHA-256 of the weights that the pipeline uses, by name; `version` is that of medseg. What does not change
    a result (device, workers, memory, timeouts) is no part of it. `formats` empty: .nii.gz for a NIfTI scan, .seg.nrrd otherwise.
    """

    pipeline: Pipeline
    version: str
    formats: tuple[str, ...] = ()
    reading: ReadOptions = field(default_factory=ReadOptions)
    pictures: Pictures = "thumbnail"
    models: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The hash of everything that decides about a result, but for the scan itself."""
        return _digest(self.to_dict())

    def case_key(self, inputs_sha256: str) -> str:
        """The hash under which the result of a scan with these bytes counts as done."""
        return _digest({"plan": self.key, "inputs": inputs_sha256})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema": SCHEMA,
            "version": self.version,
            "pipeline": self.pipeline.model_dump(by_alias=True, mode="json"),
            "formats": list(self.formats),
            "reading": asdict(self.reading),
            "pictures": self.pictures,
            "models": dict(sorted(self.models.items())),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Plan:
        """Return the plan of a JSON form; raises ValueError, TypeError or KeyError where it is none."""
        reading = dict(document["reading"])
        if reading.get("spacing_mm") is not None:
            reading["spacing_mm"] = tuple(reading["spacing_mm"])
        return cls(
            pipeline=Pipeline.model_validate(document["pipeline"]),
            version=str(document["version"]),
            formats=tuple(document["formats"]),
            reading=ReadOptions(**reading),
            pictures=document["pictures"],
            models=dict(document["models"]),
        )


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
