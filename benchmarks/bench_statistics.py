"""Statistics and overlap of 100 labels on 512 x 512 x 300."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from inputs import block_labels
from scipy import ndimage

from medseg.kernels.overlap import overlap_counts
from medseg.kernels.statistics import label_statistics


def close_to(first: Any, second: Any) -> float:
    return float(np.isclose(np.asarray(first), np.asarray(second), rtol=1e-9).mean())


def means(ct: np.ndarray) -> dict[str, Run]:
    labels = block_labels(ct)
    image, map_ = sitk.GetImageFromArray(ct), sitk.GetImageFromArray(labels)
    numbers = np.unique(labels)[1:].tolist()

    def simpleitk() -> list[float]:
        found = sitk.LabelStatisticsImageFilter()
        found.Execute(image, map_)
        return [found.GetMean(number) for number in numbers]

    def intensity() -> list[float]:
        found = sitk.LabelIntensityStatisticsImageFilter()
        found.Execute(map_, image)
        return [found.GetMean(number) for number in numbers]

    def scipy() -> np.ndarray:
        found = ndimage.mean(ct, labels, numbers)
        ndimage.standard_deviation(ct, labels, numbers)
        ndimage.minimum(ct, labels, numbers)
        ndimage.maximum(ct, labels, numbers)
        ndimage.find_objects(labels)
        return found

    return {
        "medseg (sizes, places, boxes, borders, intensities)": lambda: label_statistics(labels, ct).mean,
        "SimpleITK LabelStatistics": simpleitk,
        "SimpleITK LabelIntensityStatistics": intensity,
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


CASES = [Case("statistics of 100 labels", means, close_to), Case("overlap of 100 labels", overlap, close_to)]

if __name__ == "__main__":
    main(CASES, __file__)
