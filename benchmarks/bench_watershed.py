"""Watershed from markers on the gradient of a CT, 256 x 256 x 256 and 512 x 512 x 300."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main

from medseg.kernels.filters import gaussian, gradient_magnitude
from medseg.kernels.watershed import watershed


def same(first: np.ndarray, second: np.ndarray) -> float:
    return float((first == second).mean())


def build(ct: np.ndarray) -> dict[str, Run]:
    relief = np.round(gradient_magnitude(gaussian(ct, (1, 1, 1)), (1, 1, 1))).astype(np.uint16)
    markers = np.zeros(ct.shape, np.uint8)
    rng = np.random.default_rng(1)
    for number in range(1, 61):
        k, j, i = (int(rng.integers(1, length - 1)) for length in ct.shape)
        markers[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2] = number
    image, seeds = sitk.GetImageFromArray(relief), sitk.GetImageFromArray(markers)

    def simpleitk() -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.MorphologicalWatershedFromMarkers(image, seeds, markWatershedLine=False))

    return {"medseg": lambda: watershed(relief, markers), "SimpleITK": simpleitk}


CASES = [Case("watershed 256^3", build, same, (256, 256, 256)), Case("watershed 512x512x300", build, same)]

if __name__ == "__main__":
    main(CASES, __file__)
