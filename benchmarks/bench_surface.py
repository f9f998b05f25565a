"""Surface metrics of organs against surface-distance, MONAI and SimpleITK, and all metrics of a 256 x 256 x 256 pair.

Every peer is compared with our numbers by its own definition of a surface: surfels for surface-distance, border voxels for
MONAI and (but for the average) SimpleITK. MONAI needs minutes for 20 organs: --rounds 1 is enough there.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import SimpleITK as sitk
import surface_distance
import torch
from harness import Case, Run, main
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from organs import SPACING_MM, organ_pair

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.overlap import evaluate
from medseg.evaluation.surface import surface_scores

TAU = 2.0
Rows = list[tuple[float, ...]]


def equal_share(first: Rows, second: Rows) -> float:
    """The share of the numbers that are equal to 1e-4 mm (MONAI counts in float32)."""
    width = min(len(first[0]), len(second[0]))
    pair = (np.array([row[:width] for row in rows]) for rows in (first, second))
    return float(np.isclose(*pair, rtol=0, atol=1e-4).mean())


def maps_of(ct: np.ndarray) -> tuple[LabelMap, LabelMap]:
    reference, prediction = organ_pair(ct)
    grid = Geometry(ct.shape[::-1], np.diag([*SPACING_MM[::-1], 1.0]))
    numbers = np.union1d(reference[::2, ::2, ::2], prediction[::2, ::2, ::2])
    segments = tuple(Segment(int(number), f"organ {number}") for number in range(1, int(numbers.max()) + 1))
    return LabelMap(reference.T, grid, segments), LabelMap(prediction.T, grid, segments)


def chosen(reference: LabelMap, count: int) -> list[int]:
    """The largest organ, or every fifth of those that follow it by size."""
    voxels = np.bincount(reference.array.reshape(-1, order="A"), minlength=256)
    voxels[0] = 0
    by_size = np.argsort(-voxels)
    by_size = by_size[voxels[by_size] > 0]
    return [int(by_size[0])] if count == 1 else [int(number) for number in by_size[1:101:5][:count]]


def ours(maps: tuple[LabelMap, LabelMap], numbers: list[int], surface: str) -> Rows:
    pairs = {number: (number, number) for number in numbers}
    found = surface_scores(*maps, pairs, tolerances_mm=(TAU,), surface=surface)  # type: ignore[arg-type]
    if surface == "voxels":
        return [(s.hd95_mm, s.assd_mm, s.nsd[TAU]) for s in found.values()]  # type: ignore[misc]
    return [(s.hd95_mm, s.mean_from_reference_mm, s.mean_from_prediction_mm, s.nsd[TAU], s.hd_mm) for s in found.values()]  # type: ignore[misc]


def deepmind(maps: tuple[LabelMap, LabelMap], numbers: list[int]) -> Rows:
    rows = []
    for number in numbers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = surface_distance.compute_surface_distances(*(some.mask(number).T for some in maps), SPACING_MM)
        means = surface_distance.compute_average_surface_distance(found)
        dice = surface_distance.compute_surface_dice_at_tolerance(found, TAU)
        hd95, hd = (surface_distance.compute_robust_hausdorff(found, percent) for percent in (95, 100))
        rows.append((hd95, *means, dice, hd))
    return rows


def monai(maps: tuple[LabelMap, LabelMap], numbers: list[int]) -> Rows:
    rows = []
    for number in numbers:
        y, y_pred = (torch.from_numpy(some.mask(number).T)[None, None] for some in maps)
        every: dict[str, Any] = {"include_background": True, "spacing": SPACING_MM}
        hd95 = compute_hausdorff_distance(y_pred, y, percentile=95, **every)
        assd = compute_average_surface_distance(y_pred, y, symmetric=True, **every)
        rows.append((float(hd95), float(assd), float(compute_surface_dice(y_pred, y, [TAU], **every))))
    return rows


def simpleitk(maps: tuple[LabelMap, LabelMap], numbers: list[int]) -> Rows:
    rows = []
    for number in numbers:
        images = [sitk.GetImageFromArray(some.mask(number).T.view(np.uint8)) for some in maps]
        for image in images:
            image.SetSpacing(SPACING_MM[::-1])
        found = sitk.HausdorffDistanceImageFilter()
        found.Execute(*images)
        rows.append((found.GetHausdorffDistance(),))
    return rows


def by_surfels(count: int) -> Any:
    def build(ct: np.ndarray) -> dict[str, Run]:
        maps = maps_of(ct)
        numbers = chosen(maps[0], count)
        return {
            "medseg (HD, HD95, ASSD, MASD, NSD, F1)": lambda: ours(maps, numbers, "surfels"),
            "surface-distance (HD, HD95, means, NSD)": lambda: deepmind(maps, numbers),
        }

    return build


def by_voxels(count: int) -> Any:
    def build(ct: np.ndarray) -> dict[str, Run]:
        maps = maps_of(ct)
        numbers = chosen(maps[0], count)
        runs: dict[str, Run] = {
            'medseg, surface="voxels" (all)': lambda: ours(maps, numbers, "voxels"),
            "MONAI (HD95, ASSD, surface Dice: three calls)": lambda: monai(maps, numbers),
        }
        return runs | ({"SimpleITK HausdorffDistance (not the same number)": lambda: simpleitk(maps, numbers)} if count == 1 else {})

    return build


def everything(ct: np.ndarray) -> dict[str, Run]:
    maps = maps_of(ct)
    numbers = [int(number) for number in np.intersect1d(*(some.array for some in maps)) if number]

    def all_metrics() -> Rows:
        scores = evaluate(*maps, tolerances_mm=(TAU,))
        found = [scores[f"organ {number}"].surface for number in numbers]
        return [(row["hd95_mm"], row["masd_mm"], row["hd_mm"]) for row in found]

    def surfaces_alone() -> Rows:
        return [(hd95, (first + second) / 2, hd) for hd95, first, second, _, hd in deepmind(maps, numbers)]

    return {
        "medseg evaluate: overlap and surfaces of 120 organs": all_metrics,
        "surface-distance: the surfaces alone": surfaces_alone,
    }


CASES = [
    Case("one large organ, 512x512x300, surfels", by_surfels(1), equal_share),
    Case("20 organs, 512x512x300, surfels", by_surfels(20), equal_share),
    Case("every metric of a 256x256x256 pair", everything, equal_share, shape=(256, 256, 256)),
    Case("one large organ, 512x512x300, voxels", by_voxels(1), equal_share),
    Case("20 organs, 512x512x300, voxels", by_voxels(20), equal_share),
]

if __name__ == "__main__":
    main(CASES, __file__)
