"""What became of a case: the document `result.json` in its folder, from which everything else can be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg.core.errors import UnreadableFileError

SCHEMA = "medseg.result/1"
_SEAL = "sha256"
_MOST_BYTES = 1 << 26

# Failures that can pass when the case is tried again; every other stays as it is until the input or the plan changes
PASSING = frozenset({"OUT_OF_MEMORY", "KILLED", "DEVICE_LOST", "IO_ERROR", "INPUT_CHANGED", "INPUT_GONE"})


@dataclass(frozen=True)
class Inputs:
    """What was read: the SHA-256 as `medseg.io.hashing` makes it, the number of files, and the signature of their stat.

    `signature` is a hash over size, modification and change time of every file, so that an unchanged input need not be read
    again to be known.
    """

    sha256: str
    file_count: int
    bytes: int
    signature: str


@dataclass(frozen=True)
class Output:
    """A file of the case folder: its size and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class CaseResult:
    """What became of a case.

    `status` is "done" or "failed"; of a failure `code` names the reason (such as MISSING_SLICES, TIMEOUT) and `message` says it
    without a path or anything of the patient. `key` is that of plan and inputs ("" where the inputs could not be read). `checks`
    tell what the measurements do not: `components`, the pieces of each segment. `findings` are those of the run, in JSON form.
    """

    case_id: str
    status: Literal["done", "failed"]
    plan_key: str
    key: str = ""
    code: str = ""
    message: str = ""
    inputs: Inputs | None = None
    outputs: Mapping[str, Output] = field(default_factory=dict)
    modality: str = ""
    attempts: int = 1
    device: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    checks: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] = ()
    finished: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema": SCHEMA,
            **vars(self),
            "inputs": None if self.inputs is None else dict(vars(self.inputs)),
            "outputs": {name: dict(vars(output)) for name, output in sorted(self.outputs.items())},
            "seconds": dict(self.seconds),
            "checks": dict(self.checks),
            "findings": [dict(finding) for finding in self.findings],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CaseResult:
        """Return the result of a document as `to_json` makes it; raises ValueError, TypeError or KeyError where it is none."""
        given = dict(document)
        if given.pop("schema") != SCHEMA:
            raise ValueError("not a result of this version of medseg")
        if given.pop(_SEAL) != _seal_of(document):
            raise ValueError("changed after it was written")
        if given["status"] not in ("done", "failed"):
            raise ValueError(f"unknown status {given['status']!r}")
        inputs = given["inputs"]
        return cls(
            **{
                **given,
                "inputs": None if inputs is None else Inputs(**inputs),
                "outputs": {name: Output(**output) for name, output in given["outputs"].items()},
                "findings": tuple(given["findings"]),
            }
        )

    def to_json(self) -> str:
        """Return the text of the file."""
        document = json.loads(json.dumps(self.to_dict(), allow_nan=False))  # as a reader will have it
        return json.dumps({**document, _SEAL: _seal_of(document)}, indent=1, allow_nan=False) + "\n"


def _seal_of(document: Mapping[str, Any]) -> str:
    """Return the hash of all that a result says, so that a damaged or edited one is seen."""
    said = {name: value for name, value in document.items() if name != _SEAL}
    return hashlib.sha256(json.dumps(said, sort_keys=True, allow_nan=False).encode("ascii")).hexdigest()


def read_result(path: Path) -> CaseResult | None:
    """Return the result in a file, None where there is no file; raises UnreadableFileError where it holds something else."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        return CaseResult.from_dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as err:
        raise UnreadableFileError(f"{path.parent.name}/{path.name} is no result of medseg ({type(err).__name__}); it is made anew") from err
