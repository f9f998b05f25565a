"""What the parent and a worker say to each other: one JSON object a line, in ASCII, so that any name of a file passes.

The parent writes `start` once, then `run` for each case, and closes the pipe when there are no more; the worker answers with
events. Standard library and the values of a batch only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medseg.batch.records.case import Case
from medseg.batch.records.plan import Plan

Stage = Literal["read", "compute", "write"]
STAGES: tuple[Stage, ...] = ("read", "compute", "write")
EVENTS = ("ready", "stage", "finished", "alive", "stopping", "fatal")
ALIVE_EVERY_S = 2.0
_LONGEST_LINE = 1 << 26  # a case of 100,000 files with long names


class MessageError(ValueError):
    """A line is none of this protocol."""


@dataclass(frozen=True)
class Start:
    """What a worker does until it ends: a plan, from the folder of the scans to the folder of the batch, on one device.

    `memory_gb` caps what it may take; `model_folders` None stands for the store of this user. `token` names what it writes
    before that has its name.
    """

    root: Path
    output: Path
    plan: Plan
    device: str = "cpu"
    memory_gb: float | None = None
    model_folders: tuple[Path, ...] | None = None
    token: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "do": "start",
            "root": str(self.root),
            "output": str(self.output),
            "plan": self.plan.to_dict(),
            "device": self.device,
            "memory_gb": self.memory_gb,
            "model_folders": None if self.model_folders is None else [str(folder) for folder in self.model_folders],
            "token": self.token,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Start:
        """Return the value of a JSON form; raises MessageError where it is none."""
        try:
            if document["do"] != "start":
                raise MessageError(f"the first message is start, not {document['do']!r}")
            folders = document["model_folders"]
            return cls(
                root=Path(document["root"]),
                output=Path(document["output"]),
                plan=Plan.from_dict(document["plan"]),
                device=str(document["device"]),
                memory_gb=document["memory_gb"],
                model_folders=None if folders is None else tuple(Path(folder) for folder in folders),
                token=str(document["token"]),
            )
        except MessageError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as err:
            raise MessageError(f"the start of a worker is incomplete or wrong ({type(err).__name__})") from err


@dataclass(frozen=True)
class Run:
    """One case that is to be run, for the how manieth time."""

    case: Case
    attempt: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"do": "run", "case": self.case.to_dict(), "attempt": self.attempt}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Run:
        """Return the value of a JSON form; raises MessageError where it is none."""
        try:
            if document["do"] != "run":
                raise MessageError(f"a worker that has started takes run, not {document['do']!r}")
            return cls(Case.from_dict(document["case"]), int(document["attempt"]))
        except MessageError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as err:
            raise MessageError(f"the message for a case is incomplete or wrong ({type(err).__name__})") from err


def to_line(document: Mapping[str, Any]) -> bytes:
    """Return a message as a line.

    >>> to_line({"event": "ready", "name": chr(0xDCE9)})
    b'{"event":"ready","name":"\\\\udce9"}\\n'
    """
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def parse_line(line: bytes) -> dict[str, Any]:
    """Return the message of a line; raises MessageError where it is no JSON object.

    >>> parse_line(b'{"do": "run"}')
    {'do': 'run'}
    """
    if len(line) > _LONGEST_LINE:
        raise MessageError("a line is longer than any message")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise MessageError("a line is no JSON") from err
    if not isinstance(document, dict):
        raise MessageError("a line is no JSON object")
    return document


def parse_event(line: bytes) -> dict[str, Any]:
    """Return the event of a line that a worker wrote; raises MessageError where it is none."""
    event = parse_line(line)
    if event.get("event") not in EVENTS:
        raise MessageError("a line is no event of a worker")
    return event


def ready(pid: int, version: str) -> dict[str, Any]:
    """The worker has read its start and takes cases."""
    return {"event": "ready", "pid": pid, "version": version}


def stage(case_id: str, name: Stage) -> dict[str, Any]:
    """A stage of a case begins."""
    return {"event": "stage", "case_id": case_id, "stage": name}


def finished(case_id: str, status: str, code: str, seconds: Mapping[str, float], rss_bytes: int) -> dict[str, Any]:
    """The result of a case has its name."""
    return {
        "event": "finished",
        "case_id": case_id,
        "status": status,
        "code": code,
        "seconds": dict(seconds),
        "rss_bytes": rss_bytes,
    }


def alive(rss_bytes: int, cpu_percent: float, device: Mapping[str, Any] | None) -> dict[str, Any]:
    """The worker is there; said every ALIVE_EVERY_S."""
    return {
        "event": "alive",
        "rss_bytes": rss_bytes,
        "cpu_percent": cpu_percent,
        "device": None if device is None else dict(device),
    }


def stopping(message: str) -> dict[str, Any]:
    """The output cannot be written: the worker ends."""
    return {"event": "stopping", "message": message, "exit_code": 5}


def fatal(message: str, exit_code: int = 4) -> dict[str, Any]:
    """The worker cannot do any case (pipeline, model, device, a missing package): it ends."""
    return {"event": "fatal", "message": message, "exit_code": exit_code}
