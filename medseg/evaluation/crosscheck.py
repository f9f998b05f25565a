"""The same scores from SimpleITK and MONAI, and how far they are from ours: a check for those who do not trust one program."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.overlap import Evaluation
from medseg.evaluation.score import Outcome, SegmentScore, SurfaceRule
from medseg.evaluation.segment_pairs import pair_segments

Mask = npt.NDArray[np.uint8]
Values = dict[str, float]

_SHEARED = "grids whose axes are not at right angles are left out: the package knows spacings only"


class Package(Protocol):
    """A package that can score two masks."""

    name: str
    explained: dict[str, str]

    def version(self) -> str:
        """Which version runs."""

    def values(self, masks: tuple[Mask, Mask], geometry: Geometry, score: SegmentScore, rule: SurfaceRule | None) -> tuple[Values, Values]:
        """Return the package's values and ours, by the same keys."""


class _SimpleITK:
    """Dice, IoU and the Hausdorff distance of SimpleITK's label filters."""

    name = "SimpleITK"
    explained = {  # noqa: RUF012 - a constant of a private class
        "hd_mm": "SimpleITK measures from every voxel of one mask to the other mask, which is 0 inside it: smaller than between surfaces",
    }

    def __init__(self) -> None:
        self.sitk: Any = import_module("SimpleITK")

    def version(self) -> str:
        return str(self.sitk.Version.VersionString())

    def values(self, masks: tuple[Mask, Mask], geometry: Geometry, score: SegmentScore, rule: SurfaceRule | None) -> tuple[Values, Values]:
        images = [self.sitk.GetImageFromArray(mask) for mask in masks]
        for image in images:
            image.SetSpacing(geometry.spacing_mm)
        overlap = self.sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(*images)
        theirs = {"dice": float(overlap.GetDiceCoefficient(1)), "iou": float(overlap.GetJaccardCoefficient(1))}
        if rule is not None and not geometry.is_sheared:
            distance = self.sitk.HausdorffDistanceImageFilter()
            distance.Execute(*images)
            theirs["hd_mm"] = float(distance.GetHausdorffDistance())
        return theirs, _ours(score, theirs)


class _Monai:
    """Dice, IoU, HD, HD95 and NSD of MONAI; its distances run between border voxels, so ours are computed between those too."""

    name = "MONAI"
    explained = {  # noqa: RUF012
        "hd_mm (voxel borders)": "both between the centres of border voxels, MONAI's definition",
        "percentile (voxel borders)": "both between the centres of border voxels, MONAI's definition",
        "percentile": "ours weights surfaces by area, MONAI counts border voxels",
    }

    def __init__(self) -> None:
        # MONAI warns about its own deprecations while it is imported, and may replace the function that shows warnings
        show = warnings.showwarning
        try:
            with _silent():
                self.metrics: Any = import_module("monai.metrics")
                self.torch: Any = import_module("torch")
        finally:
            warnings.showwarning = show

    def version(self) -> str:
        return str(import_module("monai").__version__)

    def values(self, masks: tuple[Mask, Mask], geometry: Geometry, score: SegmentScore, rule: SurfaceRule | None) -> tuple[Values, Values]:
        ours, theirs = (self.torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in masks)
        with _silent():
            found = {"dice": float(self.metrics.compute_dice(theirs, ours)), "iou": float(self.metrics.compute_iou(theirs, ours))}
            mine = _ours(score, found)
            if rule is None or geometry.is_sheared:
                return found, mine
            spacing = geometry.spacing_mm[::-1]
            own = _voxel_surface(masks, geometry, rule)
            distance = self.metrics.compute_hausdorff_distance
            found["hd_mm (voxel borders)"] = float(distance(theirs, ours, include_background=True, spacing=spacing))
            mine["hd_mm (voxel borders)"] = own[0]
            if rule.definition == "max-directed":
                share = float(distance(theirs, ours, include_background=True, percentile=rule.percentile, spacing=spacing))
                found |= {"percentile (voxel borders)": share, "percentile": share}
                mine |= {"percentile (voxel borders)": own[1], "percentile": float(score.surface[rule.percentile_key] or 0)}
            for tolerance in rule.tolerances_mm:
                key = f"nsd_{tolerance:g}mm"
                found[key] = self._nsd(theirs, ours, tolerance, spacing)
                mine |= _ours(score, {key: 0.0})
        return found, mine

    def _nsd(self, theirs: Any, ours: Any, tolerance: float, spacing: Sequence[float]) -> float:
        """NSD between surfaces weighted by area, as ours is."""
        options = {"include_background": True, "spacing": spacing, "use_subvoxels": True}
        return float(self.metrics.compute_surface_dice(theirs, ours, [tolerance], **options))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _ours(score: SegmentScore, wanted: Values) -> Values:
    values = score.values()
    return {key: float(value) for key in wanted if (value := values.get(key)) is not None}


