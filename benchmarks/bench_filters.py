"""Median, Gaussian, gradient, distances and resampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from scipy import ndimage

from medseg.kernels.distance import dilate, distance_mm
from medseg.kernels.filters import gaussian, gradient_magnitude, median
from medseg.kernels.resample import resample_linear

SPACING = (1.25, 0.8, 0.8)


def within(tolerance: float) -> Any:
    """Share of voxels that differ by no more than this."""
    return lambda first, second: float((np.abs(first.astype(np.float32) - second) <= tolerance).mean())


def medians(ct: np.ndarray) -> dict[str, Run]:
    image = sitk.GetImageFromArray(ct)
    return {"medseg": lambda: median(ct), "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.Median(image, [1, 1, 1]))}


def gaussians(ct: np.ndarray) -> dict[str, Run]:
    return {
        "medseg": lambda: gaussian(ct, (1.5, 1.5, 1.5)),
        "scipy": lambda: ndimage.gaussian_filter(ct.astype(np.float32), 1.5, mode="nearest"),
    }


def gradients(ct: np.ndarray) -> dict[str, Run]:
    image = sitk.GetImageFromArray(ct)
    image.SetSpacing(SPACING[::-1])
    return {
        "medseg": lambda: gradient_magnitude(ct, SPACING),
        "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.GradientMagnitude(image)),
    }


def distances(ct: np.ndarray) -> dict[str, Run]:
    mask = ct > -300
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(SPACING[::-1])

    def simpleitk() -> np.ndarray:
        found = sitk.GetArrayFromImage(
            sitk.SignedMaurerDistanceMap(image == 0, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
        )
        return np.maximum(found, 0)

    return {"medseg": lambda: distance_mm(mask, SPACING), "SimpleITK SignedMaurer": simpleitk}


def dilations(ct: np.ndarray) -> dict[str, Run]:
    mask = ((ct > 150) & (ct < 1000)).astype(np.uint8)
    image = sitk.GetImageFromArray(mask)
    return {
        "medseg, ball of 5 mm": lambda: dilate(mask, 5, (1, 1, 1)),
        "SimpleITK, ball of 5 voxels": lambda: sitk.GetArrayFromImage(sitk.BinaryDilate(image, [5, 5, 5])),
    }


def linear(ct: np.ndarray) -> dict[str, Run]:
    matrix = np.diag([1.5 / step for step in SPACING])
    shape = [int(length * step / 1.5) for length, step in zip(ct.shape, SPACING, strict=True)]
    return _resampling(ct, matrix, shape)


def oblique(ct: np.ndarray) -> dict[str, Run]:
    turn = np.array([[1, 0, 0], [0, 0.98480775, -0.17364818], [0, 0.17364818, 0.98480775]])
    return _resampling(ct, turn @ np.diag([1.5 / step for step in SPACING]), [length // 2 for length in ct.shape])


def _resampling(ct: np.ndarray, matrix: np.ndarray, shape: list[int]) -> dict[str, Run]:
    image, transform = sitk.GetImageFromArray(ct), sitk.AffineTransform(3)
    transform.SetMatrix(matrix[::-1, ::-1].ravel().tolist())
    grid = (shape[::-1], transform, sitk.sitkLinear, (0, 0, 0), (1, 1, 1), np.eye(3).ravel().tolist(), -1024.0, sitk.sitkInt16)
    return {
        "medseg": lambda: resample_linear(ct, matrix, np.zeros(3), shape, -1024),
        "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.Resample(image, *grid)),
    }


CASES = [
    Case("median 3^3, 256^3", medians, within(0), (256, 256, 256)),
    Case("Gaussian 1.5", gaussians, within(0.01)),
    Case("gradient magnitude", gradients, within(0.01)),
    Case("distances in the body", distances, within(0.001)),
    Case("dilate bones", dilations, None),
    Case("linear to 1.5 mm", linear, within(1)),
    Case("linear, oblique", oblique, within(1)),
]

if __name__ == "__main__":
    main(CASES, __file__)
