"""Connected components, the largest of them, the small ones removed, holes filled."""

from __future__ import annotations

from typing import Any

import cc3d
import fill_voids
import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from scipy import ndimage
from skimage import measure, morphology

from medseg.kernels.components import fill_holes, keep_largest, label_components, remove_small

EVERY = np.ones((3, 3, 3), bool)
LEAST = 1000  # voxels of the smallest component that stays


def body(ct: np.ndarray) -> np.ndarray:
    """The patient and the table: one large component and thousands of specks, lungs as holes."""
    return (ct > -300).astype(np.uint8)


def same_parts(first: Any, second: Any) -> float:
    """Share of voxels in components that are the same set in both, whatever their numbers."""
    (one, _), other = first, second
    pairs, counts = np.unique(one.reshape(-1).astype(np.int64) << 32 | other.reshape(-1).astype(np.int64), return_counts=True)
    mine, theirs = pairs >> 32, pairs & 0xFFFFFFFF
    alone = (np.bincount(mine)[mine] == 1) & (np.bincount(theirs)[theirs] == 1)
    return float(counts[alone].sum() / counts.sum())


def same(first: Any, second: Any) -> float:
    return float(np.mean(first.view(np.uint8) == second.view(np.uint8)))


def components(ct: np.ndarray) -> dict[str, Run]:
    mask = body(ct)
    image = sitk.GetImageFromArray(mask)
    return {
        "medseg (largest first)": lambda: label_components(mask, 26),
        "cc3d": lambda: cc3d.connected_components(mask, connectivity=26, binary_image=True),
        "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True)),
        "scipy": lambda: ndimage.label(mask, EVERY)[0],
        "scikit-image": lambda: measure.label(mask, connectivity=3),
    }


def largest(ct: np.ndarray) -> dict[str, Run]:
    mask = body(ct)
    image = sitk.GetImageFromArray(mask)

    def simpleitk() -> np.ndarray:
        ordered = sitk.RelabelComponent(sitk.ConnectedComponent(image, True), sortByObjectSize=True)
        return sitk.GetArrayFromImage(ordered == 1)

    def scipy() -> np.ndarray:
        labels, _ = ndimage.label(mask, EVERY)
        sizes = np.bincount(labels.reshape(-1))
        sizes[0] = 0
        return labels == sizes.argmax()

    return {
        "medseg": lambda: keep_largest(mask, 1, 26),
        "cc3d.largest_k": lambda: cc3d.largest_k(mask, k=1, connectivity=26, binary_image=True) > 0,
        "SimpleITK": simpleitk,
        "scipy": scipy,
    }


def small(ct: np.ndarray) -> dict[str, Run]:
    mask = body(ct)
    image = sitk.GetImageFromArray(mask)
    bools = mask.view(bool)

    def simpleitk() -> np.ndarray:
        ordered = sitk.RelabelComponent(sitk.ConnectedComponent(image, True), minimumObjectSize=LEAST, sortByObjectSize=False)
        return sitk.GetArrayFromImage(ordered > 0)

    return {
        "medseg": lambda: remove_small(mask, LEAST, 26),
        "cc3d.dust": lambda: cc3d.dust(mask, threshold=LEAST, connectivity=26, binary_image=True),
        "SimpleITK": simpleitk,
        "scikit-image": lambda: morphology.remove_small_objects(bools, max_size=LEAST - 1, connectivity=3),
    }


def holes(ct: np.ndarray) -> dict[str, Run]:
    mask = body(ct)
    image = sitk.GetImageFromArray(mask)
    return {
        "medseg": lambda: fill_holes(mask, 6),
        "fill_voids": lambda: fill_voids.fill(mask),
        "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.BinaryFillhole(image, False, 1)),
        "scipy": lambda: ndimage.binary_fill_holes(mask),
    }


CASES = [
    Case("components, 26 neighbours", components, same_parts),
    Case("keep the largest", largest, same),
    Case("remove small", small, same),
    Case("fill holes", holes, same),
]

if __name__ == "__main__":
    main(CASES, __file__)