def _voxel_surface(masks: tuple[Mask, Mask], geometry: Geometry, rule: SurfaceRule) -> tuple[float, float]:
    """Our HD and percentile between border voxels."""
    from medseg.evaluation.surface import surface_scores

    reference, prediction = (LabelMap(mask.T, geometry, (Segment(1, "segment"),)) for mask in masks)
    found = surface_scores(reference, prediction, {1: (1, 1)}, tolerances_mm=(), percentile=rule.percentile, surface="voxels")[1]
    return float(found.hd_mm or 0), float(found.hd_percentile_mm or 0)


@dataclass
class _Tally:
    package: Package
    largest: dict[str, tuple[float, str]] = field(default_factory=dict)
    compared: int = 0

    def add(self, theirs: Values, ours: Values, label: str) -> None:
        self.compared += 1
        for key, value in theirs.items():
            if key in ours:
                difference = abs(value - ours[key]) if np.isfinite(value) else float("inf")
                if difference > self.largest.get(key, (-1.0, ""))[0]:
                    self.largest[key] = (difference, label)


@dataclass
class Checks:
    """The packages that are installed, and the largest difference of each so far."""

    tallies: list[_Tally]
    missing: list[str]
    sheared: bool = False

    @staticmethod
    def start() -> Checks:
        """Load SimpleITK, and MONAI where it is installed."""
        missing = [] if _is_installed("monai") and _is_installed("torch") else ["MONAI"]
        packages: list[Package] = [_SimpleITK(), *([] if missing else [_Monai()])]
        return Checks([_Tally(package) for package in packages], missing)

    def add(self, reference: Sequence[LabelMap], prediction: Sequence[LabelMap], evaluation: Evaluation) -> None:
        """Recompute every segment that both sides have, each in its own box."""
        pairs = pair_segments(reference, prediction).pairs
        geometry = reference[0].geometry
        self.sheared |= geometry.is_sheared
        for pair, score in zip(pairs, evaluation.scores, strict=True):
            if score.outcome is Outcome.COMPARED and pair.reference and pair.prediction:
                masks = _boxed(_mask(reference, pair.reference), _mask(prediction, pair.prediction))
                box = Geometry((masks[0].shape[2], masks[0].shape[1], masks[0].shape[0]), geometry.affine)
                for tally in self.tallies:
                    tally.add(*tally.package.values(masks, box, score, evaluation.surface), score.label)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the JSON form: a package a row, its largest differences by score; null where it gave no number."""
        rows: list[dict[str, Any]] = []
        for tally in self.tallies:
            largest = [
                {
                    "score": key,
                    "largest_difference": difference if np.isfinite(difference) else None,
                    "segment": label,
                    "note": tally.package.explained.get(key, ""),
                }
                for key, (difference, label) in tally.largest.items()
            ]
            row = {"package": tally.package.name, "version": tally.package.version(), "segment_count": tally.compared}
            rows.append(row | {"differences": largest, "note": _SHEARED if self.sheared else ""})
        return rows + [
            {"package": name, "version": None, "segment_count": 0, "differences": [], "note": "not installed"} for name in self.missing
        ]


def _is_installed(name: str) -> bool:
    return find_spec(name) is not None


def _mask(layers: Sequence[LabelMap], segment: Segment) -> npt.NDArray[np.bool_]:
    layer = next(layer for layer in layers if segment in layer.segments)
    return np.asarray(np.equal(layer.array.T, segment.number))


def _boxed(reference: npt.NDArray[np.bool_], prediction: npt.NDArray[np.bool_]) -> tuple[Mask, Mask]:
    """Both masks (k,j,i) in the box that holds them; what touches its side touches background or the border of the scan."""
    both = reference | prediction
    part = []
    for axis in range(3):
        hit = np.flatnonzero(both.any(axis=tuple(n for n in range(3) if n != axis)))
        part.append(slice(int(hit[0]), int(hit[-1]) + 1))
    box = tuple(part)
    return np.pad(reference[box], 1).view(np.uint8), np.pad(prediction[box], 1).view(np.uint8)
