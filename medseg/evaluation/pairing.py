"""Rows of several tables brought together by their keys; what cannot be paired is counted and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError

Key = tuple[str, ...]


@dataclass(frozen=True)
class Unpaired:
    """A row that was left out: its key, and why, reader by reader where they differ."""

    key: Key
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"key": list(self.key), "reason": self.reason}


@dataclass(frozen=True, eq=False)
class Paired:
    """Subjects that every reader measured: `readings` (subjects, readers) in the order of `keys`; `unpaired` are all others."""

    keys: tuple[Key, ...]
    readings: npt.NDArray[np.float64]
    unpaired: tuple[Unpaired, ...]


def pair(
    values: Sequence[Mapping[Key, float]], left_out: Sequence[Mapping[Key, str]] = (), readers: Sequence[str] = (), need: int = 1
) -> Paired:
    """Bring the values of several readers together; `left_out` holds each reader's rows without a value and the reason.

    Keys are compared as written, in the order of the first table. Raises InputError where fewer than `need` subjects have a
    value from every reader.

    >>> both = pair([{("a",): 1.0, ("b",): 2.0}, {("a",): 1.5}], readers=("A", "B"))
    >>> both.readings.tolist(), both.unpaired[0].reason
    ([[1.0, 1.5]], 'no row in B')
    """
    reasons = tuple(left_out) or tuple({} for _ in values)
    names = tuple(readers) or tuple(chr(ord("A") + n) for n in range(len(values)))
    every = list(dict.fromkeys(key for table, rest in zip(values, reasons, strict=True) for key in (*table, *rest)))
    keys, unpaired = [], []
    for key in every:
        lacking = [
            f"{rest[key]} in {name}" if key in rest else f"no row in {name}"
            for table, rest, name in zip(values, reasons, names, strict=True)
            if key not in table
        ]
        if lacking:
            unpaired.append(Unpaired(key, "; ".join(lacking)))
        else:
            keys.append(key)
    if len(keys) < need:
        raise InputError(_too_few(keys, values, reasons, names))
    readings = np.array([[table[key] for table in values] for key in keys], dtype=np.float64).reshape(len(keys), len(values))
    return Paired(tuple(keys), readings, tuple(unpaired))


def grouped(paired: Paired, positions: Sequence[int]) -> dict[Key, Paired]:
    """Part subjects by some positions of their key, in the order in which the groups first occur."""

    def group_of(key: Key) -> Key:
        return tuple(key[n] for n in positions)

    groups: dict[Key, list[int]] = {}
    for row, key in enumerate(paired.keys):
        groups.setdefault(group_of(key), []).append(row)
    others: dict[Key, list[Unpaired]] = {}
    for one in paired.unpaired:
        others.setdefault(group_of(one.key), []).append(one)
    return {
        group: Paired(tuple(paired.keys[row] for row in rows), paired.readings[rows], tuple(others.get(group, ())))
        for group, rows in [*groups.items(), *((group, []) for group in others if group not in groups)]
    }


def _too_few(keys: Sequence[Key], values: Sequence[Mapping[Key, float]], reasons: Sequence[Mapping[Key, str]], names: Sequence[str]) -> str:
    if keys:
        found = "1 row has" if len(keys) == 1 else f"{len(keys)} rows have"
        return f"only {found} a value in every table; agreement needs at least 3 subjects, and 30 or more to be narrow"
    for table, rest, name in zip(values, reasons, names, strict=True):
        if not table:
            why = f": all {len(rest)} rows were left out, the first for {next(iter(rest.values()))!r}" if rest else ""
            return f"{name} has no row with a value{why}; check the columns, and --status for rows that are not simply measured"
    examples = [f"{name} has {' / '.join(next(iter(table)))!r}" for table, name in zip(values, names, strict=True)]
    hint = f" ({', '.join(examples)})"
    return f"no row has a value in every table{hint}; check that the keys are written alike, or choose others with --key"
