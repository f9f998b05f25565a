"""What every file reader hands on: voxels and grid as stored, before it is decided whether they are intensities or labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medseg.core.errors import SegmentError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, present_numbers
from medseg.core.segment import Segment
from medseg.core.volume import Source, Volume
from medseg.io.values import MOST_LABELS, Array, as_label_array, narrowed, without_non_finite

_MANY_LABELS = 512


@dataclass(frozen=True, eq=False)
class StoredImage:
    """Voxels (i,j,k) of one file with their grid, and the names of labels where the file has some."""

    path: Path
    format: str
    array: Array
    geometry: Geometry
    findings: tuple[Finding, ...] = ()
    segments: tuple[Segment, ...] = ()

    @property
    def source(self) -> Source:
        """Where it came from."""
        return Source(str(self.path), self.format, files=(str(self.path),))

    def to_volume(self) -> Volume:
        """Return it as intensities; NIfTI and NRRD do not say which modality they hold, so that stays empty.

        Raises UnreadableFileError where more than 1 % of the body is NaN or infinite.
        """
        array, found = without_non_finite(self.array, self.path.name)
        findings = (*self.findings, found) if found else self.findings
        return Volume(narrowed(array), self.geometry, source=self.source, findings=findings)

    def to_label_map(self) -> LabelMap:
        """Return it as labels; numbers without a name become "segment_<n>". Raises SegmentError for intensities."""
        array = as_label_array(self.array, self.path.name)
        numbers = present_numbers(array)
        if len(numbers) > MOST_LABELS:
            raise SegmentError(f"{self.path.name} holds {len(numbers):,} different numbers: intensities, not labels; give a label map")
        segments, findings = complete_segments(self.segments, numbers)
        if len(numbers) > max(_MANY_LABELS, len(self.segments)):
            message = f"{len(numbers):,} different labels: check that this is a label map and not a scan"
            findings = (*findings, Finding("MANY_LABELS", Severity.WARNING, message, {"count": len(numbers)}))
        return LabelMap(array, self.geometry, segments, self.source, (*self.findings, *findings))


def complete_segments(named: tuple[Segment, ...], numbers: list[int]) -> tuple[tuple[Segment, ...], tuple[Finding, ...]]:
    """Name the numbers that have no segment yet, and make names that occur twice differ."""
    known = {segment.number for segment in named}
    segments = [*named, *(Segment(number, f"segment_{number}") for number in numbers if number not in known)]
    taken: set[str] = set()
    unique: list[Segment] = []
    renamed: list[int] = []
    for segment in sorted(segments, key=lambda item: item.number):
        label, attempt = segment.label, 2
        while label in taken:
            label, attempt = f"{segment.label}_{attempt}", attempt + 1
        taken.add(label)
        if label != segment.label:
            renamed.append(segment.number)
        unique.append(segment if label == segment.label else replace(segment, label=label))
    if not renamed:
        return tuple(unique), ()
    message = f"segments {renamed[:10]} had the name of another one and got a number behind it"
    return tuple(unique), (Finding("DUPLICATE_SEGMENT_NAMES", Severity.INFO, message, {"numbers": renamed}),)
