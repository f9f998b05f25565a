"""The decisions of reviewers on cases: `review.json`, read, merged without loss, and matched with the results they were made on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from medseg.batch.records.layout import Layout
from medseg.core.errors import OutputError, UnreadableFileError
from medseg.io.atomic import write_text

SCHEMA = "medseg.review/1"
DECISIONS = ("accept", "reject", "fix", "undecided")
MOST_BYTES = 1 << 28
_MOST_COMMENT = 4_000
_MOST_NAME = 200
_CASE_ID = re.compile(r"[0-9a-f]{16}")
_MARK = re.compile(r"[0-9a-f]{64}(?:\+[0-9a-f]{64})?|")
_BETWEEN = "+"

Standing = Literal["unreviewed", "accepted", "rejected", "to_fix", "corrected", "void"]


@dataclass(frozen=True)
class Decision:
    """What a reviewer decided on a case: accept, reject, fix, or undecided (which takes an earlier decision back).

    `time` is ISO 8601 with a time zone; `result` is the `mark_of` what was looked at, so that a decision on a result that has
    changed since is known as void. Raises UnreadableFileError where a field is impossible.
    """

    decision: str
    reviewer: str
    time: str
    comment: str = ""
    result: str = ""

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise UnreadableFileError(f"a decision is one of {', '.join(DECISIONS)}")
        if len(self.reviewer) > _MOST_NAME or len(self.comment) > _MOST_COMMENT:
            raise UnreadableFileError(f"a name has at most {_MOST_NAME} characters, a comment at most {_MOST_COMMENT:,}")
        if not _MARK.fullmatch(self.result):
            raise UnreadableFileError("a decision names the result it was made on by a SHA-256")
        _instant(self.time)

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {
            "decision": self.decision,
            "reviewer": self.reviewer,
            "time": self.time,
            "comment": self.comment,
            "result": self.result,
        }


def mark_of(key: str, correction_sha256: str = "") -> str:
    """Return what a decision names as its `result`: the SHA-256 of the key of a result, and that of its correction where it has one.

    >>> len(mark_of("ab")), mark_of("ab", "0" * 64).startswith(mark_of("ab") + "+")
    (64, True)
    """
    mark = hashlib.sha256(key.encode("utf-8")).hexdigest()
    return f"{mark}{_BETWEEN}{correction_sha256}" if correction_sha256 else mark


def standing_of(decision: Decision | None, key: str, correction_sha256: str = "") -> Standing:
    """Return where a finished case stands: its decision, applied to the result with this key and to its correction, if any.

    A decision on another result is void. "fix" leaves the case `to_fix` until there is a correction, which makes it `corrected`;
    a correction that was looked at can be accepted, rejected, or sent back with "fix".

    >>> when = "2026-05-01T10:00:00Z"
    >>> fix = Decision("fix", "A. Reader", when, result=mark_of("key"))
    >>> standing_of(fix, "key"), standing_of(fix, "key", "0" * 64), standing_of(fix, "another key")
    ('to_fix', 'corrected', 'void')
    """
    if decision is None or decision.decision == "undecided":
        return "unreviewed"
    seen, _, seen_correction = decision.result.partition(_BETWEEN)
    if seen != mark_of(key):
        return "void"
    if seen_correction and seen_correction != correction_sha256:
        # made on an earlier correction: the wish to have the case corrected stands, the verdict on that correction does not
        return "corrected" if correction_sha256 else "to_fix"
    if decision.decision == "fix":
        return "corrected" if correction_sha256 and not seen_correction else "to_fix"
    if decision.decision == "reject":
        return "rejected"
    return "corrected" if seen_correction else "accepted"


def read_review(path: Path) -> dict[str, Decision]:
    """Return the decisions of a file by case id, none where there is no file; raises UnreadableFileError where it holds something else."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UnreadableFileError(f"{path.name} is too large for a file of decisions")
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as err:
        raise UnreadableFileError(f"{path.name} cannot be read ({err.strerror}); check the folder and its permissions") from err
    return parse_review(data, path.name)


def parse_review(data: bytes, name: str = "the file") -> dict[str, Decision]:
    """Return the decisions of a document as it was read or sent; raises UnreadableFileError that says which case is at fault."""
    again = "take it from qc.html or `medseg review` again"
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise UnreadableFileError(f"{name} is no JSON: {again}") from err
    decisions = document.get("decisions") if isinstance(document, Mapping) else None
    if not isinstance(decisions, Mapping) or document.get("schema") != SCHEMA:
        raise UnreadableFileError(f"{name} is no file of decisions (schema {SCHEMA}): {again}")
    found = {}
    for number, (case_id, entry) in enumerate(decisions.items(), 1):
        if not _CASE_ID.fullmatch(case_id):
            raise UnreadableFileError(f"{name}, decision {number}: a case id has 16 hexadecimal digits; {again}")
        found[case_id] = _decision(entry, f"{name}, case {case_id}")
    return found


def _decision(entry: Any, where: str) -> Decision:
    if not isinstance(entry, Mapping):
        raise UnreadableFileError(f"{where}: a decision has decision, reviewer, time, comment and result")
    fields = {field: entry.get(field, "") for field in ("decision", "reviewer", "time", "comment", "result")}
    wrong = [field for field, value in fields.items() if not isinstance(value, str)]
    if wrong:
        raise UnreadableFileError(f"{where}: {wrong[0]} should be a text")
    try:
        return Decision(**fields)
    except UnreadableFileError as err:
        raise UnreadableFileError(f"{where}: {err}") from err


def merge_review(first: Mapping[str, Decision], second: Mapping[str, Decision]) -> dict[str, Decision]:
    """Return the decisions of both, sorted by case id: of two on one case the later; in any order the same.

    >>> early = Decision("accept", "A. Reader", "2026-05-01T10:00:00Z")
    >>> late = Decision("fix", "B. Reader", "2026-05-01T12:30:00+02:00")
    >>> merge_review({"0" * 16: late}, {"0" * 16: early})["0" * 16].decision
    'fix'
    """
    merged = dict(first)
    for case_id, decision in second.items():
        mine = merged.get(case_id)
        merged[case_id] = decision if mine is None else max(mine, decision, key=_order)
    return dict(sorted(merged.items()))


def write_review(path: Path, decisions: Mapping[str, Decision]) -> Path:
    """Write the decisions, whole or not at all, in place of what is there; raises OutputError."""
    document = {"schema": SCHEMA, "decisions": {case_id: decision.to_dict() for case_id, decision in sorted(decisions.items())}}
    return write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n", overwrite=True)


def update_review(layout: Layout, decisions: Mapping[str, Decision]) -> dict[str, Decision]:
    """Merge decisions into `review.json` of a batch and return all of them; several programs may do so at the same time.

    Raises UnreadableFileError where the file there is no file of decisions (nothing is overwritten then), OutputError.
    """
    with _locked(layout.state / "review.lock"):
        merged = merge_review(read_review(layout.review), decisions)
        write_review(layout.review, merged)
    return merged


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: one program at a time, which `medseg review` says
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as err:
        raise OutputError(f"{path.parent.name}/ cannot be written ({err.strerror}); check the folder and its permissions") from err
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _order(decision: Decision) -> tuple[datetime, tuple[str, ...]]:
    return _instant(decision.time), (decision.decision, decision.reviewer, decision.comment, decision.result)


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise UnreadableFileError("the time of a decision is ISO 8601 with a time zone, such as 2026-05-01T10:00:00Z")
    return found
