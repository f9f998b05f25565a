"""The audit of a series in figures: slices found and expected, gaps, tilt, stacks, and the header fields that disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from medseg.core.finding import Finding
from medseg.core.geometry import Geometry
from medseg.io.dicom.audit import AuditedStack
from medseg.io.dicom.choose import listing
from medseg.io.dicom.fields import disagreements, field
from medseg.io.dicom.find import Series
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.sort import has_geometry, is_sound_spacing, measure_stack, odd_gaps, stack_affine
from medseg.io.report import SeriesAudit, SliceGap, StackSummary, TagDisagreement

_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "SERIES_CHOSEN": "--series",
        "GAPS_INTERPOLATED": "--allow-gaps",
        "SPACING_GIVEN": "--spacing",
        "HU_ASSUMED": "--assume-hu",
        "MIXED_SPACING_RESAMPLED": "--resample-mixed",
    }
)


def series_audit(series: Series, stacks: Sequence[AuditedStack], chosen: AuditedStack | None, findings: Sequence[Finding]) -> SeriesAudit:
    """Return the figures of the chosen stack; without a choice those of the whole series, where no figure of one stack is meant."""
    duplicates = sum(int(finding.details["count"]) for finding in findings if finding.code == "DUPLICATE_SLICES")
    kept = [stack for stack in stacks if not stack.left_out]
    summaries = tuple(
        StackSummary(str(row["select"]), len(one.slices), _differs(one)) for row, one in zip(listing(stacks), stacks, strict=True)
    )
    if chosen is None:
        slices = [header for stack in kept for header in stack.slices]
        return SeriesAudit(
            slices_found=len(slices), duplicates=duplicates, stacks=summaries, disagreeing_tags=_tags(slices, findings), options_used=()
        )
    first = SeriesAudit(
        slices_found=len(chosen.slices),
        duplicates=duplicates,
        stacks=summaries,
        disagreeing_tags=_tags(chosen.slices, findings),
        options_used=_options_used(findings),
    )
    return _measured(first, chosen)


def _measured(audit: SeriesAudit, stack: AuditedStack) -> SeriesAudit:
    slices = stack.placed
    if not all(has_geometry(header) and is_sound_spacing(header.pixel_spacing) for header in slices):
        return audit
    measures = measure_stack(slices)
    placement = stack.placement
    gaps: list[SliceGap] = []
    if placement is not None:
        missing = {hole.index: hole.missing for hole in placement.gaps.holes}
        at = sorted({*missing, *(map(int, odd_gaps(measures)) if placement.gaps.is_uneven else ())})
        gaps = [SliceGap(round(float(measures.positions_mm[n]), 4), round(float(measures.gaps_mm[n]), 4), missing.get(n, 0)) for n in at]
    return SeriesAudit(
        slices_found=audit.slices_found,
        slices_expected=None if placement is None else audit.slices_found + placement.gaps.missing,
        first_mm=round(float(measures.positions_mm[0]), 4),
        last_mm=round(float(measures.positions_mm[-1]), 4),
        usual_gap_mm=round(measures.usual_gap_mm, 6) if len(slices) > 1 else None,
        gaps=tuple(gaps),
        duplicates=audit.duplicates,
        tilt_degrees=round(measures.tilt_degrees, 4) if len(slices) > 1 else None,
        obliqueness_degrees=round(Geometry((1, 1, 1), stack_affine(slices[:1])).obliqueness_degrees, 4),
        stacks=audit.stacks,
        disagreeing_tags=audit.disagreeing_tags,
        options_used=audit.options_used,
    )


def _differs(stack: AuditedStack) -> str:
    return f"{stack.description} (left out: {stack.left_out})" if stack.left_out else stack.description


def _tags(slices: Sequence[SliceHeader], findings: Sequence[Finding]) -> tuple[TagDisagreement, ...]:
    rows = [TagDisagreement(str(row["tag"]), str(row["keyword"]), tuple(map(str, row["values"]))) for row in disagreements(slices)]  # type: ignore[call-overload]
    for finding in findings:  # what is the same everywhere, and contradicts the positions
        name, key = {
            "SPACING_BETWEEN_SLICES_WRONG": ("spacing_between_slices", "header_mm"),
            "SLICE_THICKNESS_DIFFERS": ("slice_thickness", "thickness_mm"),
        }.get(finding.code, ("", ""))
        if name and field(name).tag not in {row.tag for row in rows}:
            values = (f"{finding.details[key]:g} mm in the header", f"{finding.details['gap_mm']:.6g} mm by the positions")
            rows.append(TagDisagreement(field(name).tag, field(name).keyword, values))
    return tuple(rows)


def _options_used(findings: Sequence[Finding]) -> tuple[str, ...]:
    used = [_OPTIONS[finding.code] for finding in findings if finding.code in _OPTIONS]
    used += [str(finding.details["asked"]) for finding in findings if finding.code == "STACK_SELECTED"]
    return tuple(dict.fromkeys(used))
