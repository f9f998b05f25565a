"""Statistics and overlap of 100 labels on 512 x 512 x 300."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from inputs import block_labels
from scipy import ndimage
from skimage import measure

from medseg.kernels.overlap import overlap_counts
from medseg.kernels.statistics import label_statistics


def close_to(first: Any, second: Any) -> float:
    return float(np.isclose(np.asarray(first), np.asarray(second), rtol=1e-9).mean())


def table(ct: np.ndarray) -> dict[str, Run]:
    """Volume, mean, deviation, least and greatest intensity, centroid and box of every label, one flat row of numbers."""
    labels = block_labels(ct)
    image, map_ = sitk.GetImageFromArray(ct), sitk.GetImageFromArray(labels)
    numbers = np.unique(labels)[1:].tolist()

    def ours() -> np.ndarray:
        found = label_statistics(labels, ct)
        sample = found.std * np.sqrt(found.voxels / (found.voxels - 1))
        columns = [found.voxels, found.mean, sample, found.minimum, found.maximum, *found.centroid.T, *found.first.T, *found.last.T]
        return np.column_stack(columns).ravel()

    def intensity(perimeter: bool) -> np.ndarray:
        found = sitk.LabelIntensityStatisticsImageFilter()
        found.SetComputePerimeter(perimeter)
        found.Execute(map_, image)
        rows = []
        for n in numbers:
            box = found.GetBoundingBox(n)
            first = box[2::-1]
            last = [start + size - 1 for start, size in zip(first, box[:2:-1], strict=True)]
            values = (found.GetNumberOfPixels(n), found.GetMean(n), found.GetStandardDeviation(n), found.GetMinimum(n), found.GetMaximum(n))
            rows.append([*values, *found.GetCentroid(n)[::-1], *first, *last])
        return np.array(rows, float).ravel()

    return {
        "medseg": ours,
        "SimpleITK LabelIntensityStatistics": lambda: intensity(True),
        "SimpleITK LabelIntensityStatistics without perimeters": lambda: intensity(False),
    }


def means(ct: np.ndarray) -> dict[str, Run]:
    labels = block_labels(ct)
    image, map_ = sitk.GetImageFromArray(ct), sitk.GetImageFromArray(labels)
    numbers = np.unique(labels)[1:].tolist()

    def simpleitk() -> list[float]:
        found = sitk.LabelStatisticsImageFilter()
        found.Execute(image, map_)
        return [found.GetMean(number) for number in numbers]

    def scipy() -> np.ndarray:
        found = ndimage.mean(ct, labels, numbers)
        ndimage.standard_deviation(ct, labels, numbers)
        ndimage.minimum(ct, labels, numbers)
        ndimage.maximum(ct, labels, numbers)
        ndimage.find_objects(labels)
        return found

    def regionprops() -> np.ndarray:
        found = measure.regionprops_table(labels, ct, ("area", "intensity_mean", "intensity_max", "intensity_min", "centroid", "bbox"))
        return np.asarray(found["intensity_mean"])

    return {
        "medseg": lambda: label_statistics(labels, ct).mean,
        "SimpleITK LabelStatistics (no centroids)": simpleitk,
        "scikit-image regionprops (no deviations)": regionprops,
        "scipy (no centroids)": scipy,
    }


def overlap(ct: np.ndarray) -> dict[str, Run]:
    labels = block_labels(ct)
    moved = np.roll(labels, 3, axis=2)
    first, second = sitk.GetImageFromArray(labels), sitk.GetImageFromArray(moved)
    numbers = np.unique(labels)[1:].tolist()

    def ours() -> np.ndarray:
        _, a, b, common = overlap_counts(labels, moved)
        return 2 * common / (a + b)

    def simpleitk() -> list[float]:
        found = sitk.LabelOverlapMeasuresImageFilter()
        found.Execute(first, second)
        return [found.GetDiceCoefficient(number) for number in numbers]

    return {"medseg": ours, "SimpleITK LabelOverlapMeasures": simpleitk}


CASES = [
    Case("statistics of 100 labels", table, close_to),
    Case("statistics of 100 labels, further peers", means, close_to),
    Case("overlap of 100 labels", overlap, close_to),
]

if __name__ == "__main__":
    main(CASES, __file__)
