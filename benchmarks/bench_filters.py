"""Median, Gaussian, anisotropic diffusion and gradient beside SimpleITK and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from scipy import ndimage

from medseg.kernels.diffusion import perona_malik
from medseg.kernels.filters import gaussian, gradient_magnitude, median

SPACING = (1.25, 0.8, 0.8)
STEP_MM2 = 0.0625  # ITK's largest stable step for five iterations on voxels of 1 mm
STEPS = 5


def within(tolerance: float) -> Any:
    """Share of voxels that differ by no more than this."""
    return lambda first, second: float((np.abs(first.astype(np.float32) - second) <= tolerance).mean())


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    part = (slice(None, None, 4), slice(None, None, 4), slice(None, None, 4))
    return float(np.corrcoef(first[part].ravel(), second[part].ravel())[0, 1])


def medians(ct: np.ndarray) -> dict[str, Run]:
    image = sitk.GetImageFromArray(ct)
    return {
        "medseg": lambda: median(ct),
        "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.Median(image, [1, 1, 1])),
        "scipy": lambda: ndimage.median_filter(ct, 3, mode="nearest"),
    }


def gaussians(ct: np.ndarray) -> dict[str, Run]:
    image = sitk.GetImageFromArray(ct.astype(np.float32))
    return {
        "medseg": lambda: gaussian(ct, (1.5, 1.5, 1.5)),
        "scipy": lambda: ndimage.gaussian_filter(ct.astype(np.float32), 1.5, mode="nearest"),
        "SimpleITK recursive": lambda: sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, [1.5, 1.5, 1.5])),
        "SimpleITK discrete": lambda: sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, [2.25] * 3, 13, [0.01] * 3, True)),
    }


def diffusions(ct: np.ndarray) -> dict[str, Run]:
    """As many steps of as much time; ITK takes conductance from the whole gradient, we from the difference to each neighbour."""
    image = sitk.GetImageFromArray(ct.astype(np.float32))

    def ours() -> np.ndarray:
        out = ct
        for _ in range(STEPS):
            out = perona_malik(out, (1, 1, 1), 60.0, STEP_MM2)
        return out

    return {
        "medseg, 5 calls of a step": ours,
        "medseg, the same time": lambda: perona_malik(ct, (1, 1, 1), 60.0, STEPS * STEP_MM2),
        "SimpleITK gradient": lambda: sitk.GetArrayFromImage(sitk.GradientAnisotropicDiffusion(image, STEP_MM2, 1.0, 1, STEPS)),
        "SimpleITK curvature": lambda: sitk.GetArrayFromImage(sitk.CurvatureAnisotropicDiffusion(image, STEP_MM2, 1.0, 1, STEPS)),
    }


def gradients(ct: np.ndarray) -> dict[str, Run]:
    image = sitk.GetImageFromArray(ct)
    image.SetSpacing(SPACING[::-1])
    return {
        "medseg": lambda: gradient_magnitude(ct, SPACING),
        "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.GradientMagnitude(image)),
    }


CASES = [
    Case("median 3^3, 256^3", medians, within(0), (256, 256, 256)),
    Case("median 3^3, 512x512x300", medians, within(0)),
    Case("Gaussian 1.5 voxels, 256^3", gaussians, within(0.01), (256, 256, 256)),
    Case("Gaussian 1.5 voxels, 512x512x300", gaussians, within(0.01)),
    Case("anisotropic diffusion, 5 steps, 256^3", diffusions, correlation, (256, 256, 256)),
    Case("anisotropic diffusion, 5 steps, 512x512x300", diffusions, correlation),
    Case("gradient magnitude", gradients, within(0.01)),
]

if __name__ == "__main__":
    main(CASES, __file__)
