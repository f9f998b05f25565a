"""A stack: slices of a series that form one volume, and by which header fields it was told apart from the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from medseg.core.finding import Finding
from medseg.io.dicom.fields import natural, shown
from medseg.io.dicom.header import SliceHeader

Partition = dict[str, list[SliceHeader]]


@dataclass(frozen=True)
class Stack:
    """Slices that form one volume, not yet sorted.

    `differs` names the fields (DICOM keywords) and values by which it was told apart, `mixed` fields that differ within it
    though they usually tell stacks apart; `left_out` is the code of why it is no part of the scan, "" where it is.
    """

    slices: tuple[SliceHeader, ...]
    differs: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()
    mixed: tuple[str, ...] = ()
    left_out: str = ""

    @property
    def description(self) -> str:
        """What tells this stack from the others of its series, such as "EchoTime 4.92"."""
        return ", ".join(f"{name} {shown(value)}" for name, value in self.differs)


def cut(stack: Stack, name: str, key: Callable[[SliceHeader], str]) -> list[Stack]:
    """Cut a stack into parts of equal `key`, in natural order of the key; `name` says what the key is."""
    parts = partition(stack.slices, key)
    if len(parts) == 1:
        return [stack]
    return [replace(stack, slices=tuple(parts[value]), differs=(*stack.differs, (name, value))) for value in sorted(parts, key=natural)]


def partition(slices: Sequence[SliceHeader], key: Callable[[SliceHeader], str]) -> Partition:
    """Group slices of equal `key`."""
    parts: Partition = {}
    for header in slices:
        parts.setdefault(key(header), []).append(header)
    return parts
