"""Organs of a real abdominal MR from one seed each, by every method that takes seeds: a table of Dice.

    python benchmarks/quality_mr.py --out quality_mr.md

The seed of an organ is the voxel of its reference that lies deepest (as a user clicks: well inside), the same for all methods.
Methods that divide a scan get all seeds at once and mark background by rule (far from every seed, or unlike all of them); the
others run once an organ. Parameters are the same for all organs and are listed here; none of them looks at the reference.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

import medseg
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ORGANS = {1: "spleen", 2: "kidney_right", 3: "kidney_left", 4: "gallbladder", 5: "liver", 6: "stomach"}
TOGETHER: dict[str, dict[str, Any]] = {
    "grow-from-seeds": {"seed_radius_mm": 7.0, "background_beyond": 2.0, "sigma_mm": 2.0},
    "random-walker": {"seed_radius_mm": 7.0, "background_beyond": 2.0, "beta": 1.0, "sigma_mm": 2.0},
    "watershed": {"sigma_mm": 2.0},
}
EACH: dict[str, dict[str, Any]] = {
    "graph-cut": {"seed_radius_mm": 7.0, "background_beyond": 2.0, "reach_mm": 120.0, "smoothness_mm": 5.0},
    "chan-vese": {"start_radius_mm": 7.0, "reach_mm": 20.0},
    "geodesic-active-contour": {"start_radius_mm": 7.0, "reach_mm": 80.0},
    "confidence-connected": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, help="write the table as Markdown")
    options = parser.parse_args()
    folder = options.data / "mr_totalseg_organs"
    scan, reference = medseg.read(folder / "image.nii.gz"), _reference(folder)
    seeds = [seed_of(reference, number) for number in ORGANS]
    rows = [row(name, scan, reference, seeds) for name in (*TOGETHER, *EACH)]
    header = f"| method | {' | '.join(ORGANS.values())} | mean | s |"
    table = "\n".join([header, "|---" * (len(ORGANS) + 3) + "|", *rows])
    print(table)
    if options.out:
        options.out.write_text(table + "\n")


def _reference(folder: Path) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(folder / "labels.nii.gz").dataobj)


def seed_of(reference: np.ndarray, number: int) -> tuple[int, int, int]:
    """The deepest voxel of an organ (the border of the scan does not count as one of the organ)."""
    depth = distance_transform_edt(np.pad(reference == number, 1, mode="edge"))[1:-1, 1:-1, 1:-1]
    i, j, k = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(i), int(j), int(k)


def row(name: str, scan: Volume, reference: np.ndarray, seeds: list[tuple[int, int, int]]) -> str:
    points = [tuple(scan.geometry.index_to_world(seed).tolist()) for seed in seeds]
    masks(name, scan, points[:1])  # compiled and warm
    begin = time.perf_counter()
    found = masks(name, scan, points)
    took = time.perf_counter() - begin
    scores = [dice(reference == number, mask) for number, mask in zip(ORGANS, found, strict=True)]
    return f"| {name} | {' | '.join(f'{score:.3f}' for score in scores)} | {np.mean(scores):.3f} | {took:.2f} |"


def masks(name: str, scan: Volume, points: list[Any]) -> list[np.ndarray]:
    if name in TOGETHER:
        result: LabelMap = segment(scan, name, seeds=points, **TOGETHER[name])
        return [result.array == number + 1 for number in range(len(points))]
    return [segment(scan, name, seeds=[point], **EACH[name]).array > 0 for point in points]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


if __name__ == "__main__":
    main()
