"""The counts of a cohort, from what was found to what is analysed: they add up, or nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medseg.reporting.flow import CountsError, Step, check_steps

NOT_RUN = "not run yet"
_MOST_LABELS_SHOWN = 8
_WORDS = {
    "CRASH": "the program crashed on it",
    "TIMEOUT": "took longer than the limit",
    "KILLED": "was killed from outside",
    "OUT_OF_MEMORY": "out of memory",
    "DEVICE_LOST": "the GPU was lost",
    "IO_ERROR": "the disk or network failed",
    "INPUT_CHANGED": "its files changed while they were read",
    "INPUT_GONE": "its files are gone",
    "MEASUREMENTS_CHANGED": "its measurements were changed after the run",
    "RESULT_UNREADABLE": "its result cannot be read",
    "SEVERAL_VOLUMES": "several volumes in one file, none of them chosen",
    "UNEXPECTED": "an unexpected error",
    "UNREADABLE_FILE": "a file that cannot be read",
    "UNSUPPORTED_FORMAT": "a format that is not read",
    "WRONG_MODALITY": "another modality than the pipeline is for",
}


def words_of(code: str) -> str:
    """Return what a code of a failure says.

    >>> words_of("MISSING_SLICES"), words_of("CRASH")
    ('missing slices', 'the program crashed on it')
    """
    return _WORDS.get(code) or code.replace("_", " ").lower() or "failed"


STAGES = ("found", "cases", "done", "analysed")


class People:
    """From how many studies and patients the cases of each stage come; not known as soon as one case names none."""

    def __init__(self) -> None:
        # which stages a pseudonym has reached, as bits: one entry for each, however many stages there are
        self._reached: dict[str, dict[str, int]] = {"studies": {}, "patients": {}}
        self._unnamed: Counter[tuple[str, str]] = Counter()

    def add(self, stage: str, patient: str, study: str) -> None:
        """Count one case at a stage."""
        bit = 1 << STAGES.index(stage)
        for what, name in (("studies", study), ("patients", patient)):
            if name:
                self._reached[what][name] = self._reached[what].get(name, 0) | bit
            else:
                self._unnamed[what, stage] += 1

    def of(self, stage: str) -> dict[str, int | None]:
        """Return how many there are at a stage; None where that is not known."""
        bit = 1 << STAGES.index(stage)
        counted = {what: sum(1 for reached in names.values() if reached & bit) for what, names in self._reached.items()}
        return {what: count if count and not self._unnamed[what, stage] else None for what, count in counted.items()}

    def words(self, stage: str) -> tuple[str, ...]:
        """Return the line of the flow diagram, none where nothing is known."""
        known = self.of(stage)
        said = [_many(known[name], one) for name, one in (("studies", "study"), ("patients", "patient")) if known[name]]
        return (f"in {' of '.join(said)}",) if said else ()


@dataclass
class Counts:
    """What became of every series: `left_out` by reason, `failed` by code, `standing` of the finished cases in review.

    `passed_over` are files that are no images, by reason: they are no series, and no part of any sum.
    """

    found: int = 0
    cases: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    not_run: int = 0
    done: int = 0
    standing: Counter[str] = field(default_factory=Counter)
    analysed: int = 0
    people: People = field(default_factory=People)

    def check(self) -> None:
        """Raise CountsError where a sum is not what it must be."""
        for what, whole, parts in (
            ("found series", self.found, (self.cases, *self.left_out.values())),
            ("cases", self.cases, (self.done, self.not_run, *self.failed.values())),
            ("finished cases", self.done, tuple(self.standing.values())),
            ("finished cases", self.done, (self.analysed, self.standing["rejected"], self.standing["to_fix"])),
        ):
            if whole != sum(parts):
                raise CountsError(
                    f"the counts do not add up: {whole:,} {what}, their parts are {sum(parts):,}; run `medseg batch` again, which "
                    "finds what is missing"
                )
        check_steps(self.steps())

    def steps(self, segments: Iterable[Mapping[str, Any]] = ()) -> tuple[Step, ...]:
        """Return the boxes of the flow diagram; `segments` are those of the summary."""
        reasons = Counter({words_of(code): 0 for code in self.failed})
        for code, count in self.failed.items():
            reasons[words_of(code)] += count
        reasons[NOT_RUN] += self.not_run
        excluded = {"rejected": self.standing["rejected"], "sent back, waiting for a correction": self.standing["to_fix"]}
        review = [f"{self.standing['corrected']:,} corrected by hand"] if self.standing["corrected"] else []
        review += [f"{self.standing['accepted']:,} accepted"] if self.standing["accepted"] else []
        unseen = self.standing["unreviewed"] + self.standing["void"]
        if review or excluded["rejected"] or sum(excluded.values()):
            review += [f"{unseen:,} not reviewed"] if unseen else []
        else:
            review = ["no case was reviewed"] if self.done else []
        lines = (*self.people.words("analysed"), *([", ".join(review)] if review else []), *_of_segments(segments))
        return (
            Step("Found", "Series found", self.found, self.people.words("found"), "Left out", dict(self.left_out)),
            Step("Run", "Cases to segment", self.cases, self.people.words("cases"), "Without a result", dict(reasons)),
            Step("Review", "Segmented and measured", self.done, self.people.words("done"), "Excluded in review", excluded),
            Step("Analysed", "Analysed", self.analysed, lines),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "passed_over": {"total": sum(self.passed_over.values()), "by_reason": _sorted(self.passed_over)},
            "found": self.found,
            "left_out": {"total": sum(self.left_out.values()), "by_reason": _sorted(self.left_out)},
            "cases": self.cases,
            "not_run": self.not_run,
            "failed": {"total": sum(self.failed.values()), "by_code": _sorted(self.failed)},
            "done": self.done,
            "review": {name: self.standing[name] for name in ("unreviewed", "accepted", "rejected", "to_fix", "corrected", "void")},
            "analysed": self.analysed,
        } | {f"{stage}_in": self.people.of(stage) for stage in STAGES}


def _sorted(counted: Counter[str]) -> dict[str, int]:
    return dict(sorted(((name, count) for name, count in counted.items() if count), key=lambda one: (-one[1], one[0])))


def _of_segments(segments: Iterable[Mapping[str, Any]]) -> list[str]:
    """How many cases have each segment whole: the denominators of whatever is said of it."""
    said = []
    listed = list(segments)
    for one in listed[:_MOST_LABELS_SHOWN]:
        parts = [f"{one['measured']:,} measured"]
        names = {"cut_by_field_of_view": "cut by the border", "absent": "without a voxel", "failed": "failed", "not_attempted": "not drawn"}
        parts += [f"{one[name]:,} {words}" for name, words in names.items() if one[name]]
        said.append(f"{one['label']}: {', '.join(parts)}")
    if len(listed) > _MOST_LABELS_SHOWN:
        said.append(f"{len(listed) - _MOST_LABELS_SHOWN:,} further segments: see summary.json")
    return said


def _many(count: int | None, one: str) -> str:
    plural = "studies" if one == "study" else f"{one}s"
    return f"{count:,} {one if count == 1 else plural}"
