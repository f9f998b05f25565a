"""Thresholds from the histogram, with the mask or the labels, and clustering, on 512 x 512 x 300 int16."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import FULL, Case, Run, main
from skimage.filters import threshold_local, threshold_multiotsu, threshold_otsu, threshold_triangle, threshold_yen
from sklearn.cluster import MiniBatchKMeans

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.kernels.histogram import histogram, limits_reached, otsu_thresholds
from medseg.segmentation.segment import segment

HALF = (FULL[0] // 2, FULL[1] // 2, FULL[2] // 2)


def same(first: Any, second: Any) -> float:
    """Share of voxels with the same label; a class may be called 0 or False, 1 or True."""
    second = sitk.GetArrayViewFromImage(second) if isinstance(second, sitk.Image) else second
    return float((np.asarray(first) == np.asarray(second)).mean())


def arrays(ct: np.ndarray, classes: int) -> Run:
    """Histogram, thresholds and labels as arrays, which is what the peers give."""

    def run() -> np.ndarray:
        found = otsu_thresholds(*histogram(ct), classes)
        return limits_reached(ct, found + 1)

    return run


def ours(ct: np.ndarray, name: str, **parameters: Any) -> Run:
    """The whole method: histogram, threshold, labels, and the checked label map (k, j, i)."""
    volume = Volume(ct.T, Geometry(ct.T.shape, np.eye(4)), "CT", "HU")
    return lambda: segment(volume, name, **parameters).array.T


def otsu(ct: np.ndarray) -> dict[str, Run]:
    image = sitk.GetImageFromArray(ct)

    def simpleitk(bins: int) -> Run:
        return lambda: sitk.OtsuThreshold(image, 0, 1, bins)

    def exact() -> np.ndarray:
        """scikit-image with one bin a value: identical, as its bins are ours."""
        return ct > threshold_otsu(ct)

    return {
        "medseg": arrays(ct, 2),
        "medseg, checked label map": ours(ct, "otsu"),
        "SimpleITK, 256 bins": simpleitk(256),
        "SimpleITK, a bin a value": simpleitk(int(ct.max()) - int(ct.min()) + 1),
        "scikit-image": exact,
    }


def multi_otsu(ct: np.ndarray) -> dict[str, Run]:
    image = sitk.GetImageFromArray(ct)

    def scikit_image() -> np.ndarray:
        return np.digitize(ct, threshold_multiotsu(ct, 3), right=True)

    return {
        "medseg": arrays(ct, 3),
        "medseg, checked label map": ours(ct, "multi-otsu", classes=3),
        "SimpleITK, 128 bins": lambda: sitk.OtsuMultipleThresholds(image, 2, 0, 128),
        "SimpleITK, 1024 bins": lambda: sitk.OtsuMultipleThresholds(image, 2, 0, 1024),
        "scikit-image": scikit_image,
    }


def one_rule(name: str, theirs: Any, filtered: Any) -> Any:
    def build(ct: np.ndarray) -> dict[str, Run]:
        image = sitk.GetImageFromArray(ct)

        def simpleitk() -> sitk.Image:
            chosen = filtered()
            chosen.SetInsideValue(0)
            chosen.SetOutsideValue(1)
            return chosen.Execute(image)

        runs: dict[str, Run] = {f"medseg {name}": ours(ct, name), "SimpleITK, 256 bins": simpleitk}
        if theirs is not None:
            runs["scikit-image"] = lambda: ct > theirs(ct)
        return runs

    return build


def local(ct: np.ndarray) -> dict[str, Run]:
    return {
        "medseg local-threshold, mean of 21³": ours(ct, "local-threshold", window_mm=21.0),
        "scikit-image threshold_local": lambda: ct > threshold_local(ct, 21, method="mean"),
    }


def windows(ct: np.ndarray) -> dict[str, Run]:
    """The cost does not grow with the window."""
    return {f"medseg, window of {edge} voxels": ours(ct, "local-threshold", window_mm=float(edge)) for edge in (5, 21, 81)}


def hysteresis(ct: np.ndarray) -> dict[str, Run]:
    image = sitk.GetImageFromArray(ct)
    return {
        "medseg hysteresis-threshold": ours(ct, "hysteresis-threshold", weak=130.0, strong=400.0),
        "SimpleITK DoubleThreshold": lambda: sitk.DoubleThreshold(image, 130, 400, 32767, 32767, 1, 0, True),
    }


def clusters(ct: np.ndarray) -> dict[str, Run]:
    def scikit_learn() -> np.ndarray:
        found = MiniBatchKMeans(4, n_init=1, random_state=0).fit_predict(ct.reshape(-1, 1).astype(np.float32))
        return found.reshape(ct.shape)

    image = sitk.GetImageFromArray(ct)
    return {
        "medseg k-means, 4 classes": ours(ct, "k-means", classes=4),
        "SimpleITK ScalarImageKmeans": lambda: sitk.ScalarImageKmeans(image, [-1000.0, -500.0, 0.0, 200.0]),
        "scikit-learn MiniBatchKMeans": scikit_learn,
    }


CASES = [
    Case("Otsu and mask", otsu, same),
    Case("multi-Otsu, 3 classes, and labels", multi_otsu, same),
    Case("triangle and mask", one_rule("triangle", threshold_triangle, sitk.TriangleThresholdImageFilter), same),
    Case("Yen and mask", one_rule("yen", threshold_yen, sitk.YenThresholdImageFilter), same),
    Case("maximum entropy and mask", one_rule("maximum-entropy", None, sitk.MaximumEntropyThresholdImageFilter), same),
    Case("local mean, 256 x 256 x 150", local, same, HALF),
    Case("local mean, three windows, 256 x 256 x 150", windows, None, HALF),
    Case("hysteresis", hysteresis, same),
    Case("k-means of one scan, 256 x 256 x 150", clusters, None, HALF),
]

if __name__ == "__main__":
    main(CASES, __file__)
