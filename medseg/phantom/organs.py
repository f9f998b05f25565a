"""The organs that are measured, what is in them, and the tumour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import pi

import numpy as np

from medseg.core.errors import ParameterError
from medseg.phantom.anatomy import Structure
from medseg.phantom.draw import ALONG_R, Draw, resized, rows
from medseg.phantom.solids import FloatArray, Lobe, Shear, Solid, rotation_about

# P(s) of the liver: (1-s)(1+s)²·27/32, blunt on the right and tapering to the left; its largest value is 1
WEDGE = (27 / 32, 27 / 32, -27 / 32, -27 / 32)
# P(s) of a lung: 1 - ((1+s)/2)³, a flat base and a rounded apex
DOME = (7 / 8, -3 / 8, -3 / 8, -1 / 8)
# ends of the vessels of a lung: outwards, front and head, in its semi-axes
_BRANCHES = (
    (0.5, 0.55, -0.4),
    (0.45, -0.6, -0.5),
    (0.2, 0.1, 0.6),
    (0.65, 0.0, -0.65),
    (0.1, -0.6, 0.1),
    (0.3, 0.5, 0.1),
    (0.7, 0.2, -0.2),
    (0.6, -0.35, -0.1),
    (0.0, 0.7, -0.6),
)
# ends of the veins of the liver: front, head and right, in its semi-axes
_VEINS = (((0.1, 0.75, -0.1), (0.1, -0.2, 0.7)), ((0.1, 0.75, -0.1), (-0.5, 0.1, 0.5)), ((0.0, -0.3, -0.3), (-0.1, -0.1, 0.75)))
TUMOUR_MARGIN_MM = 5.0  # liver around the tumour


def organs(draw: Draw) -> Iterator[Structure]:
    """Liver, spleen, kidneys and lungs, in the order of their numbers."""
    yield Structure("liver", _liver(draw), draw.about(112, 6), "liver")
    yield Structure("spleen", _spleen(draw), draw.about(128, 6), "spleen")
    cortex = draw.about(190, 12)
    for side, name in ((1, "kidney_right"), (-1, "kidney_left")):
        yield Structure(name, _kidney(draw, side), cortex, name)
    air = draw.about(-855, 25)
    for side, name in ((1, "lung_right"), (-1, "lung_left")):
        yield Structure(name, _lung(draw, side), air, name)


def _liver(draw: Draw) -> Solid:
    # local x is front, y head, z right: a wedge that tapers to the left
    front, head, right = draw.about(57, 3), draw.about(58, 3), draw.about(77, 3)
    shears = (
        Shear(0, -draw.about(27, 4), (0, 1)),  # the left lobe lies in front
        Shear(0, -draw.about(14, 3), (1, 0)),  # the dome lies behind, the lower edge in front
        Shear(1, -draw.about(7, 4), (1, 0)),  # the left lobe lies higher
        Shear(1, draw.about(5, 3), (0, 2)),  # hollow below
    )
    lobes = (
        Lobe(2, draw.between(0.05, 0.12), draw.between(-0.6, 0.6)),
        Lobe(3, draw.between(0.05, 0.14), draw.between(-pi, pi), draw.about(0, 0.5)),
    )
    turn = rotation_about((0, 1, 0), draw.about(-4, 4)) @ rotation_about((0, 0, 1), draw.about(0, 5)) @ ALONG_R
    return draw.solid(
        (draw.about(44, 2), draw.about(18, 2), draw.about(1, 2)), (front, head, right), turn, profile=WEDGE, shears=shears, lobes=lobes
    )


def _spleen(draw: Draw) -> Solid:
    axes = (draw.about(19, 3), draw.about(34, 4), draw.about(42, 4))
    bend = Shear(0, draw.about(11, 3), (2, 0))  # wraps around the stomach: hollow towards the middle
    notch = Lobe(3, draw.between(0.05, 0.15), draw.between(-pi, pi), draw.about(0, 0.6))
    turn = (
        rotation_about((0, 0, 1), draw.about(35, 8))
        @ rotation_about((0, 1, 0), draw.about(-8, 6))
        @ rotation_about((1, 0, 0), draw.about(15, 8))
    )
    return draw.solid((draw.about(-96, 2), draw.about(-31, 2), draw.about(5, 3)), axes, turn, shears=(bend,), lobes=(notch,))


def _kidney(draw: Draw, side: int) -> Solid:
    axes = (draw.about(23, 2), draw.about(26, 2), draw.about(45, 3))
    bend = Shear(0, -side * draw.about(8, 2), (0, 2))  # a bean: hollow towards the spine
    hilum = Lobe(3, draw.between(0.04, 0.12), pi if side > 0 else 0.0)
    # the lower pole lies further out and further forward
    tilt = (
        rotation_about((0, 1, 0), -side * draw.about(10, 4))
        @ rotation_about((1, 0, 0), draw.about(8, 4))
        @ rotation_about((0, 0, 1), side * draw.about(25, 10))
    )
    height = draw.about(-90, 3) if side > 0 else draw.about(-80, 3)
    return draw.solid((side * draw.about(73, 2), draw.about(-38, 2), height), axes, tilt, shears=(bend,), lobes=(hilum,))


def _lung(draw: Draw, side: int) -> Solid:
    right = side > 0
    axes = (draw.about(42 if right else 36, 2), draw.about(64, 3), draw.about(45, 2))
    shears = (
        Shear(0, -side * draw.about(9 if right else 18, 2), (2, 0)),  # around the mediastinum
        Shear(2, -side * draw.about(15, 3), (1, 0)),  # over the diaphragm, deepest at the side and behind
        Shear(2, -draw.about(20, 3), (2, 0)),
        Shear(2, draw.about(5, 2), (0, 1)),
        Shear(2, -draw.about(20, 3), (0, 2)),
    )
    x = draw.about(83, 1.5) if right else -draw.about(90, 1.5)
    turn = rotation_about((0, 1, 0), -side * draw.about(3, 2))
    return draw.solid((x, draw.about(-4, 2), draw.about(124, 2)), axes, turn, exponent=2.5, profile=DOME, shears=shears)


def tumour(draw: Draw, liver: Solid) -> list[Structure] | None:
    """A lobed tumour with a darker core wholly inside the liver, or None where no place for it is found."""
    radius = draw.between(33, 42) / 2
    ratio = np.exp([draw.about(0, 0.12), draw.about(0, 0.12), 0.0])
    ratio /= np.prod(ratio) ** (1 / 3)
    lobes = (
        Lobe(3, draw.between(0.1, 0.25), draw.between(-pi, pi), draw.about(0, 1.2)),
        Lobe(2, draw.between(0.05, 0.2), draw.between(-pi, pi), draw.about(0, 1.0)),
    )
    turn = rotation_about(draw.direction(), draw.between(0, 180))
    axes = (float(ratio[0]) * radius, float(ratio[1]) * radius, float(ratio[2]) * radius)
    hu, core_hu, core = draw.about(58, 6), draw.about(36, 6), draw.between(0.4, 0.6)
    spots = np.array([draw.direction() * draw.between(0, 0.5) + (0, 0, 0.25) for _ in range(24)])
    for spot in liver.to_world(spots * liver.semi_axes_mm):
        placed = Solid((float(spot[0]), float(spot[1]), float(spot[2])), axes, rows(turn), lobes=lobes)
        if lies_within(placed, liver):
            return [
                Structure("tumour", placed, hu, "tumour", within="liver"),
                Structure("tumour core", resized(placed, core), core_hu, "tumour", within="tumour"),
            ]
    return None


def lies_within(lesion: Solid, organ: Solid) -> bool:
    """Whether an organ surrounds a lesion by at least `TUMOUR_MARGIN_MM`."""
    rays = lesion.surface_cloud(24, 32) - lesion.centre_mm
    reach = np.linalg.norm(rays, axis=-1, keepdims=True)
    return bool(organ.contains(lesion.centre_mm + rays * (1 + TUMOUR_MARGIN_MM / reach)).all())


def resized_tumour(tumour: list[Structure], diameter_mm: float, liver: Solid) -> list[Structure]:
    """Return a tumour of the same form and place whose volume is that of a sphere of a given diameter.

    Raises ParameterError where it does not fit into the liver there.
    """
    whole = tumour[0].solid
    factor = diameter_mm * (pi / 6 / whole.volume_mm3) ** (1 / 3)
    if not factor > 0 or not lies_within(resized(whole, factor), liver):
        raise ParameterError(
            f"a tumour of {diameter_mm} mm does not fit into the liver at its place: give a smaller positive diameter or another seed"
        )
    return [replace(part, solid=resized(part.solid, factor)) for part in tumour]


def liver_vessels(draw: Draw, liver: Structure) -> Iterator[Structure]:
    """Veins that run through the liver and count to it."""
    hu = liver.hu + draw.between(35, 50)
    for n, (start, end) in enumerate(_VEINS):
        ends = liver.solid.to_world((np.array([start, end]) + [[draw.about(0, 0.08)] * 3] * 2) * liver.solid.semi_axes_mm)
        yield Structure(f"liver vein {n + 1}", needle(ends[0], ends[1], draw.between(3.5, 5.5)), hu, "liver", within="liver")


def inner_parts(draw: Draw, parts: list[Structure]) -> Iterator[Structure]:
    """Medullae of the kidneys and vessels of the lungs; they count to their organ."""
    for part in parts:
        if part.label.startswith("kidney"):
            yield Structure(
                f"{part.name} medulla",
                resized(part.solid, draw.about(0.58, 0.05)),
                part.hu - draw.between(25, 45),
                part.label,
                within=part.name,
            )
        elif part.label.startswith("lung"):
            side = 1 if part.label == "lung_right" else -1
            hilum = part.solid.to_world(np.array([-0.95 * side, -0.1, -0.3]) * part.solid.semi_axes_mm)
            for n, (out, front, up) in enumerate(_BRANCHES):
                goal = np.array([out * side, front, up]) + [draw.about(0, 0.12) for _ in range(3)]
                end = part.solid.to_world(goal * part.solid.semi_axes_mm)
                yield Structure(
                    f"{part.name} vessel {n + 1}",
                    needle(hilum, end, draw.between(1.8, 3.4)),
                    draw.about(40, 15),
                    part.label,
                    within=part.name,
                )


def needle(start: FloatArray, end: FloatArray, radius_mm: float) -> Solid:
    """A thin ellipsoid from one point to another."""
    along = (end - start) / np.linalg.norm(end - start)
    side = np.cross(along, (0, 1, 0) if abs(along[1]) < 0.9 else (1, 0, 0))
    side = side / np.linalg.norm(side)
    middle = (start + end) / 2
    frame = np.stack([side, np.cross(along, side), along], axis=1)
    length = float(np.linalg.norm(end - start)) / 2
    return Solid((float(middle[0]), float(middle[1]), float(middle[2])), (radius_mm, radius_mm, length), rows(frame))
