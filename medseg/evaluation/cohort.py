"""Many cases scored: every case has a row and a status, and nothing that went wrong improves a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from medseg.core.finding import Finding
from medseg.evaluation.bootstrap import Bootstrap
from medseg.evaluation.detection import MatchRule
from medseg.evaluation.overlap import Evaluation
from medseg.evaluation.score import SurfaceRule
from medseg.evaluation.summary import summarise

SURPLUS_RULE = "predictions without a reference are named, not scored: nobody knows what is right there"


class CaseStatus(str, Enum):
    """What became of a case."""

    COMPARED = "compared"
    MISSING = "missing_prediction"
    FAILED = "failed"


@dataclass(frozen=True)
class CaseScores:
    """One case: its name, its files, its scores, and why it failed.

    The evaluation is None where the reference itself could not be read: then nobody knows which segments were missed.
    """

    case: str
    status: CaseStatus
    reason: str = ""
    evaluation: Evaluation | None = None
    reference_file: str = ""
    prediction_file: str = ""
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON row."""
        counted = self.evaluation.scores if self.evaluation else ()
        return {
            "case": self.case,
            "status": self.status.value,
            "reason": self.reason,
            "reference_file": self.reference_file or None,
            "prediction_file": self.prediction_file or None,
            "segment_count": len(counted) if self.evaluation else None,
            "matched_by": self.evaluation.matched_by or None if self.evaluation else None,
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class CohortEvaluation:
    """The scores of a folder of cases, the predictions that have no reference, and how often cases are drawn for the intervals."""

    cases: tuple[CaseScores, ...]
    surface: SurfaceRule | None = None
    match: MatchRule | None = None
    surplus: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def named(self, status: CaseStatus) -> tuple[str, ...]:
        """Return the names of the cases of one status."""
        return tuple(case.case for case in self.cases if case.status is status)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `medseg evaluate` on two folders: the rows of all cases, the summary, the cases."""
        scored = [case for case in self.cases if case.evaluation is not None]
        evaluations = [case.evaluation for case in scored if case.evaluation is not None]
        unknown = [case.case for case in self.cases if case.evaluation is None]
        missing, failed = self.named(CaseStatus.MISSING), self.named(CaseStatus.FAILED)
        summary: dict[str, Any] = {
            "matched_by": _common([one.matched_by for one in evaluations if one.matched_by]),
            "case_count": len(self.cases),
            "compared_case_count": len(self.named(CaseStatus.COMPARED)),
            "missing_prediction_count": len(missing),
            "missing_predictions": list(missing),
            "failed_case_count": len(failed),
            "failed_cases": list(failed),
            "cases_without_reference_count": len(unknown),
            "cases_without_reference": unknown,
            "surplus_prediction_count": len(self.surplus),
            "surplus_predictions": list(self.surplus),
            "surplus_rule": SURPLUS_RULE,
            "ignored_files": list(self.ignored),
        }
        summary |= summarise([evaluation.scores for evaluation in evaluations], self.surface, self.match, self.bootstrap)
        rows = [{"case": case.case} | score.to_dict() for case in scored for score in (case.evaluation.scores if case.evaluation else ())]
        return {
            "schema": "medseg.evaluate/1",
            "segments": rows,
            "summary": summary,
            "cases": [case.to_dict() for case in self.cases],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def with_findings(evaluation: Evaluation, findings: Sequence[Finding]) -> Evaluation:
    """Return an evaluation that also says what was found while its files were read, each thing once."""
    unique = {(finding.code, finding.message): finding for finding in (*findings, *evaluation.findings)}
    return replace(evaluation, findings=tuple(unique.values()))


def _common(values: Sequence[str]) -> str | None:
    """The way that all cases share, "label or number" where they differ."""
    found = sorted(set(values))
    return " or ".join(found) if found else None
