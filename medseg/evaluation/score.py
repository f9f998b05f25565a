"""The agreement of one segment: what was counted, what follows from it, and whether the segment was found at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from medseg.core.errors import ParameterError

if TYPE_CHECKING:
    from medseg.evaluation.detection import Detection
    from medseg.evaluation.surface import SurfaceScore

Definition = Literal["max-directed", "pooled"]
DEFINITIONS: tuple[Definition, ...] = ("max-directed", "pooled")

OVERLAP_SHARES = ("dice", "iou", "sensitivity", "precision")
VOLUME_DIFFERENCES = ("volume_difference_ml", "volume_difference_percent", "absolute_volume_difference_percent")

_ABSENT_IN_BOTH = "the segment has no voxel in the reference and none in the prediction"
_ABSENT_IN_REFERENCE = "the segment has no voxel in the reference"
_ABSENT_IN_PREDICTION = "the segment has no voxel in the prediction"
_NO_SURFACES = "surfaces were not compared"


class Outcome(str, Enum):
    """What became of a segment: on both sides, on one only, on none; or its case could not be compared."""

    COMPARED = "compared"
    MISSED = "missed"
    FALSE = "false"
    ABSENT = "absent"
    FAILED = "failed"


@dataclass(frozen=True)
class SurfaceRule:
    """How surface distances are made one number: tolerances of NSD and boundary F1, the percentile, and its definition.

    "max-directed": the larger of the two directed percentiles, the usual HD95. "pooled": the percentile of both directions
    together; it has a key of its own (hd95_pooled_mm), since it is another quantity. Raises ParameterError for values that
    make no sense.

    >>> SurfaceRule((1.0, 2.5), 95, "pooled").percentile_key
    'hd95_pooled_mm'
    """

    tolerances_mm: tuple[float, ...] = (1.0,)
    percentile: float = 95.0
    definition: Definition = "max-directed"

    def __post_init__(self) -> None:
        tolerances = tuple(dict.fromkeys(float(tolerance) for tolerance in self.tolerances_mm))
        if any(not 0 <= tolerance < float("inf") for tolerance in tolerances):
            raise ParameterError(f"a tolerance is a distance in mm from 0, got {tolerances}")
        if not 0 < self.percentile <= 100:
            raise ParameterError(f"the percentile of surface distances lies above 0 and up to 100, got {self.percentile:g}")
        if self.definition not in DEFINITIONS:
            raise ParameterError(f"the definition of the percentile is max-directed or pooled, got {self.definition!r}")
        object.__setattr__(self, "tolerances_mm", tolerances)

    @property
    def percentile_key(self) -> str:
        """The key of the percentile distance; never hd95_mm for another quantity."""
        return f"hd{self.percentile:g}{'_pooled' if self.definition == 'pooled' else ''}_mm"

    @property
    def distances(self) -> tuple[str, ...]:
        """Keys of values in mm, 0 for equal masks and unbounded."""
        return tuple(dict.fromkeys(("hd_mm", self.percentile_key, "assd_mm", "masd_mm", "centre_distance_mm")))

    @property
    def shares(self) -> tuple[str, ...]:
        """Keys of values from 0 to 1, with their tolerance."""
        return tuple(f"{name}_{tolerance:g}mm" for name in ("nsd", "boundary_f1") for tolerance in self.tolerances_mm)

    def values(self, score: SurfaceScore) -> dict[str, float | None]:
        """Return the values of a surface score under their keys."""
        found: dict[str, float | None] = {"hd_mm": score.hd_mm, self.percentile_key: score.hd_percentile_mm}
        found |= {"assd_mm": score.assd_mm, "masd_mm": score.masd_mm, "centre_distance_mm": score.centre_distance_mm}
        for name, shares in (("nsd", score.nsd), ("boundary_f1", score.boundary_f1)):
            found |= {f"{name}_{tolerance:g}mm": (shares or {}).get(tolerance) for tolerance in self.tolerances_mm}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the part of the summary that says what the distances are."""
        percentile = int(self.percentile) if float(self.percentile).is_integer() else self.percentile
        return {"definition": self.definition, "percentile": percentile, "tolerances_mm": list(self.tolerances_mm)}


