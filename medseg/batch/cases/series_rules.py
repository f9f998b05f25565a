"""Which series of a study is run: rules over header fields, and the choice of one among those that are left.

A rule is `Field=value`, `Field!=value`, `Field~regex`, `Field!~regex`, or `Field<=number` (also <, >=, >). All rules must
hold. Text is compared without regard to upper and lower case; of a field with several values (ImageType) one must be equal.
A number is compared with the first value of the field. A field that is absent fulfils `Field=` and, of other rules, only those
with != and !~.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from medseg.core.errors import ParameterError
from medseg.io.dicom.glance import FIELDS

Choice = Literal["best", "all", "first", "last", "thinnest", "largest"]
CHOICES: tuple[Choice, ...] = ("best", "all", "first", "last", "thinnest", "largest")
COMPUTED = ("Columns", "CoverageMm", "Kind", "Path", "Rows", "Slices", "SpacingMm")

_LONGEST_PATTERN = 200
_LONGEST_TEXT = 256  # of a value that a pattern is tried on
_MOST_OPEN_REPEATS = 3  # each multiplies the time by the length of the text
_RULE = re.compile(r"\s*(?P<field>[A-Za-z]+)\s*(?P<how><=|>=|!=|!~|=|~|<|>)(?P<value>.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_OPEN_REPEAT = re.compile(r"[*+]|\{\d*,\}")
_NUMBERS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}
_SAME_COVERAGE = 0.9  # series that cover at least this share of what the longest covers, cover the same


@dataclass(frozen=True)
class Candidate:
    """What is known of a series from its headers: `texts` are its fields by name, `axial` the share of its normal along the body.

    `coverage_mm` and `spacing_mm` are NaN where the files do not say where their slices lie.
    """

    key: str
    texts: Mapping[str, str]
    is_derived: bool
    axial: float
    slices: int
    coverage_mm: float
    spacing_mm: float
    series_number: float
    series_uid: str


@dataclass(frozen=True)
class Rule:
    """One condition on a field."""

    field: str
    how: str
    value: str

    def holds(self, texts: Mapping[str, str]) -> bool:
        """Whether a series with these fields fulfils it."""
        text = texts.get(self.field, "").strip()
        if self.how in _NUMBERS:
            return _NUMBERS[self.how](_number(text), float(self.value))
        if self.how.endswith("~"):
            is_there = bool(text) and re.search(self.value, text[:_LONGEST_TEXT], re.IGNORECASE) is not None
        else:
            values = {part.strip().lower() for part in (text, *text.split("\\"))}
            is_there = self.value.strip().lower() in values or _is_same_number(text, self.value)
        return is_there != self.how.startswith("!")


@dataclass(frozen=True)
class Selection:
    """The choice among the series of a study, and the rules that each of them must fulfil."""

    choice: Choice = "best"
    rules: tuple[Rule, ...] = ()

    def names(self, field: str) -> bool:
        """Whether a rule speaks of a field."""
        return any(rule.field == field for rule in self.rules)

    def passes(self, texts: Mapping[str, str]) -> bool:
        """Whether all rules hold."""
        return all(rule.holds(texts) for rule in self.rules)

    def choose(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return which series of one study are run."""
        return list(candidates) if self.choice == "all" or not candidates else [_CHOOSE[self.choice](candidates)]


def parse_selection(texts: Sequence[str]) -> Selection:
    """Return the selection that texts mean: at most one of all, best, first, last, thinnest, largest, and any number of rules.

    Raises ParameterError for a field that is not known, a number that is none, or a pattern that could take too long.

    >>> parse_selection(["thinnest", "ConvolutionKernel~^B3", "SliceThickness<=3"]).choice
    'thinnest'
    """
    choices = [text.strip().lower() for text in texts if text.strip().lower() in CHOICES]
    if len(set(choices)) > 1:
        raise ParameterError(f"--select names {' and '.join(dict.fromkeys(choices))}: choose one of them")
    rules = tuple(_rule(text) for text in texts if text.strip().lower() not in CHOICES)
    choice: Choice = next((one for one in CHOICES if one in choices), "best")
    return Selection(choice, rules)


