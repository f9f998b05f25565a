"""Response of a patient's lesions: RECIST 1.1 by diameters, and a volumetric rule, every number behind the category shown.

RECIST 1.1: doi:10.1016/j.ejca.2008.10.026 (PMC2755245). Volumetric limits of -35 % and +55 %: doi:10.1186/s40644-015-0052-2,
derived there for single lung lesions on CT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medseg.core.errors import ParameterError

MOST_TARGETS = 5
MOST_TARGETS_PER_ORGAN = 2
RESPONSE_PERCENT = -30.0  # of the sum at base
PROGRESSION_PERCENT = 20.0  # of the smallest sum so far
PROGRESSION_MM = 5.0  # and at least this much
NORMAL_NODE_MM = 10.0  # short axis below which a lymph node is normal
VOLUME_RESPONSE_PERCENT = -35.0
VOLUME_PROGRESSION_PERCENT = 55.0
_ROUNDING = 1e-9  # so that a sum of exactly 70 % is not lost in the last digit

RECIST_REFERENCE = "doi:10.1016/j.ejca.2008.10.026"
VOLUMETRIC_REFERENCE = "doi:10.1186/s40644-015-0052-2"
MEANING = {
    "CR": "complete response",
    "PR": "partial response",
    "SD": "stable disease",
    "PD": "progressive disease",
    "NE": "not evaluable",
    "non-CR/non-PD": "lesions present, none of them measurable",
    "none": "no lesion",
}


@dataclass(frozen=True)
class Candidate:
    """A lesion at base that may become a target: `size_mm` is its longest diameter, the short axis of a lymph node."""

    id: str
    organ: str
    is_node: bool
    size_mm: float | None
    is_measurable: bool


@dataclass(frozen=True)
class Target:
    """A lesion followed by its size: at base and at each follow-up (0 where gone, None where not evaluable, with the reason)."""

    id: str
    organ: str
    is_node: bool
    base: float
    sizes: tuple[float | None, ...]
    reasons: tuple[str, ...] = ()

    def reason_at(self, n: int) -> str:
        """Why the size at a follow-up is missing; "" where it is there."""
        return self.reasons[n] if n < len(self.reasons) else ""


@dataclass(frozen=True)
class Around:
    """What else was seen at a follow-up: ids of new lesions, and of the lesions that are no targets, present, gone or unseen."""

    new: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """The limits of a response: per cent of base, per cent and absolute amount over the smallest sum so far."""

    name: str
    unit: str
    response_percent: float
    progression_percent: float
    progression_amount: float
    reference: str


RECIST = Rule("RECIST 1.1", "mm", RESPONSE_PERCENT, PROGRESSION_PERCENT, PROGRESSION_MM, RECIST_REFERENCE)
VOLUMETRIC = Rule("volumetric", "ml", VOLUME_RESPONSE_PERCENT, VOLUME_PROGRESSION_PERCENT, 0.0, VOLUMETRIC_REFERENCE)


@dataclass(frozen=True)
class Response:
    """The category of one follow-up with the numbers it comes from; sums are in the unit of the rule."""

    sum: float | None
    base_sum: float
    nadir: float
    change_from_base_percent: float | None
    change_from_nadir_percent: float | None
    change_from_nadir: float | None
    target: str
    non_target: str
    new_lesions: tuple[str, ...]
    overall: str
    reasons: tuple[str, ...]

    def to_dict(self, unit: str) -> dict[str, Any]:
        """Return the JSON form; sums carry the unit in their names."""
        return {
            f"sum_{unit}": self.sum,
            f"base_sum_{unit}": self.base_sum,
            f"nadir_{unit}": self.nadir,
            "change_from_base_percent": self.change_from_base_percent,
            "change_from_nadir_percent": self.change_from_nadir_percent,
            f"change_from_nadir_{unit}": self.change_from_nadir,
            "target_response": self.target,
            "non_target_response": self.non_target,
            "new_lesions": list(self.new_lesions),
            "overall_response": self.overall,
            "reasons": list(self.reasons),
        }


def choose_targets(candidates: Sequence[Candidate], wanted: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """Return the targets: those `wanted`, else the largest measurable ones, at most 5 and 2 an organ.

    All lymph nodes count as one organ where no other is named. Raises ParameterError for a wanted lesion that is not there or
    not measurable, or for more than RECIST 1.1 allows.

    >>> lesions = [Candidate(name, "liver", False, size, True) for name, size in (("a", 12.0), ("b", 30.0), ("c", 20.0))]
    >>> [target.id for target in choose_targets(lesions)]
    ['b', 'c']
    """
    if wanted:
        return _wanted(candidates, wanted)
    chosen: list[Candidate] = []
    measurable = [c for c in candidates if c.is_measurable and c.size_mm is not None]
    for candidate in sorted(measurable, key=lambda c: (-(c.size_mm or 0.0), c.id)):
        same = sum(other.organ == candidate.organ for other in chosen)
        if len(chosen) < MOST_TARGETS and same < MOST_TARGETS_PER_ORGAN:
            chosen.append(candidate)
    return tuple(chosen)


def responses(targets: Sequence[Target], around: Sequence[Around], rule: Rule = RECIST) -> tuple[Response, ...]:
    """Return the response at each follow-up, in their order.

    Complete: every target gone (lymph nodes: below 10 mm). Progressive: the sum is at least 20 % and at least 5 mm above the
    smallest sum so far, base included, or there is a new lesion. Partial: at least 30 % below base. A target that cannot be
    evaluated leaves the sum undefined (NE), unless the rest alone is progressive. Lesions that are no targets can stand in
    the way of a complete response; whether they clearly progress is a reader's judgement and never decided here.

    >>> target = Target("L1", "liver", False, 50.0, (30.0, 36.0))
    >>> [response.overall for response in responses([target], [Around(), Around()])]
    ['PR', 'PD']
    """
    base_sum = sum(target.base for target in targets)
    nadir, made = base_sum, []
    for n, seen in enumerate(around):
        response = _response(targets, n, (base_sum, nadir), seen, rule)
        made.append(response)
        if response.sum is not None:
            nadir = min(nadir, response.sum)
    return tuple(made)


def _response(targets: Sequence[Target], n: int, sums: tuple[float, float], seen: Around, rule: Rule) -> Response:
    base_sum, nadir = sums
    known = [size for target in targets if (size := target.sizes[n]) is not None]
    missing = [target for target in targets if target.sizes[n] is None]
    partial = sum(known)
    whole = None if missing or not targets else partial
    reasons = [f"{target.id}: {target.reason_at(n)}" for target in missing]
    progressed, why = _progressed(partial, nadir, rule) if targets else (False, "")
    if not targets:
        target_response = "none"
    elif progressed:
        target_response = "PD"
        reasons.append(why)
    elif missing:
        target_response = "NE"
    elif _complete(targets, n, rule):
        target_response = "CR"
    else:
        target_response = "PR" if _percent(partial, base_sum, rule.response_percent) <= 0 else "SD"
    non_target = _non_target(seen)
    if seen.new:
        reasons.append(f"new: {', '.join(seen.new)}")
    overall = "PD" if seen.new else _overall(target_response, non_target)
    return Response(
        sum=whole,
        base_sum=base_sum,
        nadir=nadir,
        change_from_base_percent=100 * (whole / base_sum - 1) if whole is not None and base_sum > 0 else None,
        change_from_nadir_percent=100 * (whole / nadir - 1) if whole is not None and nadir > 0 else None,
        change_from_nadir=whole - nadir if whole is not None else None,
        target=target_response,
        non_target=non_target,
        new_lesions=seen.new,
        overall=overall,
        reasons=tuple(reasons),
    )


def _progressed(total: float, nadir: float, rule: Rule) -> tuple[bool, str]:
    rise = total - nadir
    if nadir == 0:
        return rise > 0, f"a target is back after a sum of 0 {rule.unit}"
    enough = _percent(total, nadir, rule.progression_percent) >= 0 and rise >= rule.progression_amount - _ROUNDING and rise > 0
    return enough, f"{rise:+.1f} {rule.unit} ({100 * rise / nadir:+.0f} %) over the smallest sum"


def _percent(total: float, start: float, limit: float) -> float:
    """How far a sum lies above the limit, 0 within rounding."""
    over = total - start * (1 + limit / 100)
    return 0.0 if abs(over) <= _ROUNDING * max(abs(start), 1.0) else over


def _complete(targets: Sequence[Target], n: int, rule: Rule) -> bool:
    for target in targets:
        size = target.sizes[n] or 0.0
        if size > 0 and not (rule.unit == "mm" and target.is_node and size < NORMAL_NODE_MM):
            return False
    return True


def _non_target(seen: Around) -> str:
    if not (seen.present or seen.gone or seen.unseen):
        return "none"
    if seen.present:
        return "non-CR/non-PD"
    return "NE" if seen.unseen else "CR"


def _overall(target: str, non_target: str) -> str:
    """Tables 1 and 2 of RECIST 1.1 for what a table can know (no clear progression of other lesions)."""
    if target == "none":
        return non_target
    if target == "CR":
        return "CR" if non_target in ("CR", "none") else "PR"
    return target


def _wanted(candidates: Sequence[Candidate], wanted: Sequence[str]) -> tuple[Candidate, ...]:
    by_id = {candidate.id: candidate for candidate in candidates}
    for name in wanted:
        if name not in by_id:
            raise ParameterError(f"no lesion {name!r} at base to follow as a target; there are: {', '.join(by_id) or 'none'}")
        if not by_id[name].is_measurable or by_id[name].size_mm is None:
            raise ParameterError(f"lesion {name!r} is not measurable by RECIST 1.1 and cannot be a target")
    chosen = tuple(by_id[name] for name in dict.fromkeys(wanted))
    organs = [candidate.organ for candidate in chosen]
    crowded = next((organ for organ in organs if organs.count(organ) > MOST_TARGETS_PER_ORGAN), None)
    if len(chosen) > MOST_TARGETS or crowded is not None:
        raise ParameterError(
            f"RECIST 1.1 follows at most {MOST_TARGETS} targets and {MOST_TARGETS_PER_ORGAN} an organ; "
            + (f"{len(chosen)} were named" if crowded is None else f"{organs.count(crowded)} lie in {crowded}")
        )
    return chosen
