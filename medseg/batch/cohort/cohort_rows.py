"""The cases of a cohort, one at a time: what is listed, what became of it, what reviewers decided, what was measured."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medseg.batch.cases.case_files import count_cases, read_linkage
from medseg.batch.cohort.corrections import Correction, find_corrections, measured_correction
from medseg.batch.cohort.counts import Counts
from medseg.batch.cohort.review_file import Decision, mark_of, read_review, standing_of
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import CaseResult, read_result
from medseg.core.errors import MedsegError, UnreadableFileError
from medseg.reporting.documents import MEASURE
from medseg.reporting.flow import CountsError

_MEASUREMENTS = "measurements.json"
_KEEPING = ("unreviewed", "accepted", "corrected", "void")


@dataclass(frozen=True)
class Listed:
    """A case as it was found."""

    case_id: str
    kind: str = ""
    modality: str = ""
    study: str = ""
    patient: str = ""
    slices: int = 0


@dataclass(frozen=True)
class CaseView:
    """All that the cohort says of one case.

    `status` is done, failed or not_run (`is_stale`: its result is that of an earlier plan); `standing` where a finished case stands
    in review ("" for others; `is_unusable`: it has a correction that cannot be used). `segments`, `checks` and `findings` are in
    JSON form, those of the correction where there is one. `mark` names what a decision is made on; `seen` is a hash of all that
    was read.
    """

    listed: Listed
    status: str
    code: str = ""
    message: str = ""
    result: CaseResult | None = None
    standing: str = ""
    segments: Sequence[Mapping[str, Any]] = ()
    unit: str = ""
    modality: str = ""
    checks: Mapping[str, Any] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] = ()
    decision: Decision | None = None
    mark: str = ""
    seen: bytes = b""
    is_stale: bool = False
    is_unusable: bool = False

    @property
    def case_id(self) -> str:
        """The id of the case."""
        return self.listed.case_id

    @property
    def is_analysed(self) -> bool:
        """Whether the case counts: done, not rejected, and not waiting for a correction."""
        return self.status == "done" and self.standing in _KEEPING


@dataclass(frozen=True)
class Sources:
    """What cases are read with: the key of the plan, the decisions and the corrections."""

    layout: Layout
    plan_key: str
    decisions: Mapping[str, Decision]
    corrections: Mapping[str, Correction]

    @classmethod
    def of(cls, layout: Layout) -> Sources:
        """Read them; raises UnreadableFileError where the folder is not that of a batch, or its review is no review."""
        from medseg.batch.records.batch_file import read_batch

        batch = read_batch(layout)
        if batch is None:
            raise UnreadableFileError(f"{layout.folder.name or layout.folder} holds no batch.json: give the output folder of medseg batch")
        return cls(layout, batch.plan.key, read_review(layout.review), find_corrections(layout))

    def views(self, is_sorted: bool) -> Iterator[CaseView]:
        """Yield every case in the order of the ids."""
        for listed in listed_cases(self.layout, is_sorted):
            yield self.view(listed)

    def view(self, listed: Listed) -> CaseView:
        """Read what became of one case."""
        try:
            result = read_result(self.layout.result(listed.case_id))
        except UnreadableFileError:
            message = "its result.json is no result of this version of medseg: run `medseg batch` again, which makes it anew"
            return CaseView(listed, "failed", "RESULT_UNREADABLE", message, seen=b"unreadable")
        if result is None:
            return CaseView(listed, "not_run", "", "it was not run yet")
        if result.case_id != listed.case_id or result.plan_key != self.plan_key:
            return CaseView(listed, "not_run", "", "its result is that of an earlier plan: run `medseg batch` again", is_stale=True)
        seen = hashlib.sha256(f"{result.status} {result.code} {result.key}".encode()).digest()
        if result.status == "failed":
            said = result.message or "no message was written"
            return CaseView(listed, "failed", result.code or "FAILED", said, result, findings=result.findings, seen=seen)
        document = self._measurements(result)
        if document is None:
            message = "its measurements.json is not the one that was written: run `medseg batch` again, which makes it anew"
            return CaseView(listed, "failed", "MEASUREMENTS_CHANGED", message, result, findings=result.findings, seen=seen)
        return self._reviewed(listed, result, document, seen)

    def _measurements(self, result: CaseResult) -> dict[str, Any] | None:
        """The measurements of a case, None where they are not those that its result names."""
        try:
            data = (self.layout.case(result.case_id) / _MEASUREMENTS).read_bytes()
            recorded = result.outputs.get(_MEASUREMENTS)
            if recorded is None or hashlib.sha256(data).hexdigest() != recorded.sha256:
                return None
            document = json.loads(data)
            whole = str(document["schema"]).startswith(MEASURE) and isinstance(document["segments"], list)
            return document if whole else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _reviewed(self, listed: Listed, result: CaseResult, document: dict[str, Any], seen: bytes) -> CaseView:
        decision, correction = self.decisions.get(listed.case_id), self.corrections.get(listed.case_id)
        digest = correction.sha256 if correction is not None else ""
        standing: str = standing_of(decision, result.key, digest)
        message, mark, checks, findings = "", mark_of(result.key), result.checks, result.findings
        is_unusable = False
        if standing == "corrected" and correction is not None:
            try:
                document = measured_correction(self.layout, listed.case_id, correction, document)
                # pieces were counted in the segmentation that the correction replaces
                mark, checks, findings = mark_of(result.key, digest), {}, (*findings, *document["findings"])
                message = f"corrected by hand: volumes are those of corrections/{correction.path.name}, pictures those of before"
            except MedsegError as err:
                standing, message, is_unusable = "to_fix", str(err), True
        elif standing == "to_fix":
            message, is_unusable = _waiting(correction, listed.case_id), correction is not None and bool(correction.problem)
            if decision is not None and digest and decision.result == mark_of(result.key, digest):
                mark = decision.result  # the correction itself was sent back: "fix" once more must not bring it back
        elif standing == "void":
            message = "the decision was made on another result, and is not applied: look at the case again"
        return CaseView(
            listed,
            "done",
            message=message,
            result=result,
            standing=standing,
            segments=document["segments"],
            unit=str(document.get("intensity_unit") or ""),
            modality=str(document.get("modality") or ""),
            checks=checks,
            findings=findings,
            decision=decision,
            mark=mark,
            seen=seen + f"{standing} {digest}".encode(),
            is_unusable=is_unusable,
        )


def _waiting(correction: Correction | None, case_id: str) -> str:
    if correction is not None and correction.problem:
        return correction.problem
    if correction is not None and correction.sha256:
        return "the correction was sent back: put a better one in its place"
    return f"waits for its correction: corrections/{case_id}.seg.nrrd or .nii.gz"


def read_found(layout: Layout, counts: Counts) -> bool:
    """Count what the search found into `counts`, from found.csv; return whether its cases stand in the order of their ids.

    Raises UnreadableFileError where the file is none of medseg, CountsError where the list of cases has another length.
    """
    is_sorted, last = True, ""
    for row in found_rows(layout):
        status, case_id = row["status"], row["case_id"]
        if status == "passed over":
            counts.passed_over[row["reason"]] += _whole(row.get("files"))
            continue
        counts.found += 1
        counts.people.add("found", row.get("patient") or "", row.get("study") or "")
        if status == "case":
            counts.cases += 1
            counts.people.add("cases", row.get("patient") or "", row.get("study") or "")
            is_sorted = is_sorted and last < case_id
            last = case_id
        else:
            counts.left_out[row["reason"] or "no reason was written"] += 1
    listed = count_cases(layout) if os.access(layout.case_list, os.R_OK) else counts.cases  # private/ may be out of reach
    if listed != counts.cases:
        raise CountsError(
            f"found.csv has {counts.cases:,} cases, private/cases.jsonl has {listed:,}: run `medseg batch --rescan`, which writes both anew"
        )
    return is_sorted


def found_rows(layout: Layout) -> Iterator[dict[str, str]]:
    """Yield the rows of found.csv; raises UnreadableFileError."""
    try:
        with layout.found.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.DictReader(file)
            if not {"status", "case_id", "reason"} <= set(rows.fieldnames or ()):
                raise UnreadableFileError("found.csv is no table of medseg batch: run `medseg batch --rescan`, which writes it anew")
            yield from rows
    except FileNotFoundError:
        raise UnreadableFileError("the folder has no found.csv: run `medseg batch --rescan`, which writes it") from None
    except (OSError, csv.Error) as err:
        raise UnreadableFileError(f"found.csv cannot be read ({type(err).__name__}): run `medseg batch --rescan`, which writes it") from err


def listed_cases(layout: Layout, is_sorted: bool) -> Iterator[Listed]:
    """Yield the cases in the order of their ids; private/ is not needed, so that a shared folder can be counted too."""
    rows = (row for row in found_rows(layout) if row["status"] == "case")
    for row in rows if is_sorted else sorted(rows, key=lambda row: row["case_id"]):
        yield Listed(
            row["case_id"],
            row.get("kind") or "",
            row.get("modality") or "",
            row.get("study") or "",
            row.get("patient") or "",
            _whole(row.get("slices")),
        )


def identities(layout: Layout) -> dict[str, tuple[str, str]]:
    """Return patient ID and path of every case, from the linkage table; raises UnreadableFileError where there is none."""
    return {row["case_id"]: (row.get("patient_id") or "", row.get("path") or "") for row in read_linkage(layout) if row.get("case_id")}


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
