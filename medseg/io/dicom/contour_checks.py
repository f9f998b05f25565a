"""What is wrong or unusual about the contours of a region, what it does to the volume, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medseg.core.finding import Finding, Severity
from medseg.io.dicom.contour_planes import (
    FLAT_MM,
    SAME_DIRECTION_DEGREES,
    ContourStack,
    FloatArray,
    build_stack,
    degrees_between,
    facing,
    filled_volume_mm3,
    holes_in,
    normal_from,
    open_ring,
    unevenness_mm,
    usual_step_mm,
    with_slabs,
)
from medseg.io.dicom.contours import FILLED, OPEN, OPEN_CURVE, POINT, Roi
from medseg.kernels.polygons import polygon_moments

SMALL_SHARE = 0.01  # differences below this share of a region's volume are not worth a word
MANY_PLANES = 5  # more planes than this without a contour are likely a gap between two parts, not a slip
_THIN_MM2 = 1e-3  # rings of less area are lines
_MOST_PAIRS = 20_000  # rings of one region compared with each other


@dataclass
class _Draft:
    """A region on its way: its rings, and what was found so far."""

    roi: Roi
    rings: list[FloatArray]
    findings: list[Finding]
    reason: str = ""
    normal: FloatArray | None = None
    stack: ContourStack | None = None
    copies: int = 0

    def note(self, code: str, severity: Severity, text: str, **details: object) -> None:
        self.findings.append(Finding(code, severity, f"{name_of(self.roi)}: {text}", {"roi": self.roi.number, **details}))


def name_of(roi: Roi) -> str:
    """Return how messages call a region."""
    return f"ROI {roi.number} {roi.name!r}"


def check_rois(rois: Sequence[Roi]) -> tuple[tuple[Roi, ...], tuple[Finding, ...], float | None]:
    """Sort the contours of all regions into planes; return regions with stack and volume, findings, and the usual step in mm."""
    drafts = [_sorted_by_kind(roi) for roi in rois]
    totals = [facing(draft.rings) for draft in drafts]
    common = normal_from(np.sum(totals, axis=0)) if drafts else None
    for draft, total in zip(drafts, totals, strict=True):
        _choose_normal(draft, normal_from(total), common)
        if draft.normal is not None:
            draft.stack, draft.copies = build_stack(draft.rings, draft.normal)
    along = [draft.stack for draft in drafts if draft.stack is not None and common is not None and _is_along(draft.stack, common)]
    step = usual_step_mm(along)
    for draft in drafts:
        if draft.stack is not None:
            draft.stack = with_slabs(draft.stack, step if common is not None and _is_along(draft.stack, common) else None)
            _judge_stack(draft, draft.stack)
    done = [_finished(draft) for draft in drafts]
    return tuple(done), tuple(finding for draft in drafts for finding in draft.findings), step


def _is_along(stack: ContourStack, common: FloatArray) -> bool:
    return degrees_between(stack.axes[2], common) < SAME_DIRECTION_DEGREES


def _sorted_by_kind(roi: Roi) -> _Draft:
    """Take the rings that enclose something; say what the other contours are."""
    draft = _Draft(roi, [], [])
    others: Counter[str] = Counter()
    flat = 0
    for contour in roi.contours:
        ring = open_ring(contour.points_mm)
        if contour.kind not in FILLED:
            others[contour.kind] += 1
        elif len(ring) < 3 or np.linalg.norm(np.ptp(ring, axis=0)) == 0:
            flat += 1
        else:
            draft.rings.append(ring)
    if not roi.contours:
        draft.reason = "it has no contours"
        draft.note("EMPTY_ROI", Severity.INFO, "has no contours; it is kept by name, without a volume")
    _note_other_kinds(draft, others, flat)
    if not draft.rings and not draft.reason:
        kinds = ", ".join(sorted(others)) or "contours of one or two points"
        draft.reason = f"it has no closed contour, only {kinds}"
    return draft


def _note_other_kinds(draft: _Draft, others: Counter[str], flat: int) -> None:
    if others[POINT]:
        text = f"{others[POINT]} point(s): kept as points, they have no volume"
        draft.note("POINT_CONTOURS", Severity.INFO, text, count=others[POINT])
    lines = others[OPEN] + others[OPEN_CURVE]
    if lines:
        text = f"{lines} open contour(s) are lines and are not filled; if they were meant as outlines, close them in the planning system"
        draft.note("OPEN_CONTOURS", Severity.WARNING, text, count=lines)
    unknown = sum(others.values()) - others[POINT] - lines
    if unknown:
        text = f"{unknown} contour(s) are of a kind the standard does not know; they are not filled: check how they were exported"
        draft.note("UNKNOWN_CONTOUR_KIND", Severity.WARNING, text, count=unknown)
    if flat:
        text = f"{flat} contour(s) of one or two points enclose nothing and add nothing to the volume"
        draft.note("DEGENERATE_CONTOURS", Severity.WARNING, text, count=flat)


def _choose_normal(draft: _Draft, own: FloatArray | None, common: FloatArray | None) -> None:
    if not draft.rings:
        return
    if own is None:
        draft.reason = "its contours are lines without area"
        draft.note("DEGENERATE_CONTOURS", Severity.WARNING, f"{len(draft.rings)} contour(s) enclose no area", count=len(draft.rings))
        return
    if common is not None and degrees_between(own, common) < SAME_DIRECTION_DEGREES:
        off = unevenness_mm(draft.rings, common)
        if off.max() <= max(FLAT_MM, 1.5 * float(unevenness_mm(draft.rings, own).max())):
            own = common
    off = unevenness_mm(draft.rings, own)
    heights = np.sort([ring.mean(axis=0) @ own for ring in draft.rings])
    gaps = np.diff(heights)
    limit = 0.5 * float(np.median(gaps[gaps > FLAT_MM])) if (gaps > FLAT_MM).any() else 1.0
    if off.max() > max(limit, FLAT_MM):
        draft.reason = "its contours do not lie in parallel planes"
        worst = draft.rings[int(off.argmax())].mean(axis=0)
        draft.note(
            "CONTOURS_NOT_PARALLEL",
            Severity.ERROR,
            f"{int((off > max(limit, FLAT_MM)).sum())} of {len(off)} contours leave the planes of the others by up to {off.max():.3g} mm"
            f" (near {_place(worst)}): no volume can be given; export the structure on the slices of one series",
            off_mm=float(off.max()),
        )
        return
    if off.max() > FLAT_MM:
        text = f"contours leave their planes by up to {off.max():.2g} mm; they are flattened, the volume changes little"
        draft.note("CONTOUR_NOT_FLAT", Severity.WARNING, text, off_mm=float(off.max()))
    draft.normal = own


def _place(point_mm: FloatArray) -> str:
    return "({:.1f}, {:.1f}, {:.1f}) mm RAS".format(*point_mm)


def _judge_stack(draft: _Draft, stack: ContourStack) -> None:
    if draft.copies:
        text = f"{draft.copies} contour(s) are there twice in their plane; one of each is kept"
        draft.note("DUPLICATE_CONTOURS", Severity.WARNING, text, count=draft.copies)
    if np.isnan(stack.slabs_mm).any():
        draft.reason = "it lies in one plane, and nothing tells how thick a slice is"
        text = (
            f"its contours lie in one plane ({stack.moments[0, 0]:.4g} mm²) and no other structure tells how far apart the slices are: no"
            " volume without the scan"
        )
        draft.note("SINGLE_PLANE", Severity.WARNING, text, area_mm2=float(stack.moments[0, 0]))
        return
    if len(stack.positions_mm) == 1:
        width = float(np.ptp(stack.slabs_mm[0]))
        text = f"its contours lie in one plane, taken to be {width:.3g} mm thick, the usual step of this structure set"
        draft.note("SINGLE_PLANE", Severity.INFO, text, width_mm=width)
    _judge_crossings(draft, stack)
    _judge_holes(draft, stack)


def _judge_crossings(draft: _Draft, stack: ContourStack) -> None:
    """Even-odd takes what two rings share, or what one walks round twice, as outside: say so where it matters."""
    widths = np.repeat(np.ptp(stack.slabs_mm, axis=1), np.diff(stack.plane_rings))
    count = len(stack.starts) - 1
    alone = polygon_moments(stack.points, stack.starts, np.arange(count + 1))[:, 0]
    after = np.roll(stack.points, -1, axis=0)
    after[stack.starts[1:] - 1] = stack.points[stack.starts[:-1]]
    crosses = stack.points[:, 0] * after[:, 1] - stack.points[:, 1] * after[:, 0]
    walked = np.abs(np.add.reduceat(crosses, stack.starts[:-1])) / 2
    total = stack.volume_mm3
    crossing = float(np.abs(alone - walked) @ widths)
    if crossing > SMALL_SHARE * total:
        text = (
            f"contours cross themselves; what they go round twice counts as outside ({crossing / 1000:.3g} ml in doubt"
            f" of {total / 1000:.4g} ml): look at them in the planning system"
        )
        is_hopeless = crossing > total
        draft.note("SELF_CROSSING_CONTOURS", Severity.ERROR if is_hopeless else Severity.WARNING, text, volume_ml=crossing / 1000)
        draft.reason = "its contours cross themselves so that inside and outside cannot be told" if is_hopeless else draft.reason
    shared = _shared_mm3(stack, alone, widths)
    if shared > SMALL_SHARE * total:
        text = (
            f"contours of one plane overlap in part; what they share counts as outside, as the even-odd rule has it: joined, the volume"
            f" would be {(total + shared) / 1000:.4g} ml instead of {total / 1000:.4g} ml; look at them in the planning system"
        )
        draft.note("OVERLAPPING_CONTOURS", Severity.WARNING, text, volume_ml=shared / 1000)


def _shared_mm3(stack: ContourStack, alone: FloatArray, widths: FloatArray) -> float:
    """Volume that rings of one plane share without one lying inside the other."""
    low = np.minimum.reduceat(stack.points, stack.starts[:-1])
    high = np.maximum.reduceat(stack.points, stack.starts[:-1])
    shared, pairs = 0.0, 0
    for plane in np.flatnonzero(np.diff(stack.plane_rings) > 1):
        first, stop = (int(n) for n in stack.plane_rings[plane : plane + 2])
        for a in range(first, stop - 1):
            apart = (low[a + 1 : stop] > high[a]).any(axis=1) | (high[a + 1 : stop] < low[a]).any(axis=1)
            for b in np.flatnonzero(~apart) + a + 1:
                pairs += 1
                if pairs > _MOST_PAIRS:
                    return shared
                rings = [stack.points[stack.starts[n] : stack.starts[n + 1]] for n in (a, int(b))]
                starts = np.array([0, len(rings[0]), len(rings[0]) + len(rings[1])])
                both = float(polygon_moments(np.concatenate(rings), starts, np.array([0, 2]))[0, 0])
                common = (alone[a] + alone[b] - both) / 2
                smaller = min(alone[a], alone[b])
                if _THIN_MM2 + SMALL_SHARE * smaller < common < (1 - SMALL_SHARE) * smaller - _THIN_MM2:
                    shared += float(common * widths[a])
    return shared


def _judge_holes(draft: _Draft, stack: ContourStack) -> None:
    holes = holes_in(stack)
    if not holes:
        return
    missing = sum(count for _, count in holes)
    where = [float(stack.positions_mm[plane]) for plane, _ in holes]
    drawn = float(stack.moments[:, 0].sum() * (stack.step_mm or 0.0)) / 1000
    filled = filled_volume_mm3(stack) / 1000
    shown = ", ".join(f"{at:.1f}" for at in where[:5]) + (", ..." if len(where) > 5 else "")
    text = (
        f"no contour on {missing} plane(s), after {shown} mm along the stack: {drawn:.4g} ml on the planes that are drawn,"
        f" about {filled:.4g} ml with the gaps filled. If it is one structure, draw the missing contours or fill the gaps (interpolate)"
    )
    is_slip = min(count for _, count in holes) <= MANY_PLANES
    draft.note(
        "CONTOUR_GAPS",
        Severity.WARNING if is_slip else Severity.INFO,
        text,
        after_mm=where,
        missing_planes=missing,
        drawn_ml=drawn,
        filled_ml=filled,
    )


def _finished(draft: _Draft) -> Roi:
    volume = None if draft.stack is None or draft.reason else draft.stack.volume_mm3 / 1000
    return replace(draft.roi, stack=draft.stack, volume_ml=volume, no_volume=draft.reason)
