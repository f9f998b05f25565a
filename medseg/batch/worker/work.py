"""A case on its way: what is known of it after reading, after computing, and from stage to stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from medseg.batch.records.case import Case
from medseg.batch.records.result import CaseResult, Inputs
from medseg.core.finding import Finding
from medseg.core.volume import Volume
from medseg.pipeline import Result


@dataclass(frozen=True)
class ReadCase:
    """A case whose scan is in memory, and what was read."""

    case: Case
    volume: Volume
    inputs: Inputs
    seconds: float = 0.0


@dataclass(frozen=True)
class ComputedCase:
    """A case that is measured and not yet written; `seconds` by stage."""

    case: Case
    inputs: Inputs
    result: Result
    checks: dict[str, Any]
    seconds: dict[str, float]


@dataclass
class Work:
    """A case on its way through the stages, which may run in three threads one after the other."""

    case: Case
    attempt: int = 1
    inputs: Inputs | None = None
    read: ReadCase | None = None
    computed: ComputedCase | None = None
    failure: tuple[str, str] | None = None
    findings: tuple[Finding, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    result: CaseResult | None = None
    took_s: float = 0.0