def _rule(text: str) -> Rule:
    match = _RULE.fullmatch(text)
    if match is None:
        choices = ", ".join(CHOICES)
        raise ParameterError(f"--select {text!r} is neither one of {choices} nor a rule such as SliceThickness<=3 or Modality=CT")
    known = {name.lower(): name for name in (*FIELDS, *COMPUTED)}
    field = known.get(match["field"].lower())
    if field is None:
        fields = ", ".join(sorted(known.values()))
        raise ParameterError(f"--select {text!r}: {match['field']} is not a field that is looked at; there are {fields}")
    rule = Rule(field, match["how"], match["value"])
    if rule.how in _NUMBERS and math.isnan(_number(rule.value)):
        raise ParameterError(f"--select {text!r}: {rule.value.strip()!r} is not a number")
    if rule.how.endswith("~"):
        _check_pattern(rule.value, text)
    return rule


def _check_pattern(pattern: str, text: str) -> None:
    """Refuse what is no pattern, and what could take forever on an unlucky text: a match cannot be given a time limit."""
    plain = _ESCAPED.sub("x", pattern)
    if len(pattern) > _LONGEST_PATTERN:
        raise ParameterError(f"--select: a pattern has at most {_LONGEST_PATTERN} characters, this one has {len(pattern)}")
    if re.search(r"\\[1-9]", pattern) or "(?P=" in plain or re.search(r"\)(?:[*+]|\{)", plain):
        raise ParameterError(f"--select {text!r}: a pattern may not repeat a group or refer back to one; use several rules instead")
    if len(_OPEN_REPEAT.findall(plain)) > _MOST_OPEN_REPEATS:
        raise ParameterError(f"--select {text!r}: at most {_MOST_OPEN_REPEATS} of * and + in one pattern; use several rules instead")
    try:
        re.compile(pattern)
    except re.error as err:
        raise ParameterError(f"--select {text!r}: no regular expression ({err.msg})") from err


def _best(candidates: Sequence[Candidate]) -> Candidate:
    """Original before derived; axial before others; of those that cover as much, the most slices; then the thinnest."""
    left = [one for one in candidates if not one.is_derived] or list(candidates)
    left = [one for one in left if one.axial > math.cos(math.pi / 4)] or left
    longest = max((one.coverage_mm for one in left if not math.isnan(one.coverage_mm)), default=0.0)
    left = [one for one in left if math.isnan(one.coverage_mm) or one.coverage_mm >= _SAME_COVERAGE * longest]
    return min(left, key=lambda one: (-one.slices, _or_last(one.spacing_mm), *_order(one)))


def _order(one: Candidate) -> tuple[float, str, str]:
    return _or_last(one.series_number), one.series_uid, one.key


def _or_last(number: float) -> float:
    return math.inf if math.isnan(number) else number


def _largest(candidates: Sequence[Candidate]) -> Candidate:
    return min(candidates, key=lambda one: (-one.slices, -(0.0 if math.isnan(one.coverage_mm) else one.coverage_mm), *_order(one)))


def _thinnest(candidates: Sequence[Candidate]) -> Candidate:
    thinnest = min(_or_last(one.spacing_mm) for one in candidates)
    return _best([one for one in candidates if _or_last(one.spacing_mm) <= thinnest + 0.01])


def _first(candidates: Sequence[Candidate]) -> Candidate:
    return min(candidates, key=_order)


def _last(candidates: Sequence[Candidate]) -> Candidate:
    return max(candidates, key=lambda one: (-math.inf if math.isnan(one.series_number) else one.series_number, one.series_uid, one.key))


_CHOOSE = {"best": _best, "first": _first, "last": _last, "thinnest": _thinnest, "largest": _largest}


def _number(text: str) -> float:
    try:
        number = float(text.split("\\", maxsplit=1)[0].strip())
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _is_same_number(text: str, value: str) -> bool:
    """Whether both are the same number, however they are written: 1.0 is 1."""
    one, other = _number(text), _number(value)
    return one == other
