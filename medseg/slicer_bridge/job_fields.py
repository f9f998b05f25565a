"""How the fields of a job are checked, each fault in one sentence. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medseg.core.errors import MedsegError

Matrix = tuple[tuple[float, ...], ...]
Extent = tuple[int, int, int, int, int, int]
NOTHING: Extent = (0, -1, 0, -1, 0, -1)  # the extent of labels without a voxel

_LONGEST_QUOTE = 60


class JobFormatError(MedsegError):
    """A line is no job of this protocol; the message says which part is wrong. `id` is that of the job, "" where unknown."""

    exit_code = 2

    def __init__(self, message: str, id: str = "") -> None:
        super().__init__(message)
        self.id = id


def is_empty(extent: Extent) -> bool:
    """Whether a box holds no voxel.

    >>> is_empty(NOTHING), is_empty((0, 0, 0, 0, 0, 0))
    (True, False)
    """
    return any(extent[2 * axis] > extent[2 * axis + 1] for axis in range(3))


def quoted(value: Any) -> str:
    """Return a value as it was given, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def checked_object(value: Any, where: str, known: set[str]) -> Mapping[str, Any]:
    """Return a JSON object after a look at the names of its fields."""
    if not isinstance(value, Mapping):
        raise JobFormatError(f"{where} must be a JSON object, not {quoted(value)}")
    unknown = sorted(str(name) for name in value if name not in known)
    if unknown:
        raise JobFormatError(f"{where} has no field {unknown[0]!r}: known are {', '.join(sorted(known))}")
    return value


def checked_text(value: Any, where: str) -> str:
    """Return a text."""
    if not isinstance(value, str) or "\0" in value:
        raise JobFormatError(f"{where} must be text, not {quoted(value)}")
    return value


def is_list_of(value: Any, kind: type, length: int) -> bool:
    """Whether a value is a list of so many numbers of a kind (whole numbers count as float)."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == length
        and all(type(one) is kind or (kind is float and type(one) is int) for one in value)
    )


def checked_matrix(value: Any, where: str) -> Matrix | None:
    """Return a 4×4 matrix as tuples, None for none."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 4 or not all(is_list_of(row, float, 4) for row in value):
        raise JobFormatError(f"{where} must be a 4×4 matrix, a list of four rows of four numbers")
    return tuple(tuple(float(entry) for entry in row) for row in value)


def checked_extent(value: Any, where: str) -> Extent:
    """Return a box (i0,i1,j0,j1,k0,k1)."""
    if not is_list_of(value, int, 6):
        raise JobFormatError(f"{where} must be six whole numbers i0,i1,j0,j1,k0,k1 with ends included")
    i0, i1, j0, j1, k0, k1 = value
    return i0, i1, j0, j1, k0, k1


@dataclass(frozen=True)
class FieldRule:
    """One field of a job: how it is checked, what it means, whether it must be there."""

    check: Callable[[Any, str], Any]
    meaning: str
    required: bool = False


def checked_number(value: Any, where: str) -> float:
    """Return a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise JobFormatError(f"{where} must be a number, not {quoted(value)}")
    return float(value)


def checked_boolean(value: Any, where: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise JobFormatError(f"{where} must be true or false, not {quoted(value)}")
    return value


def checked_table(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object whose names are not known here."""
    if not isinstance(value, Mapping):
        raise JobFormatError(f"{where} must be a JSON object, not {quoted(value)}")
    return dict(value)


def list_of(check: Callable[[Any, str], Any]) -> Callable[[Any, str], tuple[Any, ...]]:
    """Return the check of a list whose entries are checked each."""

    def checked(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise JobFormatError(f"{where} must be a list, not {quoted(value)}")
        return tuple(check(one, f"{where} {number}") for number, one in enumerate(value, 1))

    return checked


def checked_optional_number(value: Any, where: str) -> float | None:
    """Return a number or None."""
    return None if value is None else checked_number(value, where)
