"""A torso drawn by chance within anatomical limits: organs of known volume that never touch, in a plausible body.

Patient RAS+ mm: +x right, +y front, +z head; the origin lies in the middle of the body at the height of the liver.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from medseg.core.errors import ParameterError
from medseg.core.segment import Segment
from medseg.phantom.anatomy import Anatomy, Structure, distance_mm
from medseg.phantom.solids import CYLINDER, FloatArray, Kind, Lobe, Shear, Solid, rotation_about

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
ORGANS = ("liver", "spleen", "kidney_right", "kidney_left", "lung_right", "lung_left")
GAP_MM = 6.0  # fat between two organs, and between an organ and soft tissue
LUNG_GAP_MM = 3.0  # between a lung and the chest wall, the heart or the spine, which differ from it by 800 HU
ATTEMPTS = 200

# local axes (x, y, z) of a solid that lies along R, and along A
_ALONG_R = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
_ALONG_A = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])


class _Draw:
    """Random numbers within limits, and solids placed and scaled by the size of this body."""

    def __init__(self, seed: int, attempt: int) -> None:
        self.random = np.random.default_rng((seed, attempt))
        self.size = self.between(0.93, 1.03)

    def between(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def about(self, value: float, spread: float) -> float:
        return self.between(value - spread, value + spread)

    def solid(
        self, centre: tuple[float, float, float], axes: tuple[float, float, float], turn: FloatArray | None = None, *, jitter: float = 0.0, **form: object
    ) -> Solid:
        """Return a solid at `centre` ± `jitter` mm; lengths are scaled by the size of the body."""
        f = self.size
        r, a, s = (self.about(c, jitter) * f if jitter else c * f for c in centre)
        x, y, z = (axis * f for axis in axes)
        matrix = np.eye(3) if turn is None else turn
        rotation = tuple((float(row[0]), float(row[1]), float(row[2])) for row in matrix)
        lengths = {n: v * f for n, v in form.items() if n.endswith("_mm") and isinstance(v, int | float)}
        shears = form.get("shears", ())
        assert isinstance(shears, tuple)
        bent = tuple(replace(shear, size_mm=shear.size_mm * f) for shear in shears)
        return Solid((r, a, s), (x, y, z), rotation, **{**form, **lengths, "shears": bent})  # type: ignore[arg-type]


def torso_anatomy(seed: int = 0, tumour_diameter_mm: float | None = None) -> Anatomy:
    """Draw a torso: the same seed gives the same one, each with a tumour in the liver.

    The organs keep 6 mm of fat between them and to everything of like density; the tumour lies wholly in the liver.
    `tumour_diameter_mm` (of the sphere of equal volume, 10 to 46) sets the size of the tumour and leaves all else as
    it is. Raises ParameterError where the tumour does not fit.
    """
    if tumour_diameter_mm is not None and not 10 <= tumour_diameter_mm <= 46:
        raise ParameterError(f"tumour_diameter_mm is {tumour_diameter_mm}: the liver of this torso has room for 10 to 46 mm")
    for attempt in range(ATTEMPTS):
        draw = _Draw(seed, attempt)
        walls, chest, abdomen = _walls(draw), list(_chest(draw)), list(_abdomen(draw))
        organs = list(_organs(draw))
        fillers = list(_fillers(draw))
        tumour = _tumour(draw, organs[0].solid, tumour_diameter_mm)
        if tumour is None or not _is_apart(organs, walls, chest + abdomen):
            continue
        kept = [filler for filler in fillers if _fits(filler, organs, walls, chest + abdomen)]
        inner = [*_liver_vessels(draw, organs[0]), *tumour, *_inner_parts(draw, organs)]
        return Anatomy("torso", seed, (*walls, *abdomen, *chest, *_bones(draw), *kept, *organs, *inner), SEGMENTS)
    raise ParameterError(f"no torso of seed {seed} has organs that do not touch: use another seed")  # pragma: no cover


def _walls(draw: _Draw) -> list[Structure]:
    """Skin, fat, muscle wall and the cavity; the table below."""
    fat, muscle = draw.between(12, 24), draw.between(12, 15)
    a, b, m = draw.about(138, 2), draw.about(90, 2), draw.between(2.25, 2.5)
    narrow = (1.0, -0.06, -0.05)  # a little wider at the hips than at the shoulders

    def wall(extra: float) -> Solid:
        back = Shear(1, -13.0 * (a + extra) ** 2 / (a + 28) ** 2, (0, 2))  # flattens the back and rounds the front
        return draw.solid((0, 0, 20), (a + extra, b + extra, 190), kind=Kind.OPEN, exponent=m, profile=narrow, shears=(back,))

    body = wall(muscle + fat + 2)
    bottom = (-(b + muscle + fat + 2) - 9) * draw.size
    couch = Solid((0.0, bottom + 95, 0.0), (260.0, 103.0, 200.0), kind=Kind.OPEN, exponent=2.6, profile=CYLINDER)
    foam = replace(couch, semi_axes_mm=(257.0, 100.0, 200.0))
    above = Solid((0.0, bottom + 190, 0.0), (400.0, 188.0, 200.0), kind=Kind.OPEN, exponent=12.0, profile=CYLINDER)
    return [
        Structure("couch", couch, -550.0),
        Structure("couch foam", foam, -900.0),
        Structure("air above the couch", above, -1000.0),
        Structure("body", body, 10.0, "body"),
        Structure("subcutaneous fat", wall(muscle + fat), draw.about(-105, 6), "body"),
        Structure("muscle wall", wall(muscle), draw.about(52, 6), "body"),
        Structure("cavity", wall(0.0), draw.about(-98, 5), "body"),
    ]
