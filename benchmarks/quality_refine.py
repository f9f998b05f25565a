"""How much nearer to the reference borders get: organs of two real scans, drawn poorly on purpose, before and after each rule.

`coarse` is the reference on voxels of 6 mm, as a network at low resolution gives it; `shifted` is the reference moved about by a
smooth random field of 2 mm. Prints the table of docs/postprocessing.md: python benchmarks/quality_refine.py [--data FOLDER]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.read import read
from medseg.postprocessing.postprocess import postprocess

SCANS = {"CT": ("ct_totalseg_organs", "labels_full.nii.gz"), "MR": ("mr_totalseg_organs", "labels.nii.gz")}
ORGANS = {1: "spleen", 2: "kidney_right", 3: "kidney_left", 5: "liver", 6: "stomach"}
METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "statistics": ("refine-boundary", {"band_mm": 5.0}),
    "random-walker": ("refine-boundary", {"band_mm": 5.0, "rule": "random-walker"}),
    "watershed": ("refine-boundary", {"band_mm": 5.0, "rule": "watershed"}),
    "snap-to-edges": ("snap-to-edges", {"reach_mm": 5.0}),
}
COARSE_MM, FIELD_MM, SHIFT_MM = 6.0, 4.0, 2.0


def coarse(reference: np.ndarray, grid: Geometry) -> np.ndarray:
    """The reference drawn on voxels of 6 mm."""
    steps = [max(1, round(COARSE_MM / spacing)) for spacing in grid.spacing_mm]
    index = [np.minimum(np.arange(n) // step * step + step // 2, n - 1) for n, step in zip(reference.shape, steps, strict=True)]
    return reference[np.ix_(*index)]


def shifted(reference: np.ndarray, grid: Geometry) -> np.ndarray:
    """The reference with its voxels moved by a smooth random field."""
    random = np.random.default_rng(0)
    width = [FIELD_MM / spacing for spacing in grid.spacing_mm]
    field = np.stack([gaussian_filter(random.normal(size=reference.shape), width) for _ in range(3)])
    field *= SHIFT_MM / field.std()
    places = np.indices(reference.shape)
    moved = [
        np.clip(np.rint(place + shift / spacing).astype(int), 0, n - 1)
        for place, shift, spacing, n in zip(places, field, grid.spacing_mm, reference.shape, strict=True)
    ]
    return reference[tuple(moved)]


def mean_dice(labels: np.ndarray, reference: np.ndarray) -> float:
    pairs = [(labels == number, reference == number) for number in ORGANS]
    return float(np.mean([2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    folder = parser.parse_args().data
    print(f"| scan | drawn | before | {' | '.join(METHODS)} |\n|---|---|---|{'---|' * len(METHODS)}")
    for name, (case, file) in SCANS.items():
        volume = read(folder / case / "image.nii.gz")
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / case / file))).T
        reference = np.where(np.isin(labels, list(ORGANS)), labels, 0).astype(np.uint8)
        scan = Volume(volume.array, volume.geometry, name)
        segments = tuple(Segment(number, label) for number, label in ORGANS.items())
        for kind, draw in (("coarse", coarse), ("shifted", shifted)):
            poor = LabelMap(draw(reference, scan.geometry), scan.geometry, segments)
            after = [mean_dice(postprocess(poor, method, volume=scan, **given).array, reference) for method, given in METHODS.values()]
            print(
                f"| {name} | {kind} | {mean_dice(poor.array, reference):.3f} | {' | '.join(f'{value:.3f}' for value in after)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
