"""A scan as nnU-Net gives it to its network: axes permuted, cropped, normalised, resampled; and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.nnunet.normalise import normalise
from medseg.segmentation.learned.nnunet.plans import Configuration, Plans
from medseg.segmentation.learned.nnunet.reading import Reading
from medseg.segmentation.learned.nnunet.resample import (
    Shape,
    Spacing,
    resample_image,
    resample_labels,
    resampled_shape,
    separate_axis,
)

if TYPE_CHECKING:
    import torch

Box = tuple[slice, slice, slice]
Layout = Literal["K", "C"]

# Statistics of these schemes are sums over the memory of the whole, uncropped array.
_NEEDS_WHOLE_ARRAY = ("ZScoreNormalization",)


@dataclass(frozen=True)
class Prepared:
    """What the network gets: `image` (C,a,b,c) float32; the rest says where it lies in the scan (transposed axes).

    `box` is the part of the scan that holds anything, `cropped_shape` its shape, `spacing_mm` that of the scan.
    """

    image: torch.Tensor
    box: Box
    cropped_shape: Shape
    spacing_mm: Spacing


def prepare(
    reading: Reading,
    plans: Plans,
    configuration: Configuration,
    device: torch.device | str = "cpu",
    previous: npt.NDArray[Any] | None = None,
    foreground: Sequence[int] = (),
) -> Prepared:
    """Return the network's input for a scan, on `device`.

    `previous` are the labels of the previous stage of a cascade, in the reader's order; each number of `foreground`
    becomes a channel of its own. Voxels that are not finite count as the least finite intensity of their channel.
    """
    torch = import_torch()
    arrays = [array.transpose(plans.transpose_forward) for array in reading.arrays]
    spacing = _permuted(reading.spacing_mm, plans.transpose_forward)
    box = nonzero_box(arrays)
    cropped_shape = _shape_of(box)
    rule = configuration.image_resampling
    shape = cropped_shape if rule.kind == "none" else _at_least_one(resampled_shape(cropped_shape, spacing, configuration.spacing_mm))
    axis = separate_axis(rule, spacing, configuration.spacing_mm)
    seeds = None if previous is None else np.ascontiguousarray(previous.transpose(plans.transpose_forward)[box])
    mask = _mask(arrays, box, seeds) if any(configuration.use_mask) or seeds is not None else None
    image = torch.empty((len(arrays) + len(foreground) * (seeds is not None), *shape), dtype=torch.float32, device=device)
    for number, scheme in enumerate(configuration.normalisations):
        layout: Layout = "K" if reading.keeps_layout else "C"
        channel = _channel(reading.arrays[number], plans.transpose_forward, box, layout if scheme in _NEEDS_WHOLE_ARRAY else None)
        masked = mask if configuration.use_mask[number] else None
        normalise(channel, scheme, plans.intensities.get(str(number)), masked)
        on_device = torch.from_numpy(np.ascontiguousarray(channel)).to(device)
        del channel
        image[number] = resample_image(on_device, shape, rule, axis)
    if seeds is not None and mask is not None:
        _add_previous(image[len(arrays) :], seeds, mask, foreground, spacing, configuration)
    return Prepared(image, box, cropped_shape, spacing)


def nonzero_box(arrays: Sequence[npt.NDArray[Any]]) -> Box:
    """Return the smallest box around all voxels that are not zero in some array; all of it where there is none."""
    box = [slice(0, n) for n in arrays[0].shape]
    if not any(array.any() for array in arrays):
        return box[0], box[1], box[2]
    for axis in range(3):
        n = arrays[0].shape[axis]
        part = [array[tuple(box)] for array in arrays]
        first = next(at for at in range(n) if _any_at(part, axis, at))
        last = next(at for at in range(n - 1, -1, -1) if _any_at(part, axis, at))
        box[axis] = slice(first, last + 1)
    return box[0], box[1], box[2]


def _any_at(arrays: Sequence[npt.NDArray[Any]], axis: int, at: int) -> bool:
    return any(bool(array.take(at, axis).any()) for array in arrays)


def _channel(source: npt.NDArray[Any], order: Sequence[int], box: Box, layout: Layout | None) -> npt.NDArray[np.float32]:
    """The cropped channel as float32: a copy of its own, or (`layout`) part of a copy of the whole array in that layout."""
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and that is mended next
        if layout is None:
            channel = np.array(source.transpose(order)[box], np.float32, order="C")
        else:
            channel = np.array(source, np.float32, order=layout).transpose(order)[box]
    finite = np.isfinite(channel)
    if not finite.all():
        channel[~finite] = channel[finite].min() if finite.any() else 0
    return channel


def _mask(arrays: Sequence[npt.NDArray[Any]], box: Box, seeds: npt.NDArray[Any] | None) -> npt.NDArray[np.bool_]:
    """Voxels that belong to the patient: not zero, or enclosed by such, or labelled by the previous stage."""
    from scipy.ndimage import binary_fill_holes

    mask = arrays[0][box] != 0
    for array in arrays[1:]:
        mask |= array[box] != 0
    filled = np.asarray(binary_fill_holes(mask))
    return filled if seeds is None else filled | (seeds != 0)


def _add_previous(
    channels: torch.Tensor,
    seeds: npt.NDArray[Any],
    mask: npt.NDArray[np.bool_],
    foreground: Sequence[int],
    spacing_mm: Spacing,
    configuration: Configuration,
) -> None:
    """Fill `channels` with the previous stage's labels, one channel per number."""
    torch = import_torch()
    outside = np.where(mask, seeds.astype(np.int16), np.int16(-1))  # nnU-Net resamples the outside as a label of its own
    rule = configuration.label_resampling
    _, a, b, c = channels.shape
    labels = resample_labels(outside, (a, b, c), rule, separate_axis(rule, spacing_mm, configuration.spacing_mm))
    for channel, number in zip(channels, foreground, strict=True):
        channel.copy_(torch.from_numpy((labels == number).astype(np.float32)))


def _shape_of(box: Box) -> Shape:
    a, b, c = (part.stop - part.start for part in box)
    return a, b, c


def _at_least_one(shape: Shape) -> Shape:
    a, b, c = (max(1, n) for n in shape)
    return a, b, c


def _permuted(values: Spacing, order: Sequence[int]) -> Spacing:
    a, b, c = (values[axis] for axis in order)
    return a, b, c
