"""Runs a network over a volume patch by patch and blends the overlapping outputs.

Memory: the blended outputs are one float32 per output channel and voxel of the prepared volume (8 channels at
2.5 mm: 16 MB per litre of scanned space), on the device where they fit into half of its free memory, else in main
memory; beside them one batch of patches.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError, OutOfMemoryError
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.dependencies import import_torch

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]

SIGMA_SHARE = 0.125  # width of the Gaussian weights as a share of the patch, as in MONAI and nnU-Net
LEAST_WEIGHT = 1e-3  # corners of a patch count at least this much, so that no voxel is divided by zero
LEAST_PATCH = 32  # a patch is not made smaller than this when memory runs out
_DEVICE_SHARE = 0.5  # blended outputs stay on the device where they need at most this share of its free memory


@dataclass(frozen=True)
class Windows:
    """How a volume is cut: patch size and multiple in the order of the array (k,j,i), overlap 0 to 1, patches at once.

    `mirror_axes` (array axes 0, 1, 2) adds mirrored passes, the mean of all of which counts.
    """

    patch_size: Shape
    overlap: float = 0.5
    batch_size: int = 1
    multiple: int = 1
    mirror_axes: tuple[int, ...] = ()

    def for_shape(self, shape: Sequence[int]) -> Windows:
        """Return the windows with a patch no larger than the volume needs: a multiple, at least two of them.

        Two, because the deepest level of a network cannot normalise over a single voxel.
        """
        needed = [max(2, math.ceil(n / self.multiple)) * self.multiple for n in shape]
        sizes = [min(size, n) for size, n in zip(self.patch_size, needed, strict=True)]
        return replace(self, patch_size=(sizes[0], sizes[1], sizes[2]))

    def smaller(self) -> Windows | None:
        """Return windows that need less memory: half the batch, then a smaller patch; None where there are none."""
        if self.batch_size > 1:
            return replace(self, batch_size=self.batch_size // 2)
        sizes = [max(min(LEAST_PATCH, size), size * 3 // 4 // self.multiple * self.multiple) for size in self.patch_size]
        sizes = [math.ceil(size / self.multiple) * self.multiple for size in sizes]
        return None if tuple(sizes) == self.patch_size else replace(self, patch_size=(sizes[0], sizes[1], sizes[2]))


@dataclass(frozen=True)
class Prediction:
    """Network outputs before the softmax, (C, K, J, I) float32, and how they came about."""

    logits: torch.Tensor
    device: str
    windows: Windows
    notes: tuple[str, ...] = field(default=())


def predict(
    network: torch.nn.Module,
    image: npt.NDArray[np.float32],
    windows: Windows,
    device: torch.device,
    *,
    background: float = 0.0,
    fall_back_to_cpu: bool = False,
    progress: Progress = no_progress,
) -> Prediction:
    """Run `network` over `image` (channels, K, J, I) on `device`; smaller than the patch: padded with `background`.

    Where memory runs out, the batch is halved, then the patch shrunk, then (`fall_back_to_cpu`) the CPU used; each
    is noted. Raises OutOfMemoryError where nothing is left to try, IncompatibleModelError for outputs that are not
    finite or have another shape than the input.
    """
    torch = import_torch()
    original = windows.for_shape(image.shape[1:])
    current = original
    notes: list[str] = []
    while True:
        try:
            logits = _predict_once(network, image, current, device, background, progress)
            return Prediction(logits, str(device), current, tuple(notes))
        except (MemoryError, RuntimeError) as err:
            if not _is_out_of_memory(err, torch):
                raise
            shortage = f"{device} ran out of memory with {current.batch_size} patch(es) of {_text(current.patch_size)}"
        if device.type == "cuda":
            torch.cuda.empty_cache()
        smaller = current.smaller()
        if smaller is None and fall_back_to_cpu and device.type != "cpu":
            device, smaller = torch.device("cpu"), replace(original, batch_size=1)
        if smaller is None:
            raise OutOfMemoryError(f"{shortage}, the smallest there is: free memory, use --device cpu or a machine with more")
        current = smaller
        notes.append(f"{shortage}; went on with {current.batch_size} of {_text(current.patch_size)} on {device}")


def window_starts(shape: Sequence[int], patch_size: Sequence[int], overlap: float) -> list[tuple[int, ...]]:
    """Return where patches begin: steps of `patch × (1 - overlap)`, the last one flush with the end (as in MONAI).

    >>> window_starts((10, 4, 4), (6, 4, 4), 0.5)
    [(0, 0, 0), (3, 0, 0), (4, 0, 0)]
    """
    axes = []
    for n, size in zip(shape, patch_size, strict=True):
        step = max(1, int(size * (1 - overlap)))
        last = max(0, n - size)
        axes.append(sorted({min(start, last) for start in range(0, last + step, step)}))
    return list(itertools.product(*axes))


def gaussian_weights(patch_size: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return the weight of each voxel of a patch: a Gaussian about its centre, at least `LEAST_WEIGHT` (as in MONAI)."""
    weights = np.ones((1, 1, 1), np.float32)
    for axis, size in enumerate(patch_size):
        offset = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        line = np.exp(offset**2 / np.float32(-2 * (SIGMA_SHARE * size) ** 2))
        weights = weights * line.reshape([-1 if n == axis else 1 for n in range(3)])
    return np.maximum(weights, np.float32(max(float(weights.min()), LEAST_WEIGHT)))


