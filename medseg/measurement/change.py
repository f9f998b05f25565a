"""Lesions over time: which is which, by how much each grew, whether that is more than measurement error, and the response."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, ParameterError
from medseg.core.finding import Finding
from medseg.core.measurement import Measurement, Status
from medseg.core.volume import Volume
from medseg.measurement.growth import Estimate, beyond_measurement_error, doubling_time_days, percent_change, total
from medseg.measurement.lesions import Lesion, LesionTable
from medseg.measurement.matching import LEAST_OVERLAP, TOLERANCE_MM, Cloud, Group, cloud_of, match, share_in_view
from medseg.measurement.recist import MEANING, Response, Rule, Target

FloatArray = npt.NDArray[np.float64]
Move = Callable[[FloatArray], FloatArray]

SCHEMA = "medseg.change/1"
LEAST_IN_VIEW = 0.5  # part of a lesion that a scan must see before it may say that the lesion is gone
STATUSES = ("new", "gone", "grown", "shrunk", "stable", "merged", "split", "undetermined", "out_of_view")


def as_it_is(points_mm: FloatArray) -> FloatArray:
    """Return points where they are: the scans lie in one frame."""
    return points_mm


@dataclass(frozen=True, eq=False)
class TimePoint:
    """The lesions of one scan, the days since base (None: not known), and how points move between it and base (RAS+ mm).

    `volume` is the scan, for pictures; `registration` what its JSON form says, None where positions are compared as they are.
    """

    lesions: LesionTable
    days: float | None = None
    to_here: Move = as_it_is
    to_base: Move = as_it_is
    name: str = ""
    volume: Volume | None = None
    registration: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Sizes:
    """One side of a comparison: ids of the lesions, their volume together, and their diameters added up (None: no lesion)."""

    ids: tuple[str, ...]
    volume: Measurement
    longest_mm: float | None
    short_axis_mm: float | None
    centre_mm: tuple[float, float, float] | None

    def to_dict(self, prefix: str) -> dict[str, Any]:
        """Return the JSON entries, each with a prefix."""
        volume = self.volume
        return {
            f"{prefix}ids": list(self.ids),
            f"{prefix}volume_ml": volume.value,
            f"{prefix}volume_interval_ml": list(volume.interval) if volume.interval else None,
            f"{prefix}volume_status": volume.status.value,
            f"{prefix}volume_reason": volume.reason,
            f"{prefix}longest_diameter_mm": self.longest_mm,
            f"{prefix}short_axis_mm": self.short_axis_mm,
            f"{prefix}centre_ras_mm": list(self.centre_mm) if self.centre_mm else None,
        }


@dataclass(frozen=True)
class LesionChange:
    """One lesion (or a group that merged or split) at one follow-up, against the scan in which it was first seen.

    `track` names it over time, `tracks` its members; `since` is the time point it is compared with (0 is base), `days` lie between the two.
    """

    track: str
    tracks: tuple[str, ...]
    time_point: int
    since: int
    days: float | None
    status: str
    reason: str
    segment: str
    organ: str | None
    is_node: bool
    before: Sizes
    after: Sizes
    change: Estimate
    is_beyond_error: bool | None
    doubling_time: Estimate
    group: Group = field(repr=False, default_factory=lambda: Group((), ()))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON row: mm, ml, days; what is undefined is None with a reason."""
        beyond_reason = "" if self.is_beyond_error is not None else self.change.reason or self.reason
        return {
            "lesion": self.track,
            "time_point": self.time_point,
            "since_time_point": self.since,
            "days": self.days,
            "status": self.status,
            "reason": self.reason,
            "segment": self.segment,
            "organ": self.organ,
            "is_lymph_node": self.is_node,
            **self.before.to_dict("base_"),
            **self.after.to_dict(""),
            **self.change.to_dict("percent_change"),
            "beyond_measurement_error": self.is_beyond_error,
            "beyond_measurement_error_reason": beyond_reason,
            **self.doubling_time.to_dict("doubling_time_days"),
            "matched_by": self.group.rule or None,
            "overlap": self.group.overlap,
            "gap_mm": self.group.gap_mm,
            "centre_distance_mm": self.group.centre_distance_mm,
        }


