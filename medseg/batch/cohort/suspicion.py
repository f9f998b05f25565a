"""Which cases to look at first: a score from 0 to 100 with its reasons, from what medseg measured and from the rest of the cohort.

The score orders cases for a reviewer. It is no probability and no verdict: a score of 0 says that nothing of the list below
was seen. Each reason has a weight from 0 to 1; within one kind the largest weight counts, and kinds are combined as
100 · (1 − Π(1 − weight)), so that two reasons weigh more than one and nothing exceeds 100.

Volume. The modified z-score z = 0.6745 · (x − median) / MAD (Iglewicz & Hoaglin 1993, How to Detect and Handle Outliers; 3.5 is
their threshold) of x = ln(volume), over the cases that have the whole segment in view. Volumes of organs are skewed: the
logarithm makes half and double equally far. Where more than half of the cases agree to the digit (MAD = 0) its place is taken by
1.2533 times the mean absolute deviation. Fewer than 8 cases give no z.
Components. More pieces than the upper fence of the cohort, Q3 + 1.5 · IQR (Tukey 1977, Exploratory Data Analysis).
Border, empty segments and warnings weigh less where they are usual in the cohort: a muscle is cut in every chest CT.
Nothing at all: a case without a voxel in any segment is one reason, in the place of one a segment.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medseg.reporting.wording import format_volume

LEAST_CASES = 8  # fewer say too little about what is usual
OUTLIER_Z = 3.5
MOST_LABELS = 2_000  # of instances that every case numbers anew nothing can be compared

_NOTED_Z = 2.0
_MOST_Z_WEIGHT = 0.9
_Z_HALVES = 1.5  # every so many units of z beyond 2 halve what is left to the largest weight
_WIDE = 0.2  # an interval of 20 % of the volume (± 10 %)
_MOST_NAMED = 3
_LEAST_WEIGHT = 0.02  # what nearly every case of the cohort has is no reason
_SAID_BY_SEGMENTS = frozenset(("SEGMENT_EMPTY",))  # the segment itself says so, and nothing is to count twice

_NOTHING, _ERROR, _FAILED, _EMPTY, _COMPONENTS, _BORDER, _WIDTH_OF_COHORT, _WIDTH, _WARNING = 0.9, 0.7, 0.6, 0.6, 0.4, 0.35, 0.4, 0.2, 0.15
_FINDING = "finding "


@dataclass(frozen=True)
class Reason:
    """One thing that speaks for looking at a case: its kind, its weight from 0 to 1, and a sentence."""

    kind: str
    weight: float
    text: str


@dataclass(frozen=True)
class Suspicion:
    """The score of a case and its reasons: the gravest of each kind, findings first where they weigh the same, then the others."""

    score: int
    reasons: tuple[Reason, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The reasons in words."""
        return tuple(reason.text for reason in self.reasons)


@dataclass(frozen=True)
class Distribution:
    """Centre and spread of a quantity over a cohort: median, MAD / 0.6745 (or its stand-in), and the number of cases."""

    median: float
    spread: float
    count: int

    def z(self, value: float) -> float | None:
        """Return the modified z-score, None where the cohort has no spread."""
        return (value - self.median) / self.spread if self.spread > 0 else None


def distribution_of(values: Sequence[float] | array[float]) -> Distribution | None:
    """Return the robust centre and spread, None for fewer than 8 values.

    >>> found = distribution_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 100.0])
    >>> found.median, round(found.z(100.0), 1)
    (5.0, 32.0)
    """
    if len(values) < LEAST_CASES:
        return None
    numbers = np.asarray(values, dtype=np.float64)
    median = float(np.median(numbers))
    away = np.abs(numbers - median)
    spread = float(np.median(away)) / 0.6745 or 1.253314 * float(np.mean(away))
    return Distribution(median, spread, len(numbers))


@dataclass
class _OfLabel:
    """What the cohort has of one segment."""

    logs: array[float] = field(default_factory=lambda: array("d"))
    widths: array[float] = field(default_factory=lambda: array("d"))
    components: Counter[int] = field(default_factory=Counter)
    present: int = 0
    absent: int = 0
    cut: int = 0


@dataclass(frozen=True)
class _Usual:
    """What is usual for one segment; None where too few cases say so."""

    volume: Distribution | None
    width: Distribution | None
    most_components: float | None
    share_present: float | None
    share_cut: float | None


