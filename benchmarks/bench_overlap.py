"""Overlap (Dice) of 120 organs on 512 x 512 x 300, in one pass, against SimpleITK, numpy and MONAI.

MONAI needs one channel a label (two times 9.5 GB on the whole volume): it runs on 16 slices, as do the others there.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from harness import Case, Run, main
from monai.metrics import compute_dice
from monai.networks.utils import one_hot
from organs import ORGANS, organ_pair

from medseg.kernels.overlap import overlap_counts


def equal_share(first: np.ndarray, second: np.ndarray) -> float:
    """The share of the Dice coefficients that are equal to 1e-6."""
    return float(np.isclose(first, second, rtol=0, atol=1e-6, equal_nan=True).mean())


def contenders(ct: np.ndarray) -> dict[str, Run]:
    reference, prediction = organ_pair(ct)
    present = np.union1d(reference, prediction)
    images = [sitk.GetImageFromArray(labels) for labels in (reference, prediction)]

    def ours() -> np.ndarray:
        numbers, a, b, common = overlap_counts(reference, prediction)
        dice = np.full(ORGANS + 1, np.nan)
        dice[numbers] = 2 * common / (a + b)
        return dice[1:]

    def simpleitk() -> np.ndarray:
        found = sitk.LabelOverlapMeasuresImageFilter()
        found.Execute(*images)
        dice = np.full(ORGANS + 1, np.nan)
        for number in present[present > 0].tolist():
            dice[number] = found.GetDiceCoefficient(number)
        return dice[1:]

    def numpy() -> np.ndarray:
        width = ORGANS + 1
        joint = np.bincount((reference.astype(np.int32) * width + prediction).ravel(), minlength=width * width).reshape(width, width)
        with np.errstate(invalid="ignore"):
            return (2 * np.diag(joint) / (joint.sum(0) + joint.sum(1)))[1:]

    runs: dict[str, Run] = {"medseg": ours, "SimpleITK LabelOverlapMeasures": simpleitk, "numpy joint histogram": numpy}
    if ct.shape[0] <= 64:
        runs["MONAI compute_dice, one-hot"] = lambda: _monai(reference, prediction)
    return runs


def _monai(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    first, second = (one_hot(torch.from_numpy(labels)[None, None], ORGANS + 1, dtype=torch.uint8) for labels in (reference, prediction))
    return compute_dice(second, first, include_background=False)[0].numpy()


CASES = [
    Case("overlap of 120 organs, 512x512x300", contenders, equal_share),
    Case("overlap of 120 organs, 512x512x16", contenders, equal_share, shape=(16, 512, 512)),
]

if __name__ == "__main__":
    main(CASES, __file__)
