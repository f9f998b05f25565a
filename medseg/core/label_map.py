"""Segments on a grid: one integer a voxel, or one probability a voxel and segment."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, SegmentError, UnknownSegmentError
from medseg.core.finding import Finding
from medseg.core.geometry import Geometry
from medseg.core.model_spread import ModelSpread
from medseg.core.provenance import Provenance
from medseg.core.segment import Segment
from medseg.core.volume import Source, as_native_fortran

_SLAB_VOXELS = 1 << 22  # bincount turns its input into int64: a slab at a time keeps that copy small
_GLANCE_VOXELS = 1 << 16
_NEAREST = 5  # labels that a message names
_FEW = 16  # up to so many numbers looking for each is faster than counting all


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Structures on a grid: `array` (i,j,k) of unsigned integers, 0 = background, each other value a segment's number.

    Numbers and labels are unique; every value in the array has a segment (a segment may have no voxel). `model_spread` is
    what the passes of the network that drew it differ by. Raises SegmentError or GeometryError where that does not hold.

    >>> grid = Geometry((2, 2, 2), np.eye(4))
    >>> organs = LabelMap(np.ones((2, 2, 2), np.uint8), grid, (Segment(1, "liver"),))
    >>> organs["liver"].number, int(organs.mask("liver").sum())
    (1, 8)
    """

    array: npt.NDArray[Any]
    geometry: Geometry
    segments: tuple[Segment, ...]
    source: Source | None = None
    findings: tuple[Finding, ...] = ()
    provenance: Provenance | None = None
    model_spread: ModelSpread | None = None

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.shape != self.geometry.shape:
            raise GeometryError(f"the array has shape {array.shape}, its grid {self.geometry.shape}: a label map is 3D, axes (i,j,k)")
        if array.dtype.kind not in "ub":
            raise SegmentError(f"a label map holds unsigned integers, got {array.dtype}")
        segments = tuple(sorted(self.segments, key=lambda segment: segment.number))
        _check_unique(segments)
        array = as_native_fortran(array)
        unknown = sorted(set(present_numbers(array)) - {segment.number for segment in segments})
        if unknown:
            raise SegmentError(f"voxels hold {unknown[:10]}, but no segment has that number: name every structure")
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "segments", segments)
        object.__setattr__(self, "findings", tuple(self.findings))

    def __getitem__(self, label: str | int) -> Segment:
        for segment in self.segments:
            if label in (segment.label, segment.number):
                return segment
        raise UnknownSegmentError(f"no segment {label!r} in this label map; {_known(label, self.segments)}")

    def mask(self, label: str | int) -> npt.NDArray[np.bool_]:
        """Return the voxels of one segment as bool (i,j,k)."""
        return np.asarray(self.array == self[label].number)

    def with_array(self, array: npt.NDArray[Any], geometry: Geometry | None = None, **changes: Any) -> LabelMap:
        """Return this label map with other voxels, and another grid where given."""
        return replace(self, array=array, geometry=geometry or self.geometry, **changes)


@dataclass(frozen=True, eq=False)
class ProbabilityMap:
    """How likely each segment is in each voxel: `array` (C,I,J,K) of floats from 0 to 1, one channel a segment."""

    array: npt.NDArray[np.floating[Any]]
    geometry: Geometry
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if self.array.shape != (len(self.segments), *self.geometry.shape):
            raise GeometryError(f"probabilities have shape {self.array.shape}, expected {(len(self.segments), *self.geometry.shape)}")
        _check_unique(self.segments)

    def to_label_map(self) -> LabelMap:
        """Give each voxel its likeliest segment, or background where all segments together are less likely than that."""
        best = self.array.argmax(axis=0)
        background = 1 - self.array.sum(axis=0)
        top = np.take_along_axis(self.array, best[None], axis=0)[0]
        numbers = np.array([segment.number for segment in self.segments])
        labels = np.where(top > background, numbers[best], 0)
        return LabelMap(labels.astype(smallest_unsigned(int(numbers.max()))), self.geometry, self.segments)


def present_numbers(array: npt.NDArray[Any]) -> list[int]:
    """Return the non-zero values of an unsigned label array in ascending order."""
    flat = array.reshape(-1, order="A") if array.flags.f_contiguous or array.flags.c_contiguous else array.ravel()
    largest = int(flat.max(initial=0))
    if largest <= _FEW:
        return _present_of_few(flat, largest)
    if array.dtype.itemsize > 2:
        found = {int(v) for start in range(0, flat.size, _SLAB_VOXELS) for v in np.unique(flat[start : start + _SLAB_VOXELS])}
        return sorted(found - {0})
    counts = np.zeros(np.iinfo(array.dtype).max + 1, dtype=np.int64)
    for start in range(0, flat.size, _SLAB_VOXELS):
        counts += np.bincount(flat[start : start + _SLAB_VOXELS], minlength=counts.size)
    return [int(number) for number in np.flatnonzero(counts) if number]


def _present_of_few(flat: npt.NDArray[Any], largest: int) -> list[int]:
    """Look for each number and stop at the first voxel that holds it: most masks show all of theirs early."""
    missing = set(range(1, largest))
    for start in range(0, flat.size, _GLANCE_VOXELS):
        if not missing:
            break
        part = flat[start : start + _GLANCE_VOXELS]
        missing -= {number for number in missing if (part == number).any()}
    return [number for number in range(1, largest + 1) if number not in missing]


def smallest_unsigned(largest: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds `largest`.

    >>> smallest_unsigned(255).name, smallest_unsigned(256).name
    ('uint8', 'uint16')
    """
    return np.dtype(np.uint8 if largest < 1 << 8 else np.uint16 if largest < 1 << 16 else np.uint32)


def _known(label: str | int, segments: Sequence[Segment]) -> str:
    """Return the labels there are: all of a few, the nearest of many with their count."""
    labels = [segment.label for segment in segments]
    if len(labels) <= _NEAREST:
        return f"it has: {', '.join(labels) or 'none'}"
    lower = {name.casefold(): name for name in reversed(labels)}
    near = [lower[name] for name in difflib.get_close_matches(str(label).casefold(), list(lower), n=_NEAREST, cutoff=0.0)]
    return f"nearest of its {len(labels):,}: {', '.join(near)}"


def _check_unique(segments: Iterable[Segment]) -> None:
    numbers: set[int] = set()
    labels: set[str] = set()
    for segment in segments:
        if segment.number in numbers or segment.label in labels:
            raise SegmentError(f"two segments share number {segment.number} or label {segment.label!r}: both must be unique")
        numbers.add(segment.number)
        labels.add(segment.label)
