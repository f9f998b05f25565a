"""Where a point of one scan lies in another: rigid, and if asked for deformable, registration of two scans of one patient.

Mattes mutual information (doi:10.1109/TMI.2003.809072) over a pyramid of 8, 4 and 2 mm, on the body only, from several
starts: SimpleITK does the optimisation. Everything is in RAS+ mm; the result maps points of the fixed scan into the moving one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity, errors_in
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume

if TYPE_CHECKING:
    from medseg.preprocessing.registration_images import Pyramid

FloatArray = npt.NDArray[np.float64]

LEAST_BODY_OVERLAP = 0.7  # Dice of the two bodies where both scans see: below, they do not lie on each other
NOTED_BODY_OVERLAP = 0.85  # below, something moved that is not rigid, or one scan shows its body badly
LARGEST_DISAGREEMENT_MM = 10.0  # forth and back again from another start: above, there is no one place where the scans fit
NOTED_DISAGREEMENT_MM = 3.0  # above, lesions closer than this cannot be told apart with certainty
MOST_FOLDING = 0.001  # part of the body that a deformation may turn inside out
MOST_INVERSE_STEPS = 60


@dataclass(frozen=True, eq=False)
class Registration:
    """How the points of a fixed scan map into a moving one: a rigid `matrix` (4×4, RAS+ mm), then displacements if deformable.

    `quality` holds the figures behind the verdict, `findings` the verdict in words: it failed where one is an error.

    >>> Registration().to_moving([[1.0, 2.0, 3.0]]).tolist()
    [[1.0, 2.0, 3.0]]
    """

    kind: str = "none"
    matrix: FloatArray = field(default_factory=lambda: np.eye(4))
    quality: Mapping[str, float | None] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    deformation: Any = None  # a SimpleITK transform: fixed points to fixed points, before the matrix

    @property
    def failed(self) -> bool:
        """Whether the result must not be used."""
        return bool(errors_in(self.findings))

    @property
    def shift_mm(self) -> float:
        """Length of the translation of the matrix."""
        return float(np.linalg.norm(self.matrix[:3, 3]))

    @property
    def rotation_degrees(self) -> float:
        """Angle of the rotation of the matrix."""
        return float(np.degrees(np.arccos(np.clip((np.trace(self.matrix[:3, :3]) - 1) / 2, -1, 1))))

    def to_moving(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (..., 3) of the fixed scan into the moving one, RAS+ mm."""
        points = self._deformed(np.asarray(points_mm, dtype=np.float64))
        return np.asarray(points @ self.matrix[:3, :3].T + self.matrix[:3, 3])

    def to_fixed(self, points_mm: npt.ArrayLike) -> FloatArray:
        """Map points (..., 3) of the moving scan into the fixed one; a deformation is undone by iteration (to 0.01 mm)."""
        inverse = np.linalg.inv(self.matrix)
        wanted = np.asarray(points_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        if self.deformation is None:
            return np.asarray(wanted)
        points = wanted.copy()
        for _ in range(MOST_INVERSE_STEPS):
            apart = self._deformed(points) - wanted
            points -= apart
            if not apart.size or float(np.abs(apart).max()) < 0.01:
                break
        return np.asarray(points)

    def onto(self, moving: Volume, geometry: Geometry) -> Volume:
        """Resample the moving scan onto a grid of the fixed one (linear), to look at; never to measure on."""
        from medseg.preprocessing.registration_images import sampled_at

        index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1).reshape(-1, 3)
        values = np.empty(len(index), np.float32)
        for start in range(0, len(index), 1 << 20):  # a part at a time: the points weigh more than the voxels
            part = slice(start, start + (1 << 20))
            values[part] = sampled_at(moving, self.to_moving(geometry.index_to_world(index[part])))
        array = np.asfortranarray(values.reshape(geometry.shape))
        return Volume(array, geometry, moving.modality, moving.unit)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "kind": self.kind,
            "matrix_fixed_to_moving_ras": self.matrix.tolist(),
            "shift_mm": self.shift_mm,
            "rotation_degrees": self.rotation_degrees,
            "quality": dict(self.quality),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def _deformed(self, points: FloatArray) -> FloatArray:
        if self.deformation is None:
            return points
        flat = points.reshape(-1, 3)
        moved = [self.deformation.TransformPoint(point) for point in flat.tolist()]
        return np.asarray(moved, dtype=np.float64).reshape(points.shape)


def register(
    fixed: Volume,
    moving: Volume,
    *,
    deformable: bool = False,
    spacing_mm: float = 2.0,
    seed: int = 20240229,
    control_spacing_mm: float = 100.0,
) -> Registration:
    """Find where every point of `fixed` lies in `moving`, two scans of one patient of any modality, grid and field of view.

    Rigid first: several starts (positions as they are, centres of the grids and of the bodies, shifts along the body, turns
    of 15°) on 8 mm voxels, the best of them refined at 4 mm and `spacing_mm`. With `deformable` a B-spline of control points
    `control_spacing_mm` apart follows. The same input gives the same result. The check registers back from another start:
    `consistency_mm` is how far the body misses itself on the way forth and back. A result that fails the check has a finding
    of severity error and says why in words; it must not be used. Raises InputError where a scan holds nothing to register
    (one value, fewer than 4 voxels along an axis) or SimpleITK finds no overlap.
    Source: doi:10.1109/TMI.2003.809072 (Mattes mutual information), doi:10.1109/42.796284 (B-splines).
    """
    from medseg.preprocessing.registration_images import pyramid
    from medseg.preprocessing.registration_search import back_again, search

    still, moved = pyramid(fixed, spacing_mm, "the first scan"), pyramid(moving, spacing_mm, "the second scan")
    found = search(still, moved, seed)
    returned = back_again(still, moved, found.matrix, seed)
    quality = {
        "metric_before": found.metric_before,
        "metric_after": found.metric_after,
        "body_overlap_before": body_overlap(still, moved, np.eye(4)),
        "body_overlap_after": body_overlap(still, moved, found.matrix),
        "consistency_mm": _miss_mm(still, found.matrix, returned),
    }
    rigid = Registration("rigid", found.matrix, quality, _verdict(quality))
    if not deformable or rigid.failed:
        return rigid
    return _deformed(rigid, still, moved, control_spacing_mm, seed)