@dataclass(frozen=True)
class Assessment:
    """The response by one rule: its targets at base and the category of every follow-up."""

    rule: Rule
    targets: tuple[Target, ...]
    responses: tuple[Response, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; sizes are in the unit of the rule."""
        unit = self.rule.unit
        targets = [
            {
                "lesion": target.id,
                "organ": target.organ,
                "is_lymph_node": target.is_node,
                f"base_{unit}": target.base,
                f"sizes_{unit}": list(target.sizes),
                "reasons": list(target.reasons),
            }
            for target in self.targets
        ]
        answers = [{"time_point": n, **response.to_dict(unit)} for n, response in enumerate(self.responses, start=1)]
        return {
            "rule": self.rule.name,
            "reference": self.rule.reference,
            "response_limit_percent": self.rule.response_percent,
            "progression_limit_percent": self.rule.progression_percent,
            f"progression_limit_{unit}": self.rule.progression_amount,
            "meaning": MEANING,
            "targets": targets,
            "responses": answers,
        }


@dataclass(frozen=True, eq=False)
class ChangeTable:
    """Every lesion at every follow-up, the responses, and with which settings lesions were matched."""

    rows: tuple[LesionChange, ...]
    time_points: tuple[TimePoint, ...]
    recist: Assessment
    volumetric: Assessment | None
    settings: Mapping[str, float]
    findings: tuple[Finding, ...] = ()

    def at(self, time_point: int) -> tuple[LesionChange, ...]:
        """Return the rows of one follow-up (1 is the first)."""
        return tuple(row for row in self.rows if row.time_point == time_point)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `medseg change`."""
        points = [
            {
                "time_point": n,
                "name": point.name,
                "days": point.days,
                "lesions": len(point.lesions),
                "registration": point.registration,
            }
            for n, point in enumerate(self.time_points)
        ]
        return {
            "schema": SCHEMA,
            **self.settings,
            "time_points": points,
            "lesions": [row.to_dict() for row in self.rows],
            "recist": self.recist.to_dict(),
            "volumetric": self.volumetric.to_dict() if self.volumetric else None,
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True, eq=False)
class _Known:
    """A lesion as it was first seen: where (time point), and its points in the world of base."""

    lesion: Lesion
    time_point: int
    cloud: Cloud
    track: str


def change(
    base: TimePoint,
    follow_ups: Sequence[TimePoint],
    *,
    tolerance_mm: float = TOLERANCE_MM,
    least_overlap: float = LEAST_OVERLAP,
    repeatability_percent: float = 0.0,
    targets: Sequence[str] = (),
    volumetric: bool = False,
) -> ChangeTable:
    """Compare the lesions of follow-ups with those of base: matched, measured each on its own grid, and categorised.

    A lesion is compared with the scan in which it was first seen. Its status is new, gone, merged, split, grown or shrunk
    (the 95 % interval of the change leaves out 0 %), stable, undetermined (cut by the border, or no interval) or
    out_of_view (the follow-up does not show its place). `repeatability_percent` is the within-subject coefficient of
    variation of the reader. `targets` are lesion ids of base; the default are those RECIST 1.1 would choose by size.
    Raises InputError for a single time point or follow-ups that are not in the order of time, ParameterError for impossible
    settings or targets.
    """
    from medseg.measurement.response import assess

    _check(base, follow_ups, tolerance_mm, least_overlap)
    points = (base, *follow_ups)
    known = [_known(lesion, 0, base, lesion.id) for lesion in base.lesions]
    taken = {one.track for one in known}
    rows: list[LesionChange] = []
    for n, point in enumerate(follow_ups, start=1):
        clouds = [Cloud(point.to_here(one.cloud.points_mm), one.cloud.point_mm3) for one in known]
        numbers = [lesion.number for lesion in point.lesions]
        groups = match(clouds, point.lesions.layers, numbers, tolerance_mm=tolerance_mm, least_overlap=least_overlap)
        for group in groups:
            if not group.known:
                lesion = point.lesions[group.found[0]]
                track = _new_track(lesion.id, n, taken)
                known.append(_known(lesion, n, point, track))
            rows.append(_row(group, known, clouds, points, n, repeatability_percent))
    recist, volumes = assess(base.lesions, rows, len(follow_ups), targets, volumetric)
    settings = {"tolerance_mm": tolerance_mm, "least_overlap": least_overlap, "repeatability_percent": repeatability_percent}
    findings = tuple(finding for point in points for finding in point.lesions.findings)
    return ChangeTable(tuple(rows), points, recist, volumes, settings, tuple({(f.code, f.message): f for f in findings}.values()))


def _check(base: TimePoint, follow_ups: Sequence[TimePoint], tolerance_mm: float, least_overlap: float) -> None:
    if not follow_ups:
        raise InputError("a change needs two scans at least: give the base and one or more follow-ups")
    if not tolerance_mm >= 0 or not 0 < least_overlap <= 1:
        raise ParameterError(f"tolerance_mm is 0 or more and least_overlap above 0 to 1, got {tolerance_mm} and {least_overlap}")
    days = [0.0 if base.days is None else base.days, *(point.days for point in follow_ups)]
    known = [(n, day) for n, day in enumerate(days) if day is not None]
    for (_, before), (n, after) in itertools.pairwise(known):
        if after < before:
            raise InputError(
                f"follow-up {n} was made {before - after:g} days before the scan given ahead of it: give the scans in the order of time, "
                "the oldest first, or correct --date"
            )


def _known(lesion: Lesion, n: int, point: TimePoint, track: str) -> _Known:
    layer = next(layer for layer in point.lesions.layers if any(s.number == lesion.number for s in layer.segments))
    cloud = cloud_of(layer, lesion.number)
    return _Known(lesion, n, Cloud(point.to_base(cloud.points_mm), cloud.point_mm3), track)


def _new_track(id: str, n: int, taken: set[str]) -> str:
    """A name for a lesion that base does not have; ids count by size at each scan, so the time point belongs to it."""
    track = f"{id}@{n}"
    while track in taken:
        track += "'"
    taken.add(track)
    return track


def _row(
    group: Group, known: Sequence[_Known], clouds: Sequence[Cloud], points: Sequence[TimePoint], n: int, repeatability_percent: float
) -> LesionChange:
    point = points[n]
    before = [known[m] for m in group.known] or [known[-1]]
    found = [point.lesions[number] for number in group.found]
    since = before[0].time_point
    start = points[since].days if since else points[since].days or 0.0
    days = None if point.days is None or start is None else point.days - start
    track = "+".join(one.track for one in before)
    old = sizes_of([one.lesion for one in before] if group.known else [], track)
    new = sizes_of(found, track)
    first = before[0].lesion
    unseen = not found and any(share_in_view(clouds[m].points_mm, point.lesions.layers[0].geometry) < LEAST_IN_VIEW for m in group.known)
    estimate = _estimate(group, old, new, unseen, repeatability_percent)
    status, reason = _status(group, estimate, unseen, before, points)
    beyond = beyond_measurement_error(estimate)
    return LesionChange(
        track=track,
        tracks=tuple(one.track for one in before),
        time_point=n,
        since=since if group.known else n,
        days=days if group.known else None,
        status=status,
        reason=reason,
        segment=first.segment.label,
        organ=first.organ,
        is_node=first.is_node,
        before=old,
        after=new,
        change=estimate,
        is_beyond_error=beyond,
        doubling_time=doubling_time_days(estimate, days),
        group=group,
    )


def sizes_of(found: Sequence[Lesion], track: str) -> Sizes:
    """Return the sizes of a lesion's parts together: RECIST 1.1 adds up the diameters of fragments."""
    if not found:
        nothing = Measurement(track, "volume", None, "ml", status=Status.ABSENT, reason="there is no such lesion in this scan")
        return Sizes((), nothing, None, None, None)
    volumes = [lesion.row.measurements["volume"] for lesion in found]
    weights = np.array([volume.value or 0.0 for volume in volumes])
    centres = np.array([lesion.row.centroid_mm for lesion in found], dtype=np.float64)
    r, a, s = (weights @ centres / weights.sum()).tolist() if weights.sum() > 0 else centres.mean(axis=0).tolist()
    return Sizes(
        tuple(lesion.id for lesion in found),
        total(volumes, track) if len(volumes) > 1 else volumes[0],
        sum(lesion.longest.length_mm for lesion in found),
        sum(lesion.perpendicular.length_mm for lesion in found),
        (r, a, s),
    )


def _estimate(group: Group, old: Sizes, new: Sizes, unseen: bool, repeatability_percent: float) -> Estimate:
    if not group.known:
        return Estimate(None, reason="the lesion is new: there is no earlier volume to compare with")
    if unseen:
        return Estimate(None, reason="this scan does not show the place of the lesion")
    if not group.found:
        if old.volume.status is not Status.MEASURED:
            return Estimate(None, reason=f"the earlier volume is not the whole lesion: {old.volume.reason}")
        return Estimate(-100.0, reason="the lesion is gone: a volume that is not there has no interval")
    return percent_change(old.volume, new.volume, repeatability_percent=repeatability_percent)


def _status(group: Group, estimate: Estimate, unseen: bool, before: Sequence[_Known], points: Sequence[TimePoint]) -> tuple[str, str]:
    if not group.known:
        here = before[0].cloud.points_mm
        seen = share_in_view(here, points[0].lesions.layers[0].geometry)
        reason = "" if seen >= LEAST_IN_VIEW else "base does not show this place: RECIST 1.1 counts the lesion as new all the same"
        return "new", reason
    if unseen:
        return "out_of_view", estimate.reason
    if not group.found:
        return "gone", ""
    if group.kind in ("merged", "split"):
        text = f"{len(group.known)} lesions before, {len(group.found)} now: compared as one"
        return group.kind, text + ("; many to many" if group.is_many_to_many else "")
    beyond = beyond_measurement_error(estimate)
    if beyond is None or estimate.value is None:
        return "undetermined", estimate.reason
    return ("stable", "") if not beyond else ("grown" if estimate.value > 0 else "shrunk", "")
