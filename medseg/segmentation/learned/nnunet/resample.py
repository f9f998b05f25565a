"""Arrays between nnU-Net's spacings: its resizing as products with the matrices of its one-dimensional operators.

nnU-Net resizes with scikit-image, which calls scipy's spline zoom axis by axis: a linear operator along each axis. Its
matrix is taken from scipy itself (the images of the unit vectors); products with it give the same values in a
fraction of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.nnunet.plans import Resampling

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
Matrix = npt.NDArray[np.float64]

_BLOCK_VALUES = 1 << 22  # float64 values worked on at once: bounds the memory beside input and output
_BAND_ROWS = 192  # rows of a matrix multiplied at once: the far entries of a spline's matrix are zero
_NOTHING = 1e-17
_EQUAL = 1e-6  # relative: spacings closer than this are the same


def resampled_shape(shape: Sequence[int], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> Shape:
    """Return the shape of the same extent at another spacing, rounded as nnU-Net does (halves to even).

    >>> resampled_shape((10, 20, 30), (3.0, 1.0, 1.0), (1.5, 1.5, 1.5))
    (20, 13, 20)
    """
    a, b, c = (round(old / new * n) for n, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True))
    return a, b, c


def separate_axis(rule: Resampling, spacing_mm: Spacing, new_spacing_mm: Spacing) -> int | None:
    """Return the coarse axis that is resampled apart from the plane, None where there is none.

    >>> separate_axis(Resampling(), (5.0, 0.8, 0.8), (5.0, 1.0, 1.0))
    0
    """
    if rule.separate is False or rule.kind == "none":
        return None
    for spacing in (spacing_mm, new_spacing_mm):
        if rule.separate or max(spacing) / min(spacing) > rule.threshold:
            coarse = [axis for axis, mm in enumerate(spacing) if mm >= max(spacing) * (1 - _EQUAL)]
            return coarse[0] if len(coarse) == 1 else None
    return None


def resample_image(image: torch.Tensor, shape: Shape, rule: Resampling, axis: int | None) -> torch.Tensor:
    """Return one channel (a,b,c), float32, at another shape; `axis` from `separate_axis`. Runs where the channel lies."""
    if rule.kind == "none" or tuple(image.shape) == shape:
        return image
    if rule.kind == "torch":
        return _interpolated(image, shape, axis)
    if axis is not None:
        return _slice_by_slice(image, shape, rule, axis)
    low, high = image.min(), image.max()
    matrices = [resize_matrix(n, m, rule.order) for n, m in zip(image.shape, shape, strict=True)]
    for along in sorted(range(3), key=lambda a: shape[a] / image.shape[a]):  # what shrinks first is least work
        image = _along(image, along, matrices[along])
    return image.clamp_(low, high) if rule.order > 0 else image


def resample_labels(labels: npt.NDArray[Any], shape: Shape, rule: Resampling, axis: int | None) -> npt.NDArray[Any]:
    """Return integer labels (a,b,c) at another shape: the label whose interpolated share of a voxel is largest.

    Where two shares are equal, the label of the nearest voxel wins if it is one of them, else the smallest; with torch's
    resampling, which compares in half precision, the smallest.
    """
    if rule.kind == "none" or labels.shape == shape:
        return labels
    largest_share = _largest_share_of_torch if rule.kind == "torch" else _largest_share
    if axis is None:
        return largest_share(labels, shape, rule)
    a, b, c = (labels.shape[n] if n == axis else shape[n] for n in range(3))
    if (a, b, c) != labels.shape:
        labels = largest_share(labels, (a, b, c), rule)
    return np.take(labels, nearest_slices(labels.shape[axis], shape[axis]), axis=axis)


def resize_matrix(n: int, m: int, order: int) -> Matrix | None:
    """Return the (m, n) matrix of skimage.transform.resize(mode="edge", anti_aliasing=False) along one axis; None for n = m."""
    from scipy.ndimage import zoom

    if n == m:
        return None
    units = np.eye(n)
    if n == 1:
        return np.ones((m, 1))
    return np.stack([zoom(unit, m / n, order=order, mode="nearest", grid_mode=True) for unit in units], axis=1)


def nearest_slices(n: int, m: int) -> npt.NDArray[np.int64]:
    """Return which of n slices each of m slices is taken from, by scipy's rounding."""
    from scipy.ndimage import map_coordinates

    if n == m:
        return np.arange(n)
    places = float(n) / m * (np.arange(m) + 0.5) - 0.5
    return np.asarray(map_coordinates(np.arange(n, dtype=np.float64), places[None], order=0, mode="nearest")).astype(np.int64)


def _slice_matrix(n: int, m: int, order: int) -> Matrix:
    from scipy.ndimage import map_coordinates

    places = float(n) / m * (np.arange(m) + 0.5) - 0.5
    return np.stack([map_coordinates(unit, places[None], order=order, mode="nearest") for unit in np.eye(n)], axis=1)


