"""All of the torso that is not measured: couch, walls, bones, vessels, stomach and bowel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import pi
from typing import Any

from medseg.phantom.anatomy import Structure
from medseg.phantom.draw import ALONG_R, Draw, resized
from medseg.phantom.solids import CYLINDER, Kind, Lobe, Shear, Solid, rotation_about

MIDDLE_MM = 20.0  # height of the middle of the long solids
REACH_MM = 230.0  # and half their length: beyond every field of view
TUBE = (1.0, 0.0, 0.0, 0.0, -1.0)  # P(s) = 1 - s⁴: a tube with rounded ends


@dataclass(frozen=True)
class Wall:
    """The wall of the trunk: the cavity's half-width and half-depth, exponent, and the thickness of its layers."""

    wide: float
    deep: float
    exponent: float
    muscle: float
    fat: float

    def solid(self, draw: Draw, extra: float, **form: Any) -> Solid:
        """Return the cavity widened by `extra` mm."""
        back = Shear(1, -13.0 * ((self.wide + extra) / (self.wide + 28)) ** 2, (0, 2))  # flat back, round front
        shape: dict[str, Any] = {"kind": Kind.OPEN, "exponent": self.exponent, "profile": (1.0, -0.06, -0.05), "shears": (back,)} | form
        return draw.solid((0, 0, MIDDLE_MM), (self.wide + extra, self.deep + extra, 190), **shape)


def draw_wall(draw: Draw) -> Wall:
    """Draw the habitus of a body."""
    return Wall(draw.about(138, 2), draw.about(92, 2), 2.5, draw.between(12, 15), draw.between(10, 24))


def walls(draw: Draw, wall: Wall) -> list[Structure]:
    """Couch, skin, fat, muscle and the fat of the cavity (last)."""
    outer = wall.muscle + wall.fat
    bottom = -(wall.deep + outer + 2) * draw.size - 13
    hollow = Shear(1, 26.0, (0, 2))
    couch = Solid((0.0, bottom, MIDDLE_MM), (215.0, 9.0, 200.0), kind=Kind.OPEN, exponent=4.0, profile=CYLINDER, shears=(hollow,))
    return [
        Structure("couch", couch, -60.0),
        Structure("couch foam", replace(couch, semi_axes_mm=(213.0, 7.0, 200.0)), -930.0),
        Structure("body", wall.solid(draw, outer + 2), draw.about(5, 15), "body"),
        Structure("subcutaneous fat", wall.solid(draw, outer), draw.about(-106, 6), "body"),
        Structure("muscle wall", wall.solid(draw, wall.muscle), draw.about(54, 6), "body"),
        Structure("cavity", wall.solid(draw, 0.0), draw.about(-98, 5), "body"),
    ]


def ribs(draw: Draw, wall: Wall) -> Iterator[Structure]:
    """Ribs and sternum, in the muscle wall: they come before the cavity."""
    slope = Shear(2, -draw.about(32, 5), (0, 1))
    period, phase = draw.about(27, 1.5), draw.between(0, 27)
    back = Shear(1, -13.0 * ((wall.wide + wall.muscle / 2) / (wall.wide + 28)) ** 2, (0, 2))
    for name, half, thick, hu in (("ribs", 6.5, 4.2, draw.about(480, 60)), ("rib marrow", 4.2, 2.2, draw.about(180, 30))):
        form: dict[str, Any] = {"kind": Kind.RINGS, "exponent": wall.exponent, "profile": (0.969, -0.047, -0.011), "shears": (slope, back)}
        size = (wall.wide + wall.muscle / 2, wall.deep + wall.muscle / 2, 90)
        solid = draw.solid((0, 0, 105), size, period_mm=period, half_height_mm=half, thickness_mm=thick, phase_mm=phase, **form)
        yield Structure(name, solid, hu, "body", within="muscle wall")
    plate = draw.solid((0, wall.deep + 0.4 * wall.muscle, 125), (17, 4.5, 62), exponent=3.0, profile=TUBE)
    yield Structure("sternum", plate, draw.about(280, 30), "body", within="muscle wall")


def spine(draw: Draw) -> list[Structure]:
    """Discs, vertebrae with arches, processes and canal, and the muscles beside them."""
    curve = Shear(1, draw.about(5, 3), (2, 0)), Shear(1, draw.about(3, 3), (1, 0))
    step, phase = draw.about(31, 1), draw.between(0, 30)
    bone, marrow, y = draw.about(430, 50), draw.about(210, 30), draw.about(-66, 1)

    def column(x: float, back: float, a: float, b: float, half: float | None = None, **form: Any) -> Solid:
        stack: dict[str, Any] = {} if half is None else {"kind": Kind.STACK, "period_mm": step, "half_height_mm": half, "phase_mm": phase}
        shape: dict[str, Any] = {"kind": Kind.OPEN, "profile": CYLINDER, "shears": curve} | stack | form
        return draw.solid((x, y - back, MIDDLE_MM), (a, b, REACH_MM), **shape)

    waist = (0.86, 0.0, 0.14)
    down = (Shear(2, 9.0, (0, 1)), *curve)
    return [
        *(
            Structure(f"back muscle {side}", column(x, 28, 23, 16, exponent=2.5), draw.about(56, 5), "body")
            for side, x in (("right", 27), ("left", -27))
        ),
        Structure("discs", column(0, 0, 20.5, 15), draw.about(88, 8), "spine"),
        Structure("transverse processes", column(0, 20, 36, 5.5, 5.5), bone - 80, "spine"),
        Structure("spinous processes", column(0, 42, 3.6, 16, 9.0, exponent=3.0, shears=down), bone - 60, "spine"),
        Structure("arches", column(0, 23, 15, 13.5, 11.5), bone, "spine"),
        Structure("vertebrae", column(0, 0, 22.5, 16.5, 12.5, profile=waist, exponent=2.5), bone, "spine"),
        Structure("marrow", column(0, 0, 20.5, 14.5, 10.8, profile=waist, exponent=2.5), marrow, "spine"),
        Structure("canal", column(0, 23, 10, 8.5), draw.about(12, 5), "body"),
        Structure("cord", column(0, 23, 5.5, 4.5), draw.about(42, 4), "body"),
    ]


