"""Organs of CT scans from one seed each, by every method that takes seeds: tables of Dice.

    python benchmarks/quality_organs.py

The seed of an organ is the voxel nearest to the centroid of its reference, eroded until a tenth is left, the same for all
methods. Every method has one set of parameters for all organs and all scans; they are listed here and none looks at the
reference. "cleared" is the scan without muscle, fat, bone and air, smoothed (`organ_recipe.trunk_cleared`), which the methods
do not smooth again. The recipe is repeated with ten other seeds per organ (`--shifted`), drawn from the reference eroded by
6 mm.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from organ_recipe import organs_from_seeds, trunk_cleared
from scipy import ndimage

import medseg
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.phantom.catalog import make_torso
from medseg.preprocessing.resample import restore
from medseg.segmentation.segment import segment

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NAMES = ("liver", "spleen", "kidney_right", "kidney_left")
NUMBERS = {"liver": 5, "spleen": 1, "kidney_right": 2, "kidney_left": 3}
BALL = {"seed_radius_mm": 10.0}

Masks = list[np.ndarray]
Points = Sequence[tuple[float, float, float]]
Method = Callable[[Volume, Points], Masks]


@dataclass(frozen=True)
class Case:
    name: str
    volume: Volume
    references: dict[str, np.ndarray]


def each(name: str, **parameters: Any) -> Method:
    """The method once an organ."""
    return lambda volume, points: [_or_empty(volume, name, seeds=[point], **parameters) for point in points]


def together(name: str, **parameters: Any) -> Method:
    """The method once, all seeds at once."""

    def run(volume: Volume, points: Points) -> Masks:
        found = segment(volume, name, seeds=list(points), **_for(volume, parameters)).array
        return [found == number + 1 for number in range(len(points))]

    return run


def around_seed(name: str, width: float, **parameters: Any) -> Method:
    """The method between limits of a fixed width around the median of a ball at the seed."""

    def run(volume: Volume, points: Points) -> Masks:
        masks = []
        for point in points:
            index = np.rint(volume.geometry.world_to_index(point)).astype(int)
            reach = np.ceil(6 / np.array(volume.geometry.spacing_mm)).astype(int)
            block = volume.array[tuple(slice(max(n - r, 0), n + r + 1) for n, r in zip(index, reach, strict=True))]
            middle = float(np.nanmedian(block))
            masks.append(_or_empty(volume, name, seeds=[point], lower=middle - width, upper=middle + width, **parameters))
        return masks

    return run


def _or_empty(volume: Volume, name: str, **parameters: Any) -> np.ndarray:
    """What a method finds; nothing where it cannot start from the seed, which it says by an error."""
    try:
        return segment(volume, name, **_for(volume, parameters)).array > 0
    except medseg.MedsegError:
        return np.zeros(volume.array.shape, bool)


def _for(volume: Volume, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters without smoothing for a scan that was smoothed already (it holds NaN outside the organs)."""
    is_smooth = "sigma_mm" in parameters and bool(np.isnan(volume.array).any())
    return {**parameters, "sigma_mm": 0} if is_smooth else parameters


METHODS: dict[str, Method] = {
    "region-growing": around_seed("region-growing", 25),
    "neighbourhood-connected": around_seed("neighbourhood-connected", 45, radius_mm=3),
    "confidence-connected": each("confidence-connected"),
    "leak-guarded-growing": each("leak-guarded-growing", tolerance=20, seed_radius_mm=12, neck_mm=16, sigma_mm=3),
    "nested-growing": each("nested-growing", at_least_ml=20),
    "competitive-growing": together("competitive-growing", background_beyond=3, sigma_mm=3, **BALL),
    "watershed": together("watershed", sigma_mm=3, lower=-50, upper=250),
    "grow-from-seeds": together("grow-from-seeds", background_beyond=3, sigma_mm=2, **BALL),
    "random-walker": together("random-walker", background_beyond=3, sigma_mm=2, **BALL),
    "graph-cut": each("graph-cut", background_beyond=3, sigma_mm=2, **BALL),
}


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def depth_mm(mask: np.ndarray, volume: Volume) -> np.ndarray:
    """Distance to the outside of a mask; beyond the scan counts as outside."""
    inside = np.pad(mask, 1)
    return ndimage.distance_transform_edt(inside, sampling=volume.geometry.spacing_mm)[1:-1, 1:-1, 1:-1]


