"""From the rows of a change to the response of a patient: which lesions are targets, and what each measured at every scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medseg.core.measurement import Status
from medseg.measurement.lesions import Lesion, LesionTable
from medseg.measurement.recist import NORMAL_NODE_MM, RECIST, VOLUMETRIC, Around, Candidate, Target, choose_targets, responses

if TYPE_CHECKING:
    from medseg.measurement.change import Assessment, LesionChange

LYMPH_NODES = "lymph nodes"  # one organ, where no other is named


def assess(
    base: LesionTable, rows: Sequence[LesionChange], follow_ups: int, wanted: Sequence[str], volumetric: bool
) -> tuple[Assessment, Assessment | None]:
    """Return the response by RECIST 1.1, and by volume where asked for, of the same targets."""
    from medseg.measurement.change import Assessment

    chosen = choose_targets([_candidate(lesion) for lesion in base], wanted)
    ids = [candidate.id for candidate in chosen]
    around = [_around(ids, rows, n) for n in range(1, follow_ups + 1)]
    made = []
    for rule in (RECIST, VOLUMETRIC) if volumetric else (RECIST,):
        by_volume = rule is VOLUMETRIC
        targets = tuple(_target(candidate, base[candidate.id], ids, rows, follow_ups, by_volume) for candidate in chosen)
        made.append(Assessment(rule, targets, responses(targets, around, rule)))
    return made[0], made[1] if volumetric else None


def _candidate(lesion: Lesion) -> Candidate:
    size = lesion.perpendicular.length_mm if lesion.is_node else lesion.longest.length_mm
    return Candidate(lesion.id, _organ(lesion), lesion.is_node, size, lesion.measurable)


def _organ(lesion: Lesion) -> str:
    """The organ that counts for "2 an organ": that it lies in, else lymph nodes together, else the name of its segment."""
    return LYMPH_NODES if lesion.is_node else lesion.organ or lesion.segment.label


def _target(
    candidate: Candidate, lesion: Lesion, ids: Sequence[str], rows: Sequence[LesionChange], follow_ups: int, by_volume: bool
) -> Target:
    base = lesion.row.measurements["volume"].value if by_volume else candidate.size_mm
    sizes: list[float | None] = []
    reasons: list[str] = []
    for n in range(1, follow_ups + 1):
        row = _row_of(candidate.id, rows, n)
        size, reason = _size(row, candidate, ids, by_volume) if row else (None, "the lesion has no row at this scan")
        sizes.append(size)
        reasons.append(reason)
    return Target(candidate.id, candidate.organ, candidate.is_node, float(base or 0.0), tuple(sizes), tuple(reasons))


def _row_of(id: str, rows: Sequence[LesionChange], n: int) -> LesionChange | None:
    return next((row for row in rows if row.time_point == n and id in row.tracks), None)


def _size(row: LesionChange, candidate: Candidate, ids: Sequence[str], by_volume: bool) -> tuple[float | None, str]:
    """The size of a target at one scan; coalesced targets share one size, which the first of them carries."""
    if row.status == "gone":
        return 0.0, ""
    if row.status == "out_of_view":
        return None, row.reason
    if row.after.volume.status is not Status.MEASURED:
        return None, row.after.volume.reason
    first = next(id for id in row.tracks if id in ids)
    if first != candidate.id:
        return 0.0, f"grown together with {first}, which carries the size of both"
    reason = row.reason if row.status in ("merged", "split") else ""
    if others := [track for track in row.tracks if track not in ids]:
        reason += f"; {', '.join(others)} was no target and is part of this size now"
    if by_volume:
        return row.after.volume.value, reason
    return (row.after.short_axis_mm if candidate.is_node else row.after.longest_mm), reason


def _around(ids: Sequence[str], rows: Sequence[LesionChange], n: int) -> Around:
    """What is no target at one scan: new lesions (a lymph node from 10 mm), and what became of the others."""
    here = [row for row in rows if row.time_point == n]
    new, present, gone, unseen = [], [], [], []
    for row in here:
        if row.since > 0:
            is_small_node = row.is_node and (row.after.short_axis_mm or 0.0) < NORMAL_NODE_MM
            if row.after.ids and not is_small_node:
                new.append(row.track)
            continue
        if set(row.tracks) & set(ids):
            continue
        if row.status == "out_of_view":
            unseen.append(row.track)
        elif row.status == "gone" or (row.is_node and (row.after.short_axis_mm or 0.0) < NORMAL_NODE_MM):
            gone.append(row.track)
        else:
            present.append(row.track)
    return Around(tuple(new), tuple(present), tuple(gone), tuple(unseen))
