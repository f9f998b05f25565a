"""Region growing, body-sized and tiny, and the clean-up of a mask, on 512 x 512 x 300 int16."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from scipy import ndimage
from skimage.segmentation import flood as skimage_flood

from medseg.kernels.components import fill_holes, keep_largest, label_components
from medseg.kernels.flood import flood


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
            masked = ((ct >= lower) & (ct <= upper)).astype(np.uint8)
            return skimage_flood(masked, seed, connectivity=1 if connectivity == 6 else 3)

        runs: dict[str, Run] = {
            "medseg": lambda: flood(ct, points, lower, upper, connectivity),  # type: ignore[arg-type]
            "SimpleITK, arrays in and out": lambda: sitk.GetArrayFromImage(simpleitk(sitk.GetImageFromArray(ct))),
            "SimpleITK, filter alone": lambda: simpleitk(image),
        }
        if not tiny and connectivity == 6:
            runs["scikit-image flood"] = scikit_image
        return runs

    return build


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
    Case("keep the largest component", clean_up, same),
    Case("fill holes", holes, same),
]

if __name__ == "__main__":
    main(CASES, __file__)
