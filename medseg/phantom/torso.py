"""A torso drawn by chance within anatomical limits: organs of known volume that never touch, in a plausible body.

Patient RAS+ mm: +x right, +y front, +z head; the origin lies in the middle of the body at the height of the liver.
"""

from __future__ import annotations

from medseg.core.errors import ParameterError
from medseg.core.segment import Segment
from medseg.phantom import organs as measured
from medseg.phantom import surroundings
from medseg.phantom.anatomy import Anatomy, Structure
from medseg.phantom.draw import Draw, widened
from medseg.phantom.solids import CYLINDER, Kind, Solid

SEGMENTS = (
    Segment(1, "liver", colour=(150, 70, 55)),
    Segment(2, "spleen", colour=(128, 80, 150)),
    Segment(3, "kidney_right", colour=(222, 136, 60)),
    Segment(4, "kidney_left", colour=(240, 170, 90)),
    Segment(5, "lung_right", colour=(140, 190, 226)),
    Segment(6, "lung_left", colour=(176, 214, 240)),
    Segment(7, "tumour", colour=(196, 212, 60)),
    Segment(8, "spine", colour=(238, 228, 196)),
    Segment(9, "body", colour=(200, 160, 140)),
)
GAP_MM = 6.0  # fat between two organs, and between an organ and soft tissue
LUNG_GAP_MM = 3.0  # between a lung and the chest wall, the heart or the spine, which differ from it by 800 HU
ATTEMPTS = 200


def torso_anatomy(seed: int = 0, tumour_diameter_mm: float | None = None) -> Anatomy:
    """Draw a torso: the same seed gives the same one, each with a tumour in the liver.

    The organs keep 6 mm of fat between them and to everything of like density; the tumour lies wholly in the liver.
    `tumour_diameter_mm` (of the sphere of equal volume) sets the size of the tumour and leaves its form, its place and
    all else, as for a scan at follow-up. Raises ParameterError where the tumour does not fit.
    """
    for attempt in range(ATTEMPTS):
        anatomy = _attempt(seed, attempt, tumour_diameter_mm)
        if anatomy is not None:
            return anatomy
    raise ParameterError(f"no torso of seed {seed} has organs that do not touch: use another seed")  # pragma: no cover


def _attempt(seed: int, attempt: int, tumour_diameter_mm: float | None) -> Anatomy | None:
    draw = Draw(seed, attempt)
    wall = surroundings.draw_wall(draw)
    outer = surroundings.walls(draw, wall)
    organs, soft, spine = list(measured.organs(draw)), list(surroundings.fixed(draw)), surroundings.spine(draw)
    cavity, obstacles = outer[-1].solid, [*soft, Structure("spine", _envelope(spine), 0.0)]
    if not _are_apart(organs, cavity, obstacles):
        return None
    tumour = measured.tumour(draw, organs[0].solid)
    if tumour is None:
        return None
    if tumour_diameter_mm is not None:
        tumour = measured.resized_tumour(tumour, tumour_diameter_mm, organs[0].solid)
    kept = [part for parts in surroundings.fillers(draw) if _fits(parts[0].solid, organs, cavity) for part in parts]
    inner = [*measured.liver_vessels(draw, organs[0]), *tumour, *measured.inner_parts(draw, organs)]
    bones = [*surroundings.ribs(draw, wall)]
    structures = (*outer[:-1], *bones, outer[-1], *spine, *kept, *soft, *organs, *inner)
    return Anatomy("torso", seed, structures, SEGMENTS)


def _envelope(spine: list[Structure]) -> Solid:
    """The column that all vertebral bodies fill, without gaps."""
    body = next(structure.solid for structure in spine if structure.name == "vertebrae")
    return Solid(body.centre_mm, body.semi_axes_mm, kind=Kind.OPEN, exponent=body.exponent, profile=CYLINDER, shears=body.shears)


def _are_apart(organs: list[Structure], cavity: Solid, obstacles: list[Structure]) -> bool:
    clouds = {organ.name: organ.solid.surface_cloud(32, 40) for organ in organs}
    for n, organ in enumerate(organs):
        is_lung = organ.name.startswith("lung")
        points, wide = clouds[organ.name], widened(organ.solid, GAP_MM)
        if not widened(cavity, -LUNG_GAP_MM if is_lung else -GAP_MM).contains(points).all():
            return False
        for other in organs[n + 1 :]:
            if wide.contains(clouds[other.name]).any() or widened(other.solid, GAP_MM).contains(points).any():
                return False
        gap = LUNG_GAP_MM if is_lung else GAP_MM
        for obstacle in obstacles:
            if obstacle.within is None and widened(obstacle.solid, gap).contains(points).any():
                return False
    return True


def _fits(filler: Solid, organs: list[Structure], cavity: Solid) -> bool:
    points, wide = filler.surface_cloud(24, 32), widened(filler, GAP_MM)
    near = any(
        widened(organ.solid, GAP_MM).contains(points).any() or wide.contains(organ.solid.surface_cloud(32, 40)).any() for organ in organs
    )
    return not near and bool(widened(cavity, -2.0).contains(points).all())
