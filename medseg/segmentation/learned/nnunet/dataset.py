"""What nnU-Net's `dataset.json` says: channels and labels, as checked values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medseg.core.errors import IncompatibleModelError

MOST_LABELS = 4096
_MOST_TEXT = 256
_IGNORE = "ignore"
_WORDS = {
    "CT": "ct cta cbct ncct cect",
    "MR": "mr mri t1 t2 pd t1w t2w t1c t1ce t1gd t1n t2f flair adc dwi hbv dce swi bold",
    "PT": "pet pt suv",
    "US": "us ultrasound",
}


@dataclass(frozen=True)
class Labels:
    """The structures of a model and what its output channels mean.

    `numbers` are the values of the label map (0 = background first). Without regions channel n of the network is
    number n. With regions channel n, where its probability exceeds one half, paints `region_order[n]`, a later one over
    an earlier; `regions` are the numbers each region is made of.
    """

    names: Mapping[int, str]
    numbers: tuple[int, ...]
    regions: tuple[tuple[int, ...], ...] = ()
    region_order: tuple[int, ...] = ()
    ignore: int | None = None

    @property
    def heads(self) -> int:
        """Number of output channels."""
        return len(self.regions) or len(self.numbers)

    @property
    def foreground(self) -> tuple[int, ...]:
        """The numbers but 0, ascending."""
        return tuple(number for number in self.numbers if number)


@dataclass(frozen=True)
class DatasetEntry:
    """A checked `dataset.json`: channels in order, modality of each ("" where its name does not say), labels, texts."""

    name: str
    channels: tuple[str, ...]
    modalities: tuple[str, ...]
    labels: Labels
    licence: str = ""
    reference: str = ""
    description: str = ""


def parse_dataset(entries: Any, where: str = "dataset.json") -> DatasetEntry:
    """Return the checked form of a JSON value; raises IncompatibleModelError (what is wrong, and where).

    >>> parse_dataset({"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}).modalities
    ('CT',)
    """
    if not isinstance(entries, dict):
        raise IncompatibleModelError(f"{where} is no JSON object: it is not a dataset.json of nnU-Net v2")
    channels = _channels(entries, where)
    return DatasetEntry(
        name=_text(entries.get("name")),
        channels=channels,
        modalities=tuple(modality_of(name) for name in channels),
        labels=parse_labels(entries.get("labels"), entries.get("regions_class_order"), where),
        licence=_text(entries.get("licence") or entries.get("license")),
        reference=_text(entries.get("reference")),
        description=_text(entries.get("description")),
    )


def modality_of(channel: str) -> str:
    """Return the modality a channel's name speaks of, "" where it speaks of none.

    >>> modality_of("T1w MRI"), modality_of("zscore")
    ('MR', '')
    """
    words = channel.lower().replace("-", " ").replace("_", " ").split()
    for modality, known in _WORDS.items():
        if any(word in known.split() for word in words):
            return modality
    return ""


def parse_labels(labels: Any, region_order: Any, where: str = "dataset.json") -> Labels:
    """Return the checked labels of a `dataset.json`; raises IncompatibleModelError."""
    if not isinstance(labels, dict) or not labels or len(labels) > MOST_LABELS:
        raise IncompatibleModelError(f"{where} has no usable `labels`: a JSON object of 1 to {MOST_LABELS} names is needed")
    if labels.get("background") != 0:
        older = " (names as values: a dataset.json of nnU-Net v1?)" if "0" in labels else ""
        raise IncompatibleModelError(f"{where}: `labels` must name background as 0{older}")
    values = {str(name): _numbers(value, str(name), where) for name, value in labels.items()}
    ignored = values.pop(_IGNORE, None)
    numbers = tuple(sorted({number for group in values.values() for number in group}))
    if numbers != tuple(range(len(numbers))):
        raise IncompatibleModelError(f"{where}: label numbers must be 0, 1, 2, … without a gap, as nnU-Net needs them")
    if ignored is not None and ignored != (len(numbers),):
        raise IncompatibleModelError(f"{where}: the ignore label must be {len(numbers)}, one more than the last label")
    ignore = None if ignored is None else ignored[0]
    if not any(len(group) > 1 for group in values.values()):
        return _plain(values, numbers, ignore, where)
    return _with_regions(values, numbers, region_order, ignore, where)


def _plain(values: dict[str, tuple[int, ...]], numbers: tuple[int, ...], ignore: int | None, where: str) -> Labels:
    names: dict[int, str] = {}
    for name, (number,) in values.items():
        if number in names:
            raise IncompatibleModelError(f"{where}: {names[number]!r} and {name!r} share label {number}")
        names[number] = name
    names.pop(0)
    if not names:
        raise IncompatibleModelError(f"{where} names no structure but background")
    return Labels(names, numbers, ignore=ignore)


def _with_regions(
    values: dict[str, tuple[int, ...]], numbers: tuple[int, ...], region_order: Any, ignore: int | None, where: str
) -> Labels:
    regions = {name: group for name, group in values.items() if set(group) != {0}}
    if not isinstance(region_order, list) or len(region_order) != len(regions):
        raise IncompatibleModelError(f"{where}: `regions_class_order` needs one number for each of the {len(regions)} regions")
    order = tuple(_numbers(number, "regions_class_order", where)[0] for number in region_order)
    names: dict[int, str] = {}
    entries = list(zip(regions.items(), order, strict=True))
    for place, ((name, group), painted) in enumerate(entries):
        if painted == 0:
            continue
        text = _what_stays(name, group, [later for later, _ in entries[place + 1 :]])
        names[painted] = f"{names[painted]} or {text}" if painted in names else text
    return Labels(names, numbers, tuple(regions.values()), order, ignore)


def _what_stays(name: str, group: tuple[int, ...], later: list[tuple[str, tuple[int, ...]]]) -> str:
    """The name of a region less those painted over it later."""
    over = [(other, numbers) for other, numbers in later if set(numbers) & set(group)]
    largest = [other for other, numbers in over if not any(set(numbers) < set(more) for _, more in over)]
    return f"{name} without {' and '.join(largest)}" if largest else name


def _numbers(value: Any, name: str, where: str) -> tuple[int, ...]:
    group = value if isinstance(value, list) else [value]
    if not name.strip() or len(name) > _MOST_TEXT or not 1 <= len(group) <= MOST_LABELS:
        raise IncompatibleModelError(f"{where}: a label has an empty or endless name or value")
    numbers: list[int] = []
    for number in group:
        whole = isinstance(number, int) or (isinstance(number, str) and number.isdecimal() and len(number) <= 6)
        if not whole or isinstance(number, bool) or not 0 <= int(number) < MOST_LABELS:
            raise IncompatibleModelError(f"{where}: label {name!r} has a value that is no number from 0 to {MOST_LABELS - 1}")
        numbers.append(int(number))
    return tuple(numbers)


def _channels(entries: dict[str, Any], where: str) -> tuple[str, ...]:
    named = entries.get("channel_names", entries.get("modality"))
    if not isinstance(named, dict) or not 1 <= len(named) <= 64:
        raise IncompatibleModelError(f"{where} has no usable `channel_names`: from 1 to 64 channels are needed")
    try:
        return tuple(_text(named[str(number)]) for number in range(len(named)))
    except KeyError as err:
        raise IncompatibleModelError(f"{where}: `channel_names` are not numbered 0, 1, 2, …") from err


def _text(value: Any) -> str:
    return value[:_MOST_TEXT].strip() if isinstance(value, str) else ""
