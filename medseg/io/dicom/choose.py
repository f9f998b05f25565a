"""Which series of a folder, and which stack of a series, is meant."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medseg.core.errors import InconsistentSeriesError, InputError
from medseg.core.finding import Finding, errors_in
from medseg.io.dicom.audit import AuditedStack
from medseg.io.dicom.fields import field, is_same_value, shown
from medseg.io.dicom.find import Series
from medseg.io.dicom.found import error, info
from medseg.io.options import ReadOptions

MOST_ROWS = 24  # stacks that a message lists; inspect --json lists them all

_SELECTION = re.compile(r"(?P<uid>[^#]*)(#(?P<number>\d+))?")
_OWN_NAMES = frozenset({"timepoint", "size", "kind", "file"})  # what tells stacks apart without being a header field
_SPLIT_CODES = {"ImageOrientationPatient": "MIXED_ORIENTATION", "Size": "MIXED_SIZE"}


def choose_series(found: Sequence[Series], wanted: str | None, path: str) -> tuple[Series, int | None, tuple[Finding, ...]]:
    """Return the series that `wanted` names (UID, its beginning, or UID#n), the n, and a finding where it chose among several.

    Raises InputError where it names none, or none is named and there are several.
    """
    number: int | None = None
    candidates = list(found)
    if wanted is not None:
        match = _SELECTION.fullmatch(wanted.strip())
        if match is None:
            raise InputError(f"{wanted!r} names no series: give a SeriesInstanceUID, its beginning, or UID#n")
        number = int(match["number"]) if match["number"] else None
        exact = [one for one in found if one.series_uid == match["uid"]]
        candidates = exact or [one for one in found if one.series_uid.startswith(match["uid"])]
        if not candidates:
            raise InputError(f"{path}: no series {wanted!r}; there are:\n{_listed(found)}")
    if len(candidates) > 1:
        raise InputError(
            f"{path}: {len(candidates)} series; choose one with --series UID (its beginning is enough):\n{_listed(candidates)}"
        )
    chosen = candidates[0]
    notes: tuple[Finding, ...] = ()
    if wanted is not None and len(found) > 1:
        notes = (info("SERIES_CHOSEN", f"one of {len(found)} series was chosen with --series", series_uid=chosen.series_uid),)
    return chosen, number, notes


def choose_stack(
    series: Series, stacks: Sequence[AuditedStack], options: ReadOptions, number: int | None = None
) -> tuple[AuditedStack, tuple[Finding, ...]]:
    """Return the stack that the options (or UID#n) name, and a finding where they chose among several.

    Raises InconsistentSeriesError where there are several and none is named, InputError where the choice names none or
    several.
    """
    kept = [stack for stack in stacks if not stack.left_out]
    if number is None and options.select is None and options.volume_index is None:
        if len(kept) > 1:
            raise InconsistentSeriesError(several(series, stacks), (ambiguity(series, stacks),))
        return kept[0], ()
    index = _index(series, stacks, options, number)
    if len(stacks) == 1:
        return stacks[index], ()
    asked = f"--select {options.select}" if options.select is not None else f"--volume {index}" if number is None else f"#{number}"
    text = f"stack {index + 1} of {len(stacks)} was chosen with {asked}: {stacks[index].description or 'the others differ'}"
    return stacks[index], (
        info("STACK_SELECTED", text, stack=index + 1, stacks=len(stacks), differs=dict(stacks[index].differs), asked=asked),
    )


def several(series: Series, stacks: Sequence[AuditedStack]) -> str:
    """Say that a series holds several stacks, what tells them apart, and how to choose one."""
    return f"{series.folder}: {ambiguity(series, stacks).message}:{_rows(stacks)}"


def ambiguity(series: Series, stacks: Sequence[AuditedStack]) -> Finding:
    """The finding that a series holds several stacks and none was chosen."""
    kept = [stack for stack in stacks if not stack.left_out]
    fields = sorted({name for stack in kept for name, _ in stack.differs})
    code = next((_SPLIT_CODES[name] for name in fields if name in _SPLIT_CODES), "MIXED_SERIES")
    text = (
        f"DICOM series {shown(series.series_uid or '(without UID)')} holds {len(kept)} stacks that differ by {', '.join(fields)}. Mixed,"
        " they would make a volume of none of them; choose one with --select (its number, largest, or a field such as Keyword=value), or"
        " with --volume from 0"
    )
    return error(code, text, stacks=listing(stacks))


def errors_elsewhere(stacks: Sequence[AuditedStack]) -> tuple[Finding, ...]:
    """Errors of the stacks after the first that it does not have itself, with the number of the stack."""
    known = {finding.code for finding in stacks[0].findings}
    found: dict[str, Finding] = {}
    for n, stack in enumerate(stacks, start=1):
        for finding in errors_in(stack.findings) if not stack.left_out else ():
            if finding.code not in known:
                details = {**finding.details, "stack": n}
                found.setdefault(finding.code, Finding(finding.code, finding.severity, f"stack {n}: {finding.message}", details))
    return tuple(found.values())


def listing(stacks: Sequence[AuditedStack]) -> list[dict[str, object]]:
    """Return how to select each stack, its number of slices and what tells it apart."""
    rows: list[dict[str, object]] = []
    for n, stack in enumerate(stacks, start=1):
        row: dict[str, object] = {"select": str(n), "slices": len(stack.slices), "differs": stack.description}
        if stack.left_out:
            row["left_out"] = stack.left_out
        rows.append(row)
    return rows


def _index(series: Series, stacks: Sequence[AuditedStack], options: ReadOptions, number: int | None) -> int:
    kept = sum(not stack.left_out for stack in stacks)
    if number is not None:
        if not 1 <= number <= len(stacks):
            raise InputError(f"series {shown(series.series_uid)} holds {len(stacks)} stack(s), there is no #{number}{_rows(stacks)}")
        return number - 1
    if options.select is not None:
        chosen = _selected(series, stacks, options.select.strip())
        if options.volume_index in (None, chosen):
            return chosen
        raise InputError(f"--select {options.select} and --volume {options.volume_index} name different stacks; give one of them")
    index = options.volume_index or 0
    if index >= kept:
        raise InputError(f"{series.folder} holds {kept} volume(s), counted from 0; there is no --volume {index}{_rows(stacks)}")
    return index


def _selected(series: Series, stacks: Sequence[AuditedStack], wanted: str) -> int:
    if wanted.isdigit():
        if not 1 <= int(wanted) <= len(stacks):
            raise InputError(f"{series.folder} holds {len(stacks)} stack(s), counted from 1; there is no --select {wanted}{_rows(stacks)}")
        return int(wanted) - 1
    if wanted.casefold() == "largest":
        sizes = [len(stack.slices) for stack in stacks]
        if sizes.count(max(sizes)) > 1:
            raise InputError(f"{series.folder}: several stacks are the largest; choose by number or field:{_rows(stacks)}")
        return sizes.index(max(sizes))
    matching = [n for n, stack in enumerate(stacks) if all(_fits(stack, part) for part in _conditions(wanted))]
    kept = [n for n in matching if not stacks[n].left_out]
    if len(kept or matching) == 1:
        return (kept or matching)[0]
    found = "no stack has" if not matching else f"{len(kept or matching)} stacks have"
    raise InputError(f"{series.folder}: {found} {wanted}; there are:{_rows(stacks)}")


def _conditions(wanted: str) -> list[tuple[str, str]]:
    """Take "EchoTime=4.92,AcquisitionNumber=2" apart; raises InputError for what names no field."""
    conditions = []
    for part in wanted.split(","):
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            raise InputError(f'--select takes a number from 1, "largest", or a header field such as EchoTime=4.92; got {wanted!r}')
        conditions.append((name.strip(), value.strip()))
    return conditions


def _fits(stack: AuditedStack, condition: tuple[str, str]) -> bool:
    name, wanted = condition
    try:
        known = field(name)
    except KeyError:
        known = None
    own = {_plain(keyword): value for keyword, value in stack.differs}
    value = own.get(_plain(known.keyword if known else name))
    if value is not None and is_same_value(value, wanted):
        return True
    if known is None:
        if value is not None or _plain(name) in _OWN_NAMES:
            return False
        raise InputError(f"--select {name}={wanted}: {name} is no field that tells stacks apart, such as EchoTime or ImageType")
    if known.name == "image_type" and "\\" not in wanted:
        return all(wanted.casefold() in map(str.casefold, header.image_type) for header in stack.slices)
    return all(is_same_value(known.value(header), wanted) for header in stack.slices)


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").strip()


def _rows(stacks: Sequence[AuditedStack]) -> str:
    rows = [f"\n  --select {row['select']}   {row['slices']} slices   {row['differs']}" for row in listing(stacks)]
    return "".join(rows[:MOST_ROWS]) + (f"\n  and {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else "")


def _listed(found: Sequence[Series]) -> str:
    return "\n".join(f"  {shown(one.series_uid or '(without UID)')}  {one.modality}  {len(one.slices)} slices" for one in found)
