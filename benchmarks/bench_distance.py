"""Exact Euclidean distances on anisotropic voxels beside edt, SimpleITK and scipy, and growing by a ball."""

from __future__ import annotations

import os
from typing import Any

import edt
import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from scipy import ndimage

from medseg.kernels.distance import dilate, distance_mm

SPACING = (1.25, 0.8, 0.8)


def close_to(first: np.ndarray, second: np.ndarray) -> float:
    """Share of voxels that differ by no more than a thousandth of a millimetre."""
    return float((np.abs(first - second) <= 1e-3).mean())


def distances(low: float, high: float) -> Any:
    def build(ct: np.ndarray) -> dict[str, Run]:
        mask = (ct > low) & (ct < high)
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(SPACING[::-1])
        threads = os.cpu_count() or 1

        def simpleitk() -> np.ndarray:
            found = sitk.SignedMaurerDistanceMap(image == 0, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
            return np.maximum(sitk.GetArrayFromImage(found), 0)

        return {
            "medseg": lambda: distance_mm(mask, SPACING),
            "edt, all cores": lambda: edt.edt(mask, anisotropy=SPACING, black_border=False, parallel=threads),
            "edt, one core": lambda: edt.edt(mask, anisotropy=SPACING, black_border=False),
            "SimpleITK SignedMaurer": simpleitk,
            "scipy": lambda: ndimage.distance_transform_edt(mask, sampling=SPACING),
        }

    return build


def dilations(ct: np.ndarray) -> dict[str, Run]:
    mask = ((ct > 150) & (ct < 1000)).astype(np.uint8)
    image = sitk.GetImageFromArray(mask)
    return {
        "medseg, ball of 5 mm": lambda: dilate(mask, 5, (1, 1, 1)),
        "SimpleITK, ball of 5 voxels": lambda: sitk.GetArrayFromImage(sitk.BinaryDilate(image, [5, 5, 5])),
    }


CASES = [
    Case("distances in the body, 256^3", distances(-300, 1e5), close_to, (256, 256, 256)),
    Case("distances in the body, 512x512x300", distances(-300, 1e5), close_to),
    Case("distances outside the bones, 512x512x300", distances(-1e5, 150), close_to),
    Case("dilate bones", dilations, None),
]

if __name__ == "__main__":
    main(CASES, __file__)
