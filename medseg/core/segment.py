"""One structure of a label map."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

from medseg.core.codes import Code, code_from_dict
from medseg.core.errors import SegmentError

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Segment:
    """One structure: its voxel value `number` (1 or more), its `label`, its codes and its colour (r, g, b, 0 to 255).

    `modifier` is the laterality of the type (Left, Right), never part of the type itself. `tracking_id` and `tracking_uid`
    name the finding over time (DICOM PS3.3, C.8.20.2), "" where nobody tracks it. Raises SegmentError where number or label
    is impossible.

    >>> Segment(1, "liver").colour == Segment(1, "liver").colour
    True
    """

    number: int
    label: str
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None
    colour: Colour | None = None
    algorithm: str = ""
    tracking_id: str = ""
    tracking_uid: str = ""

    def __post_init__(self) -> None:
        if int(self.number) < 1:
            raise SegmentError(f"segment {self.label!r} has number {self.number}: numbers begin at 1, 0 is background")
        if not self.label.strip():
            raise SegmentError(f"segment {self.number} has no label")
        object.__setattr__(self, "number", int(self.number))
        colour = default_colour(self.number) if self.colour is None else tuple(int(c) for c in self.colour)
        if len(colour) != 3 or not all(0 <= c <= 255 for c in colour):
            raise SegmentError(f"segment {self.label!r}: a colour is (r, g, b) from 0 to 255, got {self.colour}")
        object.__setattr__(self, "colour", colour)

    @property
    def rgb(self) -> Colour:
        """The colour, always given."""
        if self.colour is None:  # pragma: no cover - set when built
            raise SegmentError(f"segment {self.label!r} has no colour")
        return self.colour

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        entry: dict[str, Any] = {"number": self.number, "label": self.label, "colour": list(self.rgb)}
        for name in ("category", "type", "modifier", "region", "region_modifier"):
            code = getattr(self, name)
            if code is not None:
                entry[name] = code.to_dict()
        for name in ("algorithm", "tracking_id", "tracking_uid"):
            if getattr(self, name):
                entry[name] = getattr(self, name)
        return entry


def segment_from_dict(entry: dict[str, Any]) -> Segment:
    """Return the segment of a JSON form made by `Segment.to_dict`; unknown keys raise SegmentError."""
    values: dict[str, Any] = dict(entry)
    for name in ("category", "type", "modifier", "region", "region_modifier"):
        if name in values:
            values[name] = code_from_dict(values[name])
    try:
        return Segment(**values)
    except TypeError as err:
        raise SegmentError(f"segment entry {entry.get('label', '?')!r} is not valid: {err}") from err


def default_colour(number: int) -> Colour:
    """Return a clear colour for a number: hues a golden angle apart, so that neighbours differ."""
    r, g, b = colorsys.hsv_to_rgb((0.02 + 0.61803398875 * (number - 1)) % 1.0, 0.65, 0.92)
    return round(r * 255), round(g * 255), round(b * 255)
