"""How two results of one case differ: voxel by voxel, in ml, and where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.label_map import LabelMap
from medseg.outputs.run_folder import FORMATS

_SLAB_VOXELS = 1 << 22
_NOT_NAMED = "not named"
# in the order in which a difference is told: DICOM SEG last, whose frames are those with voxels in them
_SEGMENTATIONS = sorted((f"segmentation{suffix}" for suffix in FORMATS.values()), key=lambda name: name.endswith(".dcm"))


@dataclass(frozen=True)
class Difference:
    """What differs most: the segment, its volume before and now in ml (None where it has none), and where.

    `voxels` counts the voxels whose label differs, over all segments; `where_ras_mm` is one of those of `label`, the nearest to
    their middle, None where all voxels are the same. `quantity` is "volume", or the first other measurement that differs. `file`
    is the segmentation that the voxels are of.
    """

    label: str
    quantity: str
    before: Any
    now: Any
    voxels: int = 0
    where_ras_mm: tuple[float, float, float] | None = None
    file: str = ""

    @property
    def volume_ml(self) -> float:
        """The difference of the volumes, 0 where another quantity is named; one that is missing counts as 0 ml."""
        return abs((self.now or 0.0) - (self.before or 0.0)) if self.quantity == "volume" else 0.0

    @property
    def size(self) -> tuple[float, int]:
        """What differences are ordered by."""
        return self.volume_ml, self.voxels

    def __str__(self) -> str:
        where = "" if self.where_ras_mm is None else " around R {:.1f}, A {:.1f}, S {:.1f} mm".format(*self.where_ras_mm)
        moved = f"{self.voxels:,} voxels differ in {self.file}" if self.voxels else "all voxels are the same"
        label = self.label or "background"
        if self.quantity == "volume":
            return f"{label}: {_said(self.before)} ml, now {_said(self.now)} ml (difference {self.volume_ml:.6g} ml); {moved}{where}"
        return f"{label}: {self.quantity} {_said(self.before)}, now {_said(self.now)}; {moved}{where}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        where = None if self.where_ras_mm is None else list(self.where_ras_mm)
        return {**vars(self), "volume_difference_ml": self.volume_ml, "where_ras_mm": where}


def difference_between(before: Path, now: Path, names: Sequence[str]) -> Difference | None:
    """Return the largest difference between two case folders with these files, None where labels and measurements are the same.

    Every format of the segmentation is compared; voxels are told of the first that differs. Raises what reading a segmentation raises.
    """
    old_rows, new_rows = (_rows(folder / "measurements.json") for folder in (before, now))
    moved = _Moved()
    for name in _SEGMENTATIONS:
        if name in names and not moved.voxels:
            moved = _moved(before / name, now / name)
    if not moved.voxels and old_rows == new_rows:
        return None
    labels = {*old_rows, *new_rows} or set(moved.of_label)
    label = max(sorted(labels), key=lambda label: (_change_ml(label, old_rows, new_rows), moved.of_label.get(label, 0)), default="")
    if moved.voxels or _change_ml(label, old_rows, new_rows):
        where = moved.where.get(label)
        return Difference(label, "volume", _ml(old_rows, label), _ml(new_rows, label), moved.voxels, where, moved.file)
    return _other_difference(old_rows, new_rows)


@dataclass(frozen=True)
class _Moved:
    """The voxels of a file whose label differs: how many, how many left or joined each label, and one of those of each in RAS mm."""

    file: str = ""
    voxels: int = 0
    of_label: Mapping[str, int] = field(default_factory=dict)
    where: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


def _moved(before: Path, now: Path) -> _Moved:
    from medseg.io.read import read_label_map

    old, new = read_label_map(before), read_label_map(now)
    if old.array.shape != new.array.shape or not old.geometry.matches(new.geometry):
        return _Moved(now.name, new.array.size)
    labels = ["", *sorted({segment.label for one in (old, new) for segment in one.segments})]
    first, second = _numbered(old, labels), _numbered(new, labels)
    slabs = range(0, first.size, _SLAB_VOXELS)
    differing = np.concatenate([at + np.flatnonzero(first[at : at + _SLAB_VOXELS] != second[at : at + _SLAB_VOXELS]) for at in slabs])
    left, joined = first[differing], second[differing]
    of_label, where = {}, {}
    for number in np.union1d(left, joined):
        places = differing[(left == number) | (joined == number)]
        index = np.stack(np.unravel_index(places, old.array.shape, order="F"), axis=1)
        nearest = index[((index - index.mean(axis=0)) ** 2).sum(axis=1).argmin()]
        right, anterior, superior = (float(value) for value in old.geometry.index_to_world(nearest))
        of_label[labels[number]] = places.size
        where[labels[number]] = (right, anterior, superior)
    return _Moved(now.name, differing.size, of_label, where)


def _numbered(label_map: LabelMap, labels: Sequence[str]) -> npt.NDArray[Any]:
    """The voxels as a flat array of places in `labels`, whatever numbers the segments have in the file."""
    flat = label_map.array.reshape(-1, order="F")
    numbers = {segment.number: labels.index(segment.label) for segment in label_map.segments}
    if all(number == place for number, place in numbers.items()):
        return flat
    table = np.zeros(int(flat.max(initial=0)) + 1, np.uint32)
    for number, place in numbers.items():
        if number < table.size:
            table[number] = place
    return table[flat]


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    return {str(row["label"]): row for row in json.loads(path.read_bytes())["segments"]}


def _ml(rows: Mapping[str, Mapping[str, Any]], label: str) -> float | None:
    return rows.get(label, {}).get("volume_ml")


def _change_ml(label: str, before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> float:
    return abs((_ml(now, label) or 0.0) - (_ml(before, label) or 0.0))


def _other_difference(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> Difference:
    """Return what differs although every voxel and volume is the same: an interval, a mean, a segment that came or went.

    A quantity that one of the two does not name at all differs from one that has no value.
    """
    for label in sorted({*before, *now}):
        old, new = before.get(label, {}), now.get(label, {})
        for quantity in sorted({*old, *new}):
            values = old.get(quantity, _NOT_NAMED), new.get(quantity, _NOT_NAMED)
            if values[0] != values[1]:
                return Difference(label, quantity, *values)
    return Difference("measurements.json", "content", "as it was", "another")


def _said(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
