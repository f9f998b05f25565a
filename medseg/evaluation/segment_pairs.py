"""Which segment of the prediction belongs to which of the reference: by label, else by number; what has no partner stays in the list."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from medseg.core.errors import SegmentError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.layers import segments_of
from medseg.core.segment import Segment

_UNNAMED = re.compile(r"segment[_ ]\d+")  # what readers call a number that has no name
_MOST_NAMED = 8


@dataclass(frozen=True)
class SegmentPair:
    """A segment of each side, or of one side only; `matched_by` is "label", "spelling" (case and separators differ), "number" or ""."""

    reference: Segment | None
    prediction: Segment | None
    matched_by: str = ""

    @property
    def shown(self) -> Segment:
        """The segment that gives the row its number and label: the reference's where there is one."""
        segment = self.reference or self.prediction
        if segment is None:
            raise SegmentError("a pair needs a segment on one side at least")
        return segment


@dataclass(frozen=True)
class Pairing:
    """The pairs, reference segments first; how most were matched ("label" or "number"), and what the user should look at."""

    pairs: tuple[SegmentPair, ...]
    matched_by: str
    findings: tuple[Finding, ...] = ()


def pair_segments(reference: Sequence[LabelMap], prediction: Sequence[LabelMap]) -> Pairing:
    """Pair the segments of two segmentations (each one or several layers).

    A label that both have makes a pair, also where case, spaces, hyphens and underscores differ. A segment left over whose
    side gave it no name ("segment_3") is paired by number. Where the two share no label at all, every segment is paired by
    number. What has no partner is a pair with None on one side.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> def names(**n):
    ...     return [LabelMap(np.zeros((1, 1, 1), np.uint8), Geometry((1, 1, 1), np.eye(4)), tuple(Segment(v, k) for k, v in n.items()))]
    >>> [pair.matched_by for pair in pair_segments(names(liver=1, spleen=2), names(Liver=5, cyst=2)).pairs]
    ['spelling', '', '']
    """
    of_reference, of_prediction = segments_of(reference), segments_of(prediction)
    waiting = {segment.number: segment for segment in of_prediction}
    partner: dict[int, tuple[Segment, str]] = {}
    _by_label(of_reference, waiting, partner)
    _by_spelling(of_reference, waiting, partner)
    matched_by = "label" if partner else "number"
    for segment in of_reference:
        other = waiting.get(segment.number)
        if segment.number not in partner and other and (matched_by == "number" or _is_unnamed(segment) or _is_unnamed(other)):
            partner[segment.number] = (waiting.pop(segment.number), "number")
    pairs = [SegmentPair(segment, *partner.get(segment.number, (None, ""))) for segment in of_reference]
    pairs += [SegmentPair(None, segment) for segment in waiting.values()]
    return Pairing(tuple(pairs), matched_by, tuple(_findings(pairs)))


def _by_label(reference: Iterable[Segment], waiting: dict[int, Segment], partner: dict[int, tuple[Segment, str]]) -> None:
    numbers = {segment.label: segment.number for segment in waiting.values()}
    for segment in reference:
        if segment.label in numbers:
            partner[segment.number] = (waiting.pop(numbers[segment.label]), "label")


def _by_spelling(reference: Iterable[Segment], waiting: dict[int, Segment], partner: dict[int, tuple[Segment, str]]) -> None:
    """Pair what is left where the plain spelling occurs once on each side: two names that become one would be a guess."""
    left = _unique_spellings(segment for segment in reference if segment.number not in partner)
    right = _unique_spellings(waiting.values())
    for spelling, segment in left.items():
        if spelling in right:
            partner[segment.number] = (waiting.pop(right[spelling].number), "spelling")


def _unique_spellings(segments: Iterable[Segment]) -> dict[str, Segment]:
    found: dict[str, list[Segment]] = {}
    for segment in segments:
        found.setdefault(re.sub(r"[\W_]+", "", segment.label.casefold()), []).append(segment)
    return {spelling: members[0] for spelling, members in found.items() if spelling and len(members) == 1}


def _is_unnamed(segment: Segment) -> bool:
    return _UNNAMED.fullmatch(segment.label) is not None


def _findings(pairs: Sequence[SegmentPair]) -> Iterable[Finding]:
    guessed = [
        (pair.reference.label, pair.prediction.label)
        for pair in pairs
        if pair.reference and pair.prediction and pair.matched_by == "number" and pair.reference.label != pair.prediction.label
    ]
    if guessed:
        listed = ", ".join(f"{ours} ↔ {theirs}" for ours, theirs in guessed[:_MOST_NAMED])
        more = f" and {len(guessed) - _MOST_NAMED:,} more" if len(guessed) > _MOST_NAMED else ""
        text = f"segments with different names were compared because their numbers are equal: {listed}{more}; if that is wrong, pair them"
        named = any(not _UNNAMED.fullmatch(ours) and not _UNNAMED.fullmatch(theirs) for ours, theirs in guessed)
        severity = Severity.WARNING if named else Severity.INFO
        yield Finding("MATCHED_BY_NUMBER", severity, f"{text} with --map prediction=reference", {"pairs": len(guessed)})
    missing = [pair.reference.label for pair in pairs if pair.reference and not pair.prediction]
    surplus = [pair.prediction.label for pair in pairs if pair.prediction and not pair.reference]
    if missing and surplus:
        text = (
            f"only the reference has {_named(missing)}, only the prediction has {_named(surplus)}: each counts as missed or false."
            f" Where two of them are one structure, say so: --map {_hint(missing, surplus)}"
        )
        yield Finding("LABELS_NOT_MATCHED", Severity.WARNING, text, {"reference": len(missing), "prediction": len(surplus)})


def _named(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _MOST_NAMED:,} more" if len(labels) > _MOST_NAMED else ""
    return ", ".join(labels[:_MOST_NAMED]) + more


def _hint(missing: Sequence[str], surplus: Sequence[str]) -> str:
    """The likeliest pair of names as an example."""
    for label in missing[:50]:
        close = difflib.get_close_matches(label, surplus[:500], 1)
        if close:
            return f"{close[0]}={label}"
    return f"{surplus[0]}={missing[0]}"


def renamed(layers: Sequence[LabelMap], names: Mapping[str, str]) -> tuple[LabelMap, ...]:
    """Return layers whose segments got other labels: `names` maps a label (or a number, as text) to the new label.

    A name that no segment has is passed over: in a folder not every case has every segment. Raises SegmentError where two
    segments would then share a label.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> one = LabelMap(np.zeros((1, 1, 1), np.uint8), Geometry((1, 1, 1), np.eye(4)), (Segment(3, "Leber"),))
    >>> renamed([one], {"Leber": "liver"})[0].segments[0].label
    'liver'
    """
    labels = {segment.label for segment in segments_of(layers)}
    target: dict[int, str] = {}
    for segment in segments_of(layers):
        new = names.get(segment.label)
        if new is None and str(segment.number) not in labels:
            new = names.get(str(segment.number))
        target[segment.number] = segment.label if new is None else new
    taken: dict[str, int] = {}
    for number, label in target.items():
        if label in taken:
            raise SegmentError(
                f"with --map, segments {taken[label]} and {number} of the prediction are both called {label!r}: each segment of the"
                " reference can have one partner; join them first or leave one out"
            )
        taken[label] = number
    return tuple(
        replace(layer, segments=tuple(replace(segment, label=target[segment.number]) for segment in layer.segments)) for layer in layers
    )