def centre_seed(mask: np.ndarray, volume: Volume) -> tuple[int, ...]:
    """The voxel nearest to the centroid of the largest piece of the deepest tenth of a mask."""
    depth = depth_mm(mask, volume)
    labels, count = ndimage.label(depth >= np.quantile(depth[mask], 0.9))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    held = np.argwhere(labels == 1 + int(sizes.argmax()))
    away = np.linalg.norm((held - held.mean(axis=0)) * volume.geometry.spacing_mm, axis=1)
    return tuple(held[int(away.argmin())].tolist())


def shifted_seeds(mask: np.ndarray, volume: Volume, count: int) -> list[tuple[int, ...]]:
    """Voxels drawn from all that lie at least 6 mm inside a mask."""
    held = np.argwhere(depth_mm(mask, volume) >= 6)
    return [tuple(at.tolist()) for at in held[np.random.default_rng(0).integers(0, len(held), count)]]


def to_points(volume: Volume, seeds: Sequence[tuple[int, ...]]) -> list[Any]:
    return [tuple(volume.geometry.index_to_world(seed).tolist()) for seed in seeds]


def real_case(folder: Path, image: str, labels: str) -> Case:
    volume = medseg.read(folder / image)
    read = medseg.read(folder / labels)
    numbers = tuple(Segment(int(number), f"n{number}") for number in np.unique(read.array) if number)
    label_map = restore(LabelMap(read.array.astype(np.uint8), read.geometry, numbers), volume.geometry)
    masks = {name: label_map.array == number for name, number in NUMBERS.items()}
    return Case(folder.name, volume, {name: mask for name, mask in masks.items() if mask.sum() * volume.geometry.voxel_volume_mm3 > 2e4})


def phantom_case(seed: int) -> Case:
    torso = make_torso(seed, preset="coarse")
    return Case(f"phantom torso {seed}", torso.volume, {name: torso.label_map.mask(name) for name in NAMES})


def cases(data: Path, text: str = "") -> list[Case]:
    makers: dict[str, Callable[[], Case]] = {
        "ct_totalseg_organs": lambda: real_case(data / "ct_totalseg_organs", "image.nii.gz", "labels_full.nii.gz"),
        "ct_totalseg_dicom": lambda: real_case(data / "ct_totalseg_dicom", "dicom", "labels.nii.gz"),
        "phantom torso 1": lambda: phantom_case(1),
        "phantom torso 2": lambda: phantom_case(2),
        "phantom torso 3": lambda: phantom_case(3),
    }
    return [make() for name, make in makers.items() if text in name]


def score(
    case: Case, run: Callable[[Volume, Points], Masks], volume: Volume, seeds: Sequence[tuple[int, ...]]
) -> tuple[list[float], float]:
    begin = time.perf_counter()
    found = run(volume, to_points(case.volume, seeds))
    took = time.perf_counter() - begin
    return [dice(mask, reference) for mask, reference in zip(found, case.references.values(), strict=True)], took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--shifted", type=int, default=10, help="other seeds per organ for the recipe")
    parser.add_argument("--case", default="", help="cases whose name holds this text")
    parser.add_argument("--only", default="", help="methods whose name holds one of these texts, separated by commas")
    options = parser.parse_args()
    for case in cases(options.data, options.case):
        print(f"\n### {case.name}\n\n| method | scan | {' | '.join(case.references)} | mean | s |")
        print("|---" * (len(case.references) + 4) + "|", flush=True)
        seeds = [centre_seed(mask, case.volume) for mask in case.references.values()]
        scans = {"as it is": case.volume, "cleared": trunk_cleared(case.volume)}
        for name, run in METHODS.items():
            for kind, volume in scans.items() if any(text in name for text in options.only.split(",")) else ():
                print(_row(name, kind, *score(case, run, volume, seeds)), flush=True)
        print(_row("recipe", "as it is", *score(case, organs_from_seeds, case.volume, seeds)), flush=True)
        if options.shifted:
            print(_shifted(case, options.shifted), flush=True)


def _row(name: str, kind: str, scores: list[float], took: float) -> str:
    return f"| {name} | {kind} | {' | '.join(f'{value:.3f}' for value in scores)} | {np.mean(scores):.3f} | {took:.2f} |"


def _shifted(case: Case, count: int) -> str:
    """The recipe with other seeds: mean and least Dice an organ."""
    drawn = [shifted_seeds(mask, case.volume, count) for mask in case.references.values()]
    tried = np.array([score(case, organs_from_seeds, case.volume, seeds)[0] for seeds in zip(*drawn, strict=True)])
    means, least = tried.mean(axis=0), tried.min(axis=0)
    cells = " | ".join(f"{mean:.3f} (least {low:.3f})" for mean, low in zip(means, least, strict=True))
    return f"| recipe, {count} other seeds | as it is | {cells} | {tried.mean():.3f} | |"


if __name__ == "__main__":
    main()