class CohortStatistics:
    """What is usual in a cohort, gathered a case at a time; memory grows by some 24 bytes a case and segment.

    >>> statistics = CohortStatistics()
    >>> for n in range(20):
    ...     statistics.add([{"label": "liver", "status": "measured", "volume_ml": 1500.0 + 10 * n}], {}, [])
    >>> odd = [{"label": "liver", "status": "measured", "volume_ml": 300.0}]
    >>> statistics.suspicion(odd, {}, []).texts
    ('liver: 300.0 ml is far below the cohort (median 1,595 ml of 20 cases, robust z −36.1)',)
    """

    def __init__(self) -> None:
        self._labels: dict[str, _OfLabel] = {}
        self._codes: Counter[str] = Counter()
        self._cases = 0
        self._nothing = 0
        self._usual: dict[str, _Usual] = {}

    def add(self, segments: Iterable[Mapping[str, Any]], checks: Mapping[str, Any], findings: Iterable[Mapping[str, Any]]) -> None:
        """Add a finished case: the segments of its measurements, its checks and its findings, in JSON form."""
        self._cases += 1
        self._usual.clear()
        self._codes.update({str(finding.get("code")) for finding in findings if finding.get("severity") in ("error", "warning")})
        pieces, rows = _pieces(checks), list(segments)
        self._nothing += _holds_nothing(rows)
        for row in rows:
            label = str(row.get("label", ""))
            if label not in self._labels and len(self._labels) >= MOST_LABELS:
                continue
            one = self._labels.setdefault(label, _OfLabel())
            status = row.get("status")
            one.absent += status == "absent"
            if status not in ("measured", "cut_by_field_of_view"):
                continue
            one.present += 1
            one.cut += status == "cut_by_field_of_view"
            if label in pieces:
                one.components[pieces[label]] += 1
            volume = row.get("volume_ml")
            if status == "measured" and volume:
                one.logs.append(math.log(volume))
                width = relative_width(row)
                if width:
                    one.widths.append(math.log(width))

    def volume_z(self, row: Mapping[str, Any]) -> float | None:
        """Return the modified z-score of a volume, None where the segment is not whole or the cohort too small."""
        usual = self._of(str(row.get("label", "")))
        volume = row.get("volume_ml")
        if row.get("status") != "measured" or not volume or usual is None or usual.volume is None:
            return None
        return usual.volume.z(math.log(volume))

    def suspicion(
        self, segments: Iterable[Mapping[str, Any]], checks: Mapping[str, Any], findings: Iterable[Mapping[str, Any]]
    ) -> Suspicion:
        """Return the score of a case of the cohort with its reasons."""
        pieces, rows = _pieces(checks), list(segments)
        found = list(self._of_findings(findings))
        if _holds_nothing(rows):
            found.append(self._of_nothing(rows))
        else:
            for row in rows:
                found += self._of_segment(row, pieces)
        kinds: dict[str, list[Reason]] = {}
        for reason in sorted(found, key=lambda one: (-one.weight, one.text)):
            if reason.weight >= _LEAST_WEIGHT:
                kinds.setdefault(reason.kind, []).append(reason)
        left, others = 1.0, []
        for same in kinds.values():
            left *= 1 - same[0].weight
            others += same[1:_MOST_NAMED]
            if len(same) > _MOST_NAMED:
                others.append(Reason(same[0].kind, same[_MOST_NAMED].weight, f"{len(same) - _MOST_NAMED} more segments: {same[0].kind}"))
        # a sheet shows the first few: the cause, often a finding, is not to hide behind more of the same
        gravest = sorted((same[0] for same in kinds.values()), key=lambda one: (-round(one.weight, 3), not one.kind.startswith(_FINDING)))
        return Suspicion(round(100 * (1 - left)), (*gravest, *sorted(others, key=lambda one: -one.weight)))

    def _of_nothing(self, rows: Sequence[Mapping[str, Any]]) -> Reason:
        share = self._share(self._cases - self._nothing, self._cases)
        labels = [str(row.get("label", "")) for row in rows if row.get("status") == "absent"]
        said = f"{labels[0]} has no voxel" if len(labels) == 1 else f"none of {len(labels):,} segments has a voxel"
        usual = "" if share is None else f"; {100 * share:.0f} % of the cases have one"
        return Reason("nothing was found", _NOTHING * (1.0 if share is None else share), f"nothing was found: {said}{usual}")

    def _of_findings(self, findings: Iterable[Mapping[str, Any]]) -> Iterator[Reason]:
        ranked = sorted(findings, key=lambda one: one.get("severity") == "error")
        for finding in {str(one.get("code")): one for one in ranked if one.get("severity") in ("error", "warning")}.values():
            code = str(finding.get("code"))
            if code in _SAID_BY_SEGMENTS:
                continue
            if finding.get("severity") == "error":
                yield Reason(f"{_FINDING}{code}", _ERROR, f"{code}: {finding.get('message', '')}")
            else:
                weight = _WARNING * (1 - (self._share(self._codes[code], self._cases) or 0.0))
                yield Reason(f"{_FINDING}{code}", weight, f"{code}: {finding.get('message', '')}")

    def _of_segment(self, row: Mapping[str, Any], pieces: Mapping[str, int]) -> Iterator[Reason]:
        label, status, volume = str(row.get("label", "")), row.get("status"), row.get("volume_ml")
        usual = self._of(label) or _Usual(None, None, None, None, None)
        if status == "failed":
            yield Reason("could not be measured", _FAILED, f"{label}: could not be measured ({row.get('reason', '')})")
        elif status == "absent":
            share = usual.share_present
            said = "" if share is None else f"; {100 * share:.0f} % of the cases have it"
            yield Reason("empty", _EMPTY * (0.5 if share is None else share), f"{label}: no voxel{said}")
        elif status == "cut_by_field_of_view":
            share = usual.share_cut
            said = "" if share is None else f"; it is in {100 * share:.0f} % of the cases"
            sides = ", ".join(str(side) for side in row.get("touches_border") or ())
            text = f"{label}: cut by the border of the scan{f' ({sides})' if sides else ''}{said}"
            yield Reason("cut by the border", _BORDER * (1 - (share or 0.0)), text)
        if status not in ("measured", "cut_by_field_of_view"):
            return
        count, most = pieces.get(label, 1), usual.most_components
        if most is not None and count > most:
            text = f"{label}: {count:,} pieces, usual in the cohort are at most {math.floor(most):,}"
            yield Reason("many pieces", _COMPONENTS * (1 - most / count), text)
        z = self.volume_z(row)
        if z is not None and volume and usual.volume is not None and abs(z) > _NOTED_Z:
            yield Reason("unusual volume", _z_weight(z, _MOST_Z_WEIGHT), _volume_text(label, volume, z, usual.volume))
        yield from _of_width(row, label, usual.width)

    def _of(self, label: str) -> _Usual | None:
        if label not in self._usual and label in self._labels:
            one = self._labels[label]
            pieces = sum(one.components.values())
            self._usual[label] = _Usual(
                distribution_of(one.logs),
                distribution_of(one.widths),
                _upper_fence(one.components) if pieces >= LEAST_CASES else None,
                self._share(one.present, one.present + one.absent),
                self._share(one.cut, one.present),
            )
        return self._usual.get(label)

    @staticmethod
    def _share(count: int, of: int) -> float | None:
        return count / of if of >= LEAST_CASES else None


