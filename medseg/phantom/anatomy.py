"""An anatomy: solids in patient space with their tissue, in a fixed order of which the later ones win."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError
from medseg.core.segment import Segment
from medseg.kernels import implicit
from medseg.phantom.solids import FloatArray, Kind, Solid

AIR_HU = -1000.0


@dataclass(frozen=True)
class Structure:
    """A solid of one tissue: `hu` is its CT number, `label` its segment ("" for none).

    A structure with `within` counts only inside the structure of that name; only such structures may cross borders.
    """

    name: str
    solid: Solid
    hu: float
    label: str = ""
    within: str | None = None


@dataclass(frozen=True)
class Anatomy:
    """Structures in order (where several overlap, the last wins) and the segments they belong to.

    The organ of a label is the structure whose name is the label. `surroundings_hu` is what lies outside of all.
    Raises ParameterError where names repeat or a bond or label leads nowhere.
    """

    name: str
    seed: int
    structures: tuple[Structure, ...]
    segments: tuple[Segment, ...]
    surroundings_hu: float = AIR_HU

    def __post_init__(self) -> None:
        names = [structure.name for structure in self.structures]
        if len(set(names)) != len(names) or len(names) > implicit.MOST_SOLIDS:
            raise ParameterError(f"an anatomy has at most {implicit.MOST_SOLIDS} structures with different names, got {len(names)}")
        labels = {segment.label for segment in self.segments} | {""}
        for n, structure in enumerate(self.structures):
            if structure.label not in labels:
                raise ParameterError(f"structure {structure.name!r} has the label {structure.label!r}, which no segment has")
            if structure.within is not None and structure.within not in names[:n]:
                raise ParameterError(f"structure {structure.name!r} lies within {structure.within!r}, which must come before it")

    def __getitem__(self, name: str) -> Structure:
        for structure in self.structures:
            if structure.name == name:
                return structure
        raise ParameterError(f"no structure {name!r}; this anatomy has: {', '.join(s.name for s in self.structures)}")

    def __contains__(self, name: object) -> bool:
        return any(structure.name == name for structure in self.structures)

    def lesions_of(self, label: str) -> tuple[Structure, ...]:
        """Return the structures of other labels that are cut out of the organ of a label."""
        return tuple(s for s in self.structures if s.within == label and s.label != label)

    def box_mm(self, names: Iterable[str]) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest RAS+ mm that the named closed solids reach (from points on their surfaces)."""
        points = np.concatenate([self[name].solid.surface_cloud() for name in names])
        return points.min(axis=0), points.max(axis=0)


def pack(solid: Solid) -> FloatArray:
    """Return the row of numbers by which the kernel knows a solid."""
    row, axes = np.zeros(implicit.ROW), np.asarray(solid.semi_axes_mm)
    row[implicit.KIND] = int(solid.kind)
    row[implicit.CENTRE : implicit.CENTRE + 3] = solid.centre_mm
    row[implicit.FRAME : implicit.FRAME + 9] = (np.asarray(solid.rotation).T / axes[:, None]).ravel()
    row[implicit.EXPONENT] = solid.exponent
    row[implicit.TERMS : implicit.TERMS + 3] = (len(solid.profile), len(solid.lobes), len(solid.shears))
    row[implicit.PROFILE : implicit.PROFILE + len(solid.profile)] = solid.profile
    for n, lobe in enumerate(solid.lobes):
        row[implicit.LOBES + 4 * n : implicit.LOBES + 4 * n + 4] = (lobe.count, lobe.size, lobe.phase, lobe.twist)
    for n, shear in enumerate(solid.shears):
        row[implicit.SHEARS + 4 * n : implicit.SHEARS + 4 * n + 4] = (shear.axis, shear.size_mm / axes[shear.axis], *shear.powers)
    row[implicit.PERIOD : implicit.PERIOD + 3] = np.array([solid.period_mm, solid.half_height_mm, solid.phase_mm]) / axes[2]
    row[implicit.FACTOR] = np.sqrt(axes[0] * axes[1]) / solid.thickness_mm
    row[implicit.BOX : implicit.BOX + 24] = corners_mm(solid).ravel()
    return row


def corners_mm(solid: Solid) -> FloatArray:
    """Return the corners (8, 3), RAS+ mm, of a box that holds a solid."""
    low, high = solid.local_box()
    local = [[(low, high)[n >> axis & 1][axis] for axis in range(3)] for n in range(8)]
    return np.asarray(np.asarray(local) @ np.asarray(solid.rotation).T + solid.centre_mm)


def distance_mm(first: Solid, second: Solid) -> float:
    """Smallest distance between the surfaces of two solids, from points on them; 0 where they cross.

    One may lie inside the other: the distance is then the width of the gap between the walls.
    """
    from scipy.spatial import cKDTree

    a, b = first.surface_cloud(), second.surface_cloud()
    for points, solid in ((a, second), (b, first)):
        if solid.kind in (Kind.CLOSED, Kind.OPEN):
            inside = solid.contains(points)
            if inside.any() and not inside.all():
                return 0.0
    return float(cKDTree(a).query(b)[0].min())


def table(anatomy: Anatomy) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows, values, numbers and bonds of an anatomy, as `medseg.kernels.implicit.sample_solids` takes them."""
    numbers = {segment.label: segment.number for segment in anatomy.segments} | {"": 0}
    names = [structure.name for structure in anatomy.structures]
    rows = np.array([pack(structure.solid) for structure in anatomy.structures]).reshape(-1, implicit.ROW)
    values = np.array([*(structure.hu for structure in anatomy.structures), anatomy.surroundings_hu])
    labels = np.array([*(numbers[structure.label] for structure in anatomy.structures), 0], dtype=np.int64)
    bonds = np.array([-1 if s.within is None else names.index(s.within) for s in anatomy.structures], dtype=np.int64)
    return rows, values, labels, bonds
