"""Watersheds of the gradient of a CT, 256 x 256 x 256 and 512 x 512 x 300: whole numbers and floats, with and without lines."""

from __future__ import annotations

from functools import partial

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from scipy import ndimage
from skimage.segmentation import watershed as skimage_watershed

from medseg.kernels.filters import gaussian, gradient_magnitude
from medseg.kernels.watershed import watershed

SMALL = (256, 256, 256)


def same(first: np.ndarray, second: np.ndarray) -> float:
    return float((first == second).mean())


def scene(ct: np.ndarray, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """The relief, in whole HU per voxel or as it is (nearly every voxel has a height of its own), and 60 markers of 27 voxels."""
    relief = gradient_magnitude(gaussian(ct, (1, 1, 1)), (1, 1, 1))
    markers = np.zeros(ct.shape, np.uint8)
    rng = np.random.default_rng(1)
    for number in range(1, 61):
        k, j, i = (int(rng.integers(1, length - 1)) for length in ct.shape)
        markers[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2] = number
    return (np.round(relief).astype(np.uint16) if whole else relief), markers


def build(ct: np.ndarray, whole: bool = True, lines: bool = False, slow: bool = False) -> dict[str, Run]:
    relief, markers = scene(ct, whole)
    image, seeds = sitk.GetImageFromArray(relief), sitk.GetImageFromArray(markers)

    def simpleitk() -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.MorphologicalWatershedFromMarkers(image, seeds, markWatershedLine=lines))

    runs: dict[str, Run] = {"medseg": lambda: watershed(relief, markers, lines=lines), "SimpleITK": simpleitk}
    if slow and whole:
        signed = markers.astype(np.int16)
        runs["scipy watershed_ift"] = lambda: ndimage.watershed_ift(relief, signed)
    if slow:
        runs["scikit-image"] = lambda: skimage_watershed(relief, markers)
    return runs


CASES = [
    Case("watershed 256^3", build, same, SMALL),
    Case("watershed 256^3, all peers", partial(build, slow=True), same, SMALL),
    Case("watershed 256^3, floats", partial(build, whole=False), same, SMALL),
    Case("watershed 256^3, lines", partial(build, lines=True), same, SMALL),
    Case("watershed 512x512x300", build, same),
    Case("watershed 512x512x300, floats", partial(build, whole=False), same),
]

if __name__ == "__main__":
    main(CASES, __file__)