def fixed(draw: Draw) -> Iterator[Structure]:
    """Soft parts that every body has and from which the organs keep their distance."""
    blood = draw.about(165, 12)
    heart = draw.solid(
        (draw.about(-8, 2), draw.about(20, 2), draw.about(106, 2)),
        (36, 40, 44),
        rotation_about((0, 1, 0), draw.about(20, 6)),
        lobes=(Lobe(3, 0.12, 1.0),),
    )
    yield Structure("heart", heart, draw.about(105, 8), "body")
    yield Structure("heart chambers", resized(heart, 0.66), blood, "body")
    yield Structure(
        "aorta",
        draw.solid((draw.about(-11, 1), draw.about(-36, 1), MIDDLE_MM), (10.5, 10.5, REACH_MM), kind=Kind.OPEN, profile=CYLINDER),
        blood,
        "body",
    )
    yield Structure("ascending aorta", draw.solid((10, 4, 160), (14, 14, 34), rotation_about((1, 0, 0), -8), profile=TUBE), blood, "body")
    yield Structure("vena cava", draw.solid((draw.about(17, 1), -40, -40), (9, 8, 120), profile=TUBE), draw.about(125, 10), "body")
    yield Structure("trachea", draw.solid((3, -20, 205), (8, 8, 48), profile=TUBE), -990.0, "body")
    yield Structure("oesophagus", draw.solid((5, -33, 160), (6, 4.5, 78), profile=TUBE), 40.0, "body")
    for side, name in ((1, "right"), (-1, "left")):
        yield Structure(
            f"psoas {name}",
            draw.solid((side * 35, -58, -122), (12, 15, 62), rotation_about((0, 1, 0), -side * 5)),
            draw.about(56, 5),
            "body",
        )
    stomach = draw.solid(
        (draw.about(-65, 2), draw.about(24, 2), draw.about(18, 3)),
        (25, 25, 35),
        rotation_about((0, 1, 0), draw.about(-15, 8)),
        lobes=(Lobe(3, 0.1, draw.between(-pi, pi)),),
    )
    yield Structure("stomach", stomach, 52.0, "body")
    yield Structure("stomach content", resized(stomach, 0.87), draw.about(18, 8), "body", within="stomach")
    level = stomach.centre_mm[1] + draw.between(2, 10)  # air rises to the front of a patient who lies on the back
    air = Solid((stomach.centre_mm[0], level + 100, stomach.centre_mm[2]), (200.0, 100.0, 200.0), exponent=4.0, profile=CYLINDER)
    yield Structure("stomach air", air, -990.0, "body", within="stomach content")


def fillers(draw: Draw) -> Iterator[list[Structure]]:
    """Parts that are left out where they come too close to an organ; the first of each list decides."""
    pancreas = draw.solid(
        (-6, draw.about(2, 3), draw.about(-32, 4)),
        (9, 8, 40),
        rotation_about((0, 1, 0), draw.about(12, 6)) @ ALONG_R,
        shears=(Shear(0, -9.0, (0, 2)),),
    )
    yield [Structure("pancreas", pancreas, draw.about(88, 8), "body")]
    yield [
        Structure(
            "gallbladder",
            draw.solid((draw.about(58, 4), draw.about(46, 4), -70), (12, 12, 22), rotation_about((1, 0, 0), 25)),
            draw.about(8, 5),
            "body",
        )
    ]
    for name, x, y, wide in (("ascending colon", 104, 6, 17), ("descending colon", -110, -8, 13)):
        tube = draw.solid((x, y, -118), (wide, wide, 58), profile=TUBE, lobes=(Lobe(2, 0.2, 0.0, 9.0),))
        gas = draw.solid((x, y + 0.55 * wide, -118), (0.6 * wide, 0.35 * wide, 40), profile=TUBE)
        yield [Structure(name, tube, draw.about(35, 10), "body"), Structure(f"{name} gas", gas, -950.0, "body", within=name)]
    across = draw.solid(
        (0, 60, draw.about(-96, 5)),
        (14, 13, 82),
        ALONG_R,
        profile=TUBE,
        shears=(Shear(1, 10.0, (2, 0)), Shear(0, -12.0, (0, 2))),
        lobes=(Lobe(2, 0.2, 0.0, 8.0),),
    )
    yield [Structure("transverse colon", across, draw.about(30, 10), "body")]
    for n in range(10):
        centre = (draw.between(-65, 65), draw.between(0, 55), draw.between(-150, -45))
        size = (draw.between(11, 16), draw.between(11, 16), draw.between(22, 36))
        loop = draw.solid(
            centre,
            size,
            rotation_about(draw.direction(), draw.between(0, 180)),
            profile=TUBE,
            shears=(Shear(0, draw.about(0, 12), (0, 2)),),
        )
        yield [Structure(f"bowel {n + 1}", loop, draw.about(42, 14), "body")]
