"""Region growing, body-sized and tiny, and the clean-up of a mask, on 512 x 512 x 300 int16.

Peers: SimpleITK, scikit-image and, where it is installed, cc3d (LGPL: to compare with only).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from scipy import ndimage
from skimage.segmentation import flood as skimage_flood

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.kernels.components import fill_holes, keep_largest, label_components
from medseg.kernels.flood import flood
from medseg.segmentation.classical.nested_growing import nested_regions
from medseg.segmentation.segment import segment

try:
    import cc3d
except ImportError:
    cc3d = None


def same(first: Any, second: Any) -> float:
    second = sitk.GetArrayFromImage(second) if isinstance(second, sitk.Image) else second
    return float((np.asarray(first) == np.asarray(second)).mean())


def growing(connectivity: int, tiny: bool) -> Any:
    def build(ct: np.ndarray) -> dict[str, Run]:
        lower, upper = -300, 3000
        labels, _ = label_components((ct[ct.shape[0] // 2][None] > lower).astype(np.uint8), 6)
        inside = np.argwhere(labels[0] == 1)
        j, i = inside[len(inside) // 2]
        seed = (ct.shape[0] // 2, int(j), int(i))
        if tiny:
            lower, upper = int(ct[seed]) - 2, int(ct[seed]) + 2
        points = np.array([seed])
        image = sitk.GetImageFromArray(ct)

        def simpleitk(image: sitk.Image) -> sitk.Image:
            grow = sitk.ConnectedThresholdImageFilter()
            grow.SetLower(lower)
            grow.SetUpper(upper)
            grow.SetConnectivity(grow.FullConnectivity if connectivity == 26 else grow.FaceConnectivity)
            grow.AddSeed(seed[::-1])
            return grow.Execute(image)

        def scikit_image() -> np.ndarray:
            if tiny:
                return skimage_flood(ct, seed, connectivity=1 if connectivity == 6 else 3, tolerance=2)
            masked = ((ct >= lower) & (ct <= upper)).astype(np.uint8)
            return skimage_flood(masked, seed, connectivity=1 if connectivity == 6 else 3)

        def threshold_and_cc3d() -> np.ndarray:
            pieces = cc3d.connected_components((ct >= lower) & (ct <= upper), connectivity=connectivity)
            return pieces == pieces[seed]

        runs: dict[str, Run] = {
            "medseg": lambda: flood(ct, points, lower, upper, connectivity),  # type: ignore[arg-type]
            "SimpleITK, arrays in and out": lambda: sitk.GetArrayFromImage(simpleitk(sitk.GetImageFromArray(ct))),
            "SimpleITK, filter alone": lambda: simpleitk(image),
        }
        if tiny or connectivity == 6:
            runs["scikit-image flood"] = scikit_image
        if cc3d is not None and not tiny:
            runs["threshold and cc3d"] = threshold_and_cc3d
        return runs

    return build


def confident(ct: np.ndarray) -> dict[str, Run]:
    """Confidence connected from a point in the body, 4 iterations."""
    labels, _ = label_components((ct[ct.shape[0] // 2][None] > -300).astype(np.uint8), 6)
    inside = np.argwhere(labels[0] == 1)
    j, i = (int(n) for n in inside[len(inside) // 2])
    seed = (ct.shape[0] // 2, j, i)
    volume = Volume(ct.T, Geometry(ct.shape[::-1], np.diag([0.8, 0.8, 1.25, 1])), "CT", "HU")
    point = tuple(volume.geometry.index_to_world(seed[::-1]).tolist())
    image = sitk.GetImageFromArray(ct)
    return {
        "medseg": lambda: segment(volume, "confidence-connected", seeds=[point], multiplier=2.5, iterations=4).array.T,
        "SimpleITK, filter alone": lambda: sitk.ConfidenceConnected(image, [seed[::-1]], 4, 2.5, 1, 1),
    }


def neighbourhood(ct: np.ndarray) -> dict[str, Run]:
    """Every voxel whose box of 3 x 3 x 3 lies between the limits, connected to a point in the body."""
    volume = Volume(ct.T, Geometry(ct.shape[::-1], np.eye(4)), "CT", "HU")
    allowed = ndimage.minimum_filter(ct[ct.shape[0] // 2] > -300, 3)
    j, i = (int(n) for n in np.argwhere(allowed)[allowed.sum() // 2])
    seed = (i, j, ct.shape[0] // 2)
    image = sitk.GetImageFromArray(ct)
    chosen = {"seeds": [seed], "lower": -300, "upper": 3000, "radius_mm": 1}
    return {
        "medseg": lambda: segment(volume, "neighbourhood-connected", **chosen).array.T,
        "SimpleITK, filter alone": lambda: sitk.NeighborhoodConnected(image, [seed], -300, 3000, [1, 1, 1], 1),
    }


def all_thresholds(ct: np.ndarray) -> dict[str, Run]:
    """Region and volume for any threshold around a point: one pass, against one flood at each of 16 thresholds."""
    volume = Volume(ct.T, Geometry(ct.shape[::-1], np.eye(4)), "CT", "HU")
    seed = np.array([[ct.shape[2] // 2, ct.shape[1] // 2, ct.shape[0] // 2]])
    centre = float(ct[tuple(seed[0, ::-1])])
    image = sitk.GetImageFromArray(ct)
    steps = np.linspace(10, 300, 16).round()

    def ours() -> list[float]:
        nested = nested_regions(volume, seed, centre=centre)
        return [nested.volume_ml(step) for step in steps]

    def simpleitk() -> list[float]:
        at = [int(n) for n in seed[0]]
        return [
            float(sitk.GetArrayFromImage(sitk.ConnectedThreshold(image, [at], centre - step, centre + step)).sum()) / 1000 for step in steps
        ]

    return {"medseg": ours, "SimpleITK, 16 thresholds": simpleitk}


def clean_up(ct: np.ndarray) -> dict[str, Run]:
    mask = (ct > -300).astype(np.uint8)
    largest = sitk.GetImageFromArray(mask)

    def simpleitk() -> np.ndarray:
        ordered = sitk.RelabelComponent(sitk.ConnectedComponent(largest, True))
        return sitk.GetArrayFromImage(ordered == 1)

    def scipy_label() -> np.ndarray:
        labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        return labels == np.bincount(labels.ravel())[1:].argmax() + 1

    return {"medseg": lambda: keep_largest(mask), "SimpleITK": simpleitk, "scipy": scipy_label}


def holes(ct: np.ndarray) -> dict[str, Run]:
    mask = (ct > -300).astype(np.uint8)
    image = sitk.GetImageFromArray(mask)
    return {
        "medseg": lambda: fill_holes(mask),
        "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.BinaryFillhole(image, False, 1.0)),
        "scipy label": lambda: _filled(mask),
    }


def _filled(mask: np.ndarray) -> np.ndarray:
    """binary_fill_holes takes minutes at this size; labels of the background do the same in seconds."""
    labels, _ = ndimage.label(np.pad(mask == 0, 1, constant_values=True))
    return labels[1:-1, 1:-1, 1:-1] != labels[0, 0, 0]


CASES = [
    Case("body, 6 neighbours", growing(6, tiny=False), same),
    Case("body, 26 neighbours", growing(26, tiny=False), same),
    Case("tiny region, 6 neighbours", growing(6, tiny=True), same),
    Case("confidence connected, 256³", confident, same, (256, 256, 256)),
    Case("confidence connected, 512×512×300", confident, same),
    Case("neighbourhood connected, 150×256×256", neighbourhood, same, (150, 256, 256)),
    Case("volumes at 16 thresholds, 150×256×256", all_thresholds, lambda one, other: float(np.allclose(one, other)), (150, 256, 256)),
    Case("keep the largest component", clean_up, same),
    Case("fill holes", holes, same),
]

if __name__ == "__main__":
    main(CASES, __file__)
