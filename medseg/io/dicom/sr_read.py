"""A structured report read back by its tree of content items alone, to prove what was written (PS3.3, C.17.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.core.errors import OutputVerificationError, UnreadableFileError
from medseg.core.measurement import SegmentRow

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DIGITS = 1e-9  # decimal strings of 16 characters keep this share of a value at least
_GROUP, _REFERENCED_SEGMENT, _FINDING_SITE, _LATERALITY = "125007", "121191", "363698007", "272741003"


@dataclass(frozen=True)
class ReportedGroup:
    """One measurement group: the segment it points to, where it lies, and its numbers as (code, derivation, value, unit)."""

    segment_number: int
    segmentation_uid: str
    site: str
    laterality: str
    numbers: tuple[tuple[str, str, float, str], ...]


def read_report(path: Path) -> tuple[ReportedGroup, ...]:
    """Return the measurement groups of a TID 1500 report; raises UnreadableFileError where the tree is not that of one."""
    from pydicom import dcmread

    try:
        report = dcmread(path)
        return tuple(_group(item) for item in _items(report) if _code(item) == _GROUP)
    except (OSError, AttributeError, LookupError, TypeError, ValueError) as err:
        raise UnreadableFileError(f"{path}: no structured report that can be read ({type(err).__name__})") from None


def check_report(path: Path, rows: Sequence[SegmentRow], numbers: Mapping[str, int]) -> None:
    """Compare a report with the rows it was made of; raises OutputVerificationError where anything differs."""
    groups = read_report(path)
    if [group.segment_number for group in groups] != [numbers[row.label] for row in rows]:
        raise OutputVerificationError("the report does not point to the segments that were measured")
    for group, row in zip(groups, rows, strict=True):
        volume = row.measurements["volume"].value
        reported = [value for code, _, value, unit in group.numbers if code == "118565006" and unit == "mL"]
        if volume is not None and not (len(reported) == 1 and math.isclose(reported[0], volume, rel_tol=_DIGITS, abs_tol=1e-9)):
            raise OutputVerificationError(f"the volume of {row.label!r} came back as {reported}")


def _items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _items(child)


def _code(item: Dataset, keyword: str = "ConceptNameCodeSequence") -> str:
    names = item.get(keyword)
    return str(names[0].get("CodeValue", "")) if names else ""


def _group(group: Dataset) -> ReportedGroup:
    children = list(_items(group))
    references = [item.ReferencedSOPSequence[0] for item in children if _code(item) == _REFERENCED_SEGMENT]
    sites = [item for item in group.ContentSequence if _code(item) == _FINDING_SITE]
    sides = [_code(item, "ConceptCodeSequence") for site in sites for item in _items(site) if _code(item) == _LATERALITY]
    numbers = tuple(
        (_code(item), _derivation(item), float(item.MeasuredValueSequence[0].NumericValue), _unit(item))
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    )
    segment = references[0].ReferencedSegmentNumber
    return ReportedGroup(
        int(segment if isinstance(segment, int) else segment[0]),
        str(references[0].ReferencedSOPInstanceUID),
        _code(sites[0], "ConceptCodeSequence") if sites else "",
        sides[0] if sides else "",
        numbers,
    )


def _derivation(item: Dataset) -> str:
    return next((_code(child, "ConceptCodeSequence") for child in _items(item) if _code(child) == "121401"), "")


def _unit(item: Dataset) -> str:
    return str(item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue)
