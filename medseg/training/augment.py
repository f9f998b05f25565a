"""Patches as they are drawn for training: one affine map out of the scan, then changes of intensity (MONAI's transforms)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.kernels.resample import resample_linear, resample_nearest
from medseg.segmentation.learned.dependencies import import_torch, import_transforms
from medseg.training.plan import Augmentation, TrainingPlan
from medseg.training.sampling import TrainingArrays, patch_centre

if TYPE_CHECKING:
    import torch

# Beyond this ratio of extents a patch is a stack of slices: turning it out of its plane would mix them.
_FLAT_PATCH = 3.0
_LARGEST_SEED = 2**32 - 1

_MOST_NOISE = 0.3  # standard deviation, of an image whose own is about 1
_SMOOTHING_VOXELS = (0.5, 1.0)
_BRIGHTNESS_CHANGE = (-0.25, 0.25)
_CONTRAST_CHANGE = (-0.25, 0.25)
_KEPT_RESOLUTION = (0.5, 1.0)
_GAMMA = (0.7, 1.5)


@dataclass(frozen=True)
class PatchRecipe:
    """How patches are drawn: extents, spacing and mirrored axes in the order of the arrays (k,j,i), and the changes.

    `augmentation` is None where patches stay as they are (validation).
    """

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    mirror_axes: tuple[int, ...]
    foreground_share: float
    augmentation: Augmentation | None

    @classmethod
    def of_plan(cls, plan: TrainingPlan, *, augmented: bool = True) -> PatchRecipe:
        """Return the recipe of a plan."""
        i, j, k = plan.patch_size
        x, y, z = plan.spacing_mm
        mirrored = tuple(sorted(2 - axis for axis in plan.mirror_axes)) if augmented else ()
        return cls((k, j, i), (z, y, x), mirrored, plan.foreground_share, plan.augmentation if augmented else None)


def draw_patch(
    case: TrainingArrays, places: Mapping[int, npt.NDArray[np.int32]], recipe: PatchRecipe, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return image (C, K, J, I) float32 and labels (K, J, I) uint8 of one patch.

    The patch is read through one affine map (rotation and scaling in mm, mirroring), so a turned patch holds what lies
    around it and not padding. Outside the scan the image is its background and the label 0.
    """
    torch = import_torch()
    centre = patch_centre(case.labels.shape, recipe.size, places, recipe.foreground_share, rng)
    image, labels = extract(case, centre, random_matrix(recipe, rng), recipe.size)
    patch = torch.from_numpy(image)
    if recipe.augmentation is not None:
        patch = change_intensities(patch, recipe.augmentation, rng)
    return patch, torch.from_numpy(labels)


def random_matrix(recipe: PatchRecipe, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the (3, 3) map from offsets in the patch to offsets in the scan, both in voxels (k,j,i)."""
    augmentation = recipe.augmentation
    if augmentation is None:
        return np.eye(3)
    spacing = np.diag(np.asarray(recipe.spacing_mm, dtype=np.float64))
    turn = np.eye(3)
    if rng.random() < augmentation.rotation:
        coarse = int(np.argmin(recipe.size))
        is_flat = max(recipe.size) > _FLAT_PATCH * min(recipe.size)
        for axis in (coarse,) if is_flat else (0, 1, 2):
            turn = turn @ _rotation(axis, math.radians(rng.uniform(-1, 1) * augmentation.rotation_degrees))
    scale = np.ones(3)
    if rng.random() < augmentation.scaling:
        low, high = (math.log(limit) for limit in augmentation.scale_range)
        scale = np.exp(rng.uniform(low, high, 3))
    mirror = np.ones(3)
    for axis in recipe.mirror_axes:
        mirror[axis] = -1.0 if rng.random() < 0.5 else 1.0
    # A patch that shows the scan larger reaches less far into it.
    return np.linalg.inv(spacing) @ turn @ np.diag(mirror / scale) @ spacing


def extract(
    case: TrainingArrays, centre: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64], patch_size: Sequence[int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Return image (C, K, J, I) and labels (K, J, I) at `centre + matrix @ offset`, linear and nearest."""
    half = (np.asarray(patch_size, dtype=np.float64) - 1) / 2
    offset = centre - matrix @ half
    reach = np.abs(matrix) @ half
    # Only the box the patch reaches into is read: cases are memory maps.
    low = np.maximum(np.floor(centre - reach).astype(int) - 1, 0)
    high = np.minimum(np.ceil(centre + reach).astype(int) + 2, case.labels.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    shape = tuple(int(size) for size in patch_size)
    labels = resample_nearest(np.ascontiguousarray(case.labels[box]), matrix, offset - low, shape, 0)
    image = np.empty((len(case.image), *shape), np.float32)
    for channel, background in enumerate(case.background):
        voxels = np.ascontiguousarray(case.image[channel][box], dtype=np.float32)
        image[channel] = resample_linear(voxels, matrix, offset - low, shape, float(background))
    return image, np.asarray(labels, dtype=np.uint8)


def change_intensities(image: torch.Tensor, augmentation: Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """Return the image (C, K, J, I) with noise, blur, brightness, contrast, low resolution and gamma, each at its chance.

    Order and ranges are nnU-Net's (doi:10.1038/s41592-020-01008-z, supplementary note 4), the changes are MONAI's transforms.
    """
    monai = import_transforms()
    changes: list[tuple[float, Callable[[], Any]]] = [
        (augmentation.noise, lambda: monai.RandGaussianNoise(1.0, std=_MOST_NOISE, sample_std=True)),
        (augmentation.smoothing, lambda: monai.RandGaussianSmooth(*[_SMOOTHING_VOXELS] * 3, prob=1.0)),
        (augmentation.brightness, lambda: monai.RandScaleIntensity(_BRIGHTNESS_CHANGE, prob=1.0)),
        (augmentation.contrast, lambda: monai.RandScaleIntensityFixedMean(1.0, factors=_CONTRAST_CHANGE, preserve_range=True)),
        (augmentation.low_resolution, lambda: monai.RandSimulateLowResolution(1.0, zoom_range=_KEPT_RESOLUTION)),
        (augmentation.gamma, lambda: monai.RandAdjustContrast(1.0, gamma=_GAMMA, retain_stats=True)),
    ]
    for probability, make in changes:
        if rng.random() < probability:
            transform = make()
            transform.set_random_state(seed=int(rng.integers(_LARGEST_SEED)))
            image = transform(image)
    as_tensor = getattr(image, "as_tensor", None)
    return as_tensor() if as_tensor is not None else image


def _rotation(axis: int, angle: float) -> npt.NDArray[np.float64]:
    cosine, sine = math.cos(angle), math.sin(angle)
    first, second = [n for n in range(3) if n != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix
