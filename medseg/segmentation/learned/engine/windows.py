"""How a volume is cut into patches and how the outputs are weighted: the rules of MONAI and of nnU-Net."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Shape = tuple[int, int, int]
Rule = Literal["monai", "nnunet"]

SIGMA_SHARE = 0.125  # width of the Gaussian weights as a share of the patch, as in MONAI and nnU-Net
LEAST_WEIGHT = 1e-3  # MONAI: corners of a patch count at least this much, so that no voxel is divided by zero
LEAST_PATCH = 32  # a patch is not made smaller than this when memory runs out
_NNUNET_MOST_WEIGHT = 10.0


@dataclass(frozen=True)
class Windows:
    """How a volume is cut, all in the order of the array axes (0, 1, 2).

    `step` is the share of the patch between two patches (MONAI's overlap is 1 - step). `starts` and `weights` name the
    rule of their origin; `weights` "constant" counts every voxel alike. `accumulators` "half-per-fold" stores sums in
    half precision, one sum per network, as nnU-Net does; "float32" adds up all networks in one sum. A volume smaller
    than a patch is padded (the low side gets the smaller half) with `padding` and, where "constant", `padding_value`
    (one per channel, or one for all). `mirror_axes` adds mirrored passes, the mean of all of which counts. `batch_size`
    is the number of inputs (patches or mirrored copies of them) in one pass of the network. `multiple` is what extents of a
    patch must be multiples of where it may be made smaller; None: the patch size is part of the model and stays.
    """

    patch_size: Shape
    step: float = 0.5
    starts: Rule = "monai"
    weights: Literal["monai", "nnunet", "constant"] = "monai"
    accumulators: Literal["float32", "half-per-fold"] = "float32"
    mirror_axes: tuple[int, ...] = ()
    padding: Literal["constant", "replicate", "reflect", "circular"] = "constant"
    padding_value: tuple[float, ...] = (0.0,)
    batch_size: int = 1
    multiple: int | None = None
    sigma_share: float | tuple[float, float, float] = SIGMA_SHARE

    @classmethod
    def nnunet(cls, patch_size: Shape, *, step: float = 0.5, mirror_axes: tuple[int, ...] = (), gaussian: bool = True) -> Windows:
        """Return the windows of nnU-Net v2: half sums per fold, zeros around small images."""
        weights: Literal["nnunet", "constant"] = "nnunet" if gaussian else "constant"
        return cls(patch_size, step, "nnunet", weights, "half-per-fold", mirror_axes)

    @classmethod
    def monai(cls, patch_size: Shape, *, overlap: float = 0.25, gaussian: bool = False) -> Windows:
        """Return the windows of `monai.inferers.sliding_window_inference`, with its defaults."""
        return cls(patch_size, 1 - overlap, weights="monai" if gaussian else "constant")

    def for_shape(self, shape: Sequence[int]) -> Windows:
        """Return the windows with a patch no larger than the volume needs, where `multiple` allows another patch size.

        At least two multiples stay, because the deepest level of a network cannot normalise over a single voxel.
        """
        if self.multiple is None:
            return self
        needed = [max(2, math.ceil(n / self.multiple)) * self.multiple for n in shape]
        return replace(self, patch_size=_three(min(size, n) for size, n in zip(self.patch_size, needed, strict=True)))

    def smaller(self) -> Windows | None:
        """Return windows that need less memory: half the batch, then (`multiple`) a smaller patch; None where there are none."""
        if self.batch_size > 1:
            return replace(self, batch_size=self.batch_size // 2)
        if self.multiple is None:
            return None
        sizes = [max(min(LEAST_PATCH, size), size * 3 // 4 // self.multiple * self.multiple) for size in self.patch_size]
        sizes = [math.ceil(size / self.multiple) * self.multiple for size in sizes]
        return None if tuple(sizes) == self.patch_size else replace(self, patch_size=_three(sizes))

    def mirrors(self) -> list[tuple[int, ...]]:
        """Return the axes flipped in each pass, in the order they are added: none first, then as in nnU-Net."""
        numbers = range(len(self.mirror_axes) + 1)
        return [axes for number in numbers for axes in itertools.combinations(self.mirror_axes, number)]


def window_starts(shape: Sequence[int], windows: Windows) -> tuple[list[int], list[int], list[int]]:
    """Return where patches begin along each axis of a volume that is at least as large as a patch.

    MONAI: steps of `int(patch × step)`, the last patch flush with the end. nnU-Net: evenly spread.

    >>> window_starts((10, 4, 4), Windows((6, 4, 4)))
    ([0, 3, 4], [0], [0])
    >>> window_starts((110, 4, 4), Windows.nnunet((64, 4, 4)))[0]
    [0, 23, 46]
    """
    rule = _nnunet_starts if windows.starts == "nnunet" else _monai_starts
    first, second, third = (rule(n, size, windows.step) for n, size in zip(shape, windows.patch_size, strict=True))
    return first, second, third


def window_weights(windows: Windows) -> npt.NDArray[np.float32]:
    """Return the weight of each voxel of a patch, float32 (values of nnU-Net's rule are those of its half precision)."""
    sigmas = windows.sigma_share if isinstance(windows.sigma_share, tuple) else (windows.sigma_share,) * 3
    if windows.weights == "constant":
        return np.ones(windows.patch_size, np.float32)
    return _nnunet_weights(windows.patch_size, sigmas) if windows.weights == "nnunet" else _monai_weights(windows.patch_size, sigmas)


def padding(shape: Sequence[int], patch_size: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the voxels missing to one patch on the low and the high side of each axis; the low side gets the smaller half."""
    missing = [max(0, size - n) for size, n in zip(patch_size, shape, strict=True)]
    return tuple((m // 2, m - m // 2) for m in missing)


def _monai_starts(n: int, size: int, step: float) -> list[int]:
    interval = size if n == size else max(1, int(size * step))
    last = max(0, n - size)
    return sorted({min(start, last) for start in range(0, last + interval, interval)})


def _nnunet_starts(n: int, size: int, step: float) -> list[int]:
    count = int(np.ceil((n - size) / (size * step))) + 1
    between = (n - size) / (count - 1) if count > 1 else 0.0
    return [int(np.round(between * number)) for number in range(count)]


def _monai_weights(patch_size: Shape, sigmas: Sequence[float]) -> npt.NDArray[np.float32]:
    weights = np.ones((1, 1, 1), np.float32)
    for axis, (size, share) in enumerate(zip(patch_size, sigmas, strict=True)):
        offset = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        line = np.exp(offset**2 / np.float32(-2 * (share * size) ** 2))
        weights = weights * line.reshape([-1 if n == axis else 1 for n in range(3)])
    positive = weights[weights > 0]
    return np.maximum(weights, np.float32(max(float(positive.min()), LEAST_WEIGHT)))


def _nnunet_weights(patch_size: Shape, sigmas: Sequence[float]) -> npt.NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter1d

    weights = np.ones((1, 1, 1))
    for axis, (size, share) in enumerate(zip(patch_size, sigmas, strict=True)):
        line = gaussian_filter1d(np.eye(1, size, size // 2)[0], size * share, mode="constant", cval=0)
        weights = weights * line.reshape([-1 if n == axis else 1 for n in range(3)])
    weights /= weights.max() / _NNUNET_MOST_WEIGHT
    half = weights.astype(np.float32).astype(np.float16)  # in two steps, as torch converts
    half[half == 0] = half[half != 0].min()
    return half.astype(np.float32)


def _three(values: Iterable[int]) -> Shape:
    first, second, third = values
    return int(first), int(second), int(third)