def relative_width(row: Mapping[str, Any]) -> float | None:
    """Return the width of the 95 % interval over the volume, None where there is none.

    >>> round(relative_width({"volume_ml": 10.0, "volume_interval_ml": [9.5, 10.6]}), 2)
    0.11
    """
    volume, interval = row.get("volume_ml"), row.get("volume_interval_ml")
    return None if not volume or not interval else (float(interval[1]) - float(interval[0])) / volume


def _holds_nothing(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether segments were looked for and none was found."""
    statuses = {row.get("status") for row in rows}
    return "absent" in statuses and statuses <= {"absent", "not_attempted"}


def _of_width(row: Mapping[str, Any], label: str, usual: Distribution | None) -> Iterator[Reason]:
    width = relative_width(row)
    if not width:
        return
    z = None if usual is None or row.get("status") != "measured" else usual.z(math.log(width))
    weight = max(_z_weight(z, _WIDTH_OF_COHORT) if z is not None and z > _NOTED_Z else 0.0, _WIDTH * (1 - _WIDE / width))
    if weight > 0:
        said = "" if z is None or z < OUTLIER_Z or usual is None else f", usual is {100 * math.exp(usual.median):.2g} %"
        yield Reason("wide interval", weight, f"{label}: the interval spans {100 * width:.2g} % of the volume{said}")


def _z_weight(z: float, most: float) -> float:
    return most * (1 - 2 ** (-(abs(z) - _NOTED_Z) / _Z_HALVES))


def _volume_text(label: str, volume: float, z: float, usual: Distribution) -> str:
    side = "above" if z > 0 else "below"
    far = f"far {side}" if abs(z) >= OUTLIER_Z else f"in the {'upper' if z > 0 else 'lower'} end of"
    median, said = format_volume(math.exp(usual.median)), f"{z:+.1f}".replace("-", "−")
    return f"{label}: {format_volume(volume)} ml is {far} the cohort (median {median} ml of {usual.count:,} cases, robust z {said})"


def _upper_fence(counts: Counter[int]) -> float:
    """Tukey's upper fence of counted numbers, never below the upper quartile."""
    numbers = sorted(counts)
    weights = np.cumsum([counts[number] for number in numbers])
    low, high = (numbers[int(np.searchsorted(weights, share * weights[-1]))] for share in (0.25, 0.75))
    return high + 1.5 * (high - low)


def _pieces(checks: Mapping[str, Any]) -> dict[str, int]:
    found = checks.get("components")
    return {str(label): int(count) for label, count in found.items() if count} if isinstance(found, Mapping) else {}
