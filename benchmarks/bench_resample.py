"""Resampling 0.8 x 0.8 x 1.25 mm to 1.5 mm and back, intensities and labels, beside SimpleITK and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import FULL, Case, Run, main
from inputs import block_labels
from scipy import ndimage

from medseg.kernels.resample import resample_labels, resample_linear, resample_nearest
from medseg.kernels.resample_smooth import resample_smooth

SPACING = (1.25, 0.8, 0.8)
COARSE = 1.5
TURN = np.array([[1, 0, 0], [0, 0.98480775, -0.17364818], [0, 0.17364818, 0.98480775]])


def within(tolerance: float) -> Any:
    """Share of voxels that differ by no more than this."""
    return lambda first, second: float((np.abs(first.astype(np.float32) - second) <= tolerance).mean())


def equal(first: np.ndarray, second: np.ndarray) -> float:
    return float((first == second).mean())


def grid(shape: tuple[int, ...], back: bool) -> tuple[np.ndarray, list[int]]:
    """The step between grids that share their first voxel, and the shape of the new one."""
    steps = [COARSE / step for step in SPACING]
    if back:
        steps = [1 / step for step in steps]
    return np.diag(steps), [max(1, round(length / step)) for length, step in zip(shape, steps, strict=True)]


def coarse(array: np.ndarray) -> np.ndarray:
    matrix, shape = grid(array.shape, False)
    return resample_nearest(array, matrix, np.zeros(3), shape)


def in_itk(array: np.ndarray, matrix: np.ndarray, shape: list[int], way: int, fill: float) -> Run:
    image, transform = sitk.GetImageFromArray(array), sitk.AffineTransform(3)
    transform.SetMatrix(matrix[::-1, ::-1].ravel().tolist())
    axes = np.eye(3).ravel().tolist()
    return lambda: sitk.GetArrayFromImage(
        sitk.Resample(image, shape[::-1], transform, way, (0, 0, 0), (1, 1, 1), axes, fill, image.GetPixelID())
    )


def in_scipy(array: np.ndarray, matrix: np.ndarray, shape: list[int], order: int, fill: float) -> Run:
    given = np.diag(matrix) if np.count_nonzero(matrix) == 3 else matrix  # a diagonal takes scipy's fast way
    return lambda: ndimage.affine_transform(array, given, output_shape=tuple(shape), order=order, mode="constant", cval=fill)


def intensities(back: bool) -> Any:
    def build(ct: np.ndarray) -> dict[str, Run]:
        array = coarse(ct) if back else ct
        matrix, shape = grid(array.shape, back)
        return {
            "medseg": lambda: resample_linear(array, matrix, np.zeros(3), shape, -1024),
            "SimpleITK": in_itk(array, matrix, shape, sitk.sitkLinear, -1024),
            "scipy": in_scipy(array, matrix, shape, 1, -1024),
        }

    return build


def labels(back: bool, nearest: bool) -> Any:
    """Nearest as peers have it; ours by linear weights beside SimpleITK's interpolators made for labels."""

    def build(ct: np.ndarray) -> dict[str, Run]:
        array = block_labels(ct)
        array = coarse(array) if back else array
        matrix, shape = grid(array.shape, back)
        if nearest:
            return {
                "medseg nearest": lambda: resample_nearest(array, matrix, np.zeros(3), shape),
                "SimpleITK nearest": in_itk(array, matrix, shape, sitk.sitkNearestNeighbor, 0),
                "scipy order 0": in_scipy(array, matrix, shape, 0, 0),
            }
        return {
            "medseg, greatest linear weight": lambda: resample_labels(array, matrix, np.zeros(3), shape),
            "SimpleITK nearest": in_itk(array, matrix, shape, sitk.sitkNearestNeighbor, 0),
            "SimpleITK LabelLinear": in_itk(array, matrix, shape, sitk.sitkLabelLinear, 0),
            "scipy order 0": in_scipy(array, matrix, shape, 0, 0),
        }

    return build


def antialiased(ct: np.ndarray) -> dict[str, Run]:
    matrix, shape = grid(ct.shape, False)
    sigma = [float(np.sqrt(max(0.0, step * step - 1) / 12)) for step in np.diag(matrix)]
    image = sitk.GetImageFromArray(ct.astype(np.float32))
    smooth = sitk.SmoothingRecursiveGaussian

    def simpleitk() -> np.ndarray:
        blurred = sitk.GetArrayFromImage(smooth(image, sigma[::-1]))
        return in_itk(blurred, matrix, shape, sitk.sitkLinear, -1024)()

    def scipy() -> np.ndarray:
        blurred = ndimage.gaussian_filter(ct.astype(np.float32), sigma, mode="nearest")
        return in_scipy(blurred, matrix, shape, 1, -1024)()

    return {
        "medseg": lambda: resample_smooth(ct, matrix, np.zeros(3), shape, sigma, -1024),
        "scipy Gaussian + affine": scipy,
        "SimpleITK Gaussian + Resample": simpleitk,
    }


def oblique(ct: np.ndarray) -> dict[str, Run]:
    matrix, shape = TURN @ grid(ct.shape, False)[0], [length // 2 for length in ct.shape]
    return {
        "medseg": lambda: resample_linear(ct, matrix, np.zeros(3), shape, -1024),
        "SimpleITK": in_itk(ct, matrix, shape, sitk.sitkLinear, -1024),
    }


CASES = [
    Case("intensities to 1.5 mm", intensities(False), within(1), FULL),
    Case("intensities back to 0.8 x 0.8 x 1.25 mm", intensities(True), within(1), FULL),
    Case("labels to 1.5 mm, nearest", labels(False, True), equal, FULL),
    Case("labels back, nearest", labels(True, True), equal, FULL),
    Case("labels to 1.5 mm, by weight", labels(False, False), equal, FULL),
    Case("labels back, by weight", labels(True, False), equal, FULL),
    Case("intensities to 1.5 mm, antialiased", antialiased, within(2), FULL),
    Case("intensities, oblique", oblique, within(1), FULL),
]

if __name__ == "__main__":
    main(CASES, __file__)
