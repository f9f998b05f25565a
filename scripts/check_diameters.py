"""How far diameters of masks lie from the truth: `python scripts/check_diameters.py` writes the table of docs/lesions.md.

Ellipsoids are turned at random, laid at random on grids of several spacings and marked where voxel centres lie inside.
The truth is a formula: the longest axis of their elliptic sections with the slices, and of the ellipsoid itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Source
from medseg.measurement.diameters import Diameter, segment_diameters
from medseg.phantom.sections import in_plane_diameters
from medseg.phantom.solids import Solid

PAGE = Path(__file__).resolve().parents[1] / "docs" / "lesions.md"
START, END = "<!-- errors: scripts/check_diameters.py -->", "<!-- end -->"
SPACINGS_MM = ((1.0, 1.0, 1.0), (0.8, 0.8, 2.5), (0.7, 0.7, 5.0))
SHAPES_MM = {
    "sphere 10 mm": (5.0, 5.0, 5.0),
    "sphere 30 mm": (15.0, 15.0, 15.0),
    "sphere 60 mm": (30.0, 30.0, 30.0),
    "ellipsoid 16 × 28 × 40 mm": (8.0, 14.0, 20.0),
    "ellipsoid 10 × 10 × 40 mm": (5.0, 5.0, 20.0),
}


def main() -> None:
    """Print the table, and put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    options = parser.parse_args()
    text = table(options.trials)
    print(text)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def table(trials: int) -> str:
    """The errors as Markdown: least to most, and how many lengths lie within half a voxel."""
    head = ["spacing (mm)", "lesion"]
    for name in ("in plane", "perpendicular", "3D"):
        head += [f"{name}: mesh", "length", "within ½ voxel"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    rng = np.random.default_rng(0)
    for spacing in SPACINGS_MM:
        for name, semi_axes in SHAPES_MM.items():
            trials_found = [trial(rng, semi_axes, spacing) for _ in range(trials)]
            cells = [" × ".join(f"{step:g}" for step in spacing), name]
            for n, axes in enumerate((2, 2, 3)):
                half = 0.5 * float(np.linalg.norm(spacing[:axes]))
                lengths = [found[n][0].length_mm - found[n][1] for found in trials_found]
                share = float(np.mean(np.abs(lengths) <= half))
                cells += [span([found[n][0].mesh_mm - found[n][1] for found in trials_found]), span(lengths), f"{100 * share:.0f} %"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def span(errors: list[float]) -> str:
    """Mean and range of errors in mm."""
    return f"{np.mean(errors):+.1f} ({min(errors):+.1f} to {max(errors):+.1f})"


def trial(
    rng: np.random.Generator, semi_axes: tuple[float, float, float], spacing: tuple[float, float, float]
) -> tuple[tuple[Diameter, float], ...]:
    """One ellipsoid on one grid: the measured and the true diameter in a slice, at a right angle to it, and in 3D."""
    turn = Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
    step = np.asarray(spacing)
    shape = tuple(int(n) for n in np.ceil(2 * max(semi_axes) / step) + 4)
    affine = np.diag([*(-step[:2]), step[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2 + rng.uniform(-0.5, 0.5, 3))
    geometry = Geometry((shape[0], shape[1], shape[2]), affine)
    solid = Solid((0.0, 0.0, 0.0), semi_axes, tuple(tuple(float(x) for x in row) for row in turn))  # type: ignore[misc]
    points = geometry.index_to_world(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    mask = solid.contains(points).astype(np.uint8)
    found = segment_diameters(LabelMap(mask, geometry, (Segment(1, "lesion"),), Source("made", "dicom")))[1]
    truth = in_plane_diameters(solid, geometry)
    assert truth is not None
    shorter = truth["perpendicular_diameter_mm"]
    return (found.longest, truth["longest_diameter_mm"]), (found.perpendicular, shorter), (found.diameter_3d, 2 * max(semi_axes))


if __name__ == "__main__":
    main()
