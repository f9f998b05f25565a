"""What a bundle says about itself in `metadata.json`: who made it, for what, with which inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medseg.core.errors import IncompatibleModelError
from medseg.core.segment import Segment

_MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PT": "PT", "PET": "PT"}
_BACKGROUND = re.compile(r"back\s*-?_?ground|unlabel+ed|unlabel", re.IGNORECASE)
_TEXT_LIMIT = 2000


@dataclass(frozen=True)
class BundleMetadata:
    """The entries of `metadata.json` that matter for inference; "" and empty where the bundle does not say.

    `outputs` are the names of the output channels in their order, background among them where the bundle names it.
    """

    name: str
    version: str = ""
    title: str = ""
    description: str = ""
    modality: str = ""
    licence: Mapping[str, str] = field(default_factory=dict)
    intended_use: str = ""
    inputs: tuple[str, ...] = ()
    input_count: int | None = None
    outputs: tuple[str, ...] = ()
    output_count: int | None = None

    @property
    def has_background(self) -> bool:
        """Whether the first output channel is the background."""
        return bool(self.outputs) and bool(_BACKGROUND.search(self.outputs[0]))

    def check_outputs(self, channels: int) -> None:
        """Raise IncompatibleModelError where the network has another number of outputs than the bundle names."""
        named = len(self.outputs)
        if named and named != channels and not (channels > 1 and named == channels - 1 and not self.has_background):
            raise IncompatibleModelError(
                f"bundle {self.name!r} names {named} outputs ({', '.join(self.outputs[:4])}{', …' if named > 4 else ''}), its network "
                f"gives {channels}: which label is which is unknown, so no result is safe; ask the author for a corrected metadata.json"
            )

    def segments_of_labels(self, channels: int) -> tuple[Segment, ...]:
        """Return the segments where the largest of `channels` outputs wins: the channel's number is the label's, 0 is background."""
        self.check_outputs(channels)
        names = list(self.outputs)
        if len(names) == channels - 1 and not self.has_background:
            names.insert(0, "background")
        return self._named((number, names[number] if names else "") for number in range(1, channels))

    def segments_of_masks(self, channels: int) -> tuple[Segment, ...]:
        """Return the segment of each output channel where every channel is a mask; a background channel has none."""
        self.check_outputs(channels)
        first = 1 if self.has_background and channels > 1 else 0
        names = self.outputs if len(self.outputs) == channels else ()
        if channels == 1 and not names and self.outputs:
            names = self.outputs[-1:]
        return self._named((channel - first + 1, names[channel] if names else "") for channel in range(first, channels))

    def segments_of_choices(self, choices: Iterable[tuple[int, int]], channels: int) -> tuple[Segment, ...]:
        """Return the segments of (channel, number), the order in which a bundle itself paints its masks."""
        self.check_outputs(channels)
        names = self.outputs if len(self.outputs) == channels else ()
        return self._named(sorted((number, names[channel] if channel < len(names) else "") for channel, number in choices))

    def _named(self, entries: Any) -> tuple[Segment, ...]:
        segments, taken = [], set()
        for number, text in entries:
            label = " ".join(str(text).split())[:200] or f"label {number}"
            label = label if label not in taken else f"{label} ({number})"
            taken.add(label)
            segments.append(Segment(number, label, algorithm=f"{self.name} {self.version}".strip()))
        return tuple(segments)


def read_metadata(entries: Mapping[str, Any], name: str) -> BundleMetadata:
    """Return the metadata of a bundle; `name` is used where it does not say its own. Unknown entries are left alone.

    >>> read_metadata({"version": "0.1", "network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", "1": "spleen"}}}}},
    ...               "spleen").segments_of_labels(2)[0].label
    'spleen'
    """
    formats = _mapping(entries.get("network_data_format"))
    image = _first(formats.get("inputs"), "image")
    prediction = _first(formats.get("outputs"), "pred")
    licence = {
        key: _text(entries.get(source))
        for key, source in (("code", "license"), ("copyright", "copyright"), ("data", "data_source"))
        if _text(entries.get(source))
    }
    modality = _text(image.get("modality")).upper()
    return BundleMetadata(
        name=name,
        version=_text(entries.get("version")),
        title=_text(entries.get("name")) or _text(entries.get("task")) or name,
        description=_text(entries.get("description")),
        modality=_MODALITIES.get(modality, "MR" if modality.startswith("MR") else ""),
        licence=licence,
        intended_use=_text(entries.get("intended_use")),
        inputs=_channels(image.get("channel_def")),
        input_count=_count(image.get("num_channels")),
        outputs=_channels(prediction.get("channel_def")),
        output_count=_count(prediction.get("num_channels")),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(value: Any, name: str) -> Mapping[str, Any]:
    entries = _mapping(value)
    return _mapping(entries.get(name) if name in entries else next(iter(entries.values()), {}))


def _text(value: Any) -> str:
    return " ".join(str(value).split())[:_TEXT_LIMIT] if isinstance(value, (str, int, float)) else ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _channels(value: Any) -> tuple[str, ...]:
    """The names of channels in the order of their numbers; nothing where the numbers are not 0, 1, 2, ..."""
    if isinstance(value, (list, tuple)):
        return tuple(_text(entry) for entry in value)
    entries = _mapping(value)
    try:
        numbers = sorted((int(key), _text(entry)) for key, entry in entries.items())
    except (TypeError, ValueError):
        return ()
    return tuple(text for _, text in numbers) if [number for number, _ in numbers] == list(range(len(numbers))) else ()
