"""Where slices of a stack are missing, and where they only lie at uneven distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.io.dicom.sort import EVEN_MM, UNEVEN_SHARE, FloatArray, StackGeometry, odd_gaps

MISSING_SHARE = 0.10  # a gap within this share of a whole multiple of the usual one is a place where slices are missing
MIDWAY_SHARE = 0.5  # a slice this share of a gap away from its even place belongs to a neighbour's place
WIDE_GAP = 2.5  # a gap this many times all gaps around it is a hole, whole multiple or not
COARSE_RUN = 4  # so many equal gaps after one another are a part of the scan with wider spacing, no holes
COVERED_SHARE = 0.9  # slices this share of a gap thick cover it: where they are thicker than elsewhere, nothing is missing
THICKER = 1.5
SMALLEST_COMB = 8  # slices that two interleaved combs have at least


@dataclass(frozen=True)
class Hole:
    """A place where slices are missing: after slice `index` (sorted), `missing` of them."""

    index: int
    after_mm: float
    gap_mm: float
    missing: int

    def to_dict(self) -> dict[str, object]:
        """Return the form that findings carry, with the positions (mm along the normal) of what is missing."""
        step = self.gap_mm / (self.missing + 1)
        places = [round(self.after_mm + n * step, 4) for n in range(1, self.missing + 1)]
        return {"after_mm": round(self.after_mm, 4), "gap_mm": round(self.gap_mm, 4), "missing": self.missing, "positions_mm": places}


@dataclass(frozen=True)
class Gaps:
    """What the distances of a stack's slices say: `holes`, and whether the rest `is_uneven` beyond what one affine can hold.

    `largest_shift_mm` is how far a slice lies from its even place, holes counted; `are_combs` says that two even stacks lie
    interleaved.
    """

    holes: tuple[Hole, ...] = ()
    is_uneven: bool = False
    largest_shift_mm: float = 0.0
    are_combs: bool = False

    @property
    def missing(self) -> int:
        """How many slices are missing in all."""
        return sum(hole.missing for hole in self.holes)


def find_gaps(stack: StackGeometry, thickness_mm: Sequence[float | None]) -> Gaps:
    """Judge the gaps of a sorted stack; `thickness_mm` is what the headers say of each slice."""
    if not stack.gaps_mm.size:
        return Gaps()
    odd = odd_gaps(stack)
    coarse = _coarse_parts(stack, odd.tolist()) | {int(n) for n in odd if _is_covered(stack, int(n), thickness_mm)}
    usual = stack.usual_gap_mm
    if all(_is_multiple(stack.gaps_mm[n], usual) for n in odd):
        times = {int(n): round(float(stack.gaps_mm[n] / usual)) for n in odd if int(n) not in coarse}
    else:
        times = {int(n): local for n in odd if int(n) not in coarse and (local := _local_multiple(stack.gaps_mm, int(n), usual))}
    holes = tuple(
        Hole(n, float(stack.positions_mm[n]), float(stack.gaps_mm[n]), count - 1) for n, count in sorted(times.items()) if count > 1
    )
    whole = all(_is_multiple(hole.gap_mm, usual) for hole in holes)
    shift = _largest_shift(stack, {hole.index: hole.missing + 1 for hole in holes})
    is_uneven = len(holes) < odd.size or not whole or shift > MIDWAY_SHARE * usual
    return Gaps(holes, is_uneven, shift, is_uneven and _are_combs(stack.gaps_mm))


def _is_multiple(gap: float, usual: float) -> bool:
    times = round(float(gap / usual))
    return times >= 2 and abs(gap - times * usual) <= MISSING_SHARE * usual


def _coarse_parts(stack: StackGeometry, odd: Sequence[int]) -> set[int]:
    """Odd gaps that follow one another and are equal: another part of the scan, with its own spacing."""
    found: set[int] = set()
    run: list[int] = []
    for n in odd:
        gap = stack.gaps_mm[n]
        if run and (n != run[-1] + 1 or abs(gap - stack.gaps_mm[run[0]]) > UNEVEN_SHARE * gap):
            run = []
        run.append(n)
        if len(run) >= COARSE_RUN:
            found.update(run)
    return found


def _is_covered(stack: StackGeometry, n: int, thickness_mm: Sequence[float | None]) -> bool:
    """Whether the slices on both sides of a gap are thick enough for it, and thicker than those at usual gaps."""
    pair = [value for value in thickness_mm[n : n + 2] if value]
    if len(pair) < 2 or min(pair) < COVERED_SHARE * stack.gaps_mm[n]:
        return False
    near = np.abs(stack.gaps_mm - stack.usual_gap_mm) <= UNEVEN_SHARE * stack.usual_gap_mm
    usual = [value for i in np.flatnonzero(near) if (value := thickness_mm[int(i)])]
    return bool(usual) and min(pair) >= THICKER * float(np.median(usual))


def _local_multiple(gaps: FloatArray, n: int, usual: float) -> int:
    """How many times the gaps around it a gap is, where that shows a hole; 0 where it does not."""
    around = [float(gaps[m]) for m in (n - 1, n + 1) if 0 <= m < gaps.size]
    base = max([*around, usual])
    if gaps[n] > WIDE_GAP * base:
        return max(2, round(float(gaps[n] / base)))
    is_between_equals = len(around) == 2 and abs(around[0] - around[1]) <= UNEVEN_SHARE * around[0]
    if is_between_equals and _is_multiple(gaps[n], sum(around) / 2):
        return round(float(gaps[n] / (sum(around) / 2)))
    return 0


def _largest_shift(stack: StackGeometry, times: dict[int, int]) -> float:
    """How far a slice lies from its place on the even grid from first to last, mm along the normal."""
    steps = np.array([times.get(n, 1) for n in range(stack.gaps_mm.size)])
    index = np.concatenate([[0], np.cumsum(steps)])
    first, last = stack.positions_mm[0], stack.positions_mm[-1]
    return float(np.abs(stack.positions_mm - (first + (last - first) * index / index[-1])).max())


def _are_combs(gaps: FloatArray) -> bool:
    """Whether short and long gaps alternate from end to end, as in two stacks shifted against each other."""
    if gaps.size + 1 < SMALLEST_COMB:
        return False
    odd, even = gaps[0::2], gaps[1::2]
    limits = [max(EVEN_MM, UNEVEN_SHARE * float(np.median(part))) for part in (odd, even)]
    is_regular = all(np.abs(part - np.median(part)).max() <= limit for part, limit in zip((odd, even), limits, strict=True))
    return bool(is_regular and abs(np.median(odd) - np.median(even)) > max(limits))
