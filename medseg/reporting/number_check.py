"""Every number of a text is looked up in the data it speaks of; one that is not there stops the report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from medseg.core.errors import OutputError

_CITATION = re.compile(r"\[@[^\]]*\]|`[^`]*\.(?:html|json|csv|bib|parquet|pdf|png)`")
# A number with groups of thousands, or any word that holds a digit
_GROUPED = r"(?<![\w.])[-+−]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w,])"
_WORD = re.compile(_GROUPED + r"|[^\s,;:()\[\]{}<>\"'“”|/–×±]*\d[^\s,;:()\[\]{}<>\"'“”|/–×±]*")
_PLAIN = re.compile(r"[-+]?\d+(?:\.\d+)?", re.ASCII)
_NUMBER = re.compile(r"[-+−]?[\d,]+(?:\.\d+)?(?:[eE][-+−]?\d+)?")


class ReportNumberError(OutputError):
    """A text holds a number that the data does not; nothing is written."""

    def __init__(self, message: str, number: str = "") -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True)
class Statement:
    """A sentence and the data it speaks of; `constants` are numbers of the wording itself ("95 %", "3×3"), not results."""

    text: str
    data: Any = field(default_factory=dict)
    constants: tuple[str, ...] = ()


def check_statements(statements: Iterable[Statement]) -> None:
    """Look every number of every statement up in its data.

    Raises ReportNumberError that names the first number that is not there, and its sentence.
    """
    for statement in statements:
        missing = numbers_not_in(statement.text, statement.data, statement.constants)
        if missing:
            raise ReportNumberError(
                f"the number {missing[0]} in “{_excerpt(statement.text, missing[0])}” is not in the data it speaks of: nothing was "
                "written. Were the tables changed after the run? Measure again (medseg measure), then make the report anew",
                missing[0],
            )


def numbers_not_in(text: str, data: Any, constants: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the numbers of a text that no value of the data rounds to, in the order in which they stand.

    A number with d decimals is found where some value of the data, rounded to d decimals, equals it; a word with digits in
    it (a version, a hash, a label) where a text of the data holds the same word. Citations ([@key]) are passed over.

    >>> numbers_not_in("liver: 838.0 ml (95 % interval 830.1 to 845.9 ml)", {"volume_ml": 838.04, "interval": [830.12, 845.88]}, ["95 %"])
    ()
    >>> numbers_not_in("liver: 838.1 ml", {"volume_ml": 838.04})
    ('838.1',)
    """
    left = _CITATION.sub(" ", text)
    for phrase in sorted(constants, key=len, reverse=True):
        left = _without(left, phrase)
    values, words = _values(data)
    for word in sorted(words, key=len, reverse=True):
        left = _without(left, word)
    tokens = (match.group().strip(".…%*_") for match in _WORD.finditer(left))
    return tuple(token for token in tokens if any(c.isdigit() for c in token) and not _is_there(token, values))


def _without(text: str, phrase: str) -> str:
    """A text without a phrase where it stands alone: the 1 of a version is not the 1 of 1.5."""
    return re.sub(rf"(?<![\w.]){re.escape(phrase)}(?!\w|[.,]\d)", " ", text)


def _is_there(token: str, values: list[float]) -> bool:
    if not _NUMBER.fullmatch(token):
        return False
    plain = token.replace(",", "").replace("−", "-").lstrip("+")
    mantissa, _, power = plain.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    step = 10.0 ** (int(power or 0) - decimals)
    number = float(plain)
    # half a step of rounding, and the last bit of a double on top
    return any(abs(number - value) <= 0.5 * step * (1 + 1e-9) + 4e-16 * abs(value) for value in values)


def _values(data: Any) -> tuple[list[float], set[str]]:
    """All numbers of nested data, and all its words that hold a digit."""
    values: list[float] = []
    words: set[str] = set()
    for entry in _leaves(data):
        if isinstance(entry, bool) or entry is None:
            continue
        if isinstance(entry, (int, float)):
            if math.isfinite(entry):
                values.append(float(entry))
        else:
            text = str(entry)
            found = {word.strip(".,;") for word in (text, *text.split(), *_WORD.findall(text)) if any(c.isdigit() for c in word)}
            numbers = {word for word in found if _PLAIN.fullmatch(word)}
            values += [float(word) for word in numbers]
            words |= found - numbers
    return values, words


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, Mapping):
        for key, entry in data.items():
            yield str(key)
            yield from _leaves(entry)
    elif isinstance(data, (list, tuple, set, frozenset)):
        for entry in data:
            yield from _leaves(entry)
    else:
        yield data


def _excerpt(text: str, number: str, around: int = 45) -> str:
    at = max(0, text.find(number))
    start, end = max(0, at - around), min(len(text), at + len(number) + around)
    return ("…" if start else "") + " ".join(text[start:end].split()) + ("…" if end < len(text) else "")