@dataclass(frozen=True)
class SegmentScore:
    """The agreement of one segment; a value that is not defined is None, and `reason` says why.

    Dice 2TP/(2TP+FP+FN) and IoU TP/(TP+FP+FN) are 0 for a segment that only one side has, undefined where both lack it;
    sensitivity TP/(TP+FN) is undefined without reference voxels, precision TP/(TP+FP) without predicted ones
    (Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z). `surface` holds distances in mm by key, none where a side is
    empty. `failure` says why the case could not be compared at all: nothing is known of the prediction then.
    """

    number: int
    label: str
    reference_voxels: int
    prediction_voxels: int
    common_voxels: int
    reference_volume_ml: float
    prediction_volume_ml: float
    note: str = ""
    matched_by: str = ""
    failure: str = ""
    diagonal_mm: float | None = None
    surface: Mapping[str, float | None] = field(default_factory=dict)
    surface_reason: str = _NO_SURFACES
    detection: Detection | None = None

    @property
    def outcome(self) -> Outcome:
        """Whether the segment was found, missed, false, absent on both sides, or could not be compared."""
        if self.failure:
            return Outcome.FAILED if self.reference_voxels else Outcome.ABSENT
        if self.reference_voxels and self.prediction_voxels:
            return Outcome.COMPARED
        return Outcome.MISSED if self.reference_voxels else Outcome.FALSE if self.prediction_voxels else Outcome.ABSENT

    @property
    def dice(self) -> float | None:
        """Dice coefficient."""
        total = self.reference_voxels + self.prediction_voxels
        return 2 * self.common_voxels / total if total and not self.failure else None

    @property
    def iou(self) -> float | None:
        """Intersection over union."""
        union = self.reference_voxels + self.prediction_voxels - self.common_voxels
        return self.common_voxels / union if union and not self.failure else None

    @property
    def sensitivity(self) -> float | None:
        """Share of the reference that was found."""
        return self.common_voxels / self.reference_voxels if self.reference_voxels and not self.failure else None

    @property
    def precision(self) -> float | None:
        """Share of the prediction that is right."""
        return self.common_voxels / self.prediction_voxels if self.prediction_voxels and not self.failure else None

    @property
    def volume_difference_ml(self) -> float | None:
        """Prediction minus reference."""
        return None if self.failure else self.prediction_volume_ml - self.reference_volume_ml

    @property
    def volume_difference_percent(self) -> float | None:
        """Difference relative to the reference; undefined without reference voxels."""
        if self.failure or not self.reference_voxels:
            return None
        return 100 * (self.prediction_voxels - self.reference_voxels) / self.reference_voxels  # whole numbers: a miss is -100 exactly

    @property
    def absolute_volume_difference_percent(self) -> float | None:
        """The same without sign: its mean does not let too much in one case make up for too little in another."""
        percent = self.volume_difference_percent
        return None if percent is None else abs(percent)

    @property
    def reason(self) -> str:
        """Why a value is undefined or a side is empty, or ""."""
        if self.failure:
            return self.failure
        if not self.reference_voxels and not self.prediction_voxels:
            return _ABSENT_IN_BOTH
        if not self.reference_voxels:
            return _ABSENT_IN_REFERENCE
        if not self.prediction_voxels:
            return _ABSENT_IN_PREDICTION
        return ""

    def _other_percentile(self) -> str:
        given = next((key for key in self.surface if key.startswith("hd") and key != "hd_mm"), "")
        return f"another percentile or definition was asked for: {given}"

    def values(self) -> dict[str, float | None]:
        """Return every score by its key, those of surfaces included."""
        return {name: getattr(self, name) for name in (*OVERLAP_SHARES, *VOLUME_DIFFERENCES)} | dict(self.surface)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON row."""
        row: dict[str, Any] = {"number": self.number, "label": self.label, "outcome": self.outcome.value}
        row |= self.values()
        if row.get("hd95_mm") is None:
            row["hd95_mm"] = None
            if not self.reason:
                row["hd95_mm_reason"] = self.surface_reason or self._other_percentile()
        unknown = bool(self.failure)
        row |= {"reference_voxels": self.reference_voxels, "reference_volume_ml": self.reference_volume_ml}
        row |= {
            "prediction_voxels": None if unknown else self.prediction_voxels,
            "common_voxels": None if unknown else self.common_voxels,
            "prediction_volume_ml": None if unknown else self.prediction_volume_ml,
        }
        row |= {"matched_by": self.matched_by, "reason": self.reason, "note": self.note}
        if self.detection is not None:
            row["lesions"] = self.detection.to_dict()
        return row
