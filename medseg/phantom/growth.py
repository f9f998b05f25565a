"""A patient over time: lesions that grow, shrink, come, go, merge and split by formula, in a body that lies differently each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import pi
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.phantom.anatomy import Anatomy, Structure
from medseg.phantom.catalog import TORSO_FIELD_MM, TORSO_MIDDLE_MM, TORSO_ORGANS, centred_geometry
from medseg.phantom.draw import Draw, rows, widened
from medseg.phantom.solids import FloatArray, Solid, rotation_about

if TYPE_CHECKING:
    from medseg.kernels.implicit import Sampled

SCHEMA = "medseg.phantom.growth/1"
LESION = Segment(1, "lesion", colour=(196, 212, 60))
GAP_MM = 12.0  # between lesions that are not meant to meet
WALL_MM = 3.0  # of organ around every lesion
_TRIES = 4000
_HU = {"lung_right": 40.0, "lung_left": 40.0, "liver": 55.0}


@dataclass(frozen=True)
class Plan:
    """One lesion, or two that merge or split: its organ, the diameters of its spheres in mm at each scan (0: not there).

    `apart_mm` is the distance of the two centres at each scan.
    """

    name: str
    organ: str
    diameters_mm: tuple[tuple[float, ...], ...]
    apart_mm: tuple[float, ...] = ()


# at base, after 90 and after 180 days; doubling times follow from the volumes: (20/15.874)³ = 2 in 90 days
PLANS = (
    Plan("grown", "lung_right", ((15.874, 20.0, 25.198),)),
    Plan("stable", "lung_right", ((14.0, 14.0, 14.0),)),
    Plan("shrunk", "lung_left", ((24.0, 19.0, 16.0),)),
    Plan("gone", "lung_left", ((9.0, 0.0, 0.0),)),
    Plan("new", "lung_left", ((0.0, 8.0, 12.0),)),
    Plan("merged", "liver", ((12.0, 17.0, 20.0), (13.0, 18.0, 21.0)), (20.0, 14.0, 14.0)),
    Plan("split", "liver", ((18.0, 12.0, 11.0), (16.0, 11.0, 10.0)), (13.0, 18.0, 18.0)),
)
DAYS = (0.0, 90.0, 180.0)
# how the patient lies at each scan: degrees about R, A and S, then mm
MOTIONS = (((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), ((6.0, -4.0, 9.0), (18.0, -12.0, 31.0)), ((-5.0, 8.0, -12.0), (-25.0, 14.0, -22.0)))


@dataclass(frozen=True, eq=False)
class GrowthScan:
    """One scan of the patient: lesions (one segment), organs, and `matrix`, which takes points of base into this scan (RAS+ mm)."""

    days: float
    volume: Volume
    label_map: LabelMap
    organs: LabelMap
    matrix: FloatArray
    anatomy: Anatomy


@dataclass(frozen=True, eq=False)
class GrowthStudy:
    """The scans in the order of time, and what is true of them."""

    scans: tuple[GrowthScan, ...]
    truth: dict[str, Any]


def make_growth(
    seed: int = 0,
    *,
    spacings_mm: Sequence[Sequence[float]] = ((1.5, 1.5, 3.0), (1.2, 1.2, 2.5), (2.0, 2.0, 2.0)),
    noise_hu: float = 12.0,
    blur_mm: float = 1.2,
    is_moved: bool = True,
    plans: Sequence[Plan] = PLANS,
) -> GrowthStudy:
    """Scan one torso at base, after 90 and after 180 days: seven places where lesions grow, stay, shrink, go, come, merge, split.

    Every volume is a formula (spheres; two that overlap: the sum less the lens they share). `spacings_mm` has a spacing for
    each scan, in which the patient lies turned and shifted by a known motion unless `is_moved` is False. Raises
    ParameterError for a spacing too few, or a body with no room for the lesions.
    """
    from medseg.phantom.scanner import image, sample
    from medseg.phantom.torso import torso_anatomy

    if len(spacings_mm) < 1 or len(spacings_mm) > len(DAYS):
        raise ParameterError(f"give a spacing for each of 1 to {len(DAYS)} scans, got {len(spacings_mm)}")
    torso = torso_anatomy(seed)
    low, high = torso.box_mm(TORSO_ORGANS)
    middle = (*TORSO_MIDDLE_MM, float(low[2] + high[2]) / 2)
    places = _places(torso, plans, Draw(seed, 1))
    scans = []
    for n, spacing in enumerate(spacings_mm):
        matrix = _motion(n, np.asarray(middle)) if is_moved else np.eye(4)
        anatomy = _anatomy(torso, plans, places, n, matrix)
        geometry = centred_geometry(spacing, TORSO_FIELD_MM, middle)
        sampled = sample(anatomy, geometry)
        volume = image(sampled, geometry, noise_hu=noise_hu, blur_mm=blur_mm, seed=1000 * seed + n)
        lesions, organs = _maps(anatomy, geometry, sampled)
        scans.append(GrowthScan(DAYS[n], volume, lesions, organs, matrix, anatomy))
    return GrowthStudy(tuple(scans), _truth(seed, plans, places, scans))


def union_volume_mm3(diameters_mm: Sequence[float], apart_mm: float = 0.0) -> float:
    """Volume of one sphere, or of two whose centres lie `apart_mm` apart: their sum less the lens they share.

    The lens is π(R+r-d)²(d²+2d(R+r)-3(R-r)²)/12d (Weisstein, Sphere-Sphere Intersection).

    >>> round(union_volume_mm3((2.0,)), 6), round(union_volume_mm3((2.0, 2.0), 2.0), 6)
    (4.18879, 8.37758)
    """
    radii = [diameter / 2 for diameter in diameters_mm if diameter > 0]
    whole = sum(4 / 3 * pi * radius**3 for radius in radii)
    if len(radii) < 2 or apart_mm >= sum(radii):
        return whole
    big, small = max(radii), min(radii)
    if apart_mm <= big - small:
        return 4 / 3 * pi * big**3
    lens = pi * (big + small - apart_mm) ** 2 * (apart_mm**2 + 2 * apart_mm * (big + small) - 3 * (big - small) ** 2)
    return whole - lens / (12 * apart_mm)


@dataclass(frozen=True)
class _Place:
    """Where the lesions of a plan lie at base: middle, and the direction from the first to the second."""

    middle_mm: FloatArray
    direction: FloatArray


def _places(torso: Anatomy, plans: Sequence[Plan], draw: Draw) -> Mapping[str, _Place]:
    """Draw a place for each plan: inside its organ, away from the others."""
    taken: list[tuple[FloatArray, float]] = []
    places: dict[str, _Place] = {}
    for plan in sorted(plans, key=lambda plan: -_reach(plan)):
        organ, reach = torso[plan.organ].solid, _reach(plan)
        points = organ.surface_cloud(24, 24)
        low, high = points.min(axis=0), points.max(axis=0)
        for _ in range(_TRIES):
            middle = np.array([draw.between(float(a), float(b)) for a, b in zip(low, high, strict=True)])
            direction = draw.direction()
            if _fits(organ, middle, reach) and all(np.linalg.norm(middle - m) > reach + r + GAP_MM for m, r in taken):
                break
        else:
            raise ParameterError(f"the {plan.organ} of this torso has no room for the lesion {plan.name!r}: use another seed")
        taken.append((middle, reach))
        places[plan.name] = _Place(middle, direction)
    return MappingProxyType(places)


def _reach(plan: Plan) -> float:
    """Radius of a ball about the middle that holds the lesion at every scan."""
    apart = plan.apart_mm or (0.0,) * len(plan.diameters_mm[0])
    return max(distance / 2 + diameter / 2 for diameters in plan.diameters_mm for diameter, distance in zip(diameters, apart, strict=True))


def _fits(organ: Solid, middle: FloatArray, reach: float) -> bool:
    if not organ.contains(middle[None])[0]:
        return False
    ball = Solid((float(middle[0]), float(middle[1]), float(middle[2])), (reach + WALL_MM,) * 3)
    return bool(organ.contains(ball.surface_cloud(10, 14)).all()) and bool(widened(organ, -WALL_MM).contains(middle[None])[0])


def _centres(plan: Plan, place: _Place, n: int) -> list[FloatArray]:
    """Centres of the spheres of a plan at one scan, in the world of base."""
    if len(plan.diameters_mm) == 1:
        return [place.middle_mm]
    half = plan.apart_mm[n] / 2
    return [place.middle_mm - half * place.direction, place.middle_mm + half * place.direction]


def _motion(n: int, about_mm: FloatArray) -> FloatArray:
    """The 4×4 matrix that takes points of base into scan n."""
    degrees, shift = MOTIONS[n]
    turn = rotation_about((0, 0, 1), degrees[2]) @ rotation_about((0, 1, 0), degrees[1]) @ rotation_about((1, 0, 0), degrees[0])
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = about_mm - turn @ about_mm + np.asarray(shift)
    return matrix


def moved(solid: Solid, matrix: FloatArray) -> Solid:
    """Return a solid after a rigid motion (4×4, RAS+ mm).

    >>> shift = np.eye(4); shift[0, 3] = 5.0
    >>> moved(Solid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), shift).centre_mm
    (5.0, 0.0, 0.0)
    """
    r, a, s = matrix[:3, :3] @ np.asarray(solid.centre_mm) + matrix[:3, 3]
    return replace(solid, centre_mm=(float(r), float(a), float(s)), rotation=rows(matrix[:3, :3] @ np.asarray(solid.rotation)))


def _anatomy(torso: Anatomy, plans: Sequence[Plan], places: Mapping[str, _Place], n: int, matrix: FloatArray) -> Anatomy:
    """The torso without its own tumour, with the lesions of one scan, moved."""
    kept = [s for s in torso.structures if s.label != "tumour" and not s.name.startswith("tumour")]
    lesions = []
    for plan in plans:
        for m, (centre, diameters) in enumerate(zip(_centres(plan, places[plan.name], n), plan.diameters_mm, strict=True)):
            if diameters[n] > 0:
                solid = Solid((float(centre[0]), float(centre[1]), float(centre[2])), (diameters[n] / 2,) * 3)
                lesions.append(Structure(f"{plan.name}_{m + 1}", solid, _HU[plan.organ], LESION.label))
    segments = (LESION, *(replace(s, number=s.number + 1) for s in torso.segments if s.label != "tumour"))
    structures = tuple(replace(s, solid=moved(s.solid, matrix)) for s in (*kept, *lesions))
    return Anatomy("growth", torso.seed, structures, segments, torso.surroundings_hu)


def _maps(anatomy: Anatomy, geometry: Geometry, sampled: Sampled) -> tuple[LabelMap, LabelMap]:
    """Lesions, and organs, as two label maps on one grid."""
    labels = sampled.labels.T
    lesions = LabelMap((labels == LESION.number).astype(np.uint8), geometry, (LESION,))
    organs = tuple(segment for segment in anatomy.segments if segment.label != LESION.label)
    return lesions, LabelMap(np.where(labels == LESION.number, 0, labels).astype(np.uint8), geometry, organs)


def _truth(seed: int, plans: Sequence[Plan], places: Mapping[str, _Place], scans: Sequence[GrowthScan]) -> dict[str, Any]:
    lesions = []
    for plan in plans:
        apart = plan.apart_mm or (0.0,) * len(DAYS)
        volumes = [union_volume_mm3([d[n] for d in plan.diameters_mm], apart[n]) / 1000 for n in range(len(scans))]
        centres = [
            [(scan.matrix[:3, :3] @ c + scan.matrix[:3, 3]).tolist() for c in _centres(plan, places[plan.name], n)]
            for n, scan in enumerate(scans)
        ]
        lesions.append(
            {
                "name": plan.name,
                "organ": plan.organ,
                "diameters_mm": [list(d[: len(scans)]) for d in plan.diameters_mm],
                "centre_distance_mm": list(apart[: len(scans)]),
                "volume_ml": volumes,
                "volume_formula": "π/6·d³ of each sphere, less the lens two of them share",
                "percent_change_from_base": [100 * (v / volumes[0] - 1) if volumes[0] > 0 else None for v in volumes],
                "centres_ras_mm": centres,
            }
        )
    points = [
        {"days": scan.days, "matrix_base_to_here_ras": scan.matrix.tolist(), "geometry": scan.volume.geometry.to_dict()} for scan in scans
    ]
    return {"schema": SCHEMA, "name": "growth", "seed": seed, "time_points": points, "lesions": lesions}
