"""MONAI's clean-up of masks without scikit-image: largest component, holes, small objects, with MONAI's own rules.

Arrays are (C,I,J,K): one channel of label numbers, or one channel a label (0 and 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[Any]


def keep_largest(
    image: Array,
    applied_labels: Sequence[int] | None = None,
    *,
    is_onehot: bool | None = None,
    independent: bool = True,
    connectivity: int | None = None,
    num_components: int = 1,
) -> Array:
    """Return the image with only the largest component(s) of each label, as KeepLargestConnectedComponent.

    >>> keep_largest(np.array([1, 1, 0, 1], np.uint8).reshape(1, 4, 1, 1)).ravel().tolist()
    [1, 1, 0, 0]
    """
    onehot = image.shape[0] > 1 if is_onehot is None else is_onehot
    labels = _present(image, onehot) if applied_labels is None else [int(label) for label in applied_labels]
    if not independent:
        fields = [image[label] == 1 for label in labels] if onehot else [image[0] == label for label in labels]
        together = np.logical_or.reduce(fields) if fields else np.zeros(image.shape[1:], bool)
        lost = together & ~_largest(together, connectivity, num_components)
        for channel in labels if onehot else [0]:
            image[channel][lost] = 0
        return image
    for label in labels:
        field = image[label] > 0 if onehot else image[0] == label
        image[label if onehot else 0][field & ~_largest(field, connectivity, num_components)] = 0
    return image


def fill_holes(image: Array, applied_labels: Sequence[int] | None = None, *, connectivity: int | None = None) -> Array:
    """Return the image with enclosed holes of each label filled; holes that touch the border stay open, as FillHoles."""
    onehot = image.shape[0] > 1
    structure = ndimage.generate_binary_structure(3, connectivity or 3)
    labels = _present(image, onehot) if applied_labels is None else sorted({int(label) for label in applied_labels} - {0})
    for label in labels:
        outside = ~(image[label] > 0) if onehot else image[0] != label
        open_ = ndimage.binary_dilation(np.zeros(outside.shape, bool), structure, iterations=-1, mask=outside, border_value=1)
        image[label if onehot else 0][~open_] = 1 if onehot else label
    return image


def remove_small(
    image: Array, min_size: float = 64, *, connectivity: int = 1, independent_channels: bool = True, voxel_mm3: float | None = None
) -> Array:
    """Return the image without objects of fewer than `min_size` voxels (mm³ where `voxel_mm3` is given), as RemoveSmallObjects.

    Where one channel holds several label numbers and `independent_channels` is set, MONAI counts all voxels of a number
    as one object; so does this. Objects of exactly that size stay, as MONAI documents it (its answer depends on the
    version of scikit-image).
    """
    if voxel_mm3 is not None:
        min_size = np.ceil(min_size / voxel_mm3)
    if independent_channels and image.max(initial=0) > 1:
        numbers = image
    else:
        numbers, _ = ndimage.label(image > 0, ndimage.generate_binary_structure(image.ndim, connectivity or image.ndim))
    counts = np.bincount(numbers.ravel().astype(np.int64))
    small = counts < min_size
    small[0] = False
    image[small[numbers.astype(np.int64, copy=False)]] = 0
    return image


def _present(image: Array, onehot: bool) -> list[int]:
    if onehot:
        return [channel for channel in range(1, image.shape[0]) if image[channel].any()]
    return [int(label) for label in np.unique(image) if label]


def _largest(field: npt.NDArray[np.bool_], connectivity: int | None, num_components: int) -> npt.NDArray[np.bool_]:
    numbers, count = ndimage.label(field, ndimage.generate_binary_structure(3, connectivity or 3))
    if count <= num_components:
        return field
    counts = np.bincount(numbers.ravel())
    counts[0] = 0
    keep = np.zeros(len(counts), bool)
    keep[np.argsort(counts)[::-1][:num_components]] = True
    return np.asarray(keep[numbers])