def _slice_by_slice(image: torch.Tensor, shape: Shape, rule: Resampling, axis: int) -> torch.Tensor:
    """Resize each slice in its plane, within the range of that slice; then along `axis`."""
    torch = import_torch()
    slices = image.movedim(axis, 0)
    plane = [shape[n] for n in range(3) if n != axis]
    matrices = [resize_matrix(n, m, rule.order) for n, m in zip(slices.shape[1:], plane, strict=True)]
    rows, columns = (None if m is None else torch.from_numpy(m).to(image.device) for m in matrices)

    def resized(source: Any) -> Any:
        wide = source.double()
        wide = wide if rows is None else rows @ wide
        wide = wide if columns is None else wide @ columns.T
        return wide.clamp_(source.min(), source.max())

    n, m = image.shape[axis], shape[axis]
    result = torch.empty(shape, dtype=torch.float32, device=image.device)
    target = result.movedim(axis, 0)
    if rule.order_z == 0 or n == m:
        last = -1
        for place, source in enumerate(nearest_slices(n, m).tolist()):
            if source == last:
                target[place] = target[place - 1]
            else:
                target[place] = resized(slices[source])
                last = source
        return result
    stack = torch.stack([resized(source) for source in slices])
    target.copy_(_along(stack, 0, _slice_matrix(n, m, rule.order_z)))
    return result


def _along(image: torch.Tensor, axis: int, matrix: Matrix | None) -> torch.Tensor:
    """Multiply along one axis in float64, block by block."""
    if matrix is None:
        return image
    torch = import_torch()
    shape = list(image.shape)
    shape[axis] = matrix.shape[0]
    result = torch.empty(shape, dtype=torch.float32, device=image.device)
    bands = [(first, last, low, torch.from_numpy(part).to(image.device)) for first, last, low, part in _bands(matrix)]
    over = 1 if axis == 0 else 0  # blocks along another axis than the one multiplied
    lines = max(1, _BLOCK_VALUES * image.shape[over] // max(1, image.numel()))
    for start in range(0, image.shape[over], lines):
        block = image.narrow(over, start, min(lines, image.shape[over] - start)).double()
        target = result.narrow(over, start, block.shape[over])
        for first, last, low, part in bands:
            piece = block.narrow(axis, low, part.shape[1])
            target.narrow(axis, first, last - first).copy_(_product(part, piece, axis))
    return result


def _product(part: torch.Tensor, piece: torch.Tensor, axis: int) -> torch.Tensor:
    if axis == 2:
        return piece @ part.T
    if axis == 1:
        return part @ piece
    flat = part @ piece.reshape(piece.shape[0], -1)
    return flat.reshape(part.shape[0], *piece.shape[1:])


def _bands(matrix: Matrix) -> list[tuple[int, int, int, Matrix]]:
    """Groups of rows with the columns that are not zero in them: first row, last, first column, values."""
    found = []
    for first in range(0, matrix.shape[0], _BAND_ROWS):
        rows = matrix[first : first + _BAND_ROWS]
        used = np.flatnonzero((np.abs(rows) > _NOTHING).any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
        found.append((first, first + len(rows), low, np.ascontiguousarray(rows[:, low:high])))
    return found


def _interpolated(image: torch.Tensor, shape: Shape, axis: int | None) -> torch.Tensor:
    """torch's own linear interpolation, and its nearest slice along a coarse axis."""
    functional = import_torch().nn.functional
    image = image.float()
    if axis is None:
        return functional.interpolate(image[None, None], shape, mode="trilinear")[0, 0]
    slices = image.movedim(axis, 0)
    plane = [shape[n] for n in range(3) if n != axis]
    if list(slices.shape[1:]) != plane:
        slices = functional.interpolate(slices[:, None], plane, mode="bilinear")[:, 0]
    image = slices.movedim(0, axis)
    if tuple(image.shape) == shape:
        return image.contiguous()
    return functional.interpolate(image[None, None].contiguous(), shape, mode="nearest-exact")[0, 0]


def _largest_share(labels: npt.NDArray[Any], shape: Shape, rule: Resampling) -> npt.NDArray[Any]:
    torch = import_torch()
    matrices = [resize_matrix(n, m, rule.order) for n, m in zip(labels.shape, shape, strict=True)]
    nearest = labels[np.ix_(*(nearest_slices(n, m) for n, m in zip(labels.shape, shape, strict=True)))]
    if rule.order == 0:
        return nearest
    numbers = np.unique(labels)
    winner = np.full(shape, numbers[0], labels.dtype)
    best = np.full(shape, -np.inf, np.float32)
    nearest_is_top = np.zeros(shape, bool)
    for number in numbers:
        share = torch.from_numpy((labels == number).astype(np.float32))
        for axis in range(3):
            share = _along(share, axis, matrices[axis])
        score, is_nearest = share.numpy(), nearest == number
        better, level = score > best, score == best
        winner[better] = number
        nearest_is_top = np.where(better, is_nearest, nearest_is_top | (level & is_nearest))
        np.maximum(best, score, out=best)
    return np.where(nearest_is_top, nearest, winner)


def _largest_share_of_torch(labels: npt.NDArray[Any], shape: Shape, rule: Resampling) -> npt.NDArray[Any]:
    torch = import_torch()
    winner = np.zeros(shape, labels.dtype)
    best = np.full(shape, -np.inf, np.float16)
    for number in np.unique(labels):
        share = torch.from_numpy((labels == number).astype(np.float32)) * 1000
        score = torch.nn.functional.interpolate(share[None, None], shape, mode="trilinear")[0, 0].half().numpy()
        winner[score > best] = number
        np.maximum(best, score, out=best)
    return winner