def _predict_once(
    network: torch.nn.Module,
    image: npt.NDArray[np.float32],
    windows: Windows,
    device: torch.device,
    background: float,
    progress: Progress,
) -> torch.Tensor:
    torch = import_torch()
    padded, inner = _padded(image, windows.patch_size, background)
    starts = window_starts(padded.shape[1:], windows.patch_size, windows.overlap)
    network = network.to(device=device, memory_format=torch.channels_last_3d)
    weights = torch.from_numpy(gaussian_weights(windows.patch_size)).to(device)
    total: Any = None
    share: Any = None
    with torch.inference_mode():
        for first in range(0, len(starts), windows.batch_size):
            boxes = [_box(start, windows.patch_size) for start in starts[first : first + windows.batch_size]]
            patches = torch.from_numpy(np.stack([padded[(slice(None), *box)] for box in boxes])).to(device)
            outputs = _mean_over_mirrors(lambda x: _forward(network, x), patches, windows.mirror_axes)
            if total is None:
                channels = outputs.shape[1]
                where = _accumulator_device(device, (channels + 1) * math.prod(padded.shape[1:]) * 4, torch)
                total = torch.zeros((channels, *padded.shape[1:]), dtype=torch.float32, device=where)
                share = torch.zeros(padded.shape[1:], dtype=torch.float32, device=where)
            for box, output in zip(boxes, outputs, strict=True):
                total[(slice(None), *box)] += (output * weights).to(total.device)
                share[box] += weights.to(share.device)
            progress("segmenting", first + len(boxes), len(starts))
        total /= share
    return total[(slice(None), *inner)]


def _forward(network: torch.nn.Module, patches: torch.Tensor) -> torch.Tensor:
    """One pass in half precision on CUDA, repeated in full precision where half overflowed."""
    torch = import_torch()
    patches = patches.contiguous(memory_format=torch.channels_last_3d)
    half = patches.device.type == "cuda"
    for autocast in (True, False) if half else (False,):
        with torch.autocast("cuda", dtype=torch.float16) if autocast else contextlib.nullcontext():
            outputs = network(patches).float()
        if outputs.shape[0] != patches.shape[0] or outputs.shape[2:] != patches.shape[2:]:
            raise IncompatibleModelError(
                f"the network turned a patch of {tuple(patches.shape)} into {tuple(outputs.shape)}: it must keep the three extents"
            )
        if bool(torch.isfinite(outputs).all()):
            return outputs
    raise IncompatibleModelError("the network gave values that are not finite: its weights or its normalisation are broken")


def _mean_over_mirrors(forward: Callable[[Any], Any], patches: Any, mirror_axes: tuple[int, ...]) -> Any:
    outputs = forward(patches)
    count = 1
    for number in range(1, len(mirror_axes) + 1):
        for axes in itertools.combinations([axis + 2 for axis in mirror_axes], number):
            outputs = outputs + forward(patches.flip(axes)).flip(axes)
            count += 1
    return outputs / count


def _padded(image: npt.NDArray[np.float32], patch_size: Shape, background: float) -> tuple[npt.NDArray[np.float32], tuple[slice, ...]]:
    """The image, at least as large as a patch (low side gets the smaller half), and where it lies in there."""
    missing = [max(0, size - n) for size, n in zip(patch_size, image.shape[1:], strict=True)]
    inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, image.shape[1:], strict=True))
    if not any(missing):
        return image, inner
    return np.pad(image, [(0, 0), *((m // 2, m - m // 2) for m in missing)], constant_values=background), inner


def _box(start: tuple[int, ...], patch_size: Shape) -> tuple[slice, ...]:
    return tuple(slice(s, s + size) for s, size in zip(start, patch_size, strict=True))


def _accumulator_device(device: torch.device, needed_bytes: int, torch: Any) -> torch.device:
    if device.type == "cuda" and needed_bytes > _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return torch.device("cpu")
    return device


def _is_out_of_memory(err: BaseException, torch: Any) -> bool:
    # The CPU allocator of torch raises a plain RuntimeError and is known by its text alone.
    return isinstance(err, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(err)


def _text(patch_size: Shape) -> str:
    return "×".join(str(size) for size in patch_size)
