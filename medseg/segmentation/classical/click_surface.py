"""The surface of a lesion around a click: candidates of several sizes, and the one that stands out most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from medseg.segmentation.classical.click_scan import ClickScan, Rays

SIZES = 8  # candidates, from the smallest that the voxels can show to the largest asked for
FIRST_ROUNDS, LATER_ROUNDS, LAST_ROUNDS = 3, 3, 4
CLICK_COST = 4.0  # of a surface that leaves out a click, or takes in one marked outside
CLICK_CONE = 0.94  # cosine of the angle around a click that it speaks for (20 degrees)
FarPoint = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """How surfaces are drawn and told apart; one set for each kind of scan."""

    polarity: int = 0  # -1: lesions are brighter than what surrounds them
    edge: float = 1.0  # weight of edges against what voxels look like
    pull: float = 1.0  # of the surface, against the intensities of the voxels near it
    uniform: float = 0.2  # a power: how much an uneven inside counts against a candidate
    small: float = 0.3  # a power: how much size counts against it
    alike: float = 6.0  # deviations by which the inside may differ from the click before it counts against a candidate
    centred: float = 0.6  # the click lies this share of the radius off the middle (one deviation)


RULES: Mapping[str, Rules] = MappingProxyType({"PT": Rules(polarity=-1, uniform=0.0, alike=math.inf)})  # every other kind: Rules()


@dataclass(frozen=True)
class Candidate:
    """A surface: centre and radii in mm, how its edge and contrast are (0 to 1), and the intensities inside."""

    centre_mm: npt.NDArray[np.float64]
    radii_mm: npt.NDArray[np.float64]
    size_mm: float
    edge: float
    contrast: float
    weak: float
    level: float
    deviation: float
    off: float = 0.0  # distance of the click from the centre, in radii
    differs: float = 0.0  # deviations between the click and the inside


@dataclass(frozen=True)
class Clicks:
    """Points that must lie inside and outside, (N, 3) RAS+ mm."""

    inside: npt.NDArray[np.float64]
    outside: npt.NDArray[np.float64]

    def costs(
        self, centre_mm: npt.NDArray[np.float64], directions: npt.NDArray[np.float64], grid: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Return what each radius of each ray costs because of the clicks, (V, M)."""
        out = np.zeros((len(directions), grid.size), np.float32)
        for points, wrong in ((self.inside, np.less), (self.outside, np.greater_equal)):
            for point in points:
                distance = float(np.linalg.norm(point - centre_mm))
                if distance < grid[0]:
                    continue
                cone = directions @ ((point - centre_mm) / distance) > CLICK_CONE
                out += CLICK_COST * np.outer(cone, wrong(grid, distance)).astype(np.float32)
        return out


def best_candidate(scan: ClickScan, clicks: Clicks, rules: Rules, stiffness: float) -> Candidate:
    """Return the candidate that stands out most."""
    from medseg.kernels.slabs import in_slabs
    from medseg.kernels.star_surface import sphere

    start_mm = clicks.inside.mean(axis=0)
    first = scan.rays_from(start_mm)
    smallest = max(2.5, 1.3 * scan.grid[0]) if scan.grid[0] > 1 else 1.3 * scan.grid[0]
    sizes = np.geomspace(smallest, max(scan.grid[-1] * 0.6, smallest), SIZES)
    found = in_slabs(
        lambda begin, end: [_candidate(scan, first, clicks, size, rules, stiffness) for size in sizes[begin:end]], SIZES, SIZES
    )
    candidates = [candidate for part in found for candidate in part]
    even = min(candidate.deviation for candidate in candidates)
    directions = sphere(2).directions
    good = [candidate for candidate in candidates if _holds(candidate, clicks.inside[:1], directions)] or candidates
    return max(good, key=lambda candidate: standing_out(candidate, even, rules))


def standing_out(candidate: Candidate, even: float, rules: Rules) -> float:
    """Edge times contrast, less for an uneven inside, a large size and a click that is off the middle or unlike the inside."""
    unlike = 1 + (candidate.differs / rules.alike) ** 2
    likely = (even / candidate.deviation) ** rules.uniform * candidate.size_mm**-rules.small
    return float(candidate.edge * candidate.contrast * likely * np.exp(-0.5 * (candidate.off / rules.centred) ** 2)) / unlike


def _candidate(scan: ClickScan, first: Rays, clicks: Clicks, size: float, rules: Rules, stiffness: float) -> Candidate:
    """Fit at one size, let the size go, then fit again around the middle of what was found."""
    from medseg.kernels.star_surface import sphere

    directions = sphere(2).directions
    found = _fitted(scan, first, clicks, np.full(len(directions), 0.8 * size), rules, stiffness, (FIRST_ROUNDS, LATER_ROUNDS), size)
    shift = (directions * (found.radii_mm**4)[:, None]).sum(axis=0) * 0.75 / (found.radii_mm**3).sum()
    length = float(np.linalg.norm(shift))
    shift *= min(1.0, 0.6 * found.size_mm / max(length, 1e-9))
    rays = scan.rays_from(found.centre_mm + shift)
    start = np.full(len(directions), 0.95 * found.size_mm)
    again = _fitted(scan, rays, clicks, start, rules, stiffness, (0, LAST_ROUNDS), found.size_mm)
    off = float(np.linalg.norm(again.centre_mm - first.centre_mm)) / again.size_mm
    differs = abs(again.level - float(first.values[:, 0].mean())) / again.deviation
    return replace(again, off=off, differs=differs)


def _fitted(
    scan: ClickScan,
    rays: Rays,
    clicks: Clicks,
    start: npt.NDArray[np.float64],
    rules: Rules,
    stiffness: float,
    rounds: tuple[int, int],
    size: float,
) -> Candidate:
    from medseg.kernels.star_fit import Weights, fit_surface
    from medseg.kernels.star_surface import sphere

    ball = sphere(2)
    weights = Weights(edge=rules.edge, stiffness=Weights().stiffness * stiffness, spread_later=0.3 if rounds[0] else 0.25)
    extra = clicks.costs(rays.centre_mm, ball.directions, rays.grid)
    along = (rays.values, rays.edges, rays.within, extra, rays.grid)
    mesh = (ball.neighbours, ball.back)
    radii, figures = fit_surface(along, mesh, start, scan.floor, rules.polarity, weights, rounds, float(size))
    return Candidate(rays.centre_mm, radii, *(float(figure) for figure in figures))


def _holds(candidate: Candidate, points: Sequence[FarPoint] | FarPoint, directions: npt.NDArray[np.float64]) -> bool:
    """Whether the points lie within the surface."""
    for point in points:
        away = point - candidate.centre_mm
        distance = float(np.linalg.norm(away))
        if distance > 1e-3 and distance > candidate.radii_mm[int((directions @ away).argmax())]:
            return False
    return True
