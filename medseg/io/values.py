"""What stored numbers mean: scaling, bytes, numbers that are none, and labels. A slab at a time, never a full float copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import SegmentError, UnreadableFileError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import smallest_unsigned

LABEL_TOLERANCE = 1e-3  # a float this near to a whole number is that label; ratios of 1.9999999 come from resampling tools
MOST_LABELS = 65_535  # more different numbers than this are intensities, not labels
MOST_NON_FINITE = 0.01  # of the voxels of the body; with more NaN or infinite ones a scan is refused
_SLAB_VOXELS = 1 << 18  # a slab and its float64 copy stay in the cache

Array = npt.NDArray[Any]


def slabs_of(array: Array) -> Iterator[Array]:
    """Yield flat views of an array in memory order (i fastest), each small enough for the cache."""
    flat = array.T.reshape(-1)
    for start in range(0, flat.size, _SLAB_VOXELS):
        yield flat[start : start + _SLAB_VOXELS]


def range_of(array: Array) -> tuple[Any, Any]:
    """Return the smallest and largest value of an array without NaN."""
    slabs = [(slab.min(), slab.max()) for slab in slabs_of(array)]
    return min(low for low, _ in slabs), max(high for _, high in slabs)


def rescaled(array: Array, slope: float, intercept: float) -> Array:
    """Return slope × stored + intercept.

    Whole slopes and intercepts keep integers in the stored type, or the smallest of int16 and int32 that holds the
    result; everything else becomes float32, or float64 where the stored numbers have more digits than float32.
    """
    if slope == 1 and intercept == 0:
        return array
    whole = float(slope).is_integer() and float(intercept).is_integer() and max(abs(slope), abs(intercept)) < 1 << 31
    if array.dtype.kind in "iu" and whole:
        ends = sorted(int(value) * int(slope) + int(intercept) for value in range_of(array))
        own = [array.dtype] if array.dtype.itemsize < 8 else []
        for dtype in (*own, np.dtype(np.int16), np.dtype(np.int32)):
            if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
                return _mapped(array, dtype, lambda slab: slab.astype(np.int64) * int(slope) + int(intercept))
    wide = array.dtype in (np.dtype(np.float64), np.dtype(np.int32), np.dtype(np.uint32)) or array.dtype.itemsize > 4
    target = np.dtype(np.float64 if wide else np.float32)
    return _mapped(array, target, lambda slab: slab.astype(np.float64) * slope + intercept)


def rescaled_bytes(count: int, dtype: np.dtype[Any], slope: float, intercept: float) -> int:
    """Return how much memory `rescaled` may take at most for `count` voxels of a type."""
    if slope == 1 and intercept == 0:
        return 0
    return count * (4 if dtype.itemsize <= 2 or dtype == np.float32 else 8)


def narrowed(array: Array) -> Array:
    """Return 64-bit integers as int32 where they fit: readers and networks rarely take 64 bits; all else as it is."""
    if array.dtype not in (np.dtype(np.int64), np.dtype(np.uint64)):
        return array
    low, high = range_of(array)
    if np.iinfo(np.int32).min <= int(low) and int(high) <= np.iinfo(np.int32).max:
        return _mapped(array, np.dtype(np.int32), lambda slab: slab)
    return array


def without_non_finite(array: Array, name: str) -> tuple[Array, Finding | None]:
    """Return an (i,j,k) array whose NaN and infinite voxels became its smallest finite value, and a finding that counts them.

    Raises UnreadableFileError where there is no finite voxel, or where more than 1 % of the body is affected. A voxel counts
    as inside the body where finite voxels lie on both sides of it along all three axes: NaN around the body, as
    registration tools leave it, is not counted.
    """
    if array.dtype.kind != "f":
        return array, None
    count = sum(int(slab.size - np.count_nonzero(np.isfinite(slab))) for slab in slabs_of(array))
    if not count:
        return array, None
    if count == array.size:
        raise UnreadableFileError(f"{name} holds no finite number at all; write it again from its source")
    inside = _count_inside(array)
    share = inside / (array.size - count + inside)
    if share > MOST_NON_FINITE:
        raise UnreadableFileError(
            f"{name}: {inside:,} voxels inside the body are NaN or infinite, {100 * share:.2g} % of it and more than "
            f"{100 * MOST_NON_FINITE:g} %: no volume or intensity from it can be trusted; write it again from its source"
        )
    smallest = min(_smallest_finite(slab) for slab in slabs_of(array))
    result = _mapped(array, array.dtype, lambda slab: np.where(np.isfinite(slab), slab, smallest))
    message = (
        f"{count:,} of {array.size:,} voxels were NaN or infinite, {inside:,} of them inside the body; they were set to the smallest "
        f"value, {smallest:.6g}"
    )
    details = {"count": count, "fraction": count / array.size, "inside": inside, "set_to": float(smallest)}
    return result, Finding("NON_FINITE_VOXELS", Severity.WARNING, message, details)


def _smallest_finite(slab: Array) -> Any:
    return slab.min(where=np.isfinite(slab), initial=np.inf)


def _count_inside(array: Array) -> int:
    """Count the non-finite voxels that have finite ones on both sides along every axis, a slice at a time."""
    depth = array.shape[2]
    first = np.full(array.shape[:2], depth)  # k of the first and last finite voxel of each column
    last = np.full(array.shape[:2], -1)
    for k in range(depth):
        finite = np.isfinite(array[:, :, k])
        np.minimum(first, k, out=first, where=finite)
        last[finite] = k
    count = 0
    for k in range(depth):
        finite = np.isfinite(array[:, :, k])
        if not finite.all():
            between = (first < k) & (k < last) & _between(finite, 0) & _between(finite, 1)
            count += int(np.count_nonzero(between & ~finite))
    return count


def _between(finite: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[np.bool_]:
    """Where true values lie on both sides along an axis."""
    before = np.logical_or.accumulate(finite, axis=axis)
    after = np.flip(np.logical_or.accumulate(np.flip(finite, axis), axis=axis), axis)
    return np.asarray(before & after)


def as_label_array(array: Array, name: str) -> Array:
    """Return stored numbers as labels in the smallest unsigned type.

    Floats are rounded where they lie within 1e-3 of a whole number. Raises SegmentError for fractions, negative
    numbers, NaN, and numbers too large for a label.
    """
    if array.dtype.kind == "f":
        _check_whole(array, name)
    low, high = range_of(array)
    if low < -LABEL_TOLERANCE:
        raise SegmentError(f"{name} holds negative numbers (down to {low}): these are intensities, not labels; give a label map")
    if high > np.iinfo(np.uint32).max:
        raise SegmentError(f"{name} holds the number {high}: labels go up to {np.iinfo(np.uint32).max}; give a label map")
    dtype = smallest_unsigned(int(np.rint(float(high))) if array.dtype.kind == "f" else int(high))
    if array.dtype == dtype:
        return array
    return _mapped(array, dtype, np.rint if array.dtype.kind == "f" else lambda slab: slab)


def _check_whole(array: Array, name: str) -> None:
    for slab in slabs_of(array):
        if not np.isfinite(slab).all():
            raise SegmentError(f"{name} holds NaN or infinite numbers: these are intensities, not labels; give a label map")
        off = np.abs(slab - np.rint(slab))
        if (off > LABEL_TOLERANCE).any():
            value = slab[int(off.argmax())]
            raise SegmentError(
                f"{name} holds fractions such as {value:.6g}: these are intensities or probabilities, not labels; "
                "give a label map, or threshold the probabilities first"
            )


def _mapped(array: Array, dtype: np.dtype[Any], function: Any) -> Array:
    result = np.empty(array.shape, dtype, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 becomes infinite, and is counted as such
        for source, target in zip(slabs_of(array), slabs_of(result), strict=True):
            target[:] = function(source)
    return result