def body_overlap(still: Pyramid, moved: Pyramid, matrix: FloatArray) -> float | None:
    """Return the Dice of two bodies at 4 mm where both scans see; None where they see nothing in common."""
    level = still.levels[1] if len(still.levels) > 1 else still.levels[0]
    other = moved.levels[1] if len(moved.levels) > 1 else moved.levels[0]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in level.geometry.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points = level.geometry.index_to_world(index) @ matrix[:3, :3].T + matrix[:3, 3]
    there = np.rint(other.geometry.world_to_index(points)).astype(np.int64)
    seen = ((there >= 0) & (there < np.asarray(other.geometry.shape))).all(axis=1)
    one = level.body[tuple(index[seen].T)]
    two = other.body[tuple(there[seen].T)]
    total = int(one.sum()) + int(two.sum())
    return 2.0 * int((one & two).sum()) / total if total else None


def _miss_mm(still: Pyramid, forth: FloatArray, back: FloatArray) -> float:
    """Mean distance by which points of the body miss themselves on the way forth and back."""
    points = still.body_points_mm
    there = points @ forth[:3, :3].T + forth[:3, 3]
    home = there @ back[:3, :3].T + back[:3, 3]
    return float(np.linalg.norm(home - points, axis=1).mean())


_SAME_METRIC = 1e-3  # nats: two samples of the same voxels differ by as much


def _verdict(quality: Mapping[str, float | None]) -> tuple[Finding, ...]:
    """Say in words what the figures mean."""
    overlap, miss = quality["body_overlap_after"], quality["consistency_mm"]
    before, after = quality["metric_before"], quality["metric_after"]
    why = []
    if overlap is None or overlap < LEAST_BODY_OVERLAP:
        share = "nothing in common" if overlap is None else f"a Dice of {overlap:.2f} (at least {LEAST_BODY_OVERLAP})"
        why.append(f"the two bodies have {share} where both scans see")
    if miss is not None and miss > LARGEST_DISAGREEMENT_MM:
        why.append(f"registered back from another start the body misses itself by {miss:.1f} mm (at most {LARGEST_DISAGREEMENT_MM:g} mm)")
    if before is not None and after is not None and after < before - _SAME_METRIC:
        why.append(f"the mutual information fell from {before:.3f} to {after:.3f}")
    if why:
        text = (
            f"the scans could not be registered: {'; '.join(why)}. Lesions must not be matched on this. Check that "
            "both are of one patient and one part of the body; where they already lie in one frame, say --registration none"
        )
        return (Finding("REGISTRATION_FAILED", Severity.ERROR, text, dict(quality)),)
    doubts = []
    if miss is not None and miss > NOTED_DISAGREEMENT_MM:
        doubts.append(f"registered back from another start the body misses itself by {miss:.1f} mm")
    if overlap is not None and overlap < NOTED_BODY_OVERLAP:
        doubts.append(f"the two bodies have a Dice of {overlap:.2f} only where both scans see")
    if doubts:
        text = f"the scans fit roughly: {'; '.join(doubts)}. Look at the pictures before you trust a lesion that is new or gone"
        return (Finding("REGISTRATION_UNCERTAIN", Severity.WARNING, text, dict(quality)),)
    return ()


def _deformed(rigid: Registration, still: Pyramid, moved: Pyramid, control_spacing_mm: float, seed: int) -> Registration:
    from medseg.preprocessing.registration_search import deform, folding

    bent, metric = deform(still, moved, rigid.matrix, control_spacing_mm, seed)
    points = still.body_points_mm
    lengths = np.linalg.norm(np.asarray([bent.TransformPoint(p) for p in points.tolist()]) - points, axis=1)
    folded = folding(bent, still)
    quality = dict(rigid.quality) | {
        "metric_rigid": rigid.quality["metric_after"],
        "metric_after": metric,
        "mean_displacement_mm": float(lengths.mean()),
        "largest_displacement_mm": float(lengths.max()),
        "folded_share": folded,
    }
    before = rigid.quality["metric_after"]
    if folded > MOST_FOLDING or (before is not None and metric < before):
        reason = f"{100 * folded:.2f} % of the body is turned inside out" if folded > MOST_FOLDING else "the mutual information fell"
        text = f"the deformation was not used ({reason}): lesions are matched on the rigid registration"
        finding = Finding("DEFORMATION_REJECTED", Severity.WARNING, text, quality)
        return Registration("rigid", rigid.matrix, rigid.quality, (*rigid.findings, finding))
    return Registration("deformable", rigid.matrix, quality, rigid.findings, bent)


def already_aligned(one: Geometry, other: Geometry) -> bool:
    """Whether two scans name one frame of reference, so that their positions may be compared as they are (DICOM PS3.3, C.7.4.1).

    >>> already_aligned(Geometry((2, 2, 2), np.eye(4), "1.2"), Geometry((3, 3, 3), np.eye(4), "1.2"))
    True
    """
    return one.frame_of_reference_uid is not None and one.frame_of_reference_uid == other.frame_of_reference_uid


def refuse_failed(registrations: Sequence[Registration]) -> None:
    """Raise InputError with the words of the first registration that failed."""
    for registration in registrations:
        for finding in errors_in(registration.findings):
            raise InputError(finding.message)
