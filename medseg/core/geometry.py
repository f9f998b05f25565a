"""Where the voxels of a grid lie in the patient: shape, affine and frame of reference."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, SingularAffineError

FloatArray = npt.NDArray[np.float64]

MATCH_TOLERANCE_MM = 1e-3  # corners of two grids that are "the same" lie at most this far apart
OBLIQUE_TOLERANCE_DEGREES = 0.05  # an axis further than this from its nearest patient axis makes a grid oblique
SHEAR_TOLERANCE_DEGREES = 0.05  # axes further than this from a right angle make a grid sheared (gantry tilt)

_POSITIVE_CODES = "RAS"
_NEGATIVE_CODES = "LPI"


@dataclass(frozen=True, eq=False)
class Geometry:
    """A grid: `shape` (I,J,K), and the 4×4 `affine` that maps an index (i,j,k) to RAS+ mm.

    Shear is allowed (gantry tilt); the volume of a voxel is always |det| of the affine's 3×3 part, never a product of
    spacings. Raises SingularAffineError where the affine has no volume or is not finite.

    >>> grid = Geometry((4, 5, 6), np.diag([-1.0, 1.0, 2.5, 1.0]))
    >>> grid.orientation, grid.voxel_volume_mm3, grid.spacing_mm
    ('LAS', 2.5, (1.0, 1.0, 2.5))
    """

    shape: tuple[int, int, int]
    affine: FloatArray
    frame_of_reference_uid: str | None = None

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape, default=0) < 1:
            raise GeometryError(f"a grid needs three positive extents (I,J,K), got {tuple(self.shape)}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.allclose(affine[3], (0, 0, 0, 1)):
            raise GeometryError(f"an affine is a 4×4 matrix with last row 0 0 0 1, got shape {affine.shape}")
        if not np.isfinite(affine).all():
            raise SingularAffineError("the affine holds NaN or infinity: the position of the voxels is unknown")
        columns = np.linalg.norm(affine[:3, :3], axis=0)
        if (columns == 0).any() or abs(np.linalg.det(affine[:3, :3])) < 1e-6 * columns.prod():
            raise SingularAffineError(f"the affine has no volume (spacing {columns.tolist()} mm): give the true spacing of the scan")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Geometry)
            and self.shape == other.shape
            and self.frame_of_reference_uid == other.frame_of_reference_uid
            and np.array_equal(self.affine, other.affine)
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes(), self.frame_of_reference_uid))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j, k."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def direction(self) -> FloatArray:
        """Unit vectors of the axes i, j, k as columns, RAS+."""
        return np.asarray(self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """Centre of voxel (0,0,0) in RAS+ mm."""
        r, a, s = self.affine[:3, 3]
        return float(r), float(a), float(s)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of a voxel: |det| of the affine."""
        # as a triple product: exact for grids along the patient axes, where elimination is not
        i, j, k = self.affine[:3, :3].T
        return float(abs(np.dot(np.cross(i, j), k)))

    @property
    def orientation(self) -> str:
        """The patient direction each axis points to most, such as "LPS"; each direction is used once."""
        return "".join(_axis_codes(self.direction))

    @property
    def is_left_handed(self) -> bool:
        """Whether the axes i, j, k form a left-handed system."""
        return bool(np.linalg.det(self.affine[:3, :3]) < 0)

    @property
    def shear_degrees(self) -> float:
        """Largest departure of two axes from a right angle (0 for every ordinary grid)."""
        gram = self.direction.T @ self.direction
        cosines = np.abs(gram[np.triu_indices(3, 1)])
        return float(np.degrees(np.arcsin(np.clip(cosines.max(), 0, 1))))

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are not at right angles (gantry tilt)."""
        return self.shear_degrees > SHEAR_TOLERANCE_DEGREES

    @property
    def obliqueness_degrees(self) -> float:
        """Largest angle between an axis and its nearest patient axis."""
        nearest = np.abs(self.direction).max(axis=0)
        return float(np.degrees(np.arccos(np.clip(nearest.min(), -1, 1))))

    @property
    def is_oblique(self) -> bool:
        """Whether an axis is not along a patient axis."""
        return self.obliqueness_degrees > OBLIQUE_TOLERANCE_DEGREES

    def index_to_world(self, index: npt.ArrayLike) -> FloatArray:
        """Map indices (..., 3) to RAS+ mm."""
        points = np.asarray(index, dtype=np.float64)
        return np.asarray(points @ self.affine[:3, :3].T + self.affine[:3, 3])

    def world_to_index(self, point_mm: npt.ArrayLike) -> FloatArray:
        """Map RAS+ mm points (..., 3) to fractional indices."""
        points = np.asarray(point_mm, dtype=np.float64)
        inverse = np.linalg.inv(self.affine)
        return np.asarray(points @ inverse[:3, :3].T + inverse[:3, 3])

    def contains(self, index: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether indices (..., 3), rounded, lie on the grid."""
        rounded = np.rint(np.asarray(index, dtype=np.float64))
        return np.asarray(((rounded >= 0) & (rounded < np.asarray(self.shape))).all(axis=-1))

    def corners_mm(self) -> FloatArray:
        """Centres of the eight corner voxels, (8, 3) RAS+ mm."""
        last = np.asarray(self.shape) - 1
        return self.index_to_world([[c * n for c, n in zip(corner, last, strict=True)] for corner in itertools.product((0, 1), repeat=3)])

    def distance_mm(self, other: Geometry) -> float:
        """Largest distance between corresponding corners; infinite where the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        return float(np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1).max())

    def matches(self, other: Geometry, tolerance_mm: float = MATCH_TOLERANCE_MM) -> bool:
        """Whether both grids have the same shape, frame of reference (where both name one) and corners."""
        frames = {self.frame_of_reference_uid, other.frame_of_reference_uid} - {None}
        return len(frames) < 2 and self.distance_mm(other) <= tolerance_mm

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> Geometry:
        """Return the grid of the box that begins at index `start` (may be negative: padding)."""
        return self.transformed(np.eye(3), start, shape)

    def transformed(self, matrix: npt.ArrayLike, start: npt.ArrayLike, shape: Sequence[int]) -> Geometry:
        """Return the grid whose index x lies at this grid's index `matrix` @ x + `start`."""
        step = np.eye(4)
        step[:3, :3] = matrix
        step[:3, 3] = start
        i, j, k = (int(n) for n in shape)
        return Geometry((i, j, k), self.affine @ step, self.frame_of_reference_uid)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form used by `medseg inspect`."""
        return {
            "shape": list(self.shape),
            "spacing_mm": list(self.spacing_mm),
            "affine": self.affine.tolist(),
            "orientation": self.orientation,
            "voxel_volume_mm3": self.voxel_volume_mm3,
            "is_oblique": self.is_oblique,
            "is_sheared": self.is_sheared,
            "frame_of_reference_uid": self.frame_of_reference_uid,
        }


def _axis_codes(direction: FloatArray) -> list[str]:
    """Give each grid axis its patient direction, the clearest first, so that no direction is used twice."""
    codes = [""] * 3
    strength = np.abs(direction).copy()
    for _ in range(3):
        world, axis = np.unravel_index(int(strength.argmax()), (3, 3))
        codes[axis] = (_POSITIVE_CODES if direction[world, axis] > 0 else _NEGATIVE_CODES)[world]
        strength[world, :] = -1
        strength[:, axis] = -1
    return codes


def affine_from_parts(direction: npt.ArrayLike, spacing_mm: npt.ArrayLike, origin_mm: npt.ArrayLike) -> FloatArray:
    """Build a 4×4 affine from unit columns, spacing and origin.

    >>> affine_from_parts(np.eye(3), (1, 2, 3), (4, 5, 6))[:3, 3].tolist()
    [4.0, 5.0, 6.0]
    """
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(direction, dtype=np.float64) * np.asarray(spacing_mm, dtype=np.float64)
    affine[:3, 3] = origin_mm
    return affine
