"""How often `medseg change` calls an unchanged lesion changed: `python scripts/check_change_coverage.py [TRIALS]`.

Ellipsoids of random form, turn and place within a voxel are scanned twice on the same kind of grid, measured and compared.
Nothing grew, so "beyond measurement error" should be no in about 95 % of the trials of every row.
"""

from __future__ import annotations

import sys

import numpy as np

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.measurement.growth import beyond_measurement_error, percent_change
from medseg.measurement.measure import measure
from medseg.phantom.solids import rotation_about

SPACINGS_MM = ((0.7, 0.7, 0.7), (1.0, 1.0, 1.0), (0.8, 0.8, 3.0), (0.7, 0.7, 5.0))
DIAMETERS_MM = ((4.0, 8.0), (8.0, 15.0), (15.0, 30.0))
SAMPLE_MM = 0.5  # distance of the samples by which a voxel belongs to what fills most of it


def scanned(random: np.random.Generator, semi_axes: np.ndarray, turn: np.ndarray, spacing: tuple[float, ...]) -> LabelMap:
    """The ellipsoid at a random place within a voxel."""
    reach = float(semi_axes.max())
    shape = tuple(int(2 * reach / step) + 6 for step in spacing)
    centre = (np.asarray(shape) / 2 + random.uniform(-0.5, 0.5, 3)) * spacing
    counts = [2 * max(1, round(step / SAMPLE_MM / 2)) + 1 for step in spacing]  # odd: no voxel is filled to exactly one half
    steps = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    share = np.zeros(shape)
    for offset in np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3):
        axes = [((np.arange(n) + shift) * step) - c for n, shift, step, c in zip(shape, offset, spacing, centre, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ turn
        share += ((points / semi_axes) ** 2).sum(axis=-1) <= 1
    array = (share > np.prod(counts) / 2).astype(np.uint8)
    return LabelMap(array, Geometry(shape, np.diag([*spacing, 1.0])), (Segment(1, "lesion"),))


def trial(random: np.random.Generator, diameters: tuple[float, float], spacing: tuple[float, ...]) -> bool | None:
    """Scan one lesion twice; whether its change is called beyond measurement error, None where it left no voxel."""
    semi_axes = random.uniform(*diameters) / 2 * random.uniform(0.75, 1.25, 3)
    turn = rotation_about(random.normal(size=3), random.uniform(0, 360))
    volumes = [measure(scanned(random, semi_axes, turn, spacing))["lesion", "volume"] for _ in range(2)]
    return beyond_measurement_error(percent_change(volumes[0], volumes[1]))


def main() -> None:
    """Print one row for each spacing and size."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    random = np.random.default_rng(4)
    print("| spacing mm | " + " | ".join(f"{low:g} to {high:g} mm" for low, high in DIAMETERS_MM) + " |")
    print("|---|" + "---|" * len(DIAMETERS_MM))
    for spacing in SPACINGS_MM:
        cells = []
        for diameters in DIAMETERS_MM:
            count = trials
            answers = [answer for _ in range(count) if (answer := trial(random, diameters, spacing)) is not None]
            cells.append(f"{100 * (1 - np.mean(answers)):.0f} %" if answers else "-")
        print(f"| {' × '.join(f'{step:g}' for step in spacing)} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
