"""The graded result of a check, apart from raising."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Severity(str, Enum):
    """How much a finding matters for a number that is to be reported."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing a check noticed: a stable code in capitals, a severity, a sentence and the figures behind it.

    >>> Finding("DUPLICATE_SLICES", Severity.WARNING, "2 slices are exact copies", {"count": 2}).code
    'DUPLICATE_SLICES'
    """

    code: str
    severity: Severity
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "severity", Severity(self.severity))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; a limit that is infinite, or no number, is null there."""
        return {"code": self.code, "severity": self.severity.value, "message": self.message, "details": _json_form(dict(self.details))}


def _json_form(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json_form(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_form(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def errors_in(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that forbid reporting."""
    return tuple(finding for finding in findings if finding.severity is Severity.ERROR)
